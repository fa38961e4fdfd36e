// How the two sides of a session ring each other: by descriptors, or by messages where that was agreed to.

import LinuxSystem

extension VhostSession {
    /// What has to be done for a message about a bell, or for one that is one.
    mutating func bell(_ message: VhostMessage, _ request: VhostRequest) throws(VhostUserError) -> VhostTask? {
        switch message {
        case .setRingCall(let ring, let call):
            let index = try ringIndex(ring)
            rings[index].call = call
            rings[index].unsaid.remove(.call)
            if rings[index].isRunning { return .call(ring: index, call) }
        case .setRingError(let ring, let error):
            let index = try ringIndex(ring)
            rings[index].error = error
            rings[index].unsaid.remove(.error)
            if rings[index].isRunning { return .error(ring: index, error) }
        case .ringKick(let ring):
            guard protocolFeatures.contains(.inBandNotifications) else { throw .unknownRequest(request.rawValue) }
            let index = try ringIndex(ring)
            if rings[index].isRunning { return .kick(ring: index) }
            // The first one starts a ring, which looks at what there is.
            rings[index].isKickedByMessage = rings[index].kick == nil
            return try start(index)
        default: break
        }
        return nil
    }
}
