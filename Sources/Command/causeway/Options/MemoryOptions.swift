// How a backend's disks and interfaces reach the frontends' pages: the memory model, an IOMMU, the device's limits, a
// bounce pool.

import ArgumentParser
import DMA
import FrameMaps

/// What `--memory-model`, `--iommu`, `--dma-mask`, `--dma-boundary` and `--bounce-pool` say.
struct MemoryOptions: ParsableArguments {
    /// `off`, `strict` or `deferred`.
    enum Iommu: String, ExpressibleByArgument { case off, strict, deferred }
    /// The memory models by their names.
    enum Model: String, ExpressibleByArgument { case p2m, identity, vp }

    @Option(help: "How the backend's frame map works: p2m (scattered machine frames; the DMA back end `direct`), identity or vp.")
    var memoryModel: Model = .vp
    @Option(help: "The software IOMMU before each device (the DMA back end `iommu`): off, strict or deferred.")
    var iommu: Iommu = .off
    @Option(help: "Bits of address that a device has; what lies beyond is bounced.") var dmaMask: UInt8?
    @Option(help: "Bits of the boundary that no segment crosses.") var dmaBoundary: UInt8?
    @Option(help: "The most that a device's bounce pool may grow to, in bytes or with K, M or G.") var bouncePool: ByteSize?

    func validate() throws {
        if let dmaMask, !(13...64).contains(dmaMask) {
            throw ValidationError("--dma-mask: 13 to 64 bits, not \(dmaMask)")
        }
        if let dmaBoundary, !(12...64).contains(dmaBoundary) {
            throw ValidationError("--dma-boundary: 12 to 64 bits, not \(dmaBoundary)")
        }
        if dmaMask != nil && iommu == .off && bouncePool == nil {
            throw ValidationError("--dma-mask needs --bounce-pool or --iommu")
        }
    }

    /// The same, for a process that is started with it.
    var arguments: [String] {
        var list: [String] = []
        if memoryModel != .vp { list += ["--memory-model", memoryModel.rawValue] }
        if iommu != .off { list += ["--iommu", iommu.rawValue] }
        if let dmaMask { list += ["--dma-mask", "\(dmaMask)"] }
        if let dmaBoundary { list += ["--dma-boundary", "\(dmaBoundary)"] }
        if let bouncePool { list += ["--bounce-pool", "\(bouncePool.byteCount)"] }
        return list
    }

    var options: DMAOptions {
        DMAOptions(
            model: MemoryModel(rawValue: memoryModel.rawValue) ?? .vp, iommu: IommuMode(rawValue: iommu.rawValue),
            constraints: DMAConstraints(mask: ones(dmaMask), boundaryMask: ones(dmaBoundary)),
            bouncePool: bouncePool?.byteCount ?? 0)
    }

    private func ones(_ bits: UInt8?) -> UInt64 { bits.map { .max >> (64 - UInt64($0)) } ?? .max }
}

/// A size as one types it.
struct ByteSize: ExpressibleByArgument {
    let byteCount: Int
    init?(argument: String) {
        let units: [Character: Int] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30]
        let unit = argument.last.flatMap { units[$0] }
        guard let number = Int(unit == nil ? argument : String(argument.dropLast())), (1...1 << 30).contains(number)
        else { return nil }
        byteCount = number * (unit ?? 1)
        guard byteCount <= 1 << 31 else { return nil }
    }
}
