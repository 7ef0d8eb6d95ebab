import Glibc
import Synchronization

/// Two threads for what may block: long copies, strange file systems, fsync, removing trees.
final class BlockingPool: @unchecked Sendable {
    // `jobs` and `isClosed` are touched under `mutex` only; both pthread objects stay at one address until the threads have been joined.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t> = .allocate(capacity: 1)
    private let condition: UnsafeMutablePointer<pthread_cond_t> = .allocate(capacity: 1)
    private var jobs: [@Sendable () -> Void] = []
    private var isClosed = false
    private var threads: [pthread_t] = []

    init(threadCount: Int = 2) {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
        for _ in 0..<threadCount {
            var thread = pthread_t()
            let reference = Unmanaged.passRetained(self)
            let code = pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<BlockingPool>.fromOpaque(argument!).takeRetainedValue().run()
                    return nil
                }, reference.toOpaque())
            if code == 0 { threads.append(thread) } else { reference.release() }
        }
    }

    /// In order of arrival, two at a time. Without a thread (the machine refused them all) the caller runs it.
    func run(_ job: @escaping @Sendable () -> Void) {
        guard !threads.isEmpty else { return job() }
        pthread_mutex_lock(mutex)
        jobs.append(job)
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Ends the threads after the jobs in hand; others are dropped.
    func close() {
        pthread_mutex_lock(mutex)
        isClosed = true
        jobs.removeAll()
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }

    private func run() {
        while true {
            pthread_mutex_lock(mutex)
            while jobs.isEmpty && !isClosed { pthread_cond_wait(condition, mutex) }
            guard !isClosed else {
                pthread_mutex_unlock(mutex)
                return
            }
            let job = jobs.removeFirst()
            pthread_mutex_unlock(mutex)
            job()
        }
    }

    deinit {
        mutex.deallocate()
        condition.deallocate()
    }
}
