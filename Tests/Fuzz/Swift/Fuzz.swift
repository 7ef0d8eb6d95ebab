import Glibc

// libFuzzer's `main` calls the first function once, and the second with each input.
//
//     fuzz TARGET [OPTION OF LIBFUZZER | CORPUS | FILE]…
//     fuzz seeds DIRECTORY       first inputs for every target

// Set once, before the first input; the C function that reads it can't capture anything.
nonisolated(unsafe) private var target = FuzzTarget.control

@_cdecl("LLVMFuzzerInitialize")
func initialize(
    _ count: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>
) -> Int32 {
    let words = (0..<Int(count.pointee)).map { arguments.pointee[$0].map { String(cString: $0) } ?? "" }
    if words.count == 3, words[1] == "seeds" {
        Seeds.write(into: words[2])
        exit(0)
    }
    guard words.count >= 2, let chosen = FuzzTarget(rawValue: words[1]) else {
        print("usage: fuzz seeds DIRECTORY | fuzz \(FuzzTarget.allCases.map(\.rawValue).joined(separator: "|")) [FILE]...")
        exit(2)
    }
    target = chosen
    // The same without the target's name.
    arguments.pointee[1] = arguments.pointee[0]
    arguments.pointee += 1
    count.pointee -= 1
    return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    target.run(UnsafeRawBufferPointer(start: bytes, count: size))
    return 0
}
