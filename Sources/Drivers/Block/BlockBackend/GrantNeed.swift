// What a device needs of the grants that can be mapped here, said when it connects: an administrator learns of a limit
// from a line in the log, not from I/O errors in a guest.

import BlockProtocol
import Hypervisor

/// How many grants a connection takes.
struct GrantNeed: Equatable {
    /// Queues.
    let queues: Int
    /// Ring pages of all queues.
    let rings: Int
    /// The pages of the largest request, those with its descriptors included.
    let request: Int

    init(_ keys: BlockRequestKeys, indirectSegments: Int) {
        queues = keys.queues.count
        rings = keys.queues.reduce(0) { $0 + $1.ring.count }
        let perPage = BlockLimits.segmentsPerIndirectPage
        request = max(BlockLimits.maximumDirectSegments, indirectSegments + (indirectSegments + perPage - 1) / perPage)
    }

    /// The least that it can be served with: its rings, and one request of the largest size in each queue.
    var least: Int { rings + queues * request }

    /// How many grants each queue may keep mapped, so that every queue still gets its largest request mapped.
    /// - Parameter wanted: what it would keep if there were room.
    func kept(of wanted: Int, in room: GrantRoom) -> Int { min(wanted, max(0, (room.left - least) / queues)) }

    /// `this device needs 514 grants mapped at the least, the limit is 240: 65290 of vm.max_map_count 65530 are in
    /// use`.
    func refusal(_ room: GrantRoom) -> String { "this device needs \(least) grants mapped at the least, the limit is \(room)" }
}
