import Testing

@testable import Transport

@Suite struct ObjectRowTests {
    private let rows = [
        ObjectRow(object: 7, status: .ok, isDirectory: true, contentType: "text", sizeBytes: 3, bytes: [1, 2, 3]),
        ObjectRow(object: 8, status: .large, sizeBytes: 1 << 40),
        ObjectRow(object: .max, status: .ok),
        ObjectRow(object: 9, status: .unavailable, sizeBytes: 4, bytes: Array("gone".utf8)),
    ]
    private var text: [UInt8] {
        var text: [UInt8] = []
        for row in rows { row.append(to: &text, hasChecksum: true) }
        return text
    }

    @Test(arguments: [1, 7, 40, 1000]) func `rows come out as they went in, in pieces of any size`(pieceBytes: Int) throws {
        var reader = ObjectRowReader(bytesMax: 100)
        var found: [ObjectRow] = []
        var rest = text[...]
        while !rest.isEmpty {
            reader.append(rest.prefix(pieceBytes))
            rest = rest.dropFirst(pieceBytes)
            while let row = try reader.next() { found.append(row) }
        }
        #expect(found == rows && reader.isEmpty)
    }

    @Test func `the head of a row is as documented`() {
        var bytes: [UInt8] = []
        ObjectRow(object: 0x0102_0304, status: .dropped, contentType: "ab").append(to: &bytes, hasChecksum: false)
        #expect(bytes == [4, 3, 2, 1, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x61, 0x62])
    }

    @Test func `no single bit can change unnoticed`() throws {
        let text = text
        for position in text.indices {
            for bit in 0..<8 {
                var spoiled = text
                spoiled[position] ^= 1 << UInt8(bit)
                var reader = ObjectRowReader(bytesMax: 100)
                reader.append(spoiled)
                var found: [ObjectRow] = []
                do {
                    while let row = try reader.next() { found.append(row) }
                } catch {
                    continue
                }
                // A length that grew waits for bytes that never come.
                #expect(found != rows && !reader.isEmpty, "byte \(position), bit \(bit)")
            }
        }
    }

    @Test func `what is larger than allowed, of an unknown kind or without a checksum is refused`() {
        func failure(_ bytes: [UInt8], bytesMax: UInt64 = 100) -> ObjectRowReader.Failure? {
            var reader = ObjectRowReader(bytesMax: bytesMax)
            reader.append(bytes)
            do {
                while try reader.next() != nil {}
                return nil
            } catch { return error }
        }
        #expect(failure(text, bytesMax: 2) == .tooLarge(object: 7, sizeBytes: 3))
        #expect(failure([1, 0, 0, 0, 77] + [UInt8](repeating: 0, count: 11)) == .unknownStatus(77))
        var bare: [UInt8] = []
        rows[0].append(to: &bare, hasChecksum: false)
        #expect(failure(bare) == .noChecksum(object: 7))
    }

    @Test func `a digest is written in the canonical form`() {
        #expect(Checksum.of([]).description == "99aa06d3014798d86001c324468d497f", "the value of the specification for no bytes")
        #expect(Checksum.Digest("99aa06d3014798d86001c324468d497f") == Checksum.of([]))
        for text in ["", "99", "99aa06d3014798d86001c324468d497g", "+9aa06d3014798d86001c324468d497f"] { #expect(Checksum.Digest(text) == nil) }
        let checksum = Checksum()
        for byte: UInt8 in 0..<200 { withUnsafeBytes(of: byte) { checksum.update($0) } }
        #expect(checksum.digest == Checksum.of(Array(0..<200)))
    }
}

@Suite struct ObjectListTests {
    private let entries = (0..<3).map { ObjectList.Entry(session: 3, index: $0, epoch: 2, number: .max) }
    private let secret = [UInt8](repeating: 5, count: 32)

    @Test func `a list is read as it was written`() {
        let body = ObjectList.body(entries)
        #expect(String(decoding: body, as: UTF8.self) == "3/0/2-4294967295\n3/1/2-4294967295\n3/2/2-4294967295\n")
        #expect(ObjectList.entries(body) == entries)
    }

    @Test(arguments: ["", "\n", "1/2/3-4", "1/2/3-4\n\n", "1/2/3\n", "1/2/3-4-5\n", "+1/2/3-4\n", "1/2/3-4294967296\n", "1/2/ 3-4\n", "a\n", "1//3-4\n"])
    func `what is no list is refused`(text: String) {
        #expect(ObjectList.entries(Array(text.utf8)) == nil)
    }

    @Test func `a list that is too long is refused`() {
        let entry = ObjectList.Entry(session: 1, index: 2, epoch: 3, number: 4)
        #expect(ObjectList.entries(ObjectList.body((0..<ObjectList.countMax).map { _ in entry }))?.count == ObjectList.countMax)
        #expect(ObjectList.entries(ObjectList.body((0...ObjectList.countMax).map { _ in entry })) == nil)
    }

    @Test func `a ticket is good for its list alone, and for its time`() throws {
        let body = ObjectList.body(entries)
        let target = ObjectList.signedTarget(body, expires: 100, secret: secret)
        let mac = try #require(target.split(separator: "=").last.map(String.init))
        #expect(target == "/objects?expires=100&mac=\(mac)")
        #expect(ObjectList.verify(body, expires: 100, mac: mac, secret: secret, now: 100) == .valid)
        #expect(ObjectList.verify(body, expires: 100, mac: mac, secret: secret, now: 101) == .expired)
        #expect(ObjectList.verify(body, expires: 101, mac: mac, secret: secret, now: 100) == .forged)
        #expect(ObjectList.verify(ObjectList.body(entries.dropLast()), expires: 100, mac: mac, secret: secret, now: 100) == .forged)
        #expect(ObjectList.verify(body, expires: 100, mac: mac, secret: [1], now: 100) == .forged)
        #expect(ObjectList.verify(body, expires: 100, mac: "x", secret: secret, now: 100) == .forged)
    }
}
