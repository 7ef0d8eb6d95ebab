import Testing
import Transport

struct CryptoTests {
    @Test func `SHA-256 gives the digests of FIPS 180`() {
        #expect(hexText(SHA256.hash([])) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(hexText(SHA256.hash(Array("abc".utf8))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        var hasher = SHA256()
        for _ in 0..<1000 { hasher.update([UInt8](repeating: UInt8(ascii: "a"), count: 1000)) }
        #expect(hexText(hasher.finish()) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }

    @Test func `HMAC-SHA-256 gives the codes of RFC 4231`() {
        let cases: [(secret: [UInt8], bytes: [UInt8], code: String)] = [
            (
                [UInt8](repeating: 0x0B, count: 20), Array("Hi There".utf8),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
            ),
            (
                Array("Jefe".utf8), Array("what do ya want for nothing?".utf8),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
            ),
            (
                [UInt8](repeating: 0xAA, count: 131), Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
            ),
        ]
        for (secret, bytes, code) in cases { #expect(hexText(hmac(secret, bytes)) == code) }
    }

    @Test func `a ticket is for one path, one moment and one secret`() {
        let secret = [UInt8](repeating: 7, count: 32)
        let path = DataTicket.path(session: 1, index: 2, epoch: 3, number: 4)
        #expect(path == "/objects/1/2/3-4")
        let mac = DataTicket.sign(path: path, expires: 1000, secret: secret)
        #expect(DataTicket.signedPath(path, expires: 1000, secret: secret) == "/objects/1/2/3-4?expires=1000&mac=\(mac)")
        func verdict(
            path: String = path, expires: UInt64 = 1000, mac: String = mac, secret: [UInt8] = secret, now: UInt64 = 1000
        ) -> DataTicket.Verdict { DataTicket.verify(path: path, expires: expires, mac: mac, secret: secret, now: now) }
        #expect(verdict() == .valid)
        #expect(verdict(now: 1001) == .expired)
        #expect(verdict(path: "/objects/1/2/3-5") == .forged)
        #expect(verdict(expires: 2000) == .forged)
        #expect(verdict(secret: [UInt8](repeating: 8, count: 32)) == .forged)
        #expect(verdict(mac: "") == .forged)
        #expect(verdict(mac: String(mac.dropLast())) == .forged)
        #expect(verdict(mac: String(repeating: "x", count: 64)) == .forged)
    }

    @Test func `random bytes differ, and equality looks at all of them`() throws {
        let (a, b) = (try randomBytes(32), try randomBytes(32))
        #expect(a.count == 32)
        #expect(a != b)
        #expect(isEqualInConstantTime(a, a))
        #expect(!isEqualInConstantTime(a, b))
        #expect(!isEqualInConstantTime(a, a.dropLast()))
        #expect(isEqualInConstantTime([], []))
        #expect(try randomBytes(0).isEmpty)
    }

    @Test func `hexadecimal text is read and written`() {
        #expect(hexText([0, 0x1F, 0xFF]) == "001fff")
        #expect(bytes(hex: "001FfF") == [0, 0x1F, 0xFF])
        #expect(bytes(hex: "0") == nil)
        #expect(bytes(hex: "zz") == nil)
    }

    @Test func `a key survives its text, and its public half is curve25519's`() throws {
        // The key pairs that zmq_curve(7) gives for tests.
        let pairs = [
            ("D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs", "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"),
            ("JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"),
        ]
        for (secret, publicKey) in pairs {
            let key = try #require(CurveKey(z85: secret))
            #expect(key.z85 == secret)
            #expect(key.publicKey.z85 == publicKey)
            #expect(key.derived(for: "a") == key.derived(for: "a"))
            #expect(key.derived(for: "a") != key.derived(for: "b"))
        }
        #expect(CurveKey(z85: "short") == nil)
        #expect(CurveKey(z85: String(repeating: "\"", count: 40)) == nil)
        #expect(CurveKey(bytes: [1, 2]) == nil)
    }
}
