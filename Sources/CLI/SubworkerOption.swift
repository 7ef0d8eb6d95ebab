import ArgumentParser
import TaskModel

/// `name=command`: a subworker that a worker offers; the command is split at blanks, with quotes as in a shell.
struct SubworkerOption: ExpressibleByArgument, Equatable {
    var name: String
    var command: [String]

    init?(argument: String) {
        guard let equals = argument.firstIndex(of: "="), equals != argument.startIndex else { return nil }
        name = String(argument[..<equals])
        guard let words = splitWords(argument[argument.index(after: equals)...]), !words.isEmpty else { return nil }
        command = words
    }

    /// For a worker, whatever its working directory.
    func subworkerCommand() throws(CLIError) -> SubworkerCommand {
        var arguments = command
        // A name without a slash is looked up in the PATH.
        if arguments[0].contains("/") { arguments[0] = try absolute(arguments[0]) }
        return SubworkerCommand(name: name, arguments: arguments)
    }
}

/// Splits a command line at blanks; '…' and "…" keep blanks, a backslash keeps the next character. `nil` when a quote stays open.
func splitWords(_ text: some StringProtocol) -> [String]? {
    var words: [String] = []
    var word: String?
    var quote: Character?
    var isEscaped = false
    for character in text {
        if isEscaped {
            word = (word ?? "") + String(character)
            isEscaped = false
        } else if character == "\\", quote != "'" {
            isEscaped = true
        } else if let open = quote {
            if character == open { quote = nil } else { word = (word ?? "") + String(character) }
        } else if character == "'" || character == "\"" {
            quote = character
            word = word ?? ""
        } else if character == " " || character == "\t" {
            if let complete = word { words.append(complete) }
            word = nil
        } else {
            word = (word ?? "") + String(character)
        }
    }
    guard quote == nil, !isEscaped else { return nil }
    if let complete = word { words.append(complete) }
    return words
}
