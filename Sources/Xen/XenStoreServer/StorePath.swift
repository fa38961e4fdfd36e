// A path that has passed every rule of docs/misc/xenstore.txt, so that nothing behind this type checks again.

import XenStore
import XenTypes

/// An absolute path (`/a/b`), the root, or a special watch path (`@releaseDomain`).
struct StorePath: Hashable, Sendable, CustomStringConvertible {
    /// The path's ASCII text.
    let text: String

    private init(unchecked text: String) { self.text = text }

    static let root = StorePath(unchecked: "/")
    static let introduceDomain = StorePath(unchecked: "@introduceDomain")
    static let releaseDomain = StorePath(unchecked: "@releaseDomain")

    /// A domain's home, which its relative paths start from.
    static func home(_ domain: DomainID) -> StorePath { StorePath(unchecked: "/local/domain/\(domain)") }

    /// Judges a path as sent by `domain`, completing a relative one. Length is judged after completion, so that the
    /// same node has the same answer whichever way it is named (attacks.md XS8).
    init(_ raw: ArraySlice<UInt8>, from domain: DomainID) throws(StoreErrorName) {
        guard let first = raw.first else { throw .EINVAL }
        var text = String(decoding: raw, as: UTF8.self)
        if first != UInt8(ascii: "/") && first != UInt8(ascii: "@") { text = StorePath.home(domain).text + "/" + text }
        guard StorePath.isValid(text) else { throw .EINVAL }
        self.text = text
    }

    /// A path from trusted text; nil if it breaks a rule.
    init?(_ text: String) {
        guard StorePath.isValid(text) else { return nil }
        self.text = text
    }

    /// Charset, slashes and lengths. A path in a domain's home may be as long as a relative path may, after the home.
    private static func isValid(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard bytes.count <= StoreWire.absolutePathMax, let first = bytes.first else { return false }
        guard bytes.allSatisfy(isPathByte) else { return false }
        if first == UInt8(ascii: "@") { return bytes.count <= StoreWire.relativePathMax }
        guard first == UInt8(ascii: "/") else { return false }
        if bytes.count == 1 { return true }
        guard bytes.last != UInt8(ascii: "/") else { return false }
        for (a, b) in zip(bytes, bytes.dropFirst()) where a == UInt8(ascii: "/") && b == a { return false }
        return bytes.count - homeLength(bytes) <= StoreWire.relativePathMax || homeLength(bytes) == 0
    }

    /// The length of a leading `/local/domain/<digits>/`, else 0.
    private static func homeLength(_ bytes: [UInt8]) -> Int {
        let prefix = Array("/local/domain/".utf8)
        guard bytes.starts(with: prefix) else { return 0 }
        let digits = bytes[prefix.count...].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        guard !digits.isEmpty, digits.count <= 5, digits.endIndex < bytes.count, bytes[digits.endIndex] == UInt8(ascii: "/")
        else { return 0 }
        return digits.endIndex + 1
    }

    private static func isPathByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "-")...UInt8(ascii: "-"),
            UInt8(ascii: "/")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "@"):
            true
        default: false
        }
    }

    var description: String { text }
    var isRoot: Bool { self == .root }
    var isSpecial: Bool { text.utf8.first == UInt8(ascii: "@") }
    /// In bytes.
    var length: Int { text.utf8.count }

    /// The path above; nil for the root and for special paths.
    var parent: StorePath? {
        guard !isRoot, let slash = text.utf8.lastIndex(of: UInt8(ascii: "/")) else { return nil }
        return slash == text.startIndex ? .root : StorePath(unchecked: String(text[..<slash]))
    }

    /// The last component; empty for the root.
    var name: String {
        guard let slash = text.utf8.lastIndex(of: UInt8(ascii: "/")) else { return text }
        return String(text[text.utf8.index(after: slash)...])
    }

    /// The path of a child by a name that this tree already holds.
    func child(_ name: String) -> StorePath {
        StorePath(unchecked: isRoot ? "/" + name : text + "/" + name)
    }

    /// Every prefix that is a path, from the root to this one. Empty for special paths.
    var lineage: Lineage { Lineage(self) }

    /// The paths from the root down to one path, made only when asked for: a path may have 1500 levels.
    struct Lineage {
        private let path: StorePath
        private var ends: [Int] = []

        fileprivate init(_ path: StorePath) {
            self.path = path
            guard !path.isSpecial else { return }
            ends.append(1)
            guard !path.isRoot else { return }
            for (offset, byte) in path.text.utf8.enumerated() where byte == UInt8(ascii: "/") && offset > 0 { ends.append(offset) }
            ends.append(path.length)
        }

        var count: Int { ends.count }
        /// The length in bytes of the path at `level`, the root being level 0.
        func length(_ level: Int) -> Int { ends[level] }
        /// The path at `level`.
        subscript(level: Int) -> StorePath {
            StorePath(unchecked: String(path.text.utf8.prefix(ends[level])) ?? path.text)
        }
    }

    /// The text with `home` and its slash taken off, for a watch that was set with a relative path.
    func relative(to home: StorePath) -> String {
        String(text.utf8.dropFirst(home.length + 1)) ?? text
    }
}
