// A front end that is only bytes: messages as they lie on the wire, handled as a back end would.

import LinuxSystem
import SharedMemory
import Testing
import VirtioWire

@testable import VhostUser

/// Handles messages one after another and keeps what was to be done.
struct ScriptedFrontend {
    var session: VhostSession
    var tasks: [VhostTask] = []
    /// Where rings that are stopped say that they were.
    var base: UInt32 = 0

    init(
        features: VirtioFeatures = [.version1, .eventIndex, .indirectDescriptors],
        protocolFeatures: VhostProtocolFeatures = [
            .multipleQueues, .replyAck, .backendRequests, .configuration, .resetDevice, .memorySlots, .status,
        ], rings: Int = 2
    ) {
        session = VhostSession(VhostOffer(features: features, protocolFeatures: protocolFeatures, rings: rings))
    }

    /// Sends a message whose payload is these integers; the numbers of the answer's payload.
    @discardableResult
    mutating func send(
        _ request: VhostRequest, _ payload: [UInt8] = [], _ descriptors: [Descriptor] = [], needsReply: Bool = false
    ) throws -> [UInt8]? {
        let envelope = try #require(
            try assemble(wire(request.rawValue, payload, needsReply: needsReply), descriptors: descriptors))
        let step = try session.handle(envelope)
        guard case .perform(let task) = step else {
            guard case .done(let answer) = step else { return nil }
            return answer.map { Array($0.bytes.dropFirst(12)) }
        }
        tasks.append(task)
        while let next = session.next(after: base) { tasks.append(next) }
        return session.finish().map { Array($0.bytes.dropFirst(12)) }
    }

    /// Rings that were started, in order.
    var started: [Int] {
        tasks.compactMap { task in if case .start(let ring, _) = task { ring } else { nil } }
    }

    func plan(of ring: Int) -> VhostRingPlan? {
        tasks.compactMap { task in if case .start(ring, let plan) = task { plan } else { nil } }.last
    }
}

/// A message as it lies on the wire.
func wire(_ code: UInt32, _ payload: [UInt8], flags: UInt32 = 1, needsReply: Bool = false, size: UInt32? = nil) -> [UInt8] {
    words(code, flags | (needsReply ? 8 : 0), size ?? UInt32(payload.count)) + payload
}

/// 32-bit numbers as a payload has them.
func words(_ values: UInt32...) -> [UInt8] {
    values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
}

/// 64-bit numbers as a payload has them.
func quads(_ values: UInt64...) -> [UInt8] {
    values.flatMap { value in (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
}

/// The first number of an answer.
func number(_ payload: [UInt8]?) -> UInt64? {
    payload.map { $0.prefix(8).enumerated().reduce(0) { $0 | UInt64($1.element) << (8 * $1.offset) } }
}

/// Feeds an assembler in pieces of at most `piece` bytes, descriptors with the first.
func assemble(_ bytes: [UInt8], descriptors: [Descriptor] = [], piece: Int = .max) throws -> VhostEnvelope? {
    var assembler = VhostAssembler()
    var rest = bytes[...]
    var along = descriptors
    while !rest.isEmpty {
        let count = min(piece, assembler.wanted, rest.count)
        let envelope = try assembler.take(Array(rest.prefix(count)), along)
        along = []
        rest = rest.dropFirst(count)
        if let envelope { return envelope }
    }
    return nil
}

/// A guest's memory of `pages` pages.
func memory(pages: Int = 16) throws -> Descriptor {
    try SealedMemory("guest", byteCount: pages * SharedRegion.pageSize, final: false).descriptor
}
