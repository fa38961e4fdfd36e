// Two domains of a loopback host in one process: what one offers the other maps and copies.

import CommandSupport
import Hypervisor
import Interrupts
import LinuxSystem
import Loopback
import SharedMemory
import XenStore
import XenTypes

/// A host process, and both domains' connections to it.
final class GrantRig {
    /// What is timed: one turn of ours, and of what it is compared with.
    struct Job {
        let name: String
        let unit: String
        /// A turn's nanoseconds are divided by this: pages, or nanoseconds of the unit.
        let share: Double
        let ours: () throws -> Void
        let reference: () throws -> Void
    }

    private let run: RunDirectory
    private let host: ChildProcess
    private let store: StoreClient
    private let guest: DomainID
    private let back: LoopbackHypervisor
    private let front: LoopbackHypervisor
    private let daemon: SocketEcho
    private var echoes: [EchoThread] = []
    private var vectors: InterruptVectors?

    private static let page = SharedRegion.pageSize

    init(in directory: PairDirectory) throws {
        run = directory.run
        host = try ChildProcess.startHost(in: run)
        do {
            store = try run.connectStore()
            guest = try GuestDomain.create(name: "bench", in: run, store: store)
            back = try LoopbackHypervisor.connect(runDirectory: run.path, domain: .zero, time: .system)
            front = try LoopbackHypervisor.connect(runDirectory: run.path, domain: guest, time: .system)
            daemon = try SocketEcho()
        } catch {
            host.stop(milliseconds: 1000)
            throw Failure("bench grant: \(error)")
        }
    }

    /// Ends the host and all that is on it.
    func end() {
        for echo in echoes { echo.end() }
        daemon.end()
        front.disconnect()
        back.disconnect()
        store.close()
        host.stop(milliseconds: 5000)
    }

    func jobs() throws -> [Job] {
        do {
            return try [1, 32].flatMap { [try mapping($0), try copying($0)] } + [offering(256), try doorbell(), try interrupt()]
        } catch { throw Failure("bench grant: \(error)") }
    }

    private func mapping(_ count: Int) throws -> Job {
        let (back, guest) = (back, guest)
        let offered = try front.offerPages(count, to: .zero, access: .readWrite)
        return Job(
            name: "map and unmap, \(Self.pages(count))", unit: "ns/page", share: Double(count),
            ours: {
                let grants = try withExtendedLifetime(offered) {
                    try back.mapGrants(offered.references, of: guest, access: .readWrite)
                }
                back.unmapGrants(grants)
            },
            reference: { [daemon] in
                daemon.ask()
                daemon.ask()
            })
    }

    private func copying(_ count: Int) throws -> Job {
        let back = back
        let offered = try front.offerPages(count, to: .zero, access: .readOnly)
        let local = try SharedRegion(anonymous: count * Self.page)
        let other = try SharedRegion(anonymous: count * Self.page)
        for place in 0..<count { other.fill(place * Self.page, count: Self.page, with: 7) }
        let operations = offered.references.enumerated().map { place, reference in
            GrantCopy(
                source: .grant(reference, of: guest, offset: 0), destination: .local(local, offset: place * Self.page),
                byteCount: Self.page)
        }
        return Job(
            name: "copy 4 KiB, \(Self.pages(count))", unit: "ns/page", share: Double(count),
            ours: {
                let statuses = try withExtendedLifetime(offered) { try back.copyGrants(operations) }
                guard statuses.allSatisfy({ $0 == .okay }) else { throw Failure("bench grant: a copy: \(statuses)") }
            },
            reference: { [daemon] in
                daemon.ask()
                daemon.ask()
                for place in 0..<count {
                    local.copy(from: other, place * Self.page, count: Self.page, to: place * Self.page)
                }
            })
    }

    private func offering(_ count: Int) -> Job {
        let front = front
        return Job(
            name: "offer and withdraw, \(Self.pages(count))", unit: "ns/page", share: Double(count),
            ours: { try front.offerPages(count, to: .zero, access: .readWrite).withdraw() },
            reference: { [daemon] in
                daemon.ask()
                _ = try SharedRegion(anonymous: count * Self.page)
                daemon.ask()
            })
    }

    private func doorbell() throws -> Job {
        let far = try front.allocateChannel(for: .zero)
        let near = try back.bindChannel(remote: guest, port: far.port)
        let (there, here) = (try EventCounter(), try EventCounter())
        let ours = try EchoThread(far.descriptor) {
            far.acknowledge()
            far.unmask()
            far.notify()
        }
        let reference = try EchoThread(there.descriptor) {
            there.take()
            here.ring()
        }
        echoes += [ours, reference]
        return Job(
            name: "doorbell there and back", unit: "µs", share: 1000,
            ours: {
                near.notify()
                _ = try waitReadable(near.descriptor.rawValue, milliseconds: -1)
                near.acknowledge()
                near.unmask()
            },
            reference: {
                there.ring()
                _ = try waitReadable(here.descriptor.rawValue, milliseconds: -1)
                here.take()
            })
    }

    /// What the routing table costs over the write that it ends in.
    private func interrupt() throws -> Job {
        let (there, bare) = (try EventCounter(), try EventCounter())
        let attached = try InterruptTable(capacity: 1).attach(device: "bench", vectors: 1)
        try attached.vectors.route(0, to: .eventDescriptor(there.descriptor))
        let line = try attached.source.line(0)
        // They are detached when nobody has them any more.
        vectors = attached.vectors
        return Job(
            name: "interrupt into an eventfd", unit: "ns", share: 1,
            ours: { line.raise() },
            reference: { bare.ring() })
    }

    private static func pages(_ count: Int) -> String { count == 1 ? "one page" : "\(count) pages at once" }
}
