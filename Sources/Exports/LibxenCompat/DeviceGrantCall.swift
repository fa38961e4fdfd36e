// Grants mapped for a device, by hypercall: for this there is no library function. The daemon maps a page, as for
// gntdev, and the machine frame is the one that it makes up: no device finds anything there, and whoever holds it
// against `MappedGrant.machine` finds the same.

import CLibxenCompat
import Glibc
import Hypervisor
import LinuxSystem
import Loopback
import XenTypes

/// `GNTTABOP_map_grant_ref` and `GNTTABOP_unmap_grant_ref`, as far as they concern devices.
///
/// SAFETY: a hypercall's argument is an array of the structures that the command has, as many as the caller says, in
/// this process's memory; the caller says so by making the call, and nothing else can be known of an address.
struct DeviceGrantCall {
    let handle: CallHandle

    /// Operations in one call.
    private static let mostOperations: UInt64 = 1 << 20

    func make(_ arguments: [UInt64]) throws(LinkFailure) -> Int {
        guard arguments[2] <= Self.mostOperations else { throw LinkFailure(.invalidArgument, "\(arguments[2]) grants at once") }
        let count = Int(arguments[2])
        switch Int32(truncatingIfNeeded: arguments[0]) {
        case GNTTABOP_map_grant_ref:
            guard let operations = unsafe UnsafeMutablePointer<gnttab_map_grant_ref>(bitPattern: UInt(arguments[1])) else {
                throw LinkFailure(.badAddress, "no argument")
            }
            for index in 0..<count { unsafe try map(&operations[index]) }
        case GNTTABOP_unmap_grant_ref:
            guard let operations = unsafe UnsafeMutablePointer<gnttab_unmap_grant_ref>(bitPattern: UInt(arguments[1])) else {
                throw LinkFailure(.badAddress, "no argument")
            }
            for index in 0..<count { unsafe unmap(&operations[index]) }
        default: throw LinkFailure(Errno(ENOSYS), "no such hypercall")
        }
        return 0
    }

    /// One operation. What a process has mapped for itself goes through gntdev.
    private func map(_ operation: inout gnttab_map_grant_ref) throws(LinkFailure) {
        guard operation.flags & ~UInt32(GNTMAP_readonly) == UInt32(GNTMAP_device_map) else {
            operation.status = GrantStatus.generalError.rawValue
            return
        }
        let access: GrantAccess = operation.flags & UInt32(GNTMAP_readonly) == 0 ? .readWrite : .readOnly
        let answers = try handle.link.map([GrantReference(operation.ref)], of: DomainID(operation.dom), access: access)
        switch answers.first {
        case .success(let page):
            guard let frame = handle.link.machineFrame(of: page) else {
                handle.link.unmap([page])
                throw LinkFailure(.ioError, "the daemon named a page that it did not pass")
            }
            handle.pins.withLock { $0[page.handle] = page }
            operation.handle = page.handle
            operation.dev_bus_addr = frame << 12
            operation.status = GrantStatus.okay.rawValue
        case .failure(let status): operation.status = status.rawValue
        case nil: operation.status = GrantStatus.generalError.rawValue
        }
    }

    private func unmap(_ operation: inout gnttab_unmap_grant_ref) {
        let number = operation.handle
        let page = handle.pins.withLock { pins -> LinkedPage? in
            guard let page = pins[number], handle.link.machineFrame(of: page).map({ $0 << 12 }) == operation.dev_bus_addr else {
                return nil
            }
            return pins.removeValue(forKey: number)
        }
        guard let page else {
            operation.status = GrantStatus.badHandle.rawValue
            return
        }
        handle.link.unmap([page])
        operation.status = GrantStatus.okay.rawValue
    }
}
