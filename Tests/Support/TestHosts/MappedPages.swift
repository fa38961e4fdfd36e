// Which grants the domains of a test have mapped, by their drivers' own word. A hypervisor lets an end without a
// beginning pass; a test may want to know of it.

import Hypervisor

/// Grants that are mapped, and ends of others.
struct MappedPages {
    private struct Page: Hashable {
        let holder: ObjectIdentifier
        let region: ObjectIdentifier
        let handle: UInt32
        let offset: Int

        init(_ grant: MappedGrant, _ holder: TestHypervisor) {
            self.holder = ObjectIdentifier(holder)
            region = ObjectIdentifier(grant.region)
            handle = grant.handle
            offset = grant.offset
        }
    }
    private var uses: [Page: Int] = [:]
    /// Ends of what was not mapped, or not any more.
    private(set) var strays = 0

    mutating func add(_ grants: [MappedGrant], by holder: TestHypervisor) {
        for grant in grants { uses[Page(grant, holder), default: 0] += 1 }
    }

    mutating func remove(_ grants: [MappedGrant], by holder: TestHypervisor) {
        for grant in grants {
            let page = Page(grant, holder)
            guard let count = uses[page] else {
                strays += 1
                continue
            }
            uses[page] = count > 1 ? count - 1 : nil
        }
    }
}
