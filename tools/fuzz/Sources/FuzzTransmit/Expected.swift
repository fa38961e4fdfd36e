// What the device must get and the frontend must be answered, from what came of its slots.

import NetworkDevices
import NetworkRig
import Packets
import XenTypes

struct Expected {
    /// How the device ends the next sends; then all are sent.
    private var script: [FrameSent]
    private let isControlled: Bool
    /// Groups that the frontend asked for.
    private(set) var wanted: Set<UInt64>
    private(set) var answers: [(id: Int, status: Int)] = []
    private(set) var frames: [(bytes: [UInt8], offload: FrameOffload)] = []
    private(set) var isDead = false

    init(script: [FrameSent], isControlled: Bool, wanted: Set<UInt64>) {
        (self.script, self.isControlled, self.wanted) = (script, isControlled, wanted)
    }

    mutating func take(_ outcome: Outcome) {
        switch outcome {
        case .dropped(let ids, let extras): answer(ids, extras, -1)
        case .fatal(let ids, let extras):
            answer(ids, extras, -1)
            isDead = true
        case .multicast(let id, let extras, let address, let isAdded):
            answer([id], extras, isControlled && address & 1 != 0 && want(address, isAdded) ? 0 : -1)
        case .packet(let ids, let extras, let parts, let flags, let segmentation):
            guard let bytes = gathered(parts),
                let frame = referenceOffload(
                    bytes, isBlank: flags & 1 != 0, isValidated: flags & 2 != 0, segmentation: segmentation)
            else { return answer(ids, extras, -1) }
            let isSent = sends()
            if isSent { frames.append(frame) }
            answer(ids, extras, isSent ? 0 : -2)
        }
    }

    private mutating func answer(_ ids: [Int], _ extras: Int, _ status: Int) {
        for id in ids { answers.append((id, status)) }
        for _ in 0..<extras { answers.append((0, 1)) }
    }

    /// Whether there is room for a group, or it is one less.
    private mutating func want(_ address: UInt64, _ isAdded: Bool) -> Bool {
        if !isAdded {
            wanted.remove(address)
            return true
        }
        guard wanted.contains(address) || wanted.count < 64 else { return false }
        wanted.insert(address)
        return true
    }

    /// The bytes of a packet's parts; nil if a page is not there.
    private func gathered(_ parts: [(reference: UInt32, offset: Int, count: Int)]) -> [UInt8]? {
        var bytes: [UInt8] = []
        for part in parts {
            guard let page = rig.page(GrantReference(part.reference)) else { return nil }
            bytes += page.region.bytes(at: page.offset + part.offset, count: part.count)
        }
        return bytes
    }

    /// Whether the device takes the next frame: it is asked again while it has no room.
    private mutating func sends() -> Bool {
        while let how = script.first {
            script.removeFirst()
            if how != .full { return how == .sent }
        }
        return true
    }
}
