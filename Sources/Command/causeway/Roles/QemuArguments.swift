// What gives QEMU a device behind a vhost-user socket: what a user would have to look up.

import LinuxSystem
import NetworkBackend

/// How QEMU and a device meet at a socket.
enum QemuMeeting {
    /// QEMU comes.
    case comes
    /// It comes again, a second later, when whoever serves the device is gone.
    case comesAgain
    /// It listens, and does not wait with its start.
    case waits
}

/// Arguments for QEMU. A shell splits them at blanks, so a socket's path must have none.
enum QemuArguments {
    /// A disk.
    static func disk(_ index: Int, at path: String, _ meeting: QemuMeeting) -> String {
        "\(chardev("causeway\(index)", path, meeting)) -device vhost-user-blk-pci,chardev=causeway\(index)"
    }

    /// An interface.
    static func interface(
        _ index: Int, at path: String, mac: MACAddress, mtu: Int, queues: Int, _ meeting: QemuMeeting
    ) -> String {
        let (socket, netdev) = ("causewayvif\(index)", "causewaynet\(index)")
        var card = "virtio-net-pci,netdev=\(netdev),mac=\(mac)"
        if queues > 1 { card += ",mq=on" }
        if mtu != NetworkSettings.usualMTU { card += ",host_mtu=\(mtu)" }
        // QEMU 7.2 crashes itself in emulation (TCG) where this card has vectors of its own: one interrupt does. Its
        // boot ROM is of no use here.
        card += ",vectors=0,romfile="
        return "\(chardev(socket, path, meeting)) "
            + "-netdev vhost-user,id=\(netdev),chardev=\(socket)\(queues > 1 ? ",queues=\(queues)" : "") -device \(card)"
    }

    private static func chardev(_ name: String, _ path: String, _ meeting: QemuMeeting) -> String {
        // QEMU doubles a comma that is no separator.
        let escaped = path.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
        let how =
            switch meeting {
            case .comes: ""
            case .comesAgain: ",reconnect=1"
            case .waits: ",server=on,wait=off"
            }
        return "-chardev socket,id=\(name),path=\(escaped)\(how)"
    }
}
