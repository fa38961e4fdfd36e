// libFuzzer target for the store's wire: arbitrary bytes from three peers, one of them privileged, at one store.
//
// The input is a list of turns: a byte that says who speaks and how much time passes, a byte for the length, then that
// many bytes as that peer would send them. What must hold: no trap, a sound store after every input, and everything
// freed at the end.

import XenStoreServer
import XenTypes

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzStore(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var input = unsafe UnsafeBufferPointer(start: start, count: count)[...]
    var core = StoreCore()
    let idle = core.usage()
    var peers = [0, 1, 2].map { core.connect(domain: DomainID(UInt16($0))) }
    var now: UInt64 = 0

    while let turn = unsafe input.popFirst(), let length = unsafe input.popFirst() {
        now &+= UInt64(turn >> 4) &* 10_000_000
        let speaker = Int(turn % 3)
        unsafe core.feed(Array(input.prefix(Int(length))), from: peers[speaker], now: now)
        unsafe input = input.dropFirst(Int(length))
        while core.service(peers[speaker], now: now) {}
        drain(&core, peers)
        if turn & 0xF == 0xF { core.domainDied(DomainID(UInt16(speaker))) }
        for (connection, _) in core.takeDropped() {
            for index in peers.indices where peers[index] == connection {
                peers[index] = core.connect(domain: DomainID(UInt16(index)))
            }
        }
    }
    let faults = core.checkInvariants()
    precondition(faults.isEmpty, faults.joined(separator: "\n"))
    for peer in peers { core.disconnect(peer) }
    let left = core.usage()
    precondition(left.watches == 0 && left.transactions == 0 && left.connections == 0 && left.nodes >= idle.nodes - 2)
    return 0
}

/// Reads what each peer has to read, half of it for the last, which is slow.
private func drain(_ core: inout StoreCore, _ peers: [StoreConnectionID]) {
    for peer in peers {
        let bytes = core.output(peer)
        core.didSend(peer == peers.last ? bytes.count / 2 : bytes.count, to: peer)
    }
}
