/// How many bytes a message takes on the wire at most, so that Link can close a batch in time without encoding it. A test holds it to the codec.
package protocol ByteEstimating {
    var estimatedBytes: Int { get }
}

extension ServerMessage: ByteEstimating {
    package var estimatedBytes: Int {
        switch self {
        case .session(_, let subworkers):
            subworkers.reduce(48) { $0 + $1.name.utf8.count + ($1.arguments + $1.environment).reduce(40) { $0 + $1.utf8.count + 16 } }
        case .template(_, let template):
            200 + template.type.utf8.count + template.name.utf8.count + template.config.count + template.origin.utf8.count
                + template.attributes.count + template.constants.count * 4 + template.inputLabels.reduce(0) { $0 + $1.utf8.count + 16 }
                + template.outputs.reduce(0) { $0 + $1.label.utf8.count + $1.contentType.utf8.count + 64 }
                + (template.program.map { ($0.arguments + $0.environment).reduce(64 + $0.path.utf8.count) { $0 + $1.utf8.count + 16 } } ?? 0)
        case .assign(let assignment): assignment.estimatedBytes
        case .revoke, .cancel, .closeSession: 40
        case .drop(let replicas): 32 + replicas.count * 16
        case .provide(let values): values.reduce(32) { $0 + $1.estimatedBytes }
        }
    }
}

extension Assignment {
    package var estimatedBytes: Int {
        inputs.reduce(96 + arguments.count + name.utf8.count) { $0 + $1.estimatedBytes }
    }
}

extension InputAssignment {
    package var estimatedBytes: Int {
        let bytes = 72 + contentType.utf8.count + attributes.count
        switch source {
        case .held: return bytes
        case .expect: return bytes + 16
        case .inline(let value): return bytes + value.count + 8
        case .fetch(let endpoints): return endpoints.reduce(bytes + 8) { $0 + $1.host.utf8.count + 24 }
        }
    }
}

extension FinishedAttempt {
    package var estimatedBytes: Int {
        var bytes = 112 + debug.utf8.count + attributes.count
        for output in outputs { bytes += 64 + (output.inline?.count ?? 0) + output.contentType.utf8.count + output.attributes.count }
        return bytes
    }
}

extension WorkerMessage: ByteEstimating {
    package var estimatedBytes: Int {
        switch self {
        case .started, .cancelled, .revoked, .replicated, .sessionClosed, .missing, .knows, .runs, .handedOver: return 48
        case .holds(let replicas): return 32 + replicas.count * 16
        case .progress(let list): return list.reduce(32) { $0 + 40 + $1.progress.text.utf8.count }
        case .finished(_, let finished): return finished.estimatedBytes
        case .failed(_, let error):
            return 128 + error.message.utf8.count + error.detail.utf8.count + error.debug.utf8.count + error.host.utf8.count
        }
    }
}
