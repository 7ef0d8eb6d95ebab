import Glibc

/// What waits to be written: many threads put, the journal's thread takes everything at once.
///
/// `@unchecked Sendable`: `state` is touched only while `mutex` is held.
final class EntryQueue: @unchecked Sendable {
    struct Taken {
        var entries: ContiguousArray<JournalEntry>
        var isClosed: Bool
    }

    /// How long telemetry waits for a durable record to travel with.
    static let telemetryDelayMilliseconds = 100

    private var entries: ContiguousArray<JournalEntry> = []
    private var hasDurable = false
    private var isClosed = false
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    func put(_ new: ContiguousArray<JournalEntry>) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        guard !isClosed else { return }
        let wasEmpty = entries.isEmpty
        let wasDurable = hasDurable
        entries.append(contentsOf: new)
        hasDurable = hasDurable || new.contains { $0.isDurable }
        if wasEmpty || hasDurable && !wasDurable { pthread_cond_signal(condition) }
    }

    /// No more will be taken; what is there is still written.
    func close() {
        pthread_mutex_lock(mutex)
        isClosed = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Whether nobody waits to be written.
    var isEmpty: Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return entries.isEmpty && !isClosed
    }

    /// Waits for entries, and while they are telemetry only a little longer.
    func take() -> Taken {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while entries.isEmpty && !isClosed { pthread_cond_wait(condition, mutex) }
        if !hasDurable && !isClosed {
            var deadline = timespec()
            clock_gettime(CLOCK_MONOTONIC, &deadline)
            deadline.tv_nsec += Self.telemetryDelayMilliseconds * 1_000_000
            if deadline.tv_nsec >= 1_000_000_000 {
                deadline.tv_sec += 1
                deadline.tv_nsec -= 1_000_000_000
            }
            while !hasDurable && !isClosed, pthread_cond_timedwait(condition, mutex, &deadline) == 0 {}
        }
        let taken = Taken(entries: entries, isClosed: isClosed)
        entries = []
        hasDurable = false
        return taken
    }
}
