// What the two sides of a disk settled before its first request.

import BlockDevices
import BlockProtocol

/// What both sides agreed on: the frontend's keys, and what the backend published of the disk.
struct DiskAgreement {
    let keys: BlockRequestKeys
    let abi: BlockABI
    /// Holds each request against what was published.
    let validator: BlockRequestValidator
    /// Whether grants may stay mapped.
    let persistent: Bool

    /// - Parameter indirectSegments: the most that the backend offered for one indirect request.
    init(_ keys: BlockRequestKeys, _ abi: BlockABI, _ properties: BlockProperties, indirectSegments: UInt32) {
        self.keys = keys
        self.abi = abi
        persistent = properties.persistent
        var validator = BlockRequestValidator(
            sectorCount: properties.sectors, logicalSectorSize: Int(properties.sectorSize),
            maximumIndirectSegments: Int(indirectSegments),
            discard: properties.discard.map { $0.secure ? .secure : .plain } ?? .none)
        validator.isReadOnly = properties.info.contains(.readOnly)
        validator.offersFlush = properties.flush
        validator.offersBarrier = properties.barrier
        self.validator = validator
    }
}

extension BlockProperties {
    /// What is published of a disk: what it can do, as far as the toolstack and the options allow it and the frontend's
    /// queues can have it.
    init(of geometry: BlockGeometry, _ settings: DiskSettings, _ keys: BlockRequestKeys, _ options: BlockBackendOptions) {
        var info: BlockDeviceInfo = []
        if settings.isCDROM { info.insert(.cdrom) }
        if settings.isRemovable { info.insert(.removable) }
        if !settings.isWritable || geometry.isReadOnly { info.insert(.readOnly) }
        let flush = options.flush && geometry.canFlush
        var discard: DiscardKeys?
        if options.discard, settings.discard != false, !info.contains(.readOnly), let limits = geometry.discard {
            discard = DiscardKeys(granularity: limits.granularity, alignment: limits.alignment, secure: limits.secure)
        }
        self.init(
            sectors: geometry.byteCount / 512, sectorSize: geometry.logicalSectorSize,
            physicalSectorSize: geometry.physicalSectorSize, info: info, flush: flush,
            barrier: options.barrier && flush && keys.queues.count == 1, discard: discard,
            persistent: options.persistentGrants && keys.persistent)
    }
}
