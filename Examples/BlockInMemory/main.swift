// A whole disk in one process, without privileges, without a hypervisor: a frontend in domain 1, and a backend in
// domain 0 with a file behind it. Put your own driver in the place of one of the two, or your own `BlockDevice` in the
// place of the file.

import BlockBackend
import BlockDevices
import BlockFrontend
import DriverRuntime
import Foundation
import InProcess
import LinuxSystem
import Toolstack
import XenTypes

// A host with two domains, and the toolstack's directories for one disk of 1 MiB.
let image = NSTemporaryDirectory() + "block-in-memory-\(getpid()).img"
try Data(count: 1 << 20).write(to: URL(fileURLWithPath: image))
let host = InProcessHost(time: .system)
let (driverDomain, guest) = (host.domain(0), host.domain(1))
_ = try DeviceDirectories(store: driverDomain.connectStore()).create(
    .init(try DiskSpecification(parsing: "\(image),raw,xvda,w"), frontend: DomainID(1)))

// The backend, on a thread of its own.
let service = BlockBackendService(
    hypervisor: driverDomain,
    openDisk: { (settings) throws(DeviceOpenFailure) in
        do throws(DeviceError) { return try FileDisk(path: settings.target) } catch {
            throw DeviceOpenFailure(.noSuchFile, error.description)
        }
    })
let backend = try WorkerThread(name: "backend") {
    do { try service.run() } catch { print("backend: \(error)") }
}

// The frontend of device 51712, which is xvda: it writes sector 8 and reads it again.
let frontend = try BlockFrontend(hypervisor: guest, device: 51712)
try frontend.connect(timeoutMilliseconds: 5000)
let disk = try BlockDisk(frontend)
let sector = [UInt8](0...255) + [UInt8](0...255)
try await disk.write(at: 8 * 512, sector)
let back = try await disk.read(at: 8 * 512, byteCount: 512)
print("\(disk.byteCount) bytes; sector 8 is read \(back == sector ? "as it was written" : "with other bytes")")

disk.close()
service.stop()
backend.join()
try FileManager.default.removeItem(atPath: image)
