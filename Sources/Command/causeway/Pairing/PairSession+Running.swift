// What a pair does once everything is connected: COMMAND, or nothing until it is interrupted.

import CommandSupport
import Glibc
import LinuxSystem

extension PairSession {
    /// What COMMAND sees.
    private var variables: [String: String] {
        var variables = ["CAUSEWAY_RUN_DIR": directory.run.path, "XENSTORED_PATH": directory.run.storeSocket]
        let place = directory.run.path
        for disk in disks where !disk.isForVhostUser { variables[disk.variable] = disk.uri }
        variables["uri"] = disks.first { !$0.isForVhostUser }?.uri
        for vif in vifs { variables.merge(vif.variables(in: place)) { $1 } }
        for disk in disks where disk.isForVhostUser { variables["CAUSEWAY_VHOST_\(disk.name)"] = disk.vhostSocket(in: place) }
        // A backend that was killed is back before QEMU has noticed.
        var arguments = disks.filter(\.isForVhostUser).enumerated().map { index, disk in
            QemuArguments.disk(index, at: disk.vhostSocket(in: place), .comesAgain)
        }
        arguments += vifs.filter(\.isForVhostUser).map { vif in
            QemuArguments.interface(
                vif.index, at: vif.vhostSocket(in: place), mac: vif.mac, mtu: Int(vif.specification.mtu ?? 1500), queues: 1,
                .comesAgain)
        }
        if !arguments.isEmpty { variables["qemu"] = arguments.joined(separator: " ") }
        return variables
    }

    mutating func runCommand(_ arguments: [String]) throws(Failure) -> Int32 {
        // At a terminal the command stays in our group, or it could not read from it; elsewhere it gets a group of its
        // own, so that what it starts can be ended with it.
        let isAtTerminal = isatty(0) != 0
        let child = try ChildProcess.startProgram(arguments, adding: variables, ownGroup: !isAtTerminal)
        command = child
        var isAsked = false
        var end: ContinuousClock.Instant?
        while true {
            if let status = child.reapWithGroup() {
                command = nil
                return status.shellStatus
            }
            if let signal = ending.wait(milliseconds: patience) {
                child.signal(isAsked ? SIGKILL : signal)
                isAsked = true
                // Who types ^C at a shell does not want it gone.
                if !isAtTerminal || signal != SIGINT { end = end ?? ContinuousClock.now + Self.patienceWithCommand }
            }
            if let end, ContinuousClock.now >= end { child.signal(SIGKILL) }
            try lookAfterChildren()
        }
    }

    /// How long a command may take to end once it is asked.
    private static var patienceWithCommand: Duration { .seconds(10) }

    mutating func runUntilInterrupted() throws(Failure) -> Int32 {
        while true {
            if ending.wait(milliseconds: patience) != nil { return 0 }
            try lookAfterChildren()
        }
    }

    /// Ends the start-up when a signal asks for it.
    mutating func checkInterruption(milliseconds: Int) throws(Failure) {
        if let signal = ending.wait(milliseconds: milliseconds) { throw .silent(128 + signal) }
        try lookAfterChildren()
    }
}
