// Tasks in Swift: a subworker with one task that counts words, one that inverts bytes in place, and two for its own tests.
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
subworker.task("fail") { _ in throw TaskFailure("it was asked to fail") }
subworker.task("wait", documentation: "Waits until it is cancelled.") { call in
    while !call.isCancelled { usleep(1000) }
    throw Cancelled()
}
exit(subworker.run())
