// A domain's process for tests. It takes its domain's socket as standard input, does what its first argument says,
// prints one line when it has, and then waits to be killed.
//
//   offer PEER PAGES rw|ro      offers pages, each filled with its number; prints the references map GRANTER
//   REFERENCES…     maps grants read-write; prints the first word of each channel REMOTE              allocates a
//   channel, prints its port, and answers each ring with one bind REMOTE PORT            binds a channel, prints, and
//   answers each ring with one storm REMOTE PORT           binds a channel and rings it for ever victim USER
//   becomes that user (self: stays who it is) and hardens itself, unless it is 0; prints its process and
//                               where its secret lies
//   exec USER PROGRAM ARGUMENTS…   hardens itself and becomes the program
//   host DIRECTORY              serves as the daemon (standard input is not a domain's)
//   console DIRECTORY DOMAIN    has a console's page and port, prints both numbers, says hello and answers in capitals

import Glibc
import Hypervisor
import LinuxSystem
import Loopback
import SharedMemory
import XenTypes

@main struct Probe {
    static func main() {
        do { try run(Array(CommandLine.arguments.dropFirst())) } catch {
            say("error \(error)")
            exit(1)
        }
    }

    static func say(_ text: String) {
        let bytes = Array((text + "\n").utf8)
        _ = unsafe bytes.withUnsafeBytes { unsafe write(1, $0.baseAddress, $0.count) }
    }

    static func number(_ text: String) -> UInt32 { UInt32(text) ?? 0 }
    static func domain(_ text: String) -> DomainID { DomainID(UInt16(text) ?? 0) }

    static func sleepForEver() -> Never { while true { sleep(1000) } }

    static func run(_ arguments: [String]) throws(HypervisorError) {
        guard let verb = arguments.first else { return }
        switch verb {
        case "victim": return try victim(arguments[1])
        case "exec": return try become(number(arguments[1]), Array(arguments.dropFirst(2)))
        case "console":
            do throws(LinkFailure) { return try GuestConsole.run(arguments[1], domain(arguments[2])) } catch {
                throw .disconnected(error.reason)
            }
        case "host":
            let host = try LoopbackHost(runDirectory: arguments[1], time: .system)
            try host.start()
            say("serving")
            sleepForEver()
        default: break
        }
        let hypervisor = try LoopbackHypervisor(socket: Descriptor(owning: 0), time: .system)
        switch verb {
        case "offer":
            let access: GrantAccess = arguments[3] == "ro" ? .readOnly : .readWrite
            let offer = try hypervisor.offerPages(Int(number(arguments[2])), to: domain(arguments[1]), access: access)
            for page in 0..<offer.references.count { offer.region.store(UInt32(page), at: page * 4096) }
            say(offer.references.map(\.description).joined(separator: " "))
            // An owner's stores go on whatever its peer does.
            var round: UInt32 = 0
            while true {
                round &+= 1
                offer.region.storeReleasing(round, at: offer.region.byteCount - 4)
                usleep(1000)
            }
        case "map":
            let grants = try hypervisor.mapGrants(
                arguments.dropFirst(2).map { GrantReference(number($0)) }, of: domain(arguments[1]), access: .readWrite)
            say(grants.map { "\($0.region.load($0.offset, as: UInt32.self))" }.joined(separator: " "))
            sleepForEver()
        case "channel", "bind":
            let channel =
                verb == "channel"
                ? try hypervisor.allocateChannel(for: domain(arguments[1]))
                : try hypervisor.bindChannel(remote: domain(arguments[1]), port: EventPort(number(arguments[2])))
            say("\(channel.port)")
            while true {
                _ = try? waitReadable(channel.descriptor.rawValue, milliseconds: -1)
                channel.acknowledge()
                channel.notify()
                channel.unmask()
            }
        case "storm":
            let channel = try hypervisor.bindChannel(remote: domain(arguments[1]), port: EventPort(number(arguments[2])))
            say("\(channel.port)")
            while true { channel.notify() }
        default: say("error unknown verb")
        }
    }

    static func victim(_ user: String) throws(HypervisorError) {
        guard let memory = try? SharedRegion(anonymous: 4096) else { return }
        memory.write(Array("secret".utf8), at: 0)
        switch user {
        case "0": break
        case "self": try hardenDomainProcess()
        default: try hardenDomainProcess(DomainHardening(user: (number(user), number(user))))
        }
        say("\(getpid()) \(unsafe UInt(bitPattern: memory.unsafeBase))")
        sleepForEver()
    }

    static func become(_ user: UInt32, _ command: [String]) throws(HypervisorError) {
        try hardenDomainProcess(DomainHardening(user: user == 0 ? nil : (user, user)))
        var pointers = unsafe command.map { unsafe strdup($0) }
        unsafe pointers.append(nil)
        _ = unsafe execv(command[0], pointers)
        say("error \(Errno.current)")
    }
}
