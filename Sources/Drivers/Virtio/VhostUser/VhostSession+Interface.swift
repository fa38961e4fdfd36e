// Messages that only an interface has.

extension VhostSession {
    /// What has to be done for a message that only an interface has.
    func interfaceTask(for message: VhostMessage, _ request: VhostRequest) throws(VhostUserError) -> VhostTask? {
        switch message {
        case .sendAnnouncement(let address):
            try expect(.announcement, request)
            return .announce(address)
        case .setMTU(let mtu):
            try expect(.mtu, request)
            return .mtu(mtu)
        default: return nil
        }
    }
}
