// The frontend's end of the control ring: one question at a time, with a deadline, from the control thread. A backend
// that answers wrongly or not at all costs the feature, nothing else (attacks.md C22).

import Hypervisor
import LinuxSystem
import NetworkProtocol
import SharedMemory
import SharedRing
import XenTypes

/// Asks the backend over one connection's control ring.
struct ControlClient: ~Copyable {
    private var ring: FrontRing<ControlRing>
    private let channel: any EventChannel
    private let time: any TimeSource
    private var nextID: UInt16 = 0
    private(set) var isBroken = false

    init(_ ring: any OfferedPages, _ channel: any EventChannel, _ time: any TimeSource) {
        self.time = time
        self.ring = FrontRing(initialising: ring.region, ControlRing())
        self.channel = channel
    }

    /// The answer's status and data; nil if none came within `milliseconds`, or one that answers something else.
    mutating func ask(
        _ type: ControlType, _ data0: UInt32 = 0, _ data1: UInt32 = 0, _ data2: UInt32 = 0, milliseconds: Int64 = 1000
    ) -> (status: ControlStatus, data: UInt32)? {
        guard !isBroken, ring.push(ControlRequest(id: nextID, rawType: type.rawValue, data0, data1, data2)) else { return nil }
        let id = nextID
        nextID &+= 1
        if ring.publish() { channel.notify() }
        let deadline = time.milliseconds + milliseconds
        while true {
            do throws(RingError) {
                if let response = try ring.nextResponse() {
                    guard response.id == id, response.rawType == type.rawValue, let status = response.status else { break }
                    return (status, response.data)
                }
            } catch { break }
            if ring.armAndRecheck() { continue }
            let left = deadline - time.milliseconds
            guard left > 0 else { break }
            _ = try? waitReadable(channel.descriptor.rawValue, -1, milliseconds: Int32(min(left, 100)))
            channel.acknowledge()
            channel.unmask()
        }
        isBroken = true
        return nil
    }

    /// Asks the backend to keep `pages` mapped; how many of them it does.
    mutating func map(
        _ pages: [(references: [GrantReference], isReadOnly: Bool)], queue: UInt32, list: any OfferedPages
    ) -> Int {
        guard let size = ask(.getGrantMappingSize, queue), size.status == .success else { return 0 }
        var entries = pages.flatMap { part in
            part.references.map { GrantMappingEntry(reference: $0, isReadOnly: part.isReadOnly) }
        }
        entries = Array(entries.prefix(Int(size.data)))
        var mapped = 0
        while !entries.isEmpty {
            let part = entries.prefix(GrantMappingEntry.perPage)
            for (index, entry) in part.enumerated() { list.region.store(entry.word, at: 8 * index) }
            guard let answer = ask(.addGrantMapping, queue, list.references[0].rawValue, UInt32(part.count)) else { return mapped }
            if answer.status == .success { mapped += part.count }
            entries.removeFirst(part.count)
        }
        return mapped
    }
}
