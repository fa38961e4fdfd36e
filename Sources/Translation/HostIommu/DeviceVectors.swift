// A device's interrupts as counters: an eventfd for each vector, which the kernel adds one to (linux: <linux/vfio.h>,
// "VFIO_DEVICE_SET_IRQS").

import CLinux
import LinuxSystem

/// The vectors of an open VFIO device; off when this goes. Any thread.
public final class DeviceVectors: Sendable, CustomStringConvertible {
    /// How a PCI device interrupts (`VFIO_PCI_…_IRQ_INDEX`).
    public enum Kind: UInt32, Sendable, CaseIterable, CustomStringConvertible {
        /// A line: it is masked when it rings, and rings again only after `unmask`.
        case line = 0
        case msi = 1
        case msix = 2

        /// As PCI has it: `MSI-X`.
        public var description: String {
            switch self {
            case .line: "INTx"
            case .msi: "MSI"
            case .msix: "MSI-X"
            }
        }
    }

    /// Which.
    public let kind: Kind
    /// What each vector counts in.
    public let events: [Descriptor]
    private let device: Descriptor
    private let kernel: any IommuKernel

    /// How many vectors of a kind a device has; 0: none.
    public static func count(
        of kind: Kind, _ device: Descriptor, kernel: any IommuKernel = RunningKernel()
    ) throws(DMABackEndError) -> Int {
        var info = vfio_irq_info()
        info.argsz = UInt32(MemoryLayout<vfio_irq_info>.size)
        info.index = kind.rawValue
        do throws(Errno) { _ = try kernel.call(device, Int(CAUSEWAY_VFIO_DEVICE_GET_IRQ_INFO), &info) } catch {
            throw .kernel("VFIO_DEVICE_GET_IRQ_INFO", error)
        }
        return info.flags & UInt32(VFIO_IRQ_INFO_EVENTFD) == 0 ? 0 : Int(info.count)
    }

    /// Switches the first `count` vectors on. All that will ever be used at once: more are to be had only after all are
    /// off (`VFIO_IRQ_INFO_NORESIZE`).
    public init(
        _ kind: Kind, count: Int, of device: Descriptor, kernel: any IommuKernel = RunningKernel()
    ) throws(DMABackEndError) {
        let most = try Self.count(of: kind, device, kernel: kernel)
        guard count > 0, count <= most else { throw .noVectors(kind, wanted: count, there: most) }
        var events: [Descriptor] = []
        for _ in 0..<count {
            let raw = causeway_eventfd()
            guard raw >= 0 else { throw .kernel("eventfd", Errno.current) }
            events.append(Descriptor(owning: raw))
        }
        self.kind = kind
        self.events = events
        self.device = device
        self.kernel = kernel
        try Self.set(
            kind, UInt32(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER), count: count, events.map(\.rawValue), device,
            kernel)
    }

    deinit {
        // None from the first on: all are off, and the kernel lets go of the eventfds.
        try? Self.set(kind, UInt32(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER), count: 0, [], device, kernel)
    }

    private static func set(
        _ kind: Kind, _ flags: UInt32, from first: Int = 0, count: Int, _ events: [Int32], _ device: Descriptor,
        _ kernel: any IommuKernel
    ) throws(DMABackEndError) {
        let header = 5
        var numbers: [UInt32] = [UInt32((header + events.count) * 4), flags, kind.rawValue, UInt32(first), UInt32(count)]
        numbers += events.map { UInt32(bitPattern: $0) }
        if numbers.count & 1 == 1 { numbers.append(0) }
        var words = stride(from: 0, to: numbers.count, by: 2).map { UInt64(numbers[$0]) | UInt64(numbers[$0 + 1]) << 32 }
        do throws(Errno) { try kernel.call(device, Int(CAUSEWAY_VFIO_DEVICE_SET_IRQS), words: &words) } catch {
            throw .kernel("VFIO_DEVICE_SET_IRQS of \(count) \(kind) vectors", error)
        }
    }

    /// Takes what a vector has counted; 0: nothing. Waits for it first, at most `milliseconds` (negative: for ever).
    public func take(_ index: Int, milliseconds: Int32 = 0) throws(DMABackEndError) -> UInt64 {
        guard events.indices.contains(index) else { throw .noVectors(kind, wanted: index + 1, there: events.count) }
        do throws(Errno) {
            guard try waitReadable(events[index].rawValue, milliseconds: milliseconds) else { return 0 }
        } catch { throw .kernel("poll of vector \(index)", error) }
        return events[index].takeCount()
    }

    /// Has the kernel ring a vector as if the device had (`VFIO_IRQ_SET_DATA_NONE`): for tests of a driver.
    public func trigger(_ index: Int) throws(DMABackEndError) {
        guard events.indices.contains(index) else { throw .noVectors(kind, wanted: index + 1, there: events.count) }
        try Self.set(
            kind, UInt32(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER), from: index, count: 1, [], device, kernel)
    }

    /// Lets a line ring again.
    public func unmask() throws(DMABackEndError) {
        guard kind == .line else { return }
        try Self.set(kind, UInt32(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK), count: 1, [], device, kernel)
    }

    /// `3 MSI-X vectors`.
    public var description: String { "\(events.count) \(kind) vector\(events.count == 1 ? "" : "s")" }
}
