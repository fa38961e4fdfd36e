// From a payload and its descriptors to the closed type. Each length is checked before anything is read.

import LinuxSystem
import VirtioWire

extension VhostMessage {
    /// Bit 8 of a descriptor's message: there is none.
    private static let noDescriptor: UInt64 = 1 << 8
    private static let regionBytes = 32

    /// Takes a message apart.
    init(_ request: VhostRequest, _ payload: [UInt8], _ descriptors: [Descriptor]) throws(VhostUserError) {
        guard request.descriptors.contains(descriptors.count) else {
            throw .badDescriptors(request, count: descriptors.count)
        }
        guard request.fits(payload.count) else { throw .badLength(request, byteCount: payload.count) }
        var reader = PayloadReader(payload)
        switch request {
        case .getFeatures: self = .getFeatures
        case .setFeatures: self = .setFeatures(VirtioFeatures(rawValue: reader.next()))
        case .setOwner: self = .setOwner
        case .resetOwner: self = .resetOwner
        case .getProtocolFeatures: self = .getProtocolFeatures
        case .setProtocolFeatures: self = .setProtocolFeatures(VhostProtocolFeatures(rawValue: reader.next()))
        case .getQueueCount: self = .getQueueCount
        case .resetDevice: self = .resetDevice
        case .getMostRegions: self = .getMostRegions
        case .getStatus: self = .getStatus
        case .setStatus: self = .setStatus(reader.next())
        case .setMTU: self = .setMTU(reader.next())
        case .checkDeviceState: self = .checkDeviceState
        case .sendAnnouncement: self = .sendAnnouncement(MACAddress(littleEndian: reader.next()))
        case .translation: self = .translation(try Self.translation(&reader))
        case .getConfiguration, .setConfiguration: self = try Self.configuration(request, &reader)
        case .setRingSize, .setRingAddresses, .setRingBase, .getRingBase, .setRingEnabled, .ringKick:
            self = Self.ring(request, &reader)
        case .setRingKick, .setRingCall, .setRingError: self = try Self.bell(request, reader.next(), descriptors.first)
        default: self = try Self.memory(request, &reader, descriptors)
        }
    }

    /// Messages about a ring.
    private static func ring(_ request: VhostRequest, _ reader: inout PayloadReader) -> VhostMessage {
        let (ring, number) = (reader.next(UInt32.self), reader.next(UInt32.self))
        switch request {
        case .setRingSize: return .setRingSize(ring: ring, number)
        case .setRingBase: return .setRingBase(ring: ring, number)
        case .getRingBase: return .getRingBase(ring: ring)
        case .setRingEnabled: return .setRingEnabled(ring: ring, number != 0)
        case .ringKick: return .ringKick(ring: ring)
        default:
            let (descriptors, used, available, log) = (
                reader.next(UInt64.self), reader.next(UInt64.self), reader.next(UInt64.self), reader.next(UInt64.self)
            )
            let addresses = VhostRingAddresses(
                descriptors: descriptors, available: available, used: used, log: number & 1 == 0 ? nil : log)
            return .setRingAddresses(ring: ring, addresses)
        }
    }

    /// Messages about a ring's descriptors.
    private static func bell(
        _ request: VhostRequest, _ word: UInt64, _ descriptor: Descriptor?
    ) throws(VhostUserError) -> VhostMessage {
        guard (word & noDescriptor != 0) == (descriptor == nil) else {
            throw .badDescriptors(request, count: descriptor == nil ? 0 : 1)
        }
        if let descriptor { try checkBell(descriptor, request) }
        let ring = UInt32(word & 0xFF)
        switch request {
        case .setRingKick: return .setRingKick(ring: ring, descriptor)
        case .setRingCall: return .setRingCall(ring: ring, descriptor)
        default: return .setRingError(ring: ring, descriptor)
        }
    }

    /// Read and written on a reactor's thread: what might block there is no bell.
    private static func checkBell(_ descriptor: Descriptor, _ request: VhostRequest) throws(VhostUserError) {
        guard descriptor.isEventCounter else { throw .noEvent(request) }
        do throws(Errno) { try descriptor.setNonBlocking(true) } catch { throw .noEvent(request) }
    }

    /// Messages about memory, each of which has descriptors.
    private static func memory(
        _ request: VhostRequest, _ reader: inout PayloadReader, _ descriptors: [Descriptor]
    ) throws(VhostUserError) -> VhostMessage {
        if request == .getInflight { return .getInflight(inflight(&reader)) }
        if request == .removeRegion {
            _ = reader.next(UInt64.self)
            return .removeRegion(region(&reader))
        }
        guard let descriptor = descriptors.first else { throw .badDescriptors(request, count: 0) }
        switch request {
        case .setMemoryTable: return .setMemoryTable(try table(&reader, descriptors))
        case .setLogBase: return .setLogBase(byteCount: reader.next(), offset: reader.next(), descriptor)
        case .setLogDescriptor:
            try checkBell(descriptor, request)
            return .setLogDescriptor(descriptor)
        case .setBackendSocket: return .setBackendSocket(descriptor)
        case .setInflight: return .setInflight(inflight(&reader), descriptor)
        case .addRegion:
            _ = reader.next(UInt64.self)
            return .addRegion(region(&reader), descriptor)
        default:
            let direction = reader.next(UInt32.self)
            return .setDeviceState(isLoading: direction != 0, descriptor)
        }
    }

    private static func table(
        _ reader: inout PayloadReader, _ descriptors: [Descriptor]
    ) throws(VhostUserError) -> [(region: VhostRegion, descriptor: Descriptor)] {
        let count = Int(reader.next(UInt32.self))
        _ = reader.next(UInt32.self)
        guard count == descriptors.count else { throw .badDescriptors(.setMemoryTable, count: descriptors.count) }
        guard reader.count >= count * regionBytes else { throw .badLength(.setMemoryTable, byteCount: reader.count + 8) }
        return descriptors.map { (region(&reader), $0) }
    }

    private static func region(_ reader: inout PayloadReader) -> VhostRegion {
        VhostRegion(
            guestAddress: reader.next(), byteCount: reader.next(), userAddress: reader.next(), fileOffset: reader.next())
    }

    private static func inflight(_ reader: inout PayloadReader) -> VhostInflightArea {
        VhostInflightArea(byteCount: reader.next(), offset: reader.next(), queues: reader.next(), queueSize: reader.next())
    }

    private static func translation(_ reader: inout PayloadReader) throws(VhostUserError) -> VhostTranslation {
        let (address, count, user) = (reader.next(UInt64.self), reader.next(UInt64.self), reader.next(UInt64.self))
        let permissions = reader.next(UInt8.self)
        // What follows is padding, which QEMU leaves as it was; an invalidation's user address likewise.
        guard let kind = VhostTranslation.Kind(rawValue: reader.next()) else { throw .badLength(.translation, byteCount: 0) }
        return VhostTranslation(
            address: address, byteCount: count, userAddress: kind == .update ? user : 0, permissions: permissions & 3, kind: kind)
    }

    private static func configuration(
        _ request: VhostRequest, _ reader: inout PayloadReader
    ) throws(VhostUserError) -> VhostMessage {
        let (offset, count, flags) = (reader.next(UInt32.self), reader.next(UInt32.self), reader.next(UInt32.self))
        guard count <= VhostLimits.configurationBytes, reader.count >= count || request == .getConfiguration else {
            throw .badConfiguration(offset: offset, byteCount: count)
        }
        if request == .getConfiguration { return .getConfiguration(offset: offset, byteCount: count, flags: flags) }
        return .setConfiguration(offset: offset, flags: flags, reader.take(Int(count)))
    }
}

extension VhostRequest {
    /// Whether a payload may be so long. Longer ones than needed are taken: QEMU sends structures with their padding.
    func fits(_ byteCount: Int) -> Bool {
        switch self {
        case .getFeatures, .setOwner, .resetOwner, .getProtocolFeatures, .getQueueCount, .resetDevice, .getMostRegions,
            .getStatus, .checkDeviceState, .setLogDescriptor, .setBackendSocket:
            true
        case .setRingSize, .setRingBase, .getRingBase, .setRingEnabled, .ringKick, .setFeatures, .setProtocolFeatures,
            .setStatus, .setMTU, .sendAnnouncement, .setRingKick, .setRingCall, .setRingError, .setDeviceState,
            .setMemoryTable:
            byteCount >= 8
        case .getConfiguration, .setConfiguration: byteCount >= 12
        case .setLogBase: byteCount >= 16
        case .getInflight, .setInflight: byteCount >= 20
        case .translation: byteCount >= 26
        case .setRingAddresses, .addRegion, .removeRegion: byteCount >= 40
        }
    }
}
