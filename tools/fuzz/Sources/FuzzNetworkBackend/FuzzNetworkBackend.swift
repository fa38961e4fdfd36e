// A whole network backend, on its own threads, under a frontend that pushes any slot, posts any page, asks anything of the control ring and
// lies with its indices. Each slot that was taken is answered, the interface is served on or closed, and after a close nothing is left.

import FuzzSupport
import Glibc
import HostDevices
import Hypervisor
import HypervisorCore
import InProcessHypervisor
import LinuxSystem
import NetworkBackend
import SharedMemory
import SharedRing
import Toolstack
import XenBus
import XenStore
import XenWire

/// A connection that is used until the backend closes it, or for some thousand inputs.
private final class Rig {
    let host = InProcessHost()
    let guest: InProcessHypervisor
    let store: StoreClient
    let paths: DevicePaths
    let wire: FrameEndpoint
    let service: NetworkBackendService<InProcessHypervisor>
    let data: any OfferedPages
    let baseline: HypervisorUsage
    var pages: [any OfferedPages] = []
    var bells: [any EventChannel] = []
    var transmit: FrontRing<TransmitRing>
    var receive: FrontRing<ReceiveRing>
    var control: FrontRing<ControlRing>
    var uses = 0

    init() {
        let link = try! SocketNetwork.endpoint("fuzz")
        wire = link.endpoint
        let device = link.device
        store = try! host.store.connectInProcess(domain: .zero)
        guest = host.domain(1)
        var options = NetworkBackendOptions()
        options.drainMilliseconds = 20
        service = NetworkBackendService(
            hypervisor: host.domain(0), options: options, openDevice: { (_) throws(NetworkOpenFailure) in device })
        let service = service
        _ = try! WorkerThread(name: "netback") { try? service.run() }
        paths = try! DeviceDirectories(store: store).create(VifSpecification(), frontend: DomainID(1))
        data = try! guest.offerPages(16, to: .zero, access: .readWrite)
        // The first connection's, so that there is something; `connect` makes each new.
        let first = try! SharedRegion(anonymous: 4096)
        transmit = FrontRing(initialising: first, TransmitRing())
        receive = FrontRing(initialising: first, ReceiveRing())
        control = FrontRing(initialising: first, ControlRing())
        wait("state 2") { try! store.state(of: paths.backendPath) == .initWait }
        baseline = host.usage
        connect()
    }

    /// Waits without sleeping for long: most waits are for a thread that is awake.
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
        pages = (0..<3).map { _ in try! guest.offerPages(1, to: .zero, access: .readWrite) }
        bells = (0..<2).map { _ in try! guest.allocateChannel(for: .zero) }
        transmit = FrontRing(initialising: pages[0].region, TransmitRing())
        receive = FrontRing(initialising: pages[1].region, ReceiveRing())
        control = FrontRing(initialising: pages[2].region, ControlRing())
        let keys = NetworkRequestKeys(
            queues: [NetworkQueueKeys(transmit: pages[0].references[0], receive: pages[1].references[0], port: bells[0].port)],
            control: ControlKeys(ring: pages[2].references[0], port: bells[1].port), multicastControl: true)
        try! keys.write(to: store, at: paths.frontendPath, manyQueuesOffered: true)
        try! store.write(paths.frontendPath + "/state", "4")
        wait("state 4") { try! store.state(of: paths.backendPath) == .connected }
    }

    var isClosing: Bool { (try! store.state(of: paths.backendPath)) != .connected }

    /// Closes, looks whether all was given back, and begins again.
    func reconnect() {
        try! store.write(paths.frontendPath + "/state", "6")
        wait("state 6") { try! store.state(of: paths.backendPath) == .closed }
        for page in pages { page.withdraw() }
        for bell in bells { bell.close() }
        try! store.write(paths.frontendPath + "/state", "1")
        wait("state 2") { try! store.state(of: paths.backendPath) == .initWait }
        wait("everything to be given back") { host.usage == baseline }
        connect()
    }

    /// Takes the answers there are.
    func collect() {
        do {
            while let _ = try transmit.nextResponse() {}
            while let _ = try receive.nextResponse() {}
            while let response = try control.nextResponse() { require(response.status != nil, "a status of no meaning") }
        } catch { require(false, "the backend lied: \(error)") }
        while let _ = try! wire.receive() {}
    }

    func notify() {
        _ = transmit.publish()
        _ = receive.publish()
        _ = control.publish()
        for bell in bells { bell.notify() }
    }
}

nonisolated(unsafe) private let rig = Rig()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(bytes, count)
    /// A page that is ours, or any number.
    func reference(_ code: UInt8, _ input: inout ByteReader) -> GrantReference {
        code & 0x80 == 0 ? rig.data.references[Int(code & 15)] : GrantReference(input.number())
    }
    var hasLied = false
    while !input.isAtEnd {
        let code = input.byte()
        switch code % 9 {
        case 0:
            let request = TransmitRequest(
                reference: reference(input.byte(), &input), offset: input.number(), flags: TransmitFlags(rawValue: input.number()),
                id: input.number(), size: input.number())
            _ = rig.transmit.push(TransmitSlot(request))
        case 1:
            // Likely sizes and flags.
            let (shape, page) = (input.byte(), input.byte())
            let request = TransmitRequest(
                reference: reference(page & 0x7F, &input), offset: UInt16(page) & 0x3F, flags: TransmitFlags(rawValue: UInt16(shape & 15)),
                id: UInt16(page), size: UInt16(shape >> 4) * 100 + 14)
            _ = rig.transmit.push(TransmitSlot(request))
        case 2: _ = rig.transmit.push(TransmitSlot(ExtraInfo(word: input.number())))
        case 3: _ = rig.receive.push(ReceiveRequest(id: input.number(), reference: reference(input.byte(), &input)))
        case 4:
            // The list, or the key, is in a page of ours as often as not.
            let type = UInt16(input.byte() % 12)
            let place = input.byte()
            let page = reference(place, &input).rawValue
            let isList = type == 9 || type == 10
            _ = rig.control.push(
                ControlRequest(
                    id: input.number(), rawType: type, isList ? UInt32(input.byte() & 1) : type == 2 || type == 5 || type == 7 ? UInt32(input.byte()) : page,
                    isList ? page : UInt32(input.number(UInt16.self)), UInt32(input.number(UInt16.self))))
        case 5: rig.data.region.write(input.take(40), at: Int(input.byte() & 15) * 4096 + Int(input.byte()))
        case 6:
            let size = Int(input.number(UInt16.self)) % 9000
            _ = try! rig.wire.send([UInt8](repeating: code, count: size + 1))
        case 7:
            rig.notify()
            rig.collect()
        default:
            guard input.byte() == 0xFF else { continue }
            let ring = rig.pages[Int(input.byte()) % 3].region
            ring.storeReleasing(input.number(), at: RingHeader.requestProduced)
            for bell in rig.bells { bell.notify() }
            hasLied = true
        }
        if hasLied { break }
    }
    if !hasLied { rig.notify() }
    rig.uses += 1
    // All is answered, but for pages that no frame came for; or the interface is closed.
    var turns = 0
    rig.wait("answers") {
        // After a lie of ours the answers to it look like the backend's.
        if !hasLied { rig.collect() }
        turns += 1
        // The store is asked seldom: most inputs are answered at once.
        if turns % 50 == 0, rig.isClosing { return true }
        return !hasLied && rig.transmit.outstanding == 0 && rig.control.outstanding == 0
            || hasLied && turns > 200
    }
    if hasLied || rig.isClosing || rig.uses > 2000 || rig.receive.freeSlots < 64 { rig.reconnect() }
    return 0
}
