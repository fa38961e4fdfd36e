// Interfaces of a backend that have memory where taps would be: for benchmarks.

import DriverRuntime
import LinuxSystem
import NetworkBackend
import NetworkDevices

enum MemoryInterfaces {
    /// A device by the vif's name: `null` takes every frame and has none, `frames64` has one of 64 bytes whenever it is
    /// asked.
    @Sendable static func open(_ settings: NetworkSettings) throws(DeviceOpenFailure) -> any NetworkDevice {
        let name = settings.interface
        if name == "null" { return NullNetwork() }
        guard name.hasPrefix("frames"), let count = Int(name.dropFirst("frames".count)), (14...65535).contains(count) else {
            throw DeviceOpenFailure(.noSuchDevice, "\(name): neither null nor frames and a size")
        }
        do throws(Errno) { return try EndlessNetwork(byteCount: count) } catch {
            throw DeviceOpenFailure(error, "\(name): \(error)")
        }
    }
}
