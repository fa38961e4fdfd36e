// A backend without threads: whoever made it says whose turn it is.

import DriverRuntime
import Hypervisor
import Reactor
import XenBus
import XenStore

/// What `BlockBackendService.run` does on its threads, in turns of the caller's, on one thread.
package final class SteppedBlockBackend<H: Hypervisor> {
    private let service: BlockBackendService<H>
    private let runtime: BackendRuntime
    private var life: DeviceServerLife<DiskDriver>
    private var turns = 0
    private var hasBegunToEnd = false

    /// Its reactors; each is stepped by the caller.
    package var reactors: [Reactor] { runtime.reactors }

    init(_ service: BlockBackendService<H>) throws(BackendError) {
        self.service = service
        let runtime = try service.makeRuntime(hasThreads: false)
        self.runtime = runtime
        var turns = 0
        do throws(ReactorError) { for reactor in runtime.reactors { _ = try reactor.step() } } catch {
            runtime.store.close()
            throw .system("\(error)")
        }
        do throws(XenbusError) {
            life = try service.server.begin(
                runtime.store, domain: service.hypervisor.domain, kind: service.options.kind,
                period: service.options.resizePollMilliseconds
            ) { service.follower($0, runtime, &turns) }
        } catch {
            service.server.end(runtime.store)
            throw .store(error)
        }
        self.turns = turns
        service.publish(life.list, runtime)
    }

    /// The control loop's next turn: an event of the store's, if there is any, news of the queues, and what time asks
    /// for.
    /// - Returns: whether there is more to come: false once a shut-down that was asked for is over.
    package func turn() throws(BackendError) -> Bool {
        do throws(XenbusError) {
            if service.server.isStopping { return try end() }
            let event: WatchEvent?
            do throws(StoreError) { event = try runtime.store.nextEvent(milliseconds: 0) } catch { throw .store(error) }
            try life.turn(event) { service.follower($0, runtime, &turns) }
            service.publish(life.list, runtime)
            return true
        } catch { throw .store(error) }
    }

    /// What a kill leaves: nothing more is done, answered or given back by this process, which its hypervisor has
    /// disconnected already.
    package func abandon() {
        for follower in life.list { follower.driver.forsake() }
        for reactor in reactors { reactor.abandon() }
        service.server.end(runtime.store)
    }

    private func end() throws(XenbusError) -> Bool {
        if !hasBegunToEnd { try life.beginShutDown() }
        hasBegunToEnd = true
        try life.awaitShutDown(milliseconds: 0)
        guard life.isOver else { return true }
        try life.finishShutDown()
        service.server.end(runtime.store)
        service.publish([], runtime)
        return false
    }
}
