// Two domains of a loopback host in one process: what one offers the other maps and copies.

import CLinux
import Glibc
import Hypervisor
import LinuxSystem
import LoopbackHypervisor
import SharedMemory
import XenStore
import XenWire

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

    private static let page = SharedRegion.pageSize

    init(in directory: PairDirectory) throws {
        run = directory.run
        host = try ChildProcess.startHost(in: run)
        do {
            store = try run.connectStore()
            guest = try GuestDomain.create(name: "bench", in: run, store: store)
            back = try LoopbackHypervisor.connect(runDirectory: run.path, domain: .zero)
            front = try LoopbackHypervisor.connect(runDirectory: run.path, domain: guest)
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
            return try [1, 32].flatMap { [try mapping($0), try copying($0)] } + [offering(256), try doorbell()]
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
        let (there, here) = (Descriptor(owning: causeway_eventfd()), Descriptor(owning: causeway_eventfd()))
        let ours = try EchoThread(far.descriptor) {
            far.acknowledge()
            far.unmask()
            far.notify()
        }
        let reference = try EchoThread(there) {
            EventCounter.take(there)
            EventCounter.ring(here)
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
                EventCounter.ring(there)
                _ = try waitReadable(here.rawValue, milliseconds: -1)
                EventCounter.take(here)
            })
    }

    private static func pages(_ count: Int) -> String { count == 1 ? "one page" : "\(count) pages at once" }
}

/// A thread at the other end of a socket that answers each packet with another: the least that a hypervisor in a process costs.
private final class SocketEcho {
    private let near: Descriptor
    private let thread: WorkerThread
    /// As many bytes as a small request has.
    private static let size = 64

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard unsafe socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw Errno.current
        }
        near = Descriptor(owning: ends[0])
        let far = Descriptor(owning: ends[1])
        thread = try WorkerThread(name: "echo") {
            var packet = [UInt8](repeating: 0, count: Self.size)
            while unsafe read(far.rawValue, &packet, Self.size) > 0, unsafe write(far.rawValue, packet, Self.size) > 0 {}
        }
    }

    /// One packet there and one back.
    func ask() {
        var packet = [UInt8](repeating: 0, count: Self.size)
        _ = unsafe write(near.rawValue, packet, Self.size)
        _ = unsafe read(near.rawValue, &packet, Self.size)
    }

    func end() {
        _ = shutdown(near.rawValue, Int32(SHUT_RDWR))
        thread.join()
    }
}

/// An eventfd as a doorbell.
private enum EventCounter {
    static func ring(_ descriptor: Descriptor) {
        var one: UInt64 = 1
        _ = unsafe write(descriptor.rawValue, &one, 8)
    }

    static func take(_ descriptor: Descriptor) {
        var count: UInt64 = 0
        _ = unsafe read(descriptor.rawValue, &count, 8)
    }
}

/// Answers whenever something can be read, until it is ended.
private final class EchoThread {
    private let stopper: WakePipe
    private let thread: WorkerThread

    init(_ descriptor: Descriptor, _ answer: @escaping @Sendable () -> Void) throws {
        let stopper = try WakePipe()
        self.stopper = stopper
        thread = try WorkerThread(name: "echo") {
            while (try? waitReadable(descriptor.rawValue, stopper.reader.rawValue, milliseconds: -1)) == true {
                // Only `end` writes there.
                if (try? waitReadable(stopper.reader.rawValue, milliseconds: 0)) == true { return }
                answer()
            }
        }
    }

    func end() {
        signalPipe(stopper.writer)
        thread.join()
    }
}
