import Tar
import Testing

private func entry(_ path: String, _ kind: TarEntry.Kind = .directory) -> TarEntry { TarEntry(path: Array(path.utf8), kind: kind) }
private func file(_ path: String, _ size: UInt64 = 0, isExecutable: Bool = false) -> TarEntry {
    entry(path, .file(sizeBytes: size, isExecutable: isExecutable))
}
private func link(_ path: String, _ target: String) -> TarEntry { entry(path, .link(target: Array(target.utf8))) }

/// With files full of the letter `x`.
private func stream(_ entries: [TarEntry]) -> [UInt8] {
    var bytes: [UInt8] = []
    for entry in entries {
        TarForm.appendHeader(of: entry, to: &bytes)
        bytes += repeatElement(UInt8(ascii: "x"), count: Int(entry.sizeBytes))
        bytes += repeatElement(0, count: TarForm.padding(entry.sizeBytes))
    }
    return bytes + repeatElement(0, count: TarForm.endBytes)
}

/// The entries of a stream that comes in pieces of this size.
@discardableResult private func read(_ bytes: [UInt8], piece: Int = 1 << 20) throws(TarError) -> [TarEntry] {
    var reader = TarReader()
    var entries: [TarEntry] = []
    var byteCount: UInt64 = 0
    var failure: TarError?
    bytes.withUnsafeBytes { all in
        var start = 0
        while start < all.count, failure == nil {
            var rest = UnsafeRawBufferPointer(rebasing: all[start..<min(start + piece, all.count)])
            start += piece
            do throws(TarError) {
                while let item = try reader.next(&rest) {
                    switch item {
                    case .entry(let entry): entries.append(entry)
                    case .bytes(let part): byteCount += UInt64(part.count { $0 == UInt8(ascii: "x") })
                    }
                }
            } catch { failure = error }
        }
    }
    if let failure { throw failure }
    try reader.finish()
    #expect(byteCount == entries.reduce(0) { $0 + $1.sizeBytes })
    return entries
}

private let tree = [
    entry(""), file("a", 3), file("a space\nand a line", 513, isExecutable: true), entry("b"), file("b/0", 512), entry("b/c"), link("b/c/up", "../../a"),
    link("b/here", "./c/up"), file("b-", 1), file("ü"), link(String(repeating: "l", count: 200), String(repeating: "t", count: 200)),
]
private let sorted = tree.sorted { $0.path.split(separator: 47).lexicographicallyPrecedes($1.path.split(separator: 47)) { $0.lexicographicallyPrecedes($1) } }

@Test(arguments: [1, 7, 511, 512, 513, 10_000]) func `a stream that is read in pieces of any size gives its entries`(piece: Int) throws {
    #expect(try read(stream(sorted), piece: piece) == sorted)
    #expect(try read(stream([entry("")]), piece: piece) == [entry("")])
}

@Test func `the length of an entry is that of its part of the stream`() throws {
    #expect(try sorted.reduce(1024) { $0 + (try #require(TarForm.length($1))) } == UInt64(stream(sorted).count))
    // Compared without its optional: the compiler would compare two AnyHashable, and read past one of them.
    #expect(try #require(TarForm.length(file("big", 1 << 33))) == 512 * 3 + 1 << 33)
    #expect(TarForm.length(file("big", .max)) == nil)
}

@Test func `a size beyond eleven octal digits is kept`() throws {
    var bytes: [UInt8] = []
    TarForm.appendHeader(of: entry(""), to: &bytes)
    TarForm.appendHeader(of: file("big", 9_663_676_416), to: &bytes)
    var reader = TarReader()
    var entries: [TarEntry] = []
    try bytes.withUnsafeBytes {
        var rest = $0
        while case .entry(let entry) = try reader.next(&rest) { entries.append(entry) }
    }
    #expect(entries == [entry(""), file("big", 9_663_676_416)])
    #expect(throws: TarError.cutOff(atByte: 2048)) { try reader.finish() }
}

@Test(arguments: [
    "/etc/passwd", "../x", "a/../../x", "a/..", "..", ".", "a//b", "a/", "/", "a/./b", String(repeating: "n", count: 256), "a\u{0}b",
    String(repeating: "d/", count: 1600) + "f",
]) func `a path that leads out or can't be is refused`(path: String) {
    #expect(throws: TarError.self) { try read(stream([entry(""), entry("a"), file(path)])) }
    #expect(file(path).problem != nil)
}

@Test(arguments: ["/etc/passwd", "../../x", "..", "a/../..", "b/..", "", "../b/../../x", "x\u{0}y"]) func `a link that may lead out is refused`(target: String)
{
    #expect(link("at", target).problem != nil)
    #expect(throws: TarError.self) { try read(stream([entry(""), link("at", target)])) }
}

@Test func `a link may go up as far as the top`() {
    #expect(link("a/b/at", "../..").problem == nil)
    #expect(link("a/b/at", "../../..").problem == .linkLeadsOut("a/b/at", target: "../../.."))
    #expect(link("a/b/at", "./.././../x//y").problem == nil)
}

@Test func `entries are in order, each once, behind their directories`() {
    for wrong in [
        [], [file("a")], [entry("a")], [entry(""), file("b"), file("a")], [entry(""), file("a"), file("a")], [entry(""), file("a"), entry("a")],
        [entry(""), file("a/b")], [entry(""), entry(""), file("a")], [entry(""), link("a", "b"), file("a/x")], [entry(""), file("a"), file("a/x")],
        [entry(""), entry("a"), entry("b"), file("a/x")],
    ] { #expect(throws: TarError.self) { try read(stream(wrong)) } }
}

@Test func `what no directory has is refused and named`() {
    for (type, name) in [("1", "hard link"), ("3", "device"), ("4", "device"), ("6", "pipe"), ("L", "GNU"), ("g", "global"), ("S", "sparse")] {
        var bytes = stream([entry(""), file("it")])
        bytes[512 + 156] = type.utf8.first!
        #expect(throws: TarError.unknownKind("./it", type: type.utf8.first!), "\(name)") { try read(bytes) }
    }
}

@Test func `a stream is whole, and nothing follows`() {
    let whole = stream(sorted)
    for count in stride(from: 0, to: whole.count, by: 97) { #expect(throws: TarError.self) { try read(Array(whole[..<count])) } }
    #expect(throws: TarError.tooLong(atByte: UInt64(whole.count))) { try read(whole + [0]) }
    #expect(throws: TarError.self) { try read([UInt8](repeating: 0, count: 1024)) }
}

@Test func `another form is refused and the difference is named`() throws {
    func difference(_ at: Int, _ byte: Character) -> String {
        var bytes = stream([entry(""), file("it")])
        bytes[512 + at] = byte.asciiValue!
        do throws(TarError) {
            try read(bytes)
            return ""
        } catch { return error.description }
    }
    #expect(
        difference(106, "0")
            == "the tar stream is not in the form that a directory has, at 'it': another mode (0755 for directories, links and executables, else 0644) than in that form"
    )
    #expect(difference(146, "1").contains("time (0)"))
    #expect(difference(270, "r").contains("owner's name"))
    #expect(difference(0, "x").contains("begin with './'"))
}

/// Every change of a byte is either refused or gives another stream that is in the form: reading never lets two streams be one tree.
@Test func `damaged streams never pass for what they are not`() throws {
    let whole = stream(sorted)
    var random = SystemRandomNumberGenerator()
    for _ in 0..<600 {
        var bytes = whole
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            // Most of it is file content, where every change passes: look at headers.
            bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        }
        guard let entries = try? readQuietly(bytes) else { continue }
        for entry in entries { #expect(entry.problem == nil) }
        #expect(entries.reduce(1024) { $0 + TarForm.length($1)! } == UInt64(bytes.count))
    }
}

private func readQuietly(_ bytes: [UInt8]) throws -> [TarEntry] {
    var reader = TarReader()
    var entries: [TarEntry] = []
    try bytes.withUnsafeBytes {
        var rest = $0
        while let item = try reader.next(&rest) { if case .entry(let entry) = item { entries.append(entry) } }
    }
    try reader.finish()
    return entries
}
