import Link
import TaskModel

/// What only time brings.
extension WorkerCore {
    /// When `tick` has something to judge; `nil` while there is nothing to wait for.
    package var nextTick: Instant? {
        var next = link.nextTick
        if let gatherDeadline { next = next.map { min($0, gatherDeadline) } ?? gatherDeadline }
        if let progressDue { next = next.map { min($0, progressDue) } ?? progressDue }
        if let roomWaitDeadline { next = next.map { min($0, roomWaitDeadline) } ?? roomWaitDeadline }
        if let nextSpill { next = next.map { min($0, nextSpill) } ?? nextSpill }
        for index in subworkers.indices {
            guard let handle = subworkers.handle(at: index), let deadline = deadline(of: handle) else { continue }
            next = next.map { min($0, deadline) } ?? deadline
        }
        return next
    }

    private func deadline(of handle: SubworkerHandle) -> Instant? {
        let since = subworkers[handle].since
        let headSince = subworkers[handle].headSince
        switch subworkers[handle].state {
        case .starting:
            return since.advanced(byMilliseconds: Self.registrationMillisecondsMax)
        case .stopping(let isKilled):
            return isKilled ? nil : since.advanced(byMilliseconds: Self.farewellMillisecondsMax)
        case .open:
            guard subworkers[handle].isBusy else {
                if subworkers[handle].isWornOut { return headSince }
                let seconds = pools[subworkers[handle].pool].command.idleSecondsMax
                return headSince.advanced(byMilliseconds: seconds.map { UInt64($0) * 1000 } ?? Self.idleMillisecondsMax)
            }
            return [killDeadline(of: handle), slowDeadline(of: handle)].compactMap { $0 }.min()
        }
    }

    /// Of a call that was asked to stop.
    private func killDeadline(of handle: SubworkerHandle) -> Instant? {
        subworkers[handle].cancelledSince?.advanced(byMilliseconds: SubworkerMachine.cancelMillisecondsMax)
    }

    private func slowDeadline(of handle: SubworkerHandle) -> Instant? {
        let headSince = subworkers[handle].headSince
        if canRecallBehind(handle) { return headSince.advanced(byNanoseconds: SubworkerMachine.slowNanoseconds) }
        return subworkers[handle].isStartReported ? nil : headSince.advanced(byNanoseconds: SubworkerMachine.startedNanoseconds)
    }

    mutating func tick(into effects: inout ContiguousArray<WorkerEffect>) {
        for index in subworkers.indices {
            guard let handle = subworkers.handle(at: index), let deadline = deadline(of: handle), now >= deadline else { continue }
            switch subworkers[handle].state {
            case .starting:
                stopSubworker(handle, isKilled: true, isOverdue: true, into: &effects)
            case .stopping:
                stopSubworker(handle, isKilled: true, into: &effects)
            case .open:
                if let deadline = killDeadline(of: handle), now >= deadline {
                    stopSubworker(handle, isKilled: true, into: &effects)
                } else if subworkers[handle].isBusy {
                    reportSlowCalls(of: handle)
                } else {
                    stopSubworker(handle, isKilled: false, into: &effects)
                }
            }
        }
    }

    private mutating func reportSlowCalls(of handle: SubworkerHandle) {
        guard now.since(subworkers[handle].headSince) >= SubworkerMachine.startedNanoseconds else { return }
        for slot in subworkers[handle].slotsInOrder().prefix(subworkers[handle].runningCount) {
            if let attempt = subworkers[handle].attempt(in: slot) { reportStart(attempt) }
        }
        subworkers[handle].isStartReported = true
    }

    /// Warm processes cost memory: no more than this, the one that has been idle longest goes first.
    mutating func stopIdleSubworkers(into effects: inout ContiguousArray<WorkerEffect>) {
        let idleCountMax = 2 * Int(cpus.capacity)
        guard subworkers.count > idleCountMax else { return }
        while true {
            var idleCount = 0
            var oldest: SubworkerHandle?
            for index in subworkers.indices {
                guard let handle = subworkers.handle(at: index), subworkers[handle].isIdle else { continue }
                idleCount += 1
                guard let known = oldest else {
                    oldest = handle
                    continue
                }
                if (subworkers[handle].headSince, subworkers[handle].id) < (subworkers[known].headSince, subworkers[known].id) { oldest = handle }
            }
            guard idleCount > idleCountMax, let oldest else { return }
            stopSubworker(oldest, isKilled: false, into: &effects)
        }
    }
}

extension Instant {
    func advanced(byNanoseconds nanoseconds: UInt64) -> Instant { Instant(nanoseconds: self.nanoseconds &+ nanoseconds) }
}
