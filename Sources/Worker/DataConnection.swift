import Glibc
import NIOCore
import NIOHTTP1
import Synchronization

/// How many may be connected to a holder, and for how long without asking for anything: each costs a descriptor of the worker.
struct DataServerLimits: Sendable {
    /// Of a client that has not shown a good ticket yet. Ours ask as soon as they are connected.
    var strangerMilliseconds: Int64 = 10_000
    /// The server keeps a connection while its own client, who may be slow, takes what came before.
    var idleMilliseconds: Int64 = 600_000
    var connections = Self.connectionsMax()

    /// Half of the descriptors: the rest is for the objects that they ask for, and for subworkers.
    private static func connectionsMax() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 512 }
        return Int(min(limit.rlim_cur / 2, 4096))
    }
}

/// The connections that stand.
final class DataConnectionCount: Sendable {
    let value = Atomic(0)
}

/// Ends a connection that is one too many, or that has nothing to say. It stands between the codec and who answers.
final class DataConnection: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let limits: DataServerLimits
    private let count: DataConnectionCount
    private var isCounted = false
    private var isStranger = true
    /// Since when no request is complete or being answered; `nil` while one is.
    private var idleSince: NIODeadline?
    private var check: Scheduled<Void>?

    init(_ limits: DataServerLimits, _ count: DataConnectionCount) {
        self.limits = limits
        self.count = count
    }

    private var patience: TimeAmount { .milliseconds(isStranger ? limits.strangerMilliseconds : limits.idleMilliseconds) }

    func channelActive(context: ChannelHandlerContext) {
        isCounted = true
        let (_, connections) = count.value.add(1, ordering: .relaxed)
        guard connections <= limits.connections else { return context.close(promise: nil) }
        idleSince = .now()
        checkLater(patience, context)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        if isCounted { count.value.subtract(1, ordering: .relaxed) }
        isCounted = false
        check?.cancel()
        context.fireChannelInactive()
    }

    /// One timer for the connection, not one for each request: it looks when the time would be over if nothing came.
    private func checkLater(_ delay: TimeAmount, _ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        check = context.eventLoop.scheduleTask(in: delay) {
            let (watch, context) = bound.value
            guard let since = watch.idleSince else { return watch.checkLater(watch.patience, context) }
            let left = since + watch.patience - .now()
            if left <= .zero { context.close(promise: nil) } else { watch.checkLater(left, context) }
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .end = unwrapInboundIn(data) { idleSince = nil }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        // Nobody gets these without a good ticket.
        case .head(let head): if [.ok, .partialContent, .rangeNotSatisfiable].contains(head.status) { isStranger = false }
        case .body: break
        case .end:
            // Not before the last byte has gone.
            let sent = promise ?? context.eventLoop.makePromise(of: Void.self)
            let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
            sent.futureResult.whenSuccess { bound.value.idleSince = .now() }
            return context.write(data, promise: sent)
        }
        context.write(data, promise: promise)
    }
}
