// What a front end is answered, once its message is done.

extension VhostSession {
    /// The answer to a message that is done.
    mutating func answer(to envelope: VhostEnvelope) -> VhostAnswer? {
        let request = envelope.request
        switch envelope.message {
        case .getFeatures: return VhostAnswer(to: request, known.rawValue)
        case .getProtocolFeatures: return VhostAnswer(to: request, offer.protocolFeatures.rawValue)
        case .getQueueCount: return VhostAnswer(to: request, UInt64(offer.queues))
        case .getMostRegions: return VhostAnswer(to: request, UInt64(VhostLimits.regions))
        case .getStatus: return VhostAnswer(to: request, status)
        case .getRingBase(let ring): return ringBase(ring)
        case .getInflight: return inflightAnswer()
        case .setLogBase where protocolFeatures.contains(.sharedLog): return VhostAnswer(to: request, 0)
        default:
            guard envelope.needsReply, protocolFeatures.contains(.replyAck) else { return nil }
            return VhostAnswer(to: request, 0)
        }
    }

    /// As long as QEMU's structure with its padding, which is what it compares with.
    private mutating func inflightAnswer() -> VhostAnswer? {
        guard let (area, descriptor) = made.take() else { return nil }
        var payload: [UInt8] = []
        for word in [area.byteCount, area.offset] { payload.put(word) }
        for half in [area.queues, area.queueSize, 0, 0] { payload.put(half) }
        return VhostAnswer(to: .getInflight, payload, descriptor)
    }

    func ringBase(_ ring: UInt32) -> VhostAnswer {
        var payload: [UInt8] = []
        payload.put(ring)
        payload.put(rings[Int(ring)].base)
        return VhostAnswer(to: .getRingBase, payload)
    }
}
