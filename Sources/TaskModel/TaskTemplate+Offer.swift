extension TaskTemplate {
    /// What a worker offers that can run its tasks: the subworker, or, for C functions that workers have declared (`ffi/LIBRARY/FUNCTION`),
    /// the library: `ffi/LIBRARY`. A function that its own configuration declares needs none.
    package var offer: Substring {
        guard runner == "ffi", let slash = method.firstIndex(of: "/"), !config.hasMember("declarations") else { return runner }
        return type[..<slash]
    }
}

extension [UInt8] {
    /// Whether JSON text, which must be well-formed, is an object with a member of this name, written without escapes.
    func hasMember(_ name: StaticString) -> Bool {
        var depth = 0
        // In an object of depth 1 a text that follows one of these is a name.
        var last = UInt8(ascii: " ")
        var position = 0
        while position < count {
            let byte = self[position]
            position += 1
            switch byte {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                if depth == 0, byte != UInt8(ascii: "{") { return false }
                depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
            case UInt8(ascii: "\""):
                let start = position
                while position < count, self[position] != UInt8(ascii: "\"") { position += self[position] == UInt8(ascii: "\\") ? 2 : 1 }
                let isName = depth == 1 && (last == UInt8(ascii: "{") || last == UInt8(ascii: ","))
                if isName, position <= count, self[start..<position].elementsEqual(UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)) {
                    return true
                }
                position += 1
            case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"): continue
            case _: break
            }
            last = byte
        }
        return false
    }
}
