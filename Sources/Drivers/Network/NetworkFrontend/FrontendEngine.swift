// An interface on its reactors, as the control thread has it: queue n of an interface with g groups is in group n % g,
// each on a reactor of its own.

import DeviceFaults
import LinuxSystem
import NetworkDevices
import Reactor

/// All queues of one interface. On the control thread, but for `statistics`; each call waits until the reactors have
/// done it.
final class FrontendEngine: Sendable {
    private let groups: [(reactor: Reactor, group: FrontendQueueGroup)]

    /// Opens the device's queues.
    /// - Parameters:
    ///   - reactors: at least one; no more are used than there are queues.
    ///   - earlier: counters to go on from; those of queues that are no more go on in the last.
    init(
        reactors: [Reactor], device: any NetworkDevice, pages: [QueuePages], earlier: [FrontendQueueStatistics],
        broke: @escaping @Sendable (String) -> Void
    ) throws(Errno) {
        let count = device.needsOneThread ? 1 : min(reactors.count, pages.count)
        var groups: [(reactor: Reactor, group: FrontendQueueGroup)] = []
        do throws(Errno) {
            for (number, reactor) in reactors.prefix(count).enumerated() {
                let made = reactor.run { () -> Result<FrontendQueueGroup, Errno> in
                    do throws(Errno) {
                        let queues = try Self.queues(
                            stride(from: number, to: pages.count, by: count), device, pages, earlier)
                        return .success(FrontendQueueGroup(reactor, queues, broke: broke))
                    } catch { return .failure(error) }
                }
                groups.append((reactor, try made.get()))
            }
        } catch {
            for (reactor, group) in groups { reactor.run { group.close() } }
            throw error
        }
        self.groups = groups
    }

    /// Those of one group, on its thread.
    private static func queues(
        _ numbers: some Sequence<Int>, _ device: any NetworkDevice, _ pages: [QueuePages], _ earlier: [FrontendQueueStatistics]
    ) throws(Errno) -> [FrontendQueue] {
        var queues: [FrontendQueue] = []
        for number in numbers {
            let counted = number + 1 < pages.count ? earlier.dropFirst(number).prefix(1) : earlier.dropFirst(number)
            do throws(Errno) {
                queues.append(
                    try FrontendQueue(
                        place: queues.count, device, pages[number], earlier: counted.reduce(FrontendQueueStatistics(), +)))
            } catch {
                for queue in queues { queue.close() }
                throw error
            }
        }
        return queues
    }

    /// Of each queue, by number.
    var statistics: [FrontendQueueStatistics] {
        let parts = groups.map(\.group.statistics)
        let count = parts.reduce(0) { $0 + $1.count }
        return (0..<count).map { parts[$0 % parts.count][$0 / parts.count] }
    }

    /// Uses these rings from now on, one for each queue.
    func connect(_ links: [QueueLink]) {
        for (number, (reactor, group)) in groups.enumerated() {
            let own = stride(from: number, to: links.count, by: groups.count).map { links[$0] }
            reactor.run { group.connect(own) }
        }
    }

    /// Has every queue do wrong what is set, from now on, until the book is unwatched.
    func follow(_ book: FaultBook) {
        book.watch(self) { [weak self, weak book] in if let self, let book { spoil(by: book) } }
        spoil(by: book)
    }

    private func spoil(by book: FaultBook) { for (reactor, group) in groups { reactor.run { group.spoil(by: book) } } }

    /// Lets go of the rings; frames on them are lost, as on a cable that is pulled.
    func disconnect() { for (reactor, group) in groups { reactor.run { group.disconnect() } } }

    /// Ends everything.
    func close() { for (reactor, group) in groups { reactor.run { group.close() } } }
}
