// One control ring, its journal, and a server of it that dies after any of its stores: with no pair, no thread and no
// device.

import Hypervisor
@testable import NetworkBackend
import NetworkProtocol
import Packets
import SharedMemory
import SharedRing
import Synchronization
import TestHosts
import Testing
import XenTypes

struct ControlRecoveryTests {
    /// A frontend's requests, and where its ring and the journal of it are.
    private struct Batch: Sendable {
        let memory: SharedRegion
        let ring: SharedRegion
        let keys = ControlKeys(ring: GrantReference(8), port: EventPort(3))
        let all: NetworkRequestKeys
        let hypervisor = TestHost(time: .system).domain(1)
        /// The only one that fails asks for 200 entries.
        static let requests: [(ControlType, UInt32)] = [
            (.setHashAlgorithm, 1), (.setHashFlags, 5), (.getHashFlags, 0), (.setHashMappingSize, 9), (.setHashMappingSize, 200),
            (.setHashFlags, 3), (.getHashMappingSize, 0), (.setHashMappingSize, 12),
        ]

        init() throws {
            memory = try SharedRegion(anonymous: ControlJournal.Layout.byteCount(capacity: 8))
            ring = try SharedRegion(anonymous: 4096)
            let queue = NetworkQueueKeys(transmit: GrantReference(8), receive: GrantReference(9), port: EventPort(3))
            all = NetworkRequestKeys(queues: [queue], control: keys, features: [], multicastControl: false)
            var front = FrontRing(initialising: ring, ControlRing())
            for (id, request) in Self.requests.enumerated() {
                _ = front.push(ControlRequest(id: UInt16(40 + id), rawType: request.0.rawValue, request.1))
            }
            _ = front.publish()
        }

        /// What all requests together make.
        var wanted: ReceiveSideScaling {
            var scaling = ReceiveSideScaling()
            scaling.algorithm = .toeplitz
            scaling.types = HashTypes(rawValue: 3)
            scaling.mapping = Array(repeating: 0, count: 12)
            return scaling
        }

        func server(
            _ back: consuming BackRing<ControlRing>, _ journal: ControlJournal, _ state: InterfaceState
        ) -> ControlServer {
            ControlServer(
                ring: back, interface: state, queues: [], hypervisor: hypervisor, frontend: DomainID(1), journal: journal)
        }

        /// What the successor of a process that died with this memory leaves; nil if something is wrong with it.
        func succeed() throws -> ReceiveSideScaling? {
            let (memory, ring) = (try copy(of: memory), try copy(of: ring))
            let shown = ring.loadRelaxed(RingHeader.responseProduced)
            let found = try ControlRecovery(journal: memory, of: keys, queues: 1, responseProduced: shown)
            var back = try BackRing(resuming: ring, ControlRing(), consumed: found.settings.answered, published: found.published)
            let geometry = back.geometry
            if found.lacksAnswer { back.push(found.settings.last) }
            _ = back.publish()
            let state = InterfaceState(all, [])
            state.take(found.settings.scaling)
            var successor = server(back, ControlJournal(resuming: memory, from: found), state)
            while successor.work() > 0 {}
            guard ring.loadRelaxed(RingHeader.responseProduced) == UInt32(Self.requests.count) else { return nil }
            for (index, request) in Self.requests.enumerated() {
                let place = geometry.offset(RingIndex(UInt32(index)))
                let (id, type) = (ring.load(place, as: UInt16.self), ring.load(place + 2, as: UInt16.self))
                let status = ring.load(place + 4, as: UInt32.self)
                guard id == UInt16(40 + index), type == request.0.rawValue, (status == 0) == (request.1 != 200) else { return nil }
            }
            return state.scaling
        }

        private func copy(of region: SharedRegion) throws -> SharedRegion {
            let copy = try SharedRegion(anonymous: region.byteCount)
            copy.copy(from: region, 0, count: region.byteCount, to: 0)
            return copy
        }
    }

    /// A kill at any moment of a batch of requests: the successor answers what the frontend has no answer to, each
    /// under its own id, and ends with the settings that all of them together make.
    @Test func everyRequestIsAnsweredOnce() throws {
        let batch = try Batch()
        let expected = batch.wanted
        let ends = Mutex<[Bool]>([])
        var journal = ControlJournal(beginning: batch.memory, of: batch.keys, queues: 1, capacity: 8)
        journal.observer = {
            let end = (try? batch.succeed()) == expected
            ends.withLock { $0.append(end) }
        }
        let state = InterfaceState(batch.all, [])
        var first = batch.server(BackRing(attaching: batch.ring, ControlRing()), journal, state)
        let answered = first.work()
        #expect(answered == Batch.requests.count && state.scaling == expected)
        let last = try batch.succeed()
        #expect(last == expected)
        let seen = ends.withLock { $0 }
        #expect(seen.count > 150 * Batch.requests.count)
        #expect(!seen.contains(false), "wrong after store \(seen.firstIndex(of: false) ?? -1)")
    }
}
