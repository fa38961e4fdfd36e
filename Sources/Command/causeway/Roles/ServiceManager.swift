// What systemd wants to hear of a service of Type=notify (sd_notify(3)): one datagram. Not worth a library.

import FoundationEssentials
import LinuxSystem

enum ServiceManager {
    /// Tells whoever started us, if it wants to know: `READY=1`, `STOPPING=1`, `STATUS=…`.
    static func tell(_ message: String) {
        guard let name = ProcessInfo.processInfo.environment["NOTIFY_SOCKET"] else { return }
        try? DatagramSocket.send(message, to: name)
    }
}
