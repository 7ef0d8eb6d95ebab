import CLinux
import Glibc

/// `SIGKILL` for 9.
func signalName(_ signal: Int32) -> String {
    let names: [Int32: String] = [
        SIGHUP: "SIGHUP", SIGINT: "SIGINT", SIGQUIT: "SIGQUIT", SIGILL: "SIGILL", SIGTRAP: "SIGTRAP", SIGABRT: "SIGABRT", SIGBUS: "SIGBUS",
        SIGFPE: "SIGFPE", SIGKILL: "SIGKILL", SIGUSR1: "SIGUSR1", SIGSEGV: "SIGSEGV", SIGUSR2: "SIGUSR2", SIGPIPE: "SIGPIPE",
        SIGALRM: "SIGALRM", SIGTERM: "SIGTERM", SIGXCPU: "SIGXCPU", SIGXFSZ: "SIGXFSZ", SIGSYS: "SIGSYS",
    ]
    return names[signal] ?? "signal \(signal)"
}

/// How a process ended, for people.
///
/// - Parameter guesses: says who may have killed it, where it can't have been this worker.
func endText(_ ended: rain_ended, guesses: Bool = true) -> String {
    guard ended.signal != 0 else { return "exited with code \(ended.exit_code)" }
    let guess = guesses && ended.signal == SIGKILL ? ", by somebody or by the kernel for lack of memory" : ""
    return "was ended by signal \(ended.signal) (\(signalName(ended.signal)))\(guess)"
}
