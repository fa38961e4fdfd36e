// What NVMe controllers need that are driven from here, with the process that keeps this one's descriptors: a successor
// goes on with them.

import LinuxSystem
import Synchronization

/// The controllers' part of what is kept.
final class KeptControllers: DescriptorKeeper {
    private struct Entry {
        let descriptor: Descriptor
        /// What it is kept as; nil: as a predecessor's, which nobody has taken up.
        var number: Int32?
    }
    private let link: KeeperLink
    private let entries: Mutex<[String: Entry]>

    /// Begins with what a predecessor had.
    init(_ link: KeeperLink) {
        self.link = link
        entries = Mutex(link.controllers.mapValues { Entry(descriptor: $0) })
    }

    func kept(_ prefix: String) -> [String: Descriptor] {
        entries.withLock { entries in
            var kept: [String: Descriptor] = [:]
            for (name, entry) in entries where name.hasPrefix(prefix) {
                kept[String(name.dropFirst(prefix.count))] = entry.descriptor
            }
            return kept
        }
    }

    func keep(_ descriptor: Descriptor, as name: String) throws(Errno) {
        let before = try entries.withLock { (entries: inout [String: Entry]) throws(Errno) in
            let before = entries[name]
            if let before, before.descriptor === descriptor, before.number != nil { return nil as Entry? }
            let number = try link.use(descriptor, name: name)
            entries[name] = Entry(descriptor: descriptor, number: number)
            return before
        }
        if let number = before?.number { link.release([number]) }
    }

    func release(_ name: String) {
        let entry = entries.withLock { $0.removeValue(forKey: name) }
        if let number = entry?.number { link.release([number]) }
    }
}
