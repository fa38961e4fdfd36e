// A whole network frontend, on its own threads, under a backend that answers with any slot and lies with its indices. Every page comes back
// to the ring, or the interface ends and says why; a frame that the frontend hands out fits what its header says.

import FuzzSupport
import Glibc
import HostDevices
import Hypervisor
import HypervisorCore
import InProcessHypervisor
import LinuxSystem
import NetworkFrontend
import SharedMemory
import SharedRing
import Toolstack
import XenBus
import XenStore
import XenWire

private final class Rig {
    let host = InProcessHost()
    let hypervisor: InProcessHypervisor
    let guest: InProcessHypervisor
    let store: StoreClient
    let baseline: HypervisorUsage
    var paths: DevicePaths?
    var frontend: NetworkFrontend<InProcessHypervisor>?
    var wire: FrameEndpoint?
    var rings: [any ContiguousGrants] = []
    var bell: (any EventChannel)?
    var transmit: BackRing<TransmitRing>
    var receive: BackRing<ReceiveRing>
    var uses = 0

    init() {
        hypervisor = host.domain(0)
        guest = host.domain(1)
        store = try! host.store.connectInProcess(domain: .zero)
        baseline = host.usage
        let first = try! SharedRegion(anonymous: 4096)
        transmit = BackRing(attaching: first, TransmitRing())
        receive = BackRing(attaching: first, ReceiveRing())
        connect()
    }

    func wait(_ what: String, _ condition: () -> Bool) {
        let deadline = monotonicMilliseconds() + 8000
        var turns = 0
        while !condition() {
            turns += 1
            if turns > 2000 { usleep(20) }
            require(monotonicMilliseconds() < deadline, "never came: \(what)")
        }
    }

    func connect() {
        uses = 0
        let paths = try! DeviceDirectories(store: store).create(VifSpecification(), frontend: DomainID(1))
        self.paths = paths
        let link = try! SocketNetwork.endpoint("fuzz")
        wire = link.endpoint
        let frontend = try! NetworkFrontend(hypervisor: guest, number: paths.device, device: link.device)
        self.frontend = frontend
        try! NetworkOffer(splitChannels: false, controlRing: false).write(to: store, at: paths.backendPath)
        try! store.write(paths.backendPath + "/state", "2")
        try! frontend.start()
        wait("the frontend") { try! store.state(of: paths.frontendPath) == .connected }
        let keys = try! NetworkRequestKeys.read(from: store, at: paths.frontendPath, offer: NetworkOffer(splitChannels: false))
        rings = [keys.queues[0].transmit, keys.queues[0].receive].map {
            try! hypervisor.mapContiguous([$0], of: DomainID(1), access: .readWrite)
        }
        bell = try! hypervisor.bindChannel(remote: DomainID(1), port: keys.queues[0].port)
        transmit = BackRing(attaching: rings[0].region, TransmitRing())
        receive = BackRing(attaching: rings[1].region, ReceiveRing())
        try! store.write(paths.backendPath + "/state", "4")
        wait("a live frontend") { frontend.isLive }
        wait("all pages") { posted == 256 }
    }

    /// Pages on the ring that hold nothing.
    var posted: UInt32 { receive.region.loadAcquiring(RingHeader.requestProduced) &- receive.nextResponseIndex.rawValue }

    func reconnect() {
        guard let frontend, let paths else { return }
        try! store.write(paths.backendPath + "/state", "6")
        frontend.close()
        bell?.close()
        for ring in rings { ring.unmap() }
        rings = []
        try! DeviceDirectories(store: store).remove(paths, force: true, milliseconds: 2000)
        wait("everything to be given back") { host.usage == baseline }
        connect()
    }

    func notify() {
        _ = transmit.publish()
        _ = receive.publish()
        bell?.notify()
    }

    func drain() { while let _ = try! wire?.receive() {} }
}

nonisolated(unsafe) private let rig = Rig()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    guard let frontend = rig.frontend else { return 0 }
    var hasLied = false
    while !input.isAtEnd, !hasLied {
        let code = input.byte()
        switch code % 8 {
        case 0:
            // An answer of any kind.
            guard let request = try! rig.receive.nextRequest() else { continue }
            rig.receive.push(
                ReceiveSlot(
                    ReceiveResponse(
                        id: code & 0x40 == 0 ? request.id : input.number(), offset: input.number(), flags: ReceiveFlags(rawValue: input.number()),
                        status: input.number())))
        case 1:
            // A likely one.
            guard let request = try! rig.receive.nextRequest() else { continue }
            let shape = input.byte()
            rig.receive.push(
                ReceiveSlot(
                    ReceiveResponse(
                        id: request.id, offset: UInt16(shape & 1) * 64, flags: ReceiveFlags(rawValue: UInt16(shape >> 4)),
                        status: Int16(input.byte()) * 16 + 14)))
        case 2:
            guard let _ = try! rig.receive.nextRequest() else { continue }
            // Extra information has no constructor from bytes on this side: a response of the same eight bytes.
            rig.receive.push(
                ReceiveSlot(
                    ReceiveResponse(
                        id: input.number(), offset: input.number(), flags: ReceiveFlags(rawValue: input.number()), status: input.number())))
        case 3:
            // What the page holds: a header that may be read.
            guard let request = try! rig.receive.nextRequest() else { continue }
            let page = try! rig.hypervisor.mapGrants([request.reference], of: DomainID(1), access: .readWrite)
            let content = input.take(60)
            page[0].region.write(content, at: page[0].offset)
            rig.hypervisor.unmapGrants(page)
            rig.receive.push(
                ReceiveSlot(
                    ReceiveResponse(id: request.id, flags: ReceiveFlags(rawValue: UInt16(input.byte() & 3)), status: Int16(60))))
        case 4: _ = try! rig.wire?.send([UInt8](repeating: code, count: Int(input.number(UInt16.self)) % 4000 + 1))
        case 5:
            // Answers to what was sent: honest, or not.
            guard let request = try! rig.transmit.nextRequest()?.request else { continue }
            let isHonest = code & 0x40 == 0
            if !isHonest { hasLied = true }
            rig.transmit.push(
                TransmitResponse(id: isHonest ? request.id : input.number(), status: NetworkStatus(rawValue: isHonest ? 0 : input.number())))
        case 6: rig.notify()
        default:
            guard input.byte() == 0xFF else { continue }
            let ring = input.byte() & 1 == 0 ? rig.transmit.region : rig.receive.region
            ring.storeReleasing(input.number(), at: RingHeader.responseProduced)
            rig.bell?.notify()
            hasLied = true
        }
    }
    rig.notify()
    rig.uses += 1
    var turns = 0
    rig.wait("pages to come back, or an end") {
        turns += 1
        rig.drain()
        if frontend.failure != nil { return true }
        return !hasLied && rig.posted == 256 || hasLied && turns > 3000
    }
    if hasLied || frontend.failure != nil || rig.uses > 2000 { rig.reconnect() }
    return 0
}
