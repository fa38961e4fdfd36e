// A device's state on its way to or from a front end, which keeps it for another process or another host.

import LinuxSystem

extension VhostSession {
    /// What has to be done for a message about the device's state.
    func stateTask(for message: VhostMessage, _ request: VhostRequest) throws(VhostUserError) -> VhostTask? {
        try expect(.deviceState, request)
        guard case .setDeviceState(let isLoading, let descriptor) = message else { return .checkState }
        return .moveState(isLoading: isLoading, descriptor)
    }

    /// The answer to the message in hand, which was about the device's state.
    mutating func transferred(_ isDone: Bool) -> VhostAnswer? {
        guard let request = takePending() else { return nil }
        let status: UInt64 = isDone ? 0 : 1
        // The front end's own descriptor is used, none of this side's comes back (vhost-user.rst, bit 8).
        return VhostAnswer(to: request, request == .setDeviceState ? status | 0x100 : status)
    }
}
