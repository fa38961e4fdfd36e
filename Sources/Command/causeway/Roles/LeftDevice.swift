// A device as the process or program before this one has left it, with the descriptors that have come along.

import DeviceState
import Glibc
import LinuxSystem
import VhostUser

/// What a predecessor has left of one device.
struct LeftDevice {
    /// As messages name it.
    let name: String
    /// Where it listened.
    let path: String
    /// What on, if that has come along.
    let listener: Descriptor?
    /// Its front end.
    var session: Session
    /// Of an interface.
    let vif: Vif?

    /// A front end that has not noticed, as far as it can be gone on with.
    enum Session {
        /// There was none.
        case none
        /// It can.
        case whole(VhostHandover)
        /// It cannot: why, in words.
        case lost(String)
    }

    /// What an interface has beside its server.
    struct Vif {
        var mac: MACAddress?
        var tap: String?
        /// See `NetworkDevice`; nil: it has not come along whole.
        var lifeline: [Descriptor]?
    }

    /// One that this process has put by itself.
    init(_ device: ExportedDevice, _ handover: VhostHandover?) {
        name = device.name
        (path, listener) = (device.server.path, device.server.listener)
        session = handover.map { .whole($0) } ?? .none
        vif = device.vif.map { Vif(mac: $0.mac, tap: $0.tap, lifeline: $0.device.lifeline) }
    }

    /// One that a predecessor has put down.
    init(_ record: ExportSuccession.Device, _ table: inout InheritedDescriptors, wasKilled: Bool) {
        name = record.name
        path = record.path
        listener = table[record.listener]
        vif = record.vif.map { Vif(mac: $0.mac.flatMap { MACAddress($0) }, tap: $0.tap, lifeline: table.all($0.lifeline)) }
        session = .none
        guard let frontend = record.frontend else { return }
        do throws(DeviceStateError) {
            session =
                try frontend.handover(&table, wasKilled: wasKilled).map { .whole($0) }
                ?? .lost("its front end has not come along whole; it has to connect anew")
        } catch { session = .lost("\(error); its front end has to connect anew") }
    }

    /// Knowing what has ended the process before: else it could end one process after another.
    mutating func distrust(after signal: Int32) {
        guard signal == SIGBUS, case .whole(let handover) = session, handover.hasMemoryThatMayShrink else { return }
        session = .lost("its front end may have ended the process before, by memory that it can make shorter")
    }
}
