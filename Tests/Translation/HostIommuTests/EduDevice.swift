// QEMU's teaching device (docs/specs/edu.txt) through VFIO: a device with a DMA engine and 4 KiB of memory of its own.
// What tells that a mapping does what it says is a device that uses it.

import CLinux
import Glibc
import HostIommu
import LinuxSystem

/// An edu device that VFIO has given to this process.
final class EduDevice {
    private let descriptor: Descriptor
    private let registers: Int

    private static let memory: UInt32 = 0x40000
    private enum Register: Int {
        case identification = 0x00
        case source = 0x80
        case target = 0x88
        case count = 0x90
        case command = 0x98
    }

    /// Finds its registers and lets it send DMA.
    init(_ descriptor: Descriptor) throws(Errno) {
        self.descriptor = descriptor
        registers = try Self.region(0, descriptor)
        let configuration = try Self.region(7, descriptor)
        // The command register: memory space, bus master.
        var command: UInt16 = 0
        guard pread(descriptor.rawValue, &command, 2, configuration + 4) == 2 else { throw Errno.current }
        command |= 6
        guard pwrite(descriptor.rawValue, &command, 2, configuration + 4) == 2 else { throw Errno.current }
        guard try read(.identification) & 0xFF == 0xED else { throw Errno(ENODEV) }
    }

    private static func region(_ index: UInt32, _ descriptor: Descriptor) throws(Errno) -> Int {
        var info = vfio_region_info()
        info.argsz = UInt32(MemoryLayout<vfio_region_info>.size)
        info.index = index
        // VFIO_DEVICE_GET_REGION_INFO
        let result = causeway_iommu_control(descriptor.rawValue, 0x3B6C, &info)
        if result < 0 { throw Errno(Int32(-result)) }
        return Int(info.offset)
    }

    private func read(_ register: Register) throws(Errno) -> UInt32 {
        var value: UInt32 = 0
        guard pread(descriptor.rawValue, &value, 4, registers + register.rawValue) == 4 else { throw Errno.current }
        return value
    }

    private func write(_ register: Register, _ value: UInt32) throws(Errno) {
        var value = value
        guard pwrite(descriptor.rawValue, &value, 4, registers + register.rawValue) == 4 else { throw Errno.current }
    }

    /// Reads 2 KiB at an IO address into the device's memory.
    func fetch(_ iova: UInt32) throws(Errno) { try move(iova, Self.memory, 1) }

    /// Writes the same to an IO address.
    func store(_ iova: UInt32) throws(Errno) { try move(Self.memory, iova, 3) }

    private func move(_ source: UInt32, _ target: UInt32, _ command: UInt32) throws(Errno) {
        try write(.source, source)
        try write(.target, target)
        try write(.count, 2048)
        try write(.command, command)
        // It takes its time: 100 ms.
        for _ in 0..<500 {
            if try read(.command) & 1 == 0 { return }
            usleep(10_000)
        }
        throw Errno(ETIMEDOUT)
    }
}
