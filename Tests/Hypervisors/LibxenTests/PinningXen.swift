// A Xen that keeps pins: what of it matters to pages for devices. Its handles outlive whoever asked, as Xen's do.

import CXen
import Hypervisor
@testable import Libxen
import SharedMemory
import Synchronization
import XenTypes

final class PinningXen: DeviceGrantCalls {
    struct Pin: Hashable {
        let domain: UInt16
        let reference: UInt32
        let frame: UInt64
        let isReadOnly: Bool
    }
    struct State {
        var pins: [UInt32: Pin] = [:]
        var nextHandle: UInt32 = 7
        var refused: [UInt32: Int16] = [:]
        /// References that are paged out, and for how many more calls.
        var pagedOut: [UInt32: Int] = [:]
        /// Operations that are carried out before the caller is killed, or the call fails.
        var life = Int.max
        var mapCalls: [Int] = []
        var unmapCalls: [Int] = []
        var unknown = 0
    }
    let state = Mutex(State())

    var pins: [Pin] { state.withLock { Array($0.pins.values) } }
    func frame(_ reference: UInt32) -> UInt64 { 0x6_0000 + UInt64(reference) * 3 }

    func map(_ region: SharedRegion, at offset: Int, count: Int) throws(HypervisorError) {
        try state.withLock { (state) throws(HypervisorError) in
            state.mapCalls.append(count)
            let size = MemoryLayout<gnttab_map_grant_ref>.stride
            for index in 0..<count {
                guard state.life > 0 else { throw .system("EFAULT", doing: "mapping") }
                state.life -= 1
                var operation = gnttab_map_grant_ref()
                region.copyIn(offset + index * size, into: &operation, byteCount: size)
                carryOut(&operation, &state)
                region.copyOut(operation, byteCount: size, at: offset + index * size)
            }
        }
    }

    private func carryOut(_ operation: inout gnttab_map_grant_ref, _ state: inout State) {
        precondition(operation.flags & ~UInt32(GNTMAP_readonly) == UInt32(GNTMAP_device_map) && operation.host_addr == 0)
        if let status = state.refused[operation.ref] {
            operation.status = status
            return
        }
        if let rest = state.pagedOut[operation.ref], rest > 0 {
            state.pagedOut[operation.ref] = rest - 1
            operation.status = -12
            return
        }
        state.nextHandle += 1
        state.pins[state.nextHandle] = Pin(
            domain: operation.dom, reference: operation.ref, frame: frame(operation.ref),
            isReadOnly: operation.flags & UInt32(GNTMAP_readonly) != 0)
        operation.handle = state.nextHandle
        operation.dev_bus_addr = frame(operation.ref) << 12
        operation.status = 0
    }

    func unmap(_ region: SharedRegion, at offset: Int, count: Int) throws(HypervisorError) {
        try state.withLock { (state) throws(HypervisorError) in
            state.unmapCalls.append(count)
            let size = MemoryLayout<gnttab_unmap_grant_ref>.stride
            for index in 0..<count {
                guard state.life > 0 else { throw .system("EFAULT", doing: "unmapping") }
                state.life -= 1
                var operation = gnttab_unmap_grant_ref()
                region.copyIn(offset + index * size, into: &operation, byteCount: size)
                // Both must be those of one mapping.
                let isKnown = state.pins[operation.handle].map { $0.frame << 12 == operation.dev_bus_addr } ?? false
                if isKnown { state.pins[operation.handle] = nil } else { state.unknown += 1 }
                operation.status = isKnown ? 0 : -4
                region.copyOut(operation, byteCount: size, at: offset + index * size)
            }
        }
    }
}
