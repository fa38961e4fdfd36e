// A whole network device in one process, without a tap, without privileges, without a hypervisor: a frontend in domain
// 1, a backend in domain 0, and a port in memory at either end where a tap would be. Put your own driver in the place
// of one of the two.

import DriverRuntime
import Foundation
import InProcess
import NetworkBackend
import NetworkDevices
import NetworkFrontend
import Toolstack
import XenTypes

// A host with two domains, and the toolstack's directories for one interface.
let host = InProcessHost(time: .system)
let (driverDomain, guest) = (host.domain(0), host.domain(1))
let store = try driverDomain.connectStore()
let paths = try DeviceDirectories(store: store).create(
    VifSpecification(parsing: "mac=00:16:3e:01:02:03"), frontend: DomainID(1), backend: DomainID(0), random: .system)

// The backend, on a thread of its own, in front of one port; the frontend in front of the other.
let wire = try FramePort(name: "wire", time: .system)
let service = NetworkBackendService(
    hypervisor: driverDomain, random: .system, openDevice: { (_) throws(DeviceOpenFailure) in wire.device })
let served = DispatchSemaphore(value: 0)
Thread.detachNewThread {
    do { try service.run() } catch { print("backend: \(error)") }
    served.signal()
}
let application = try FramePort(name: "application", time: .system)
let frontend = try NetworkFrontend(hypervisor: guest, number: 0, device: application.device)
try frontend.connect(timeoutMilliseconds: 5000)

// Out: what the application sends is what the backend puts on the wire.
let header: [UInt8] = [0x00, 0x16, 0x3E, 0, 0, 1, 0x00, 0x16, 0x3E, 1, 2, 3, 0x88, 0xB5]
try application.send(header + [UInt8](repeating: 1, count: 50))
// Bytes and offloads; nil: none came.
guard let out = try wire.receive(timeout: .seconds(5)) else { fatalError("nothing came out") }
print("out: \(out.bytes.count) bytes, type \(String(out.bytes[12..<14].reduce(0) { $0 << 8 | Int($1) }, radix: 16))")

// In: a jumbo frame crosses in several ring slots.
// Throws if the wire stays full for a second.
try wire.send(header + [UInt8](repeating: 2, count: 9000))
guard let into = try application.receive(timeout: .seconds(5)) else { fatalError("nothing came in") }
print("in: \(into.bytes.count) bytes")

// Nothing more: not an error, nil.
print("more: \(try application.receive(timeout: .milliseconds(10)).map { "\($0.bytes.count) bytes" } ?? "none")")

frontend.close()
service.stop()
served.wait()
