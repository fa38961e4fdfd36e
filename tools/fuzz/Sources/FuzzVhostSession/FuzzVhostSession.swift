// libFuzzer target for vhost-user: any messages with any descriptors, one after another, at one session.
//
// The input is a list of messages: a byte for the number, one for flags and for what descriptors come along, one for
// the payload's length, the payload; bit 7 of the flags' byte says that the number is to be taken as it is. What must
// hold: no trap, rings start and stop by turns, each in memory that the session has, and nothing stays mapped or open.

import CLinux
import LinuxSystem
import SharedMemory
import VhostUser
import VirtioRing
import VirtioWire

/// Descriptors that a front end might send; made once.
private struct Descriptors {
    let memory: Descriptor
    let small: Descriptor
    let event: Descriptor
    let pipe: Descriptor

    init() throws {
        memory = try SealedMemory("guest", byteCount: 64 * SharedRegion.pageSize, final: true).descriptor
        small = try SealedMemory("small", byteCount: SharedRegion.pageSize, final: true).descriptor
        event = Descriptor(owning: causeway_eventfd())
        pipe = try WakePipe().writer
    }

    func chosen(_ choice: UInt8) -> [Descriptor] {
        switch choice & 7 {
        case 1: [memory]
        case 2: [event]
        case 3: [small]
        case 4: [pipe]
        case 5: [memory, small]
        case 6: Array(repeating: memory, count: 8)
        default: []
        }
    }
}

private let descriptors = try? Descriptors()

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzVhostSession(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard let descriptors else { fatalError("no memory for descriptors") }
    let (open, mapped) = (Descriptor.openCount, SharedRegion.liveCount)
    play(unsafe UnsafeBufferPointer(start: start, count: count)[...], descriptors)
    precondition(Descriptor.openCount == open, "a descriptor stays open")
    precondition(SharedRegion.liveCount == mapped, "memory stays mapped")
    return 0
}

private func play(_ bytes: Slice<UnsafeBufferPointer<UInt8>>, _ descriptors: Descriptors) {
    var input = unsafe bytes
    let known = VhostRequest.allCases.map(\.rawValue)
    var session = VhostSession(
        VhostOffer(
            features: [.version1, .eventIndex, .indirectDescriptors, .packedRing, .accessPlatform],
            protocolFeatures: [
                .multipleQueues, .sharedLog, .replyAck, .backendRequests, .configuration, .inflightMemory, .resetDevice,
                .inBandNotifications, .memorySlots, .status, .inflightAtStop,
            ],
            rings: 3, mostEntries: 256))
    var running = Set<Int>()
    while let number = unsafe input.popFirst(), let flags = unsafe input.popFirst(), let length = unsafe input.popFirst() {
        let code = flags & 0x80 != 0 ? UInt32(number) : known[Int(number) % known.count]
        let payload = unsafe Array(input.prefix(Int(length)))
        unsafe input = input.dropFirst(Int(length))
        var message: [UInt8] = []
        for word in [code, UInt32(flags & 0xF), UInt32(payload.count)] { message += word.bytes }
        guard let envelope = assemble(message + payload, descriptors.chosen(flags >> 4)) else { continue }
        do throws(VhostUserError) {
            if case .perform(var task) = try session.handle(envelope) {
                check(task, session, &running)
                while let next = session.next(after: 7) {
                    task = next
                    check(task, session, &running)
                }
                _ = answer(task, &session)
            }
        } catch { _ = session.refusal(of: envelope) }
        precondition(Set(session.running) == running, "\(session.running) run, and not \(running)")
        precondition(!session.isBusy, "a message that is done is not")
    }
}

/// What whoever runs the rings would find wrong.
private func check(_ task: VhostTask, _ session: VhostSession, _ running: inout Set<Int>) {
    switch task {
    case .start(let ring, let plan):
        precondition(running.insert(ring).inserted, "ring \(ring) is started twice")
        for area in [plan.areas.descriptors, plan.areas.driver, plan.areas.device] {
            // Pages of a driver behind an IOMMU may be mapped once more, side by side.
            precondition(
                plan.translations != nil || session.memory.entries.contains { $0.mapping === area.region },
                "a ring in memory of nobody's")
            precondition(area.offset >= 0 && area.offset < area.region.byteCount, "a ring outside its memory")
        }
    case .translations(let table, let takenBack): check(table, takenBack, session)
    case .pause(let ring): precondition(running.remove(ring) != nil, "ring \(ring) is paused and does not run")
    case .stop(let ring): precondition(running.remove(ring) != nil, "ring \(ring) is stopped and does not run")
    case .reset(let rings): running.subtract(rings)
    case .memory(_, let stopping):
        precondition(running.isSuperset(of: stopping), "rings that do not run are stopped")
        running.subtract(stopping)
    case .enable(let rings): precondition(rings.allSatisfy { running.contains($0.ring) }, "a ring that does not run is enabled")
    case .log(let rings):
        for (ring, logging) in rings {
            precondition(running.contains(ring), "a ring that does not run is logged")
            guard let log = logging?.log else { continue }
            for entry in session.memory.entries {
                let region = entry.region
                precondition(log.covers(region.guestAddress, byteCount: region.byteCount), "memory that the log has no bits for")
                // What a device might do of its own.
                log.mark(region.guestAddress, byteCount: region.byteCount)
            }
        }
    case .kick(let ring): precondition(running.contains(ring), "a ring that does not run is kicked")
    default: break
    }
}

/// What queues look up.
private func check(_ table: TranslationTable, _ takenBack: ClosedRange<UInt64>?, _ session: VhostSession) {
    precondition(table.entries.count <= TranslationTable.mostEntries, "a table without an end")
    for (one, next) in zip(table.entries, table.entries.dropFirst()) {
        precondition(one.last < next.first, "IO addresses that are two things")
    }
    for entry in table.entries {
        precondition(takenBack.map { entry.last < $0.lowerBound || entry.first > $0.upperBound } ?? true, "not taken back")
        // A range may go on from one region into the next where these touch, and nowhere else.
        for (address, count) in [(entry.target, UInt32(1)), (entry.target + (entry.last - entry.first), 1)] {
            precondition(
                session.memory.guestMap.admits(GuestRun(address: address, byteCount: count), forWriting: true),
                "IO addresses that are no memory")
        }
    }
    let memory = TranslatedMemory(table, in: session.memory.guestMap, now: { 0 })
    var chain = DescriptorChain()
    for entry in table.entries.prefix(8) {
        let count = UInt32(clamping: min(entry.last - entry.first, 8000)) + 1
        chain.removeAll()
        chain.appendWritable(GuestRun(address: entry.first, byteCount: count))
        if memory.settle(&chain) {
            for run in chain.runs {
                precondition(session.memory.guestMap.admits(run, forWriting: true), "a chain in memory that there is not")
            }
        }
    }
}

private func answer(_ task: VhostTask, _ session: inout VhostSession) -> VhostAnswer? {
    switch task {
    case .readConfiguration(_, let byteCount): session.configuration(Array(repeating: 1, count: byteCount / 2))
    case .stop: session.stopped(7)
    default: session.finish()
    }
}

/// The message out of its bytes, cut where the first of them says.
private func assemble(_ bytes: [UInt8], _ descriptors: [Descriptor]) -> VhostEnvelope? {
    var assembler = VhostAssembler()
    var (rest, along) = (bytes[...], descriptors)
    let piece = Int(bytes[0] % 7) + 1
    while !rest.isEmpty {
        let part = Array(rest.prefix(min(piece, assembler.wanted)))
        do throws(VhostUserError) {
            if let envelope = try assembler.take(part, along) { return envelope }
        } catch { return nil }
        along = []
        rest = rest.dropFirst(part.count)
    }
    return nil
}

extension UInt32 {
    fileprivate var bytes: [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: self >> (8 * $0)) } }
}
