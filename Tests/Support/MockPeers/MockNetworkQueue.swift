// One queue of a mock vif frontend.

import Hypervisor
import NetworkProtocol
import SharedMemory
import SharedRing
import XenTypes

/// Both rings of one queue, and the doorbell that they share.
public final class MockNetworkQueue {
    /// The page that the transmit ring lies in.
    public let transmitPage: any OfferedPages
    /// The page that the receive ring lies in.
    public let receivePage: any OfferedPages
    /// The doorbell (`event-channel`).
    public let bell: any EventChannel
    /// Frames from the frontend to the backend.
    public var transmit: FrontRing<TransmitRing>
    /// Frames from the backend to the frontend.
    public var receive: FrontRing<ReceiveRing>

    /// Two pages and a port that `backend` may reach; nothing is published.
    public init(_ hypervisor: any Hypervisor, _ backend: DomainID) throws {
        transmitPage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        receivePage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        bell = try hypervisor.allocateChannel(for: backend)
        transmit = FrontRing(initialising: transmitPage.region, TransmitRing())
        receive = FrontRing(initialising: receivePage.region, ReceiveRing())
    }

    /// Its store keys, without a folder.
    public var keys: [String: String] {
        [
            "tx-ring-ref": "\(transmitPage.references[0])", "rx-ring-ref": "\(receivePage.references[0])",
            "event-channel": "\(bell.port)",
        ]
    }

    /// Takes its pages and its port back.
    public func close() {
        bell.close()
        transmitPage.withdraw()
        receivePage.withdraw()
    }
}
