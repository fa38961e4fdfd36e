// Binding a port that a predecessor of this process had bound.

import Hypervisor
import LinuxSystem
import XenTypes

extension Hypervisor {
    /// Binds a port of the frontend's, as `bindChannel` does.
    /// - Parameter isAdopted: whether a predecessor's channel to it may still be closing, which takes no more than 2 s:
    ///   so long it is tried.
    public func bindChannel(
        remote frontend: DomainID, port: EventPort, isAdopted: Bool
    ) throws(HypervisorError) -> any EventChannel {
        var left = isAdopted ? 100 : 1
        while true {
            do throws(HypervisorError) { return try bindChannel(remote: frontend, port: port) } catch {
                left -= 1
                if left == 0 { throw error }
                time.sleep(milliseconds: 20)
            }
        }
    }
}
