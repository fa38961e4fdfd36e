// netfront's end: a backend that answers what it likes, against the rules of xen/io/netif.h written down once more.

import DMA
import FuzzSupport
import HostDevices
import Hypervisor
import LinuxSystem
@testable import NetworkFrontend
import NetworkRig
import Packets
import SharedMemory
import SharedRing
import XenWire

/// What a queue of netfront's stands on, made once.
private struct Parts {
    let rig = try! NetworkRig(writable: 256, readable: 1)
    let link: QueueLink
    let pages: QueuePages
    let heads = try! SharedRegion(anonymous: 2 * 4096)

    init() {
        let guest = rig.guest
        let rings = (0..<2).map { _ in try! guest.offerPages(1, to: .zero, access: .readWrite) }
        let bell = try! guest.allocateChannel(for: .zero)
        link = QueueLink(transmitRing: rings[0], receiveRing: rings[1], bell: bell, receiveBell: nil, features: .all)
        pages = QueuePages(transmit: try! guest.offerPages(256, to: .zero, access: .readOnly), receive: rig.writable)
    }
}

nonisolated(unsafe) private let parts = Parts()

func fuzzFrontend(_ input: inout ByteReader) {
    let bus = MemoryBus()
    let device = ScriptedQueue(bus)
    device.isBatched = input.last & 4 != 0
    let ring = parts.link.receiveRing.region
    let data = parts.pages.receive.region
    var side = ReceiveSide(parts.link, parts.pages, device, bus, heads: parts.heads)
    _ = side.ring.publish()
    var answered = 0
    var pending: [UInt64] = []
    var dropped = 0
    var isDead = false
    while !input.isAtEnd, !isDead {
        let code = input.byte()
        switch code % 8 {
        case 0, 1, 2:
            // A response, near what is allowed.
            let id = code & 0x80 == 0 ? UInt16((answered + pending.count) % 256) : input.number()
            let offset = code & 0x40 == 0 ? UInt16(0) : code & 0x20 == 0 ? UInt16(input.byte()) : input.number()
            let status =
                code & 0x10 == 0 ? Int16(input.byte()) : code & 0x08 == 0 ? input.number(Int16.self) & 0xFFF : input.number()
            let flags = UInt16(input.byte() & 15)
            pending.append(UInt64(id) | UInt64(offset) << 16 | UInt64(flags) << 32 | UInt64(UInt16(bitPattern: status)) << 48)
        case 3:
            var word: UInt64 = input.number()
            if code & 0x80 == 0 { word = word & ~0xFF | (word & 0xFF) % 6 }
            if code & 0x40 == 0 { word = word & ~(0xFF << 32) | (1 + word >> 32 & 1) << 32 }
            pending.append(word)
        case 4:
            // Something into a page that is answered soon.
            let page = (answered + Int(input.byte() % 8)) % 256
            let bytes = code & 0x80 == 0 ? cannedHeaders(input.byte()) : input.take(Int(input.byte() % 64))
            data.write(bytes, at: page * 4096 + (code & 0x40 == 0 ? 0 : Int(input.byte())))
        case 5: device.answers.append([FrameSent.full, .failed(Errno(5)), .sent][Int(code >> 3) % 3])
        case 6 where code & 0xF0 == 0xF0:
            // An index that cannot be: the end, whatever else is there.
            ring.storeReleasing(
                UInt32(truncatingIfNeeded: answered + 257 + Int(input.number(UInt16.self))), at: RingHeader.responseProduced)
            require(dies(&side), "an index that lies was believed")
            isDead = true
        default:
            let words = Array(pending.prefix(200))
            pending = []
            for (index, word) in words.enumerated() { ring.store(word, at: 64 + (answered + index) % 256 * 8) }
            ring.storeReleasing(UInt32(truncatingIfNeeded: answered + words.count), at: RingHeader.responseProduced)
            let script = device.answers
            device.clearSent()
            let expected = frames(words, from: answered, data)
            var turns = 0
            do throws(FrontendFault) {
                repeat {
                    turns += 1
                    if side.isBlocked { side.retry() }
                } while try side.work() > 0 || side.isBlocked && turns < 1000
                require(!expected.isFatal, "taken, though it is the end: \(words)")
            } catch {
                require(expected.isFatal && !error.description.isEmpty, "\(error), of \(words)")
                isDead = true
                // What came before the lie may wait for room.
                while side.isBlocked, turns < 1000 {
                    turns += 1
                    side.retry()
                }
            }
            require(turns < 1000, "no end of turns")
            compare(expected.frames, script, device, &dropped)
            if isDead { continue }
            answered += words.count
            _ = side.ring.publish()
            require(Int(side.statistics.receiveDropped) == dropped + expected.spoilt, "\(side.statistics) after \(words)")
            dropped += expected.spoilt
            // Every page is back on the ring, each in its slot.
            require(side.ring.outstanding == 256, "\(side.ring.outstanding) pages are posted")
            for slot in 0..<256 {
                let request = ReceiveRequest(loading: ring, 64 + slot * 8)
                let isReposted = (answered - words.count..<answered).contains { $0 % 256 == slot }
                require(
                    !isReposted || request.id == UInt16(slot) && request.reference == parts.pages.receive.references[slot],
                    "slot \(slot): \(request)")
            }
        }
    }
    bus.detach(data)
    bus.detach(parts.heads)
}

private func dies(_ side: inout ReceiveSide) -> Bool {
    do throws(FrontendFault) {
        _ = try side.work()
        return false
    } catch { return true }
}

/// What must come of the words of responses that begin in slot `first`.
private func frames(
    _ words: [UInt64], from first: Int, _ data: SharedRegion
) -> (frames: [(bytes: [UInt8], offload: FrameOffload)], spoilt: Int, isFatal: Bool) {
    var list: [(bytes: [UInt8], offload: FrameOffload)] = []
    var spoilt = 0
    var next = 0
    while next < words.count {
        var bytes: [UInt8] = []
        var count = 0
        var isBad = false
        func part(_ word: UInt64, _ slot: Int) {
            let (id, offset, status) = (Int(word & 0xFFFF), Int(word >> 16 & 0xFFFF), Int(Int16(bitPattern: UInt16(word >> 48))))
            count += 1
            if status <= 0 || offset + status > 4096 || id != slot % 256 || count > 17 {
                isBad = true
            } else if !isBad {
                bytes += data.bytes(at: slot % 256 * 4096 + offset, count: status)
            }
        }
        let head = words[next]
        let flags = head >> 32 & 15
        part(head, first + next)
        next += 1
        var segmentation: (type: Int, size: Int)?
        var extras = 0
        var more = flags & 8 != 0
        while more {
            guard next < words.count, extras < 5, (1...5).contains(words[next] & 0xFF) else { return (list, spoilt, true) }
            let extra = words[next]
            if extra & 0xFF == 1 {
                if [1, 2].contains(extra >> 32 & 0xFF), extra >> 16 & 0xFFFF != 0 {
                    segmentation = (Int(extra >> 32 & 0xFF), Int(extra >> 16 & 0xFFFF))
                } else {
                    isBad = true
                }
            }
            next += 1
            extras += 1
            more = extra >> 8 & 1 != 0
        }
        more = flags & 4 != 0
        while more {
            guard next < words.count else { return (list, spoilt, true) }
            part(words[next], first + next)
            more = words[next] >> 32 & 4 != 0
            next += 1
        }
        let firstCount = Int(Int16(bitPattern: UInt16(head >> 48)))
        guard !isBad, firstCount >= 14, bytes.count <= 65_535,
            let frame = referenceOffload(bytes, isBlank: flags & 2 != 0, isValidated: flags & 1 != 0, segmentation: segmentation)
        else {
            spoilt += 1
            continue
        }
        list.append(frame)
    }
    return (list, spoilt, false)
}

private func compare(
    _ frames: [(bytes: [UInt8], offload: FrameOffload)], _ script: [FrameSent], _ device: ScriptedQueue, _ dropped: inout Int
) {
    var left = script
    var place = 0
    for frame in frames {
        var isRefused = false
        while let how = left.first {
            left.removeFirst()
            if how == .full { continue }
            isRefused = how != .sent
            break
        }
        if isRefused {
            dropped += 1
            continue
        }
        require(place < device.sent.count, "\(device.sent.count) frames, expected more")
        require(
            device.sent[place].bytes == frame.bytes, "\(device.sent[place].bytes.prefix(80)), expected \(frame.bytes.prefix(80))")
        require(device.sent[place].offload == frame.offload, "\(device.sent[place].offload), expected \(frame.offload)")
        place += 1
    }
    require(place == device.sent.count, "\(device.sent.count) frames, expected \(place)")
}
