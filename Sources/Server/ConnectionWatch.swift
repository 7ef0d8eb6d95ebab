import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import Synchronization

/// Tells whoever waits on behalf of a client that its connection has ended.
final class ConnectionWatch: Sendable {
    private struct State {
        var isGone = false
        var lastToken = 0
        var callbacks: [Int: @Sendable () -> Void] = [:]
    }
    private let state = Mutex(State())

    var isGone: Bool { state.withLock { $0.isGone } }

    /// Calls back once when the connection ends, now if it has; until `forget`.
    func onEnd(_ callback: @escaping @Sendable () -> Void) -> Int {
        let (token, isGone) = state.withLock { state in
            state.lastToken += 1
            if !state.isGone { state.callbacks[state.lastToken] = callback }
            return (state.lastToken, state.isGone)
        }
        if isGone { callback() }
        return token
    }

    func forget(_ token: Int) { state.withLock { $0.callbacks[token] = nil } }

    fileprivate func end() {
        let callbacks = state.withLock { state in
            state.isGone = true
            defer { state.callbacks = [:] }
            return state.callbacks
        }
        for (_, callback) in callbacks { callback() }
    }
}

/// Notices the end of a connection while its request is being answered.
///
/// A client that only closes its sending side counts as gone, as with other servers: nothing tells it from one that died.
final class ConnectionWatchHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    /// How long a client whose request could not be read has for reading why.
    private static let farewell = TimeAmount.seconds(1)
    let watch = ConnectionWatch()

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed { watch.end() }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // What isn't HTTP is answered and then read no further. A client that goes on sending would hold its connection for ever;
        // closed at once it might not get to read the answer.
        if error is HTTPParserError {
            let channel = context.channel
            context.eventLoop.scheduleTask(in: Self.farewell) { channel.close(promise: nil) }
        }
        context.fireErrorCaught(error)
    }

    func channelInactive(context: ChannelHandlerContext) {
        watch.end()
        context.fireChannelInactive()
    }
}
