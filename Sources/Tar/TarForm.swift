/// The one form that a directory has as a stream: POSIX tar (pax), with everything left out that does not belong to an object.
///
/// The directory itself comes first, as `./`; each directory before what is in it; what is in it by the bytes of the names. No owner, no
/// times; modes are 0755 and 0644. So one tree is one stream, with one length and one checksum, wherever it is made, and ranges of it can
/// come from different holders. GNU tar makes the same with
///
///     tar --sort=name --format=posix --pax-option=exthdr.name=pax,delete=atime,delete=ctime --owner=0 --group=0 --numeric-owner \
///         --mtime=@0 --mode=u=rwX,go=rX,a-st --hard-dereference -b1 -C DIRECTORY -cf - .
package enum TarForm {
    package static let blockBytes = 512
    /// Two blocks of zeros.
    package static let endBytes = 1024

    /// Zeros after a file's bytes.
    package static func padding(_ sizeBytes: UInt64) -> Int { Int((512 - sizeBytes % 512) % 512) }

    /// Bytes of an entry with its padding; `nil` when no stream can be so long.
    package static func length(_ entry: TarEntry) -> UInt64? {
        var headerBytes = blockBytes
        // Most entries need no more than their block.
        if entry.path.count > 90 || entry.path.contains(where: { $0 >= 0x80 }) || entry.sizeBytes > sizeMax || entry.isLongLink {
            var header: [UInt8] = []
            appendHeader(of: entry, to: &header)
            headerBytes = header.count
        }
        let (length, overflow) = entry.sizeBytes.addingReportingOverflow(UInt64(headerBytes + padding(entry.sizeBytes)))
        return overflow ? nil : length
    }

    /// What comes before the entry's bytes.
    package static func appendHeader(of entry: TarEntry, to bytes: inout [UInt8]) {
        var name = [dot, slash] + entry.path
        if entry.kind == .directory, !entry.path.isEmpty { name.append(slash) }
        var target: [UInt8] = []
        var mode = "0000755"
        var type = UInt8(ascii: "5")
        switch entry.kind {
        case .directory: break
        case .file(_, let isExecutable):
            type = UInt8(ascii: "0")
            if !isExecutable { mode = "0000644" }
        case .link(let path):
            type = UInt8(ascii: "2")
            target = path
        }
        let size = entry.sizeBytes
        var records: [UInt8] = []
        if target.count > 100 { appendRecord("linkpath", target, to: &records) }
        if name.count > 100 || name.contains(where: { $0 >= 0x80 }) { appendRecord("path", name, to: &records) }
        if size > sizeMax { appendRecord("size", Array("\(size)".utf8), to: &records) }
        if !records.isEmpty {
            appendBlock(name: Array("pax".utf8), mode: "0000644", size: UInt64(records.count), type: UInt8(ascii: "x"), target: [], to: &bytes)
            bytes += records
            bytes += repeatElement(0, count: padding(UInt64(records.count)))
        }
        appendBlock(name: name, mode: mode, size: size > sizeMax ? 0 : size, type: type, target: target, to: &bytes)
    }

    /// What eleven octal digits hold.
    private static let sizeMax: UInt64 = 0o77777777777

    /// `length key=value\n`, where the length counts itself.
    private static func appendRecord(_ key: String, _ value: [UInt8], to records: inout [UInt8]) {
        let rest = 1 + key.utf8.count + 1 + value.count + 1
        var length = rest
        while rest + "\(length)".utf8.count != length { length = rest + "\(length)".utf8.count }
        records += Array("\(length) \(key)=".utf8)
        records += value
        records.append(UInt8(ascii: "\n"))
    }

    private static func appendBlock(name: [UInt8], mode: String, size: UInt64, type: UInt8, target: [UInt8], to bytes: inout [UInt8]) {
        let start = bytes.count
        bytes += repeatElement(0, count: blockBytes)
        func put(_ value: some Sequence<UInt8>, at offset: Int) {
            var position = start + offset
            for byte in value {
                bytes[position] = byte
                position += 1
            }
        }
        put(name.prefix(100), at: 0)
        put(mode.utf8, at: 100)
        put("0000000".utf8, at: 108)
        put("0000000".utf8, at: 116)
        put(octal(size, digits: 11), at: 124)
        put("00000000000".utf8, at: 136)
        bytes[start + 156] = type
        put(target.prefix(100), at: 157)
        put("ustar\u{0}00".utf8, at: 257)
        if type != UInt8(ascii: "x") {
            put("0000000".utf8, at: 329)
            put("0000000".utf8, at: 337)
        }
        // The sum counts its own field as spaces.
        let sum = bytes[start...].reduce(8 * 32) { $0 + UInt64($1) }
        put(octal(sum, digits: 6), at: 148)
        put([0, UInt8(ascii: " ")], at: 154)
    }

    private static func octal(_ value: UInt64, digits: Int) -> [UInt8] {
        var text = [UInt8](repeating: UInt8(ascii: "0"), count: digits)
        var rest = value
        for position in stride(from: digits - 1, through: 0, by: -1) {
            text[position] += UInt8(rest & 7)
            rest >>= 3
        }
        return text
    }
}
