// Tasks in Swift: a subworker with one task that counts words, one that inverts bytes in place, one from a directory to a
// directory, and two for its own tests.
import Glibc
import Subworker

let subworker = Subworker()
subworker.task("count", documentation: "How many words a text has.", inputs: ["text"], outputs: ["count"]) { call in
    let count = try call.inputText(0).split { $0 == " " || $0 == "\n" }.count
    try call.setOutput(0, "\(count)")
    try call.setContentType(0, "json")
}
subworker.task("invert", documentation: "Every byte's complement.", inputs: ["data"], outputs: ["inverted"], threads: 4) { call in
    try call.withInput(0) { data in
        try call.makeOutput(0, sizeBytes: data.count) { inverted in
            for (position, byte) in data.enumerated() { inverted[position] = ~byte }
        }
    }
}
subworker.task("lines", documentation: "A file for each line of the file `text` of a directory.", inputs: ["texts"], outputs: ["lines"]) { call in
    guard let text = fopen(try call.inputPath(0) + "/text", "r") else { throw TaskFailure("the directory has no file `text`") }
    defer { fclose(text) }
    let directory = try call.stagingPath()
    mkdir(directory, 0o700)
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    var count = 0
    while case let size = getline(&line, &capacity, text), size >= 0 {
        guard let file = fopen("\(directory)/\(count)", "w") else { throw TaskFailure("line \(count) can't be written") }
        fwrite(line, 1, size, file)
        guard fclose(file) == 0 else { throw TaskFailure("line \(count) can't be written") }
        count += 1
    }
    try call.setOutput(0, path: directory)
}
subworker.task("fail") { _ in throw TaskFailure("it was asked to fail") }
subworker.task("wait", documentation: "Waits until it is cancelled.") { call in
    while !call.isCancelled { usleep(1000) }
    throw Cancelled()
}
exit(subworker.run())
