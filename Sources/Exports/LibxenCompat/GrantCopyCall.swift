// One xengnttab_grant_copy: every grant of the call is pinned by a message or two, the bytes move here, and all are
// given back by one message. A round trip for each segment costs fifteen times as much.

import CLibxenCompat
import Glibc
import LinuxSystem
import Loopback
import SharedMemory
import XenTypes

/// The segments of a call, in the caller's memory, where their statuses go.
///
/// SAFETY: the segments are the caller's for the call, and their local ends are memory of the caller's that nobody else
/// is said to change; each grant's end is compared with the page's bounds, and its region is kept for the call.
@safe struct GrantCopyCall {
    private let segments: UnsafeMutableBufferPointer<xengnttab_grant_copy_segment_t>
    private let indices: Range<Int>

    init(_ segments: UnsafeMutableBufferPointer<xengnttab_grant_copy_segment_t>) {
        unsafe self.segments = segments
        indices = segments.indices
    }

    private func isGrant(_ index: Int, source: Bool) -> Bool {
        unsafe segments[index].flags & UInt16(source ? GNTCOPY_source_gref : GNTCOPY_dest_gref) != 0
    }

    private func end(_ index: Int, source: Bool) -> xengnttab_copy_ptr {
        unsafe source ? segments[index].source : segments[index].dest
    }

    /// What gntdev refuses before it copies anything.
    private func check() throws(LinkFailure) {
        for index in indices {
            guard isGrant(index, source: true) || isGrant(index, source: false) else {
                throw LinkFailure(.invalidArgument, "segment \(index): both ends are local")
            }
            for source in [true, false] where isGrant(index, source: source) {
                let offset = unsafe Int(end(index, source: source).foreign.offset)
                guard unsafe offset + Int(segments[index].len) <= SharedRegion.pageSize else {
                    throw LinkFailure(.invalidArgument, "segment \(index): past the end of its page")
                }
            }
        }
    }

    /// Copies; each segment gets its status.
    func run(_ link: LoopbackLink) throws(LinkFailure) {
        try check()
        for index in indices { unsafe segments[index].status = 0 }
        var pinned = Pinned(count: indices.count)
        defer { link.unmap(pinned.all) }
        try pin(true, link, &pinned)
        try pin(false, link, &pinned)
        for index in indices where unsafe segments[index].status == 0 {
            let source = try unsafe address(index, true, pinned, link)
            let destination = try unsafe address(index, false, pinned, link)
            guard let source = unsafe source, let destination = unsafe destination else {
                throw LinkFailure(.badAddress, "segment \(index): a local end of NULL")
            }
            // SAFETY: both ends have `len` bytes, as `check` saw and as the caller says.
            unsafe memmove(destination, source, Int(segments[index].len))
        }
    }

    /// The pages of a call, by segment.
    private struct Pinned {
        var sources: [LinkedPage?]
        var destinations: [LinkedPage?]
        var all: [LinkedPage] { sources.compactMap(\.self) + destinations.compactMap(\.self) }
        init(count: Int) {
            sources = Array(repeating: nil, count: count)
            destinations = sources
        }
    }

    /// Pins one direction's grants: a message for each stretch of segments of one domain.
    private func pin(_ source: Bool, _ link: LoopbackLink, _ pinned: inout Pinned) throws(LinkFailure) {
        let wanted = indices.filter { unsafe isGrant($0, source: source) && segments[$0].status == 0 }
        var rest = wanted[...]
        while let first = rest.first {
            let domain = unsafe end(first, source: source).foreign.domid
            let stretch = rest.prefix { unsafe end($0, source: source).foreign.domid == domain }
            rest = rest.dropFirst(stretch.count)
            let references = stretch.map { unsafe GrantReference(end($0, source: source).foreign.ref) }
            let results = try link.map(references, of: DomainID(domain), access: source ? .readOnly : .readWrite)
            for (index, result) in zip(stretch, results) {
                switch result {
                case .success(let page):
                    if source { pinned.sources[index] = page } else { pinned.destinations[index] = page }
                case .failure(let status):
                    // The kernel tries a page that is out again for a while, and then calls it bad.
                    unsafe segments[index].status = (status == .tryAgain ? GrantStatus.badPage : status).rawValue
                }
            }
        }
    }

    @unsafe
    private func address(
        _ index: Int, _ source: Bool, _ pinned: Pinned, _ link: LoopbackLink
    ) throws(LinkFailure) -> UnsafeMutableRawPointer? {
        guard let page = source ? pinned.sources[index] : pinned.destinations[index] else {
            return unsafe end(index, source: source).virt
        }
        let region = try link.region(of: page)
        // The region stays with the link's cache as long as the page is pinned.
        return unsafe region.unsafeBase + page.offset + Int(end(index, source: source).foreign.offset)
    }
}
