// A bus behind a backend in domain 0, and frontends of its devices in domain 1.

import DeviceBus
import Hypervisor
import InProcess
import LinuxSystem
import PageDevices
import SharedMemory
import TestSupport
import Testing
import XenBus
import XenDeviceBus
import XenStore
import XenTypes

final class BusPair<H: Hypervisor> {
    let bus = DeviceBus(name: "lab")
    let log = LineCollector()
    let balloon = Balloon(mostPages: 1000)
    let store: StoreClient
    private let back: H
    let guest: H
    private var service: BusBackendService<H>?
    private var thread: WorkerThread?

    static var path: String { "/local/domain/0/backend/vdevice/1/0" }
    static var front: String { "/local/domain/1/device/vdevice/0" }

    init(_ back: H, _ guest: H) throws {
        (self.back, self.guest) = (back, guest)
        store = try back.connectStore()
        let log = log
        try bus.add(FlatBusDevice(balloon, name: "balloon") { log.add($0) })
        try BusDirectories.create("balloon", number: 0, frontend: DomainID(1), in: store)
        try start()
    }

    func start() throws {
        let log = log
        let service = BusBackendService(hypervisor: back, member: bus.join()) { log.add($0) }
        self.service = service
        thread = try WorkerThread(name: "busback") {
            do { try service.run() } catch { log.add("ended: \(error)") }
        }
    }

    func stop() {
        service?.stop()
        thread?.join()
        (service, thread) = (nil, nil)
    }

    func state() -> Int? { (try? store.value(Self.path + "/state")).flatMap { $0 }.flatMap { Int($0) } }

    func frontend(_ changed: @escaping @Sendable () -> Void = {}) throws -> FlatFrontend<H> {
        let log = log
        let frontend = try FlatFrontend(
            hypervisor: guest, number: 0, balloon.layout, changed: changed, log: { log.add("front: \($0)") })
        do { try frontend.connect(timeoutMilliseconds: 20_000) } catch { throw TimedOut("\(error): \(log.all)") }
        return frontend
    }
}
