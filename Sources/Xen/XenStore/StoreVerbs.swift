// The requests on nodes, written once for a connection and for a transaction on it.

/// The verbs of `StoreAccess` in one transaction (0: none).
struct StoreVerbs {
    private let link: StoreLink
    private let transaction: UInt32

    init(_ link: StoreLink, _ transaction: UInt32) {
        self.link = link
        self.transaction = transaction
    }

    func read(_ path: String) throws(StoreError) -> String {
        String(decoding: try ask(.read, path), as: UTF8.self)
    }

    func write(_ path: String, _ value: String) throws(StoreError) {
        _ = try ask(.write, path, Array(value.utf8))
    }

    func makeDirectory(_ path: String) throws(StoreError) { _ = try ask(.makeDirectory, path) }

    func remove(_ path: String) throws(StoreError) { _ = try ask(.remove, path) }

    func directory(_ path: String) throws(StoreError) -> [String] {
        do {
            return link.strings(try ask(.directory, path))
        } catch .refused("E2BIG", _) {
            return try directoryInParts(path)
        }
    }

    /// A list too long for one message, in parts; from the start again when it changes meanwhile, a bounded number of
    /// times.
    private func directoryInParts(_ path: String) throws(StoreError) -> [String] {
        let attempts = 16
        attempt: for _ in 0..<attempts {
            var names: [String] = []
            var offset = 0
            var generation: String?
            while true {
                var part = link.strings(try ask(.directoryPart, path, wireStrings([String(offset)])))
                guard !part.isEmpty else { throw link.fail("a part of a list without a generation") }
                let current = part.removeFirst()
                if let generation, generation != current { continue attempt }
                generation = current
                // An empty name ends the list.
                let isLast = part.last == ""
                if isLast { part.removeLast() } else if part.isEmpty { throw link.fail("an empty part of a list") }
                offset += part.reduce(0) { $0 + $1.utf8.count + 1 }
                names += part
                if isLast { return names }
            }
        }
        throw .conflict(attempts: attempts)
    }

    func permissions(_ path: String) throws(StoreError) -> [StorePermission] {
        var entries: [StorePermission] = []
        for text in link.strings(try ask(.getPermissions, path)) {
            guard let entry = StorePermission(wire: text) else { throw link.fail("a permission that reads \(text.prefix(16))") }
            entries.append(entry)
        }
        return entries
    }

    func setPermissions(_ path: String, _ permissions: [StorePermission]) throws(StoreError) {
        _ = try ask(.setPermissions, path, wireStrings(permissions.map(\.wire)))
    }

    private func ask(_ type: StoreMessageType, _ path: String, _ rest: [UInt8] = []) throws(StoreError) -> [UInt8] {
        try link.checkPath(path)
        return try link.ask(type, transaction: transaction, payload: wireStrings([path]) + rest, about: path)
    }
}
