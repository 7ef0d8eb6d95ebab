import TaskModel
import Testing

@Suite struct LogTextTests {
    @Test(arguments: [
        ("plain — ü 日本", "plain — ü 日本"), ("", ""), ("a\nb", "a\\nb"), ("a\r\nb\tc", "a\\r\\nb\\tc"), ("\u{1b}[2Jx\u{7f}", "\\u{1b}[2Jx\\u{7f}"),
        ("\u{85}\u{2028}\u{2029}", "\\u{85}\\u{2028}\\u{2029}"), ("x\u{202e}y", "x\\u{202e}y"), ("e\u{301}", "e\u{301}"),
    ])
    func `what users name is one line in a log`(text: String, line: String) { #expect(text.onOneLine == line) }
}
