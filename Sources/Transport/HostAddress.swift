import Glibc

/// The numeric IPv4 address of a host; `*` stands for all of this machine's.
///
/// - Throws: `unknownHost` when the name has none now; it may have one later.
package func numericAddress(of host: String) throws(TransportError) -> String {
    if host == "*" { return "0.0.0.0" }
    var hints = addrinfo()
    hints.ai_family = AF_INET
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, nil, &hints, &found)
    guard code == 0, let first = found else {
        throw .unknownHost(host, reason: code == EAI_SYSTEM ? String(cString: strerror(errno)) : String(cString: gai_strerror(code)))
    }
    defer { freeaddrinfo(found) }
    var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    let result = getnameinfo(
        first.pointee.ai_addr, first.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
    guard result == 0 else { throw .unknownHost(host, reason: String(cString: gai_strerror(result))) }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
