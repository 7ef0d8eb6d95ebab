import ArgumentParser
import Glibc

struct FFI: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ffi", abstract: "Functions of shared libraries as tasks, by declarations.", subcommands: [CheckDeclarations.self])
}

struct CheckDeclarations: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Says whether every declared function is there, and the signature of its task.",
        discussion: """
            The libraries are loaded, but no function is called. Exits with 1 when one is missing or a declaration is wrong.

                rain ffi check zlib.ffi
                rain worker n1 --ffi zlib.ffi
            """)

    @Argument(help: ArgumentHelp("Declarations.", valueName: "file"))
    var files: [String]

    func run() throws {
        let program = try Installation.subworkerProgram("ffi")
        var arguments: [UnsafeMutablePointer<CChar>?] = ([program, "--check"] + files).map { strdup($0) }
        arguments.append(nil)
        // Only comes back when it fails.
        execv(program, &arguments)
        let code = errno
        for argument in arguments { free(argument) }
        throw CLIError.system(call: "start", about: program, code: code)
    }
}
