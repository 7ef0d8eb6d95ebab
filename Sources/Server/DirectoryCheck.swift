import Glibc
import NIOCore
import ServerCore
import Tar

extension ClientPlane {
    /// Workers unpack an uploaded directory without asking; so what is none is refused here, where the client hears of it.
    func checkDirectories(of submit: Submit) async throws(HTTPFailure) {
        for upload in submit.uploads where upload.isDirectory {
            guard case .blob(let hash, let sizeBytes) = upload.value else { continue }
            let file = try await depot.run { [depot] () throws(HTTPFailure) in try DepotFile(path: depot.path(of: hash)) }
            let error = try await depot.run { () throws(HTTPFailure) in try file.directoryError(sizeBytes: sizeBytes) }
            if let error { throw HTTPFailure(RequestError(.badSubmit, "the blob \(hash) is no directory: \(error)")) }
        }
    }
}

extension DepotFile {
    private static let pieceBytes = 64 << 10

    /// What is wrong with a directory's stream; the bytes of its files are passed over.
    func directoryError(sizeBytes: UInt64) throws(HTTPFailure) -> TarError? {
        var reader = TarReader()
        while reader.offset < sizeBytes {
            let piece = try read(at: reader.offset, count: Int(min(UInt64(Self.pieceBytes), sizeBytes - reader.offset)))
            let failure = piece.withUnsafeReadableBytes { bytes -> TarError? in
                var rest = bytes
                do throws(TarError) {
                    while try reader.next(&rest) != nil {}
                    return nil
                } catch { return error }
            }
            if let failure { return failure }
            reader.skipBytes()
            if reader.offset > sizeBytes { return .cutOff(atByte: sizeBytes) }
        }
        do throws(TarError) { try reader.finish() } catch { return error }
        return nil
    }
}
