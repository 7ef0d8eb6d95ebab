import ServerCore

extension Journal {
    /// What earlier starts left for this one to go on with; before the first `append`.
    package func earlierRecords() throws(JournalError) -> JournalReader { try JournalReader(path: path, scope: .restart(epoch)) }

    /// Every record of a small file.
    package static func readAll(_ path: String) throws(JournalError) -> [StoredRecord] {
        let reader = try JournalReader(path: path, scope: .everything)
        var records: [StoredRecord] = []
        while let record = try reader.next() { records.append(record) }
        return records
    }
}
