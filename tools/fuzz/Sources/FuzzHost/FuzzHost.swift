// Any requests of three domains' processes to the daemon, those of programs of Xen's libraries among them: notices of
// ends, virtual interrupts, foreign frames. Every answer is held against a model, every byte of shared memory and every
// bell against what was asked for, and in the end nothing is left.

import FuzzSupport
import Glibc
import HypervisorRules
import LinuxSystem
@testable import Loopback
import SharedMemory
import XenStoreServer
import XenTypes

nonisolated(unsafe) let daemon = Daemon()

/// One daemon for all inputs; its loop does not run, requests are handed to it.
final class Daemon {
    let loop: HostLoop
    private let stop: WakePipe

    init() {
        var limits = HypervisorLimits()
        limits.ports = 24
        limits.maptrack = 64
        limits.runs = 24
        let directory = "/tmp/causeway-fuzz-\(getpid())"
        stop = made { try WakePipe() }
        let (pipe, bounds) = (stop, limits)
        loop = made {
            try HostLoop(
                runDirectory: directory, limits: bounds, store: StoreServer(time: .system), stop: pipe.reader, time: .system)
        }
        for number: UInt16 in 1...2 { _ = made { try loop.core.createDomain(DomainID(number)) } }
    }
}

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    var input = ByteReader(start, count)
    var session = Session(daemon.loop)
    while !input.isAtEnd { session.step(&input) }
    session.end()
    return 0
}
