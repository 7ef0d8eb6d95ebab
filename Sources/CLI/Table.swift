import Glibc

/// Rows under titles, in columns; nothing when there are no rows.
func printTable(_ titles: [String], _ rows: [[String]]) {
    guard !rows.isEmpty else { return }
    let widths = titles.indices.map { column in ([titles] + rows).map { $0[column].count }.max() ?? 0 }
    for row in [titles] + rows {
        let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
        print(("  " + cells.joined(separator: "  ")).trimmedEnd)
    }
}

/// What a name may be in a line for people: without what would move the cursor.
func shown(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? "?" : $0 }))
}

/// "?" for what is not known.
func sizeText(_ bytes: UInt64?) -> String {
    guard let bytes else { return "?" }
    var value = Double(bytes)
    var unit = 0
    while value >= 1000, unit < 4 {
        value /= 1000
        unit += 1
    }
    let name = ["B", "kB", "MB", "GB", "TB"][unit]
    let tenths = Int((value * 10).rounded())
    return unit == 0 || tenths >= 100 ? "\(Int(value.rounded())) \(name)" : "\(tenths / 10).\(tenths % 10) \(name)"
}

func durationText(_ seconds: Double) -> String {
    let whole = Int(max(0, min(seconds, 1e12)))
    if whole < 120 { return "\(whole) s" }
    if whole < 7200 { return "\(whole / 60) min" }
    if whole < 172_800 { return "\(whole / 3600) h" }
    return "\(whole / 86400) days"
}

/// How long ago a time in seconds since 1970 was.
func ageText(_ opened: UInt64) -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return durationText(Double(now.tv_sec) - Double(opened))
}
