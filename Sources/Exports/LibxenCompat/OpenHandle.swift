// What every handle of the four libraries has: a connection, a logger, and a place on xentoolcore's list.

import CLibxenCompat
import Glibc
import LinuxSystem
import Loopback
import Synchronization
import XenTypes

/// One open handle.
///
/// SAFETY: the logger is the caller's, who keeps it for as long as the handle, or this object's own; loggers are told
/// things from any thread. The record points back here without a reference, and is off the list before this object
/// goes.
@safe class OpenHandle: @unchecked Sendable {
    let life: ProcessLife
    let link: LoopbackLink
    /// The name that stands before what is logged.
    let library: String
    private let logger: UnsafeMutablePointer<xentoollog_logger>
    private let ownsLogger: Bool
    private var record: UnsafeMutableRawPointer?
    private let restriction = Atomic<Int32>(-1)

    /// What `opening` has made for a handle.
    @safe struct Parts {
        let life: ProcessLife
        let link: LoopbackLink
        let library: String
        fileprivate let logger: UnsafeMutablePointer<xentoollog_logger>
        fileprivate let ownsLogger: Bool
    }

    init(_ parts: Parts) {
        life = parts.life
        link = parts.link
        library = parts.library
        unsafe logger = parts.logger
        ownsLogger = parts.ownsLogger
    }

    deinit {
        if ownsLogger { unsafe xtl_logger_destroy(logger) }
    }

    // MARK: Logging

    /// One line for the caller's log.
    func say(_ failure: LinkFailure, _ doing: String) { unsafe Self.say(logger, library, failure, doing) }

    fileprivate static func say(
        _ logger: UnsafeMutablePointer<xentoollog_logger>?, _ library: String, _ failure: LinkFailure, _ doing: String
    ) {
        // SAFETY: both texts are lent for the call, which copies what it prints.
        unsafe causeway_xtl_say(logger, failure.error.rawValue, library, "\(doing): \(failure.reason)")
    }

    // MARK: Restricting

    /// The domain that this handle is kept to; nil: it is not.
    var restrictedTo: DomainID? {
        let number = restriction.load(ordering: .acquiring)
        return number < 0 ? nil : DomainID(UInt16(truncatingIfNeeded: number))
    }

    /// Keeps the handle to one domain; false if it was restricted before.
    func restrict(to domain: UInt16) -> Bool {
        restriction.compareExchange(expected: -1, desired: Int32(domain), ordering: .acquiringAndReleasing).exchanged
    }

    /// What `xentoolcore_restrict_all` asks of it. Most handles are of no use afterwards.
    func restrictAll(to domain: UInt16) throws(LinkFailure) { _ = restrict(to: domain) }

    fileprivate func enlist() {
        // SAFETY: `owner` is this object, which outlives the record.
        unsafe record = causeway_register_handle(
            { owner, domain in
                guard let owner = unsafe owner else { return 0 }
                let handle = unsafe Unmanaged<OpenHandle>.fromOpaque(owner).takeUnretainedValue()
                return answering { () throws(LinkFailure) in
                    if handle.life.isCurrent { try handle.restrictAll(to: domain) }
                    return 0
                }
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    // MARK: Ends

    /// Gives back what the handle holds at the host.
    func end() {}

    /// The descriptors that a fork's child closes its copies of.
    var descriptors: [Int32] { [] }

    fileprivate func delist() {
        unsafe causeway_unregister_handle(record)
        unsafe record = nil
    }
}

/// Opens a handle: what `make` makes, for the caller to close; nil with errno.
///
/// SAFETY: a logger that is given is the caller's, who keeps it for as long as the handle; one that is made here goes
/// with the handle, or here. What is handed out has a retain, which `closing` ends.
@safe
func opening<Handle: OpenHandle>(
    _ given: UnsafeMutablePointer<xentoollog_logger>?, _ library: String,
    _ make: (OpenHandle.Parts) throws(LinkFailure) -> Handle
) -> OpaquePointer? {
    guard let logger = unsafe given ?? causeway_xtl_default() else {
        errno = ENOMEM
        return nil
    }
    let isOwn = unsafe given == nil
    do throws(LinkFailure) {
        let life = try ProcessLife.current()
        let link = try life.link()
        let handle = try make(
            unsafe OpenHandle.Parts(life: life, link: link, library: library, logger: logger, ownsLogger: isOwn))
        handle.enlist()
        return unsafe OpaquePointer(Unmanaged.passRetained(handle).toOpaque())
    } catch {
        unsafe OpenHandle.say(logger, library, error, "opening")
        if isOwn { unsafe xtl_logger_destroy(logger) }
        errno = error.error.rawValue
        return nil
    }
}

/// Closes a handle; NULL is none. In a fork's child the parent's keeps all that it has, and only copies are closed.
@safe
func closing<Handle: OpenHandle>(_ handle: OpaquePointer?, _ type: Handle.Type) -> Int32 {
    guard let handle = known(handle, type) else { return 0 }
    guard handle.life.isCurrent else {
        // Its memory stays: what it refers to has locks that nobody here may ever open again.
        for descriptor in handle.descriptors { _ = close(descriptor) }
        handle.life.abandon(handle.link)
        return 0
    }
    handle.delist()
    handle.end()
    // SAFETY: `opening` retained it for the caller, who closes it once.
    unsafe Unmanaged.passUnretained(handle).release()
    return 0
}

/// The object behind a handle, or nil for NULL.
///
/// SAFETY: the caller passes what `opening` gave out for the same library, and does not close it during the call;
/// nothing else can be known of a pointer.
@safe
func known<Handle: OpenHandle>(_ handle: OpaquePointer?, _ type: Handle.Type) -> Handle? {
    guard let handle = unsafe handle else { return nil }
    return unsafe Unmanaged<Handle>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
}

/// The object behind a handle that may be used now.
@safe
func usable<Handle: OpenHandle>(_ handle: OpaquePointer?, _ type: Handle.Type) throws(LinkFailure) -> Handle {
    guard let handle = known(handle, type) else { throw LinkFailure(.invalidArgument, "no handle") }
    guard handle.life.isCurrent else { throw LinkFailure(Errno(EBADF), "a handle of the process that this one was forked from") }
    return handle
}

/// Runs a call's body: its result, or −1 with errno.
func answering<Result: FixedWidthInteger & SignedInteger>(_ body: () throws(LinkFailure) -> Result) -> Result {
    do throws(LinkFailure) { return try body() } catch {
        errno = error.error.rawValue
        return -1
    }
}

/// Runs the body of a call that fails aloud: its result, or nil with errno and a line for the handle's logger.
@safe
func speaking<Handle: OpenHandle, Result>(
    _ handle: OpaquePointer?, _ type: Handle.Type, _ doing: String, _ body: (Handle) throws(LinkFailure) -> Result
) -> Result? {
    do throws(LinkFailure) { return try body(try usable(handle, type)) } catch {
        if let handle = known(handle, type), handle.life.isCurrent { handle.say(error, doing) }
        errno = error.error.rawValue
        return nil
    }
}

/// A descriptor for a handle that has nothing to wait on: callers want a number, "for unusual use".
func idleDescriptor() throws(LinkFailure) -> Descriptor {
    do throws(Errno) { return try EventCounter().descriptor } catch { throw LinkFailure(error, "a descriptor: \(error)") }
}
