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
            features: [.version1, .eventIndex, .indirectDescriptors, .packedRing],
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
            precondition(session.memory.entries.contains { $0.mapping === area.region }, "a ring in memory of nobody's")
            precondition(area.offset >= 0 && area.offset < area.region.byteCount, "a ring outside its memory")
        }
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
