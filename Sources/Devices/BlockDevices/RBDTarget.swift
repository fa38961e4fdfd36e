// An image of a Ceph cluster as QEMU and xl write it: rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][:OPTION=VALUE…]. A
// backslash takes what is special of the character behind it.

/// An image of a Ceph cluster, and how its cluster is found.
public struct RBDTarget: Equatable, Sendable, CustomStringConvertible {
    /// The pool.
    public var pool: String
    /// The namespace within it; empty: the pool's own.
    public var nameSpace = ""
    /// The image.
    public var image: String
    /// Which of its snapshots; empty: the image as it is now.
    public var snapshot = ""
    /// Whose key is used (`id`), without `client.`.
    public var user = "admin"
    /// The cluster's configuration (`conf`); nil: where Ceph looks for it.
    public var configuration: String?
    /// More options of that configuration, in their order.
    public var options: [Option] = []

    /// One option of a cluster's configuration.
    public struct Option: Equatable, Sendable {
        /// Ceph's name for it.
        public var name: String
        /// As Ceph reads it.
        public var value: String
    }

    /// The image alone, as messages and logs have it: an option may be a key.
    public var description: String {
        "rbd:\(pool)/\(nameSpace.isEmpty ? "" : "\(nameSpace)/")\(image)\(snapshot.isEmpty ? "" : "@\(snapshot)")"
    }

    private static let form = "an RBD image is rbd:POOL/IMAGE, rbd:POOL/IMAGE@SNAPSHOT, with :id=USER and :conf=PATH behind it"

    /// Parses `text`, which begins with `rbd:`.
    init(_ text: String) throws(DeviceError) {
        let parts = Self.split(text.dropFirst("rbd:".count), at: ":")
        let place = Self.split(parts.first ?? "", at: "/")
        guard let last = place.last, (2...3).contains(place.count) else { throw .badTarget(text, reason: Self.form) }
        let names = Self.split(last, at: "@")
        guard names.count <= 2 else { throw .badTarget(text, reason: "it has two snapshots; \(Self.form)") }
        pool = Self.plain(place[0])
        image = Self.plain(names[0])
        if place.count == 3 { nameSpace = Self.plain(place[1]) }
        if names.count == 2 { snapshot = Self.plain(names[1]) }
        let isWhole =
            !pool.isEmpty && !image.isEmpty && (place.count < 3 || !nameSpace.isEmpty) && (names.count < 2 || !snapshot.isEmpty)
        guard isWhole else { throw .badTarget(text, reason: "a name is empty; \(Self.form)") }
        for part in parts.dropFirst() { try take(part, text) }
    }

    private mutating func take(_ part: Substring, _ text: String) throws(DeviceError) {
        let pair = Self.split(part, at: "=", most: 2)
        let name = Self.plain(pair[0])
        guard pair.count == 2, !name.isEmpty else {
            throw .badTarget("\(self)", reason: "an option is NAME=VALUE, as id=USER and conf=PATH are")
        }
        let value = Self.plain(pair[1])
        switch name {
        case "id": user = value
        case "conf": configuration = value
        default:
            if let reason = Self.own[name] {
                throw .badTarget("\(self)", reason: "the option \(name) is Causeway's own: \(reason)")
            }
            options.append(Option(name: name, value: value))
        }
    }

    /// What Causeway sets by itself, and why.
    private static let own = [
        "rbd_cache": "what is answered is on the OSDs",
        "rados_osd_op_timeout": "a request that is given up loses the lock, and is done all the same",
        "rbd_blocklist_on_break_lock": "whoever loses the lock is kept out",
        "rbd_blocklist_expire_seconds": "whoever loses the lock is kept out for a day",
        "rbd_disable_zero_copy_writes": "a guest may change a page that it has written",
    ]

    /// The parts of `text` between separators that no backslash stands before.
    private static func split(_ text: Substring, at separator: Character, most: Int = .max) -> [Substring] {
        var parts: [Substring] = []
        var start = text.startIndex
        var index = start
        while index < text.endIndex {
            if text[index] == "\\" {
                index = text.index(after: index)
                if index == text.endIndex { break }
            } else if text[index] == separator, parts.count + 1 < most {
                parts.append(text[start..<index])
                start = text.index(after: index)
            }
            index = text.index(after: index)
        }
        return parts + [text[start...]]
    }

    /// Without backslashes, but for those that stand behind one.
    private static func plain(_ text: Substring) -> String {
        var plain = ""
        var isEscaped = false
        for character in text {
            if character == "\\", !isEscaped {
                isEscaped = true
            } else {
                plain.append(character)
                isEscaped = false
            }
        }
        return plain
    }
}
