// A disk and a balloon on a bus, and a caller in the same process that uses both: no socket, no hypervisor, no
// privileges. The disk is the one that serves QEMU's guests.

import BlockDevices
import BusDisk
import DeviceBus
import Foundation
import LinuxSystem
import PageDevices
import Reactor
import VirtioBlock
import VirtioBus

// A bus with two devices. Whoever is given it sees them.
let image = NSTemporaryDirectory() + "bus-in-memory-\(getpid()).img"
try Data(count: 1 << 20).write(to: URL(fileURLWithPath: image))
let reactor = try Reactor(name: "devices", time: .system)
try reactor.start()
let bus = DeviceBus(name: "lab")
let disk = VirtioDisk(try FileDisk(path: image), on: [reactor], queues: 1, identity: "lab") { print($0) }
try bus.add(VirtioBusDevice(disk, name: "disk0", type: "virtio-block"))
let balloon = Balloon(mostPages: 65536) { print("the guest has given \($0) pages") }
try bus.add(FlatBusDevice(balloon, name: "balloon0"))

// A member of it: what a driver has.
let member = bus.join()
print(member.devices.map(\.name).joined(separator: ", "))

// Bytes to the disk and back.
let used = try BusDisk("disk0", on: member)
let sector = [UInt8](0...255) + [UInt8](0...255)
try await used.write(at: 8 * 512, sector)
try await used.flush()
let back = try await used.read(at: 8 * 512, byteCount: 512)
print("\(used.byteCount) bytes; sector 8 is read \(back == sector ? "as it was written" : "with other bytes")")

// A page without a ring: the host wants pages, the guest gives them.
let guest = try FlatClient.balloon("balloon0", on: member)
try balloon.setTarget(1024)
try guest.report(guest.target())

guest.close()
used.close()
reactor.stop()
try FileManager.default.removeItem(atPath: image)
