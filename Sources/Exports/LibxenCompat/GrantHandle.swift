// libxengnttab's consumer half: a peer's pages in this process (/dev/xen/gntdev).

import CLibxenCompat
import Glibc
import Hypervisor
import LinuxSystem
import Loopback
import SharedMemory
import Synchronization
import XenTypes

/// An open `xengnttab_handle`.
final class GrantHandle: OpenHandle, @unchecked Sendable {
    private struct Mapped {
        let pages: [LinkedPage]
        let placement: Placement
    }
    private let mapped = Mutex<[UInt: Mapped]>([:])
    private let event: Descriptor

    /// Pages in one call (`gntdev.limit`).
    static let mostPages = 65536

    init(opening parts: Parts) throws(LinkFailure) {
        event = try idleDescriptor()
        super.init(parts)
    }

    var descriptor: Int32 { event.rawValue }
    override var descriptors: [Int32] { [event.rawValue] }

    /// A handle that was restricted leads nowhere (xentoolcore puts /dev/null under it).
    func checkRestriction() throws(LinkFailure) {
        if restrictedTo != nil { throw LinkFailure(Errno(ENOTTY), "the handle was restricted") }
    }

    /// What is to be done when a mapping ends.
    struct Notice {
        let byte: UInt16?
        let port: EventPort?
    }

    /// Maps grants side by side; all or nothing. The address.
    func map(
        _ wanted: [(domain: DomainID, references: [GrantReference])], protection: Int32, notice: Notice? = nil
    ) throws(LinkFailure) -> UInt {
        try checkRestriction()
        let count = wanted.reduce(0) { $0 + $1.references.count }
        guard count > 0, count <= Self.mostPages else { throw LinkFailure(.invalidArgument, "\(count) grants at once") }
        let access: GrantAccess = protection & PROT_WRITE != 0 ? .readWrite : .readOnly
        var pages: [LinkedPage] = []
        do throws(LinkFailure) {
            for group in wanted { try pin(group.references, of: group.domain, access, into: &pages) }
            if let notice, let first = pages.first { try link.noticeUnmap(of: first, byte: notice.byte, port: notice.port) }
            var pieces: [Piece?] = []
            for page in pages { pieces.append(Piece(region: try link.region(of: page), offset: page.offset)) }
            // SAFETY: at no place of anybody's.
            let placement = try unsafe Placement.lay(pieces)
            mapped.withLock { $0[placement.address] = Mapped(pages: pages, placement: placement) }
            return placement.address
        } catch {
            if notice != nil, let first = pages.first { try? link.noticeUnmap(of: first, byte: nil, port: nil) }
            link.unmap(pages)
            throw error
        }
    }

    /// Grants of one domain. Where one is refused, those that were not are in `pages`, too, for the caller to give
    /// back.
    private func pin(
        _ references: [GrantReference], of domain: DomainID, _ access: GrantAccess, into pages: inout [LinkedPage]
    ) throws(LinkFailure) {
        var refusal: LinkFailure?
        for (reference, result) in zip(references, try link.map(references, of: domain, access: access)) {
            switch result {
            case .success(let page): pages.append(page)
            case .failure(let status):
                // Whatever Xen says, gntdev makes one number of it.
                refusal = refusal ?? LinkFailure(.invalidArgument, "grant \(reference) of domain \(domain): \(status)")
            }
        }
        if let refusal { throw refusal }
    }

    /// Ends what was mapped at `address` by one call, all of it.
    func unmap(_ address: UInt, count: Int) throws(LinkFailure) {
        let ended = mapped.withLock { mapped -> Mapped? in
            guard let found = mapped[address], found.pages.count == count else { return nil }
            return mapped.removeValue(forKey: address)
        }
        guard let ended else { throw LinkFailure(.invalidArgument, "\(count) pages were not mapped there") }
        ended.placement.unmap()
        link.unmap(ended.pages)
    }

    /// What is still mapped stays so, as it does when gntdev is closed; it is given back with the process.
    override func end() {}
}
