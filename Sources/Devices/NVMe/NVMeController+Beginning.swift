// How a controller's driver begins: with the controller as the firmware or the last driver left it, which is stopped,
// or as a killed process left it, which goes on.

import DMA
import LinuxSystem
import SharedMemory

extension NVMeController {
    /// The admin queue's memory, and what it is for.
    struct Beginning {
        let memory: QueueMemory
        /// nil: the controller stands, and is to be started.
        let adopted: AdoptedController?
    }

    static func begin(
        _ port: any NVMePort, _ ledger: ControllerLedger?, _ capabilities: NVMeCapabilities, _ time: any TimeSource,
        _ log: @Sendable (String) -> Void
    ) throws(NVMeError) -> Beginning {
        if let keeping = port.keeping, let ledger, keeping.isLeft {
            do throws(NotAdoptable) {
                let adopted = try adopt(port, keeping, ledger, capabilities, time)
                if let beginning = try rest(adopted, port, keeping) { return beginning }
                throw NotAdoptable("its memory is not where it was")
            } catch {
                log("\(port.name): \(error): it is reset, and what it had in work is asked again")
                // First: while it runs, what was mapped for it stays where it is.
                try stop(port, capabilities, time)
                try keeping.forgetMappings()
            }
        } else {
            // Before its memory is mapped: what the firmware had it do ends here.
            try stop(port, capabilities, time)
        }
        ledger?.end()
        return Beginning(memory: try memory(of: port, lists: 1, "admin"), adopted: nil)
    }

    /// Nothing is under way: what was mapped is taken away, and the admin queue put where it was. nil: it cannot be.
    private static func rest(
        _ adopted: AdoptedController, _ port: any NVMePort, _ keeping: any NVMeKeeping
    ) throws(NotAdoptable) -> Beginning? {
        do throws(NVMeError) { try keeping.forgetMappings() } catch { throw NotAdoptable("\(error)") }
        let region = adopted.adminRegion
        guard let placement = port.memory.place(region) else { return nil }
        guard let pages = placement.pageAddresses(region.pageCount), pages[0].rawValue == adopted.setUp.adminAddress else {
            port.memory.remove(region)
            return nil
        }
        return Beginning(memory: QueueMemory(region: region, pages: pages), adopted: adopted)
    }

    /// Starts it, or goes on with it; where that does not work after all, it is reset.
    func startOrGoOn(_ adopted: AdoptedController?) throws(NVMeError) {
        if let adopted {
            do throws(NVMeError) {
                try goOn(adopted)
                log("\(port.name): gone on with as it was left, without a reset")
                return
            } catch { log("\(port.name): \(error): it is reset, and what it had in work is asked again") }
            ledger?.end()
            try Self.stop(port, capabilities, time)
        }
        try start()
    }

    /// Memory for a pair of queues, and where the controller finds it.
    func memory(ofQueue number: Int) throws(NVMeError) -> QueueMemory {
        // Another name each time: there may be one of a predecessor's that is still kept.
        let serial = (ledger?.queue(number).memory ?? 0) &+ 1
        let memory = try Self.memory(of: port, lists: QueueRings.mostCommands, Self.queueName(number, serial))
        ledger?.queue(number).memory = serial
        return memory
    }

    /// The controller does not know the pair any more.
    func giveBack(_ region: SharedRegion, ofQueue number: Int) {
        port.memory.remove(region)
        guard let queue = ledger?.queue(number) else { return }
        queue.state = .none
        port.keeping?.release(Self.queueName(number, queue.memory))
    }
}
