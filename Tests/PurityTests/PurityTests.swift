import Foundation
import Testing

/// The cores must run unchanged in a simulator and replay from a seed in another process: they may import nothing that blocks,
/// reads a clock or draws a random number, and must not depend on the order of a hashed collection, which differs per process.
private let cores = ["TaskModel", "Link", "Scheduling", "ServerCore", "WorkerCore", "Tar", "Simulation"]

private struct SourceFile {
    let name: String
    let lines: [String]
}

private func sources(of module: String) throws -> [SourceFile] {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let folder = root.appending(path: "Sources/\(module)")
    let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil).filter { $0.pathExtension == "swift" }
    try #require(!files.isEmpty, "no sources of \(module)")
    return try files.map {
        SourceFile(name: "\(module)/\($0.lastPathComponent)", lines: try String(contentsOf: $0, encoding: .utf8).components(separatedBy: "\n"))
    }
}

/// What a file imports, whatever attributes and access level stand before the word.
private func imports(in file: SourceFile) -> [String] {
    file.lines.compactMap { line in
        guard let match = line.firstMatch(of: /^\s*(?:@\S+\s+)*(?:public\s+|package\s+|internal\s+|private\s+)?import\s+(?:\w+\s+)?(\w+)/) else { return nil }
        return String(match.1)
    }
}

/// Names of properties and variables that are declared as a dictionary or a set.
private func hashedNames(in files: [SourceFile]) -> Set<String> {
    var names: Set<String> = []
    for file in files {
        for line in file.lines {
            if let match = line.firstMatch(
                of: /\b(?:let|var)\s+(\w+)\s*(?::\s*(?:\[[^\[\]()]+:[^\[\]]+.*\]|Set<|Dictionary<)|=\s*(?:\[:\]|Set<|Dictionary<|\[[^\[\]]+:[^\[\]]+\]\(\)))/)
            {
                names.insert(String(match.1))
            }
        }
    }
    return names
}

private func iterations(over names: Set<String>, in file: SourceFile) -> [String] {
    file.lines.enumerated().compactMap { number, line in
        let code = line.prefix(upTo: line.firstRange(of: "//")?.lowerBound ?? line.endIndex)
        for name in names {
            let loop = "\\bin\\s+(?:[\\w!?.\\[\\]]+\\.)?\(name)\\b(?!\\[|\\.count|\\.isEmpty|\\.contains)"
            let call = "\\b\(name)\\.(?:map|compactMap|flatMap|filter|forEach|reduce|keys|values|first|sorted|min|max|randomElement|popFirst|mapValues)\\b"
            if code.range(of: loop, options: .regularExpression) != nil, code.contains("for ") || code.contains("where") {
                return "\(file.name):\(number + 1): \(line)"
            }
            if code.range(of: call, options: .regularExpression) != nil { return "\(file.name):\(number + 1): \(line)" }
        }
        return nil
    }
}

@Test(arguments: cores) func `a core imports only other cores`(module: String) throws {
    for file in try sources(of: module) {
        let foreign = imports(in: file).filter { !cores.contains($0) }
        #expect(foreign.isEmpty, "\(file.name) imports \(foreign)")
    }
}

@Test(arguments: cores) func `a core reads no clock and draws no random number`(module: String) throws {
    for file in try sources(of: module) {
        for (number, line) in file.lines.enumerated() {
            let isForbidden = line.contains(
                /\.random\b|SystemRandomNumberGenerator|ContinuousClock|SuspendingClock|\.now\(\)|\bTask\.sleep|\bhashValue\b|\.shuffle/)
            #expect(!isForbidden, "\(file.name):\(number + 1): \(line)")
        }
    }
}

@Test(arguments: cores) func `a core never iterates a dictionary or a set`(module: String) throws {
    let files = try sources(of: module)
    let names = hashedNames(in: files)
    for file in files {
        let found = iterations(over: names, in: file)
        #expect(found.isEmpty, "\(found.joined(separator: "\n"))")
    }
}

@Test func `the check finds what it looks for`() {
    let file = SourceFile(
        name: "x",
        lines: [
            "package import Foundation", "var table: [UInt32: Int] = [:]", "for (key, value) in self.table {", "let x = table.values", "let y = table[3]",
            "@testable import Glibc", "var names: [String] = []", "for name in names {",
        ])
    #expect(imports(in: file) == ["Foundation", "Glibc"])
    #expect(hashedNames(in: [file]) == ["table"])
    #expect(iterations(over: ["table"], in: file).count == 2)
}
