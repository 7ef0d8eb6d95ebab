/// A member of a directory's tar stream.
package struct TarEntry: Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        case directory
        case file(sizeBytes: UInt64, isExecutable: Bool)
        /// A symbolic link and where it leads, relative to the directory that it is in.
        case link(target: [UInt8])
    }
    /// Below the directory that is streamed, such as `a/b`; empty for that directory itself. Any bytes but NUL.
    package var path: [UInt8]
    package var kind: Kind
    package init(path: [UInt8], kind: Kind) {
        self.path = path
        self.kind = kind
    }

    package var sizeBytes: UInt64 { if case .file(let size, _) = kind { size } else { 0 } }

    var isLongLink: Bool { if case .link(let target) = kind { target.count > 100 } else { false } }

    /// For messages.
    package var name: String { path.isEmpty ? "." : String(decoding: path, as: UTF8.self) }

    /// Why the entry can't be in any directory object; `nil` when it can.
    package var problem: TarError? {
        guard path.count <= TarLimits.pathBytesMax else { return .pathTooLong(name) }
        if !path.isEmpty {
            for component in path.split(separator: slash, omittingEmptySubsequences: false) {
                if component.isEmpty || component.elementsEqual([dot]) || component.elementsEqual([dot, dot]) || component.contains(0) {
                    return .badPath(name)
                }
                if component.count > TarLimits.nameBytesMax { return .pathTooLong(name) }
            }
        }
        switch kind {
        case .directory: return nil
        case .file: return path.isEmpty ? .badPath(name) : nil
        case .link(let target):
            if path.isEmpty { return .badPath(name) }
            if target.count > TarLimits.pathBytesMax { return .pathTooLong(name) }
            return staysInside(target) ? nil : .linkLeadsOut(name, target: String(decoding: target, as: UTF8.self))
        }
    }

    /// Whether a link here with this target can't lead out of the directory.
    ///
    /// It may go up first, at most to the top, and then down. The parents of a link are directories, so going up is exact; going down meets
    /// directories and links of which the same is true. A `..` behind a name could leave through another link.
    private func staysInside(_ target: [UInt8]) -> Bool {
        guard let first = target.first, first != slash, !target.contains(0) else { return false }
        var height = path.count { $0 == slash }
        var isGoingDown = false
        for component in target.split(separator: slash) {
            if component.elementsEqual([dot]) { continue }
            if component.elementsEqual([dot, dot]) {
                if isGoingDown || height == 0 { return false }
                height -= 1
            } else {
                isGoingDown = true
            }
        }
        return true
    }
}

package enum TarLimits {
    /// Of a path and of a link's target: an absolute path of a worker's store must fit in 4096.
    package static let pathBytesMax = 3072
    package static let nameBytesMax = 255
    package static let entryCountMax = 1_000_000
}

let slash = UInt8(ascii: "/")
let dot = UInt8(ascii: ".")

package enum TarError: Error, Equatable, Sendable, CustomStringConvertible {
    case badPath(String)
    case pathTooLong(String)
    case linkLeadsOut(String, target: String)
    case tooManyEntries
    /// A hard link, device, pipe or something newer.
    case unknownKind(String, type: UInt8)
    case damaged(atByte: UInt64, String)
    /// Something that is valid in other tar streams.
    case otherForm(String, String)
    case cutOff(atByte: UInt64)
    case tooLong(atByte: UInt64)

    package var description: String {
        switch self {
        case .badPath(let name): "'\(name)' is no path inside of the directory"
        case .pathTooLong(let name):
            "'\(name.prefix(200))…' is too long: paths and links have at most \(TarLimits.pathBytesMax) bytes, names \(TarLimits.nameBytesMax)"
        case .linkLeadsOut(let name, let target): "the symbolic link '\(name)' leads to '\(target)', which is not known to lie inside of the directory"
        case .tooManyEntries: "it has more than \(TarLimits.entryCountMax) files and directories: pack them into fewer files"
        case .unknownKind(let name, let type): "'\(name)' is no file, directory or symbolic link (type '\(UnicodeScalar(type))')"
        case .damaged(let offset, let what): "the tar stream is damaged at byte \(offset): \(what)"
        case .otherForm(let name, let what): "the tar stream is not in the form that a directory has, at '\(name)': \(what)"
        case .cutOff(let offset): "the tar stream ends at byte \(offset), in the middle"
        case .tooLong(let offset): "the tar stream goes on after its end at byte \(offset)"
        }
    }
}
