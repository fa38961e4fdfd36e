// An IOMMU as a vhost-user front end has one: pages of IO addresses, and what the device asked about them. It answers
// nothing by itself; a test does, when it likes.

import LinuxSystem
import SharedMemory

/// A front end's side of a device's IO addresses.
package final class FrontIommu {
    /// What a device said.
    package struct Word: Equatable {
        package let address: UInt64
        package let rights: UInt8
        /// 1: not known; 4: of no use.
        package let kind: UInt8
    }

    /// The IO address of the driver's first byte.
    package let base: UInt64
    /// For each page of the driver's view, the page of the shared file that it is.
    package let order: [Int]
    /// What may be done with a page of the view, where that is not everything; 0: there is no such page.
    package var rights: [Int: UInt8] = [:]
    /// Whether misses are answered.
    package var answers = true
    /// Bytes of what one miss is answered with; the driver's view is in one piece where that is more than a page.
    package var answerBytes: UInt64 = 4096
    /// All that the device said.
    package private(set) var words: [Word] = []
    private var taken = 0
    /// What the back end is given for its own messages.
    package let theirs: Descriptor
    private let ours: Descriptor
    private var rest: [UInt8] = []

    /// - Parameters:
    ///   - base: the IO address of the driver's first byte; a page's beginning.
    ///   - pages: of the driver's memory.
    ///   - isScattered: whether no two pages are neighbours in the shared file.
    package init(base: UInt64, pages: Int, isScattered: Bool = false) throws(Errno) {
        self.base = base
        // An odd step through an even number of pages meets each of them once.
        order = (0..<pages).map { isScattered ? ($0 * 37 + 11) % pages : $0 }
        (ours, theirs) = try StreamSocket.pair()
    }

    /// The driver's view of its memory.
    package func view(of file: Descriptor) throws(Errno) -> SharedRegion {
        try SharedRegion(contiguous: order.map { (file, $0 * SharedRegion.pageSize) }, writable: true)
    }

    /// Pages that were asked for.
    package var misses: [UInt64] { words.filter { $0.kind == 1 }.map(\.address) }
    /// Pages that were of no use.
    package var failures: [UInt64] { words.filter { $0.kind == 4 }.map(\.address) }
    /// An IO address of the driver's view.
    package func address(_ offset: Int) -> UInt64 { base &+ UInt64(offset) }

    /// Takes what the device has said since.
    package func listen() throws(Errno) {
        while true {
            do throws(Errno) {
                let bytes = try StreamSocket.receive(ours.rawValue, capacity: 4096, wait: false)
                if bytes.isEmpty { break }
                rest += bytes
            } catch {
                guard error == .wouldBlock else { throw error }
                break
            }
        }
        while rest.count >= 12, rest.count >= 12 + Int(rest[8]) {
            let word = { (place: Int) in (0..<8).reduce(UInt64(0)) { $0 | UInt64(self.rest[place + $1]) << UInt64(8 * $1) } }
            if rest[0] == 1, rest[8] == 32 { words.append(Word(address: word(12), rights: rest[36], kind: rest[37])) }
            rest.removeFirst(12 + Int(rest[8]))
        }
    }

    /// What misses are to be answered with: address, bytes, place in the shared file, and 2 << 8 with the rights.
    package func dueAnswers() throws(Errno) -> [(UInt64, UInt64, UInt64, UInt64)] {
        try listen()
        guard answers else { return [] }
        defer { taken = words.count }
        return words[taken...].filter { $0.kind == 1 }.compactMap { answer(to: $0.address) }
    }

    /// What the page at an IO address is; nil: there is none.
    package func answer(to address: UInt64) -> (UInt64, UInt64, UInt64, UInt64)? {
        let first = (address &- base) / answerBytes * answerBytes
        let page = Int(clamping: first / 4096)
        guard page < order.count, rights[page] != 0 else { return nil }
        let count = min(answerBytes, UInt64(order.count * 4096) - first)
        return (base &+ first, count, UInt64(order[page] * 4096), UInt64(rights[page] ?? 3) | 2 << 8)
    }
}
