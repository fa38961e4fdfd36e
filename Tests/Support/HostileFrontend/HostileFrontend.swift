// What a guest may try on its backend; run in a guest of the lab (tools/lab), whose own blkfront is not loaded.
//
//   hostile-frontend NUMBER ATTACK…      prints a line for each attack whose answers were as they should be; exit
//   status 1 at the first
//                                        that were not
//
//   requests   operations, sectors, segment counts and ranges that are wrong
//   grants     references that are nobody's, another's, or read-only, alone and among good ones
//   indirect   page and segment counts that lie, descriptors that are wrong
//   churn      fields that change while the backend reads them
//   producer   ring indices that lie: the device is out each time
//   keys       rings and ports that are not there: the same
//   storm      doorbells without work
//   vanish     ends with requests in flight, without a word

import BlockProtocol
import Glibc
import Hypervisor
import LinuxSystem
import SharedMemory
import SharedRing
import Synchronization
import XenTypes

@main struct HostileFrontend {
    static func main() {
        let arguments = Array(CommandLine.arguments.dropFirst())
        guard let number = arguments.first, arguments.count > 1 else {
            say("usage: hostile-frontend NUMBER ATTACK…")
            exit(2)
        }
        do {
            let device = try HostileDevice(number)
            for attack in arguments.dropFirst() { try run(attack, device) }
        } catch {
            say("\(error)")
            exit(1)
        }
    }

    static func say(_ text: String) {
        let bytes = Array((text + "\n").utf8)
        _ = unsafe bytes.withUnsafeBytes { unsafe write(1, $0.baseAddress, $0.count) }
    }

    static func run(_ attack: String, _ device: HostileDevice) throws {
        switch attack {
        case "producer": try lieAboutTheProducer(device)
        case "keys": try publishBadKeys(device)
        case "vanish": try vanish(device)
        default:
            for persistent in [false, true] {
                let connection = try HostileConnection(device, persistent: persistent)
                switch attack {
                case "requests": try sendBadRequests(connection)
                case "grants": try nameBadGrants(connection)
                case "indirect": try lieIndirectly(connection)
                case "churn": try changeWhatIsRead(connection)
                case "storm": try ringWithoutWork(connection)
                default: throw Unexpected("no attack is called \(attack)")
                }
                try connection.expect(.okay, connection.request(.read), "after \(attack)")
                try device.begin()
            }
        }
        say("\(attack): as it should be")
    }

    // MARK: Attacks that are answered

    static func sendBadRequests(_ connection: HostileConnection) throws {
        for code in [4, 7, 8, 77, 128, 255] as [UInt8] {
            try connection.expect(.unsupported, connection.request(BlockOperationCode(rawValue: code)), "operation \(code)")
        }
        for (first, last) in [(0, 8), (8, 8), (5, 3), (255, 0), (0, 255), (255, 255)] as [(UInt8, UInt8)] {
            try connection.expect(.error, connection.request(.read, first: first, last: last), "sectors \(first) to \(last)")
            try connection.expect(.error, connection.request(.write, first: first, last: last), "sectors \(first) to \(last)")
        }
        for count in [0, 12, 32, 255] as [UInt16] {
            var request = connection.request(.read)
            request.segmentCount = count
            try connection.expect(.error, request, "\(count) segments")
        }
        for sector in [1 << 40, 1 << 54, 1 << 55, (1 << 55) - 8, 1 << 63, UInt64.max - 7, UInt64.max] as [UInt64] {
            try connection.expect(.error, connection.request(.read, sector: sector), "read at \(sector)")
            try connection.expect(.error, connection.request(.write, sector: sector), "write at \(sector)")
            try connection.expect(.error, BlockRequest(discarding: 8, at: sector, id: 3), "discard at \(sector)")
            try connection.expect(.error, BlockRequest(discarding: sector, at: 8, id: 3), "discard of \(sector)")
        }
        guard connection.data.region.load(51 * 4096, as: UInt8.self) == 52 else {
            throw Unexpected("a page that was not named was written")
        }
    }

    static func nameBadGrants(_ connection: HostileConnection) throws {
        let hypervisor = connection.device.hypervisor
        let backend = connection.device.backend
        let foreign = try hypervisor.offerPages(1, to: DomainID(0x7FE0), access: .readWrite)
        let sealed = try hypervisor.offerPages(1, to: backend, access: .readOnly)
        sealed.region.fill(0, count: 4096, with: 0x5A)
        // 7 is reserved and nobody's; below it are the console's and the store's, which this guest would only break for
        // itself.
        let bad = [
            GrantReference(7), GrantReference(31_000), GrantReference(UInt32.max), foreign.references[0], sealed.references[0],
        ]
        for reference in bad {
            for count in [1, 2, 11] {
                for place in [0, count - 1] {
                    var request = BlockRequest(.read, id: 1, sector: 0)
                    for page in 0..<count {
                        request.append(BlockSegment(page == place ? reference : connection.data.references[page]))
                    }
                    try connection.expect(.error, request, "grant \(reference) at place \(place) of \(count)")
                }
            }
        }
        guard sealed.region.load(0, as: UInt8.self) == 0x5A else { throw Unexpected("a read-only page was written") }
    }

    static func lieIndirectly(_ connection: HostileConnection) throws {
        let region = connection.data.region
        for index in 0..<512 { region.store(BlockSegment(connection.data.references[0]).word, at: 60 * 4096 + index * 8) }
        try connection.expect(.okay, connection.indirect(count: 64), "an honest indirect request")
        for count in [0, 257, 512, 513, 4096, 4097, 65535] as [UInt16] {
            try connection.expect(.error, connection.indirect(count: count), "\(count) indirect segments")
        }
        for inner in [BlockOperationCode.flush, .barrier, .discard, .indirect, BlockOperationCode(rawValue: 200)] {
            try connection.expect(.error, connection.indirect(inner, count: 1), "indirect \(inner)")
        }
        var lost = connection.indirect(count: 8)
        for page in 0..<8 { lost.setIndirectReference(page, to: GrantReference(31_000)) }
        try connection.expect(.error, lost, "a page of descriptors that is not there")
        for word in [
            BlockSegment(GrantReference(31_000)).word, BlockSegment(connection.data.references[0], first: 7, last: 8).word,
            UInt64.max,
        ] {
            region.store(word, at: 60 * 4096 + 20 * 8)
            try connection.expect(.error, connection.indirect(count: 64), "descriptor \(word)")
            try connection.expect(.okay, connection.indirect(count: 20), "the descriptors before it")
        }
    }

    static func changeWhatIsRead(_ connection: HostileConnection) throws {
        let ring = connection.ring.region
        let data = connection.data.region
        for index in 0..<512 { data.store(BlockSegment(connection.data.references[0]).word, at: 60 * 4096 + index * 8) }
        let isOver = StopFlag()
        let racer = try WorkerThread(name: "racer") {
            var turn: UInt8 = 0
            while !isOver.isSet {
                turn &+= 1
                let isGood = turn & 1 == 0
                for slot in 0..<32 {
                    // The number of segments, and the last sector of the first.
                    ring.store(isGood ? UInt8(1) : 255, at: 64 + slot * 112 + 1)
                    ring.store(isGood ? UInt8(7) : 255, at: 64 + slot * 112 + 24 + 5)
                }
                for index in 0..<64 { data.store(isGood ? UInt8(7) : 255, at: 60 * 4096 + index * 8 + 5) }
            }
        }
        defer {
            isOver.set()
            racer.join()
        }
        var seen: Set<Int16> = []
        for round in 0..<400 {
            connection.send(round % 3 == 0 ? connection.indirect(count: 64) : connection.request(.read, sector: 8))
            seen.insert(try connection.receive().status.rawValue)
        }
        guard seen.isSubset(of: [0, -1, -2]) else { throw Unexpected("answers \(seen)") }
        guard data.load(51 * 4096, as: UInt8.self) == 52, data.load(4096, as: UInt8.self) == 2 else {
            throw Unexpected("a page that was not named was written")
        }
    }

    static func ringWithoutWork(_ connection: HostileConnection) throws {
        let end = SystemTime().milliseconds + 3000
        while SystemTime().milliseconds < end { connection.channel.notify() }
    }

    // MARK: Attacks that end the connection

    static func lieAboutTheProducer(_ device: HostileDevice) throws {
        for lie in [33, 1000, 1 << 31, UInt32.max] as [UInt32] {
            let connection = try HostileConnection(device)
            try connection.expect(.okay, connection.request(.read), "an honest request")
            connection.ring.region.storeReleasing(lie &+ 2, at: RingHeader.requestProduced)
            connection.channel.notify()
            try device.expectQuarantine("producer \(lie &+ 2)")
            try device.begin()
        }
    }

    static func publishBadKeys(_ device: HostileDevice) throws {
        let good = try device.hypervisor.offerPages(1, to: device.backend, access: .readWrite)
        let ring = good.references[0].description
        let bad: [[(String, String)]] = [
            [("ring-ref", "31000"), ("event-channel", "20")],
            [("ring-ref", ring), ("event-channel", "4000")],
            [("ring-ref", ring), ("event-channel", "-1")],
            [("ring-ref", ring), ("event-channel", "20"), ("protocol", "sparc-abi")],
            [("ring-ref", ring), ("event-channel", "20"), ("ring-page-order", "32")],
            [("ring-ref", ring), ("event-channel", "20"), ("multi-queue-num-queues", "4294967295")],
        ]
        for keys in bad {
            try device.publish(keys)
            try device.expectQuarantine("\(keys)")
            try device.begin()
        }
    }

    static func vanish(_ device: HostileDevice) throws {
        let connection = try HostileConnection(device, persistent: true)
        for id in 0..<32 { _ = connection.front.push(connection.request(.read, page: id, id: UInt64(id))) }
        if connection.front.publish() { connection.channel.notify() }
        say("vanish: gone")
        _exit(0)
    }
}

/// Tells a thread to end.
final class StopFlag: Sendable {
    private let flag = Atomic<Bool>(false)
    var isSet: Bool { flag.load(ordering: .relaxed) }
    func set() { flag.store(true, ordering: .relaxed) }
}
