// netfront's end: a backend that answers what it likes, against the rules of xen/io/netif.h written down once more.

import DMA
import FuzzSupport
import Hypervisor
import LinuxSystem
import NetworkDevices
@testable import NetworkFrontend
import NetworkProtocol
import NetworkRig
import Packets
import SharedMemory
import SharedRing

/// What a queue of netfront's stands on, made once.
private struct Parts {
    let rig = made { try NetworkRig(writable: 256, readable: 1) }
    let link: QueueLink
    let pages: QueuePages
    let heads = made { try SharedRegion(anonymous: 2 * 4096) }

    init() {
        let guest = rig.guest
        let rings = (0..<2).map { _ in made { try guest.offerPages(1, to: .zero, access: .readWrite) } }
        let bell = made { try guest.allocateChannel(for: .zero) }
        link = QueueLink(transmitRing: rings[0], receiveRing: rings[1], bell: bell, receiveBell: nil, features: .all)
        pages = QueuePages(transmit: made { try guest.offerPages(256, to: .zero, access: .readOnly) }, receive: rig.writable)
    }
}

nonisolated(unsafe) private let parts = Parts()

func fuzzFrontend(_ input: inout ByteReader) {
    var session = Session(&input)
    while !input.isAtEnd, !session.isDead { session.step(input.byte(), &input) }
    session.end()
}

/// A frontend's receive ring between a backend that lies and a device.
private struct Session: ~Copyable {
    private let bus = MemoryBus()
    private let device: ScriptedQueue
    private let ring = parts.link.receiveRing.region
    private let data = parts.pages.receive.region
    private var side: ReceiveSide
    private var answered = 0
    private var pending: [UInt64] = []
    private var dropped = 0
    private(set) var isDead = false

    init(_ input: inout ByteReader) {
        device = ScriptedQueue(bus)
        device.isBatched = input.last & 4 != 0
        side = ReceiveSide(parts.link, parts.pages, device, bus, heads: parts.heads)
        _ = side.ring.publish()
    }

    /// One thing that happens, by the input's next byte.
    mutating func step(_ code: UInt8, _ input: inout ByteReader) {
        switch code % 8 {
        case 0, 1, 2: pending.append(response(code, &input))
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
        case 5: device.answers.append([FrameSent.full, .failed(.ioError), .sent][Int(code >> 3) % 3])
        case 6 where code & 0xF0 == 0xF0:
            // An index that cannot be: the end, whatever else is there.
            ring.storeReleasing(
                UInt32(truncatingIfNeeded: answered + 257 + Int(input.number(UInt16.self))), at: RingHeader.responseProduced)
            require(dies(), "an index that lies was believed")
            isDead = true
        default: publish()
        }
    }

    /// A response, near what is allowed.
    private func response(_ code: UInt8, _ input: inout ByteReader) -> UInt64 {
        let id = code & 0x80 == 0 ? UInt16((answered + pending.count) % 256) : input.number()
        let offset = code & 0x40 == 0 ? UInt16(0) : code & 0x20 == 0 ? UInt16(input.byte()) : input.number()
        let status =
            code & 0x10 == 0 ? Int16(input.byte()) : code & 0x08 == 0 ? input.number(Int16.self) & 0xFFF : input.number()
        let flags = UInt16(input.byte() & 15)
        return UInt64(id) | UInt64(offset) << 16 | UInt64(flags) << 32 | UInt64(UInt16(bitPattern: status)) << 48
    }

    /// Puts what is pending on the ring, lets the frontend work, and compares.
    private mutating func publish() {
        let words = Array(pending.prefix(200))
        pending = []
        for (index, word) in words.enumerated() { ring.store(word, at: 64 + (answered + index) % 256 * 8) }
        ring.storeReleasing(UInt32(truncatingIfNeeded: answered + words.count), at: RingHeader.responseProduced)
        let script = device.answers
        device.clearSent()
        let expected = frames(words, from: answered, data)
        work(expected, words)
        compare(expected.frames, script)
        if isDead { return }
        answered += words.count
        _ = side.ring.publish()
        require(Int(side.statistics.receiveDropped) == dropped + expected.spoilt, "\(side.statistics) after \(words)")
        dropped += expected.spoilt
        comparePosted(answered - words.count..<answered)
    }

    /// The frontend works until it is done, or finds what it must find.
    private mutating func work(_ expected: Expected, _ words: [UInt64]) {
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
    }

    /// Every page is back on the ring, each in its slot.
    private func comparePosted(_ reposted: Range<Int>) {
        require(side.ring.outstanding == 256, "\(side.ring.outstanding) pages are posted")
        for slot in 0..<256 {
            let request = ReceiveRequest(loading: ring, 64 + slot * 8)
            let isReposted = reposted.contains { $0 % 256 == slot }
            require(
                !isReposted || request.id == UInt16(slot) && request.reference == parts.pages.receive.references[slot],
                "slot \(slot): \(request)")
        }
    }

    private mutating func dies() -> Bool {
        do throws(FrontendFault) {
            _ = try side.work()
            return false
        } catch { return true }
    }

    /// What the device got, where it answered by `script`.
    private mutating func compare(_ frames: [(bytes: [UInt8], offload: FrameOffload)], _ script: [FrameSent]) {
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
                device.sent[place].bytes == frame.bytes,
                "\(device.sent[place].bytes.prefix(80)), expected \(frame.bytes.prefix(80))")
            require(device.sent[place].offload == frame.offload, "\(device.sent[place].offload), expected \(frame.offload)")
            place += 1
        }
        require(place == device.sent.count, "\(device.sent.count) frames, expected \(place)")
    }

    func end() {
        bus.detach(data)
        bus.detach(parts.heads)
    }
}
