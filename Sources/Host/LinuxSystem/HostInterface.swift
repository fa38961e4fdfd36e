// The settings of a network interface.

import CLinux

/// An interface's settings, in the namespace of the calling thread.
///
/// SAFETY: each name and address here is only read, during the call that it is given to.
public enum HostInterface {
    /// Whether the kernel takes `name` for an interface as it is: 1 to 15 bytes, no slash, colon, blank or control
    /// character, not `.` or `..`; and no `%`, which would make it a template.
    public static func isName(_ name: String) -> Bool {
        let bytes = name.utf8
        return (1...15).contains(bytes.count) && !["all", "default", ".", ".."].contains(name)
            && bytes.allSatisfy {
                $0 > 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") && $0 != UInt8(ascii: "%")
            }
    }

    /// Whether there is an interface of this name in this namespace.
    public static func exists(_ name: String) -> Bool { unsafe causeway_interface_exists(name) != 0 }

    /// Whether there is one that is up and has a carrier: a tap has one as long as somebody holds it open.
    public static func isRunning(_ name: String) -> Bool { unsafe causeway_interface_is_running(name) != 0 }

    /// Whether there is a tap of this name, of whatever program.
    package static func isTap(_ name: String) -> Bool { unsafe causeway_interface_is_tap(name) != 0 }

    /// Its Ethernet address; while the interface is down, to be safe.
    public static func setAddress(_ name: String, _ address: MACAddress) throws(Errno) {
        let bytes = address.bytes
        _ = try retryingInterrupts { unsafe causeway_interface_set_address(name, bytes) }
    }

    /// Bytes of payload in a frame, as it has it now; nil if there is no such interface.
    package static func mtu(of name: String) -> Int? {
        let value = unsafe causeway_interface_mtu(name)
        return value > 0 ? Int(value) : nil
    }

    /// Sets an interface up or down.
    public static func setUp(_ name: String, _ isUp: Bool = true) throws(Errno) {
        _ = try retryingInterrupts { unsafe causeway_interface_set_up(name, isUp ? 1 : 0) }
    }
}
