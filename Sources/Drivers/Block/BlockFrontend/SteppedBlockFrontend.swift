// A frontend's control thread without a thread.

import Hypervisor
import XenBus

/// What `BlockFrontend.connect` starts a thread for, in turns of the caller's.
package struct SteppedBlockFrontend<H: Hypervisor> {
    private let frontend: BlockFrontend<H>
    private let driver: VbdDriver<H>
    private var life: FrontendLife

    init(_ frontend: BlockFrontend<H>) {
        self.frontend = frontend
        driver = VbdDriver(frontend)
        life = FrontendLife(frontend.follower)
    }

    /// One step of the handshake; says what to wait for. Between two turns whose answer was `event` the caller looks
    /// for one by `takeEvent`.
    package mutating func turn() -> FrontendPause {
        let hypervisor = frontend.hypervisor
        return life.turn(driver) { hypervisor.attemptStore() }
    }

    /// Takes one event of the store's; whether there was one, or the store is gone.
    package mutating func takeEvent() -> Bool { life.awaitEvent(milliseconds: 0) }

    /// Whether the disk is there.
    package var isLive: Bool { frontend.status.withLock { $0.phase == .live } }

    /// What a kill leaves: nothing of it refers to the rest any more.
    package func abandon() { frontend.status.withLock { $0 = BlockFrontend<H>.Status() } }

    /// Has the next turns close the device, in the proper order.
    package func close() { frontend.follower.stop() }
}
