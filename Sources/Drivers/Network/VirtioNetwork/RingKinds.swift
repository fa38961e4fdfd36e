// The sides for each kind of ring. A generic class has its methods once, for all kinds of ring; what its subclass for
// one kind calls is compiled for that kind.

import VirtioRing

final class SplitTransmitQueue: VirtioTransmitQueue<SplitDeviceRing<NoLedger>>, @unchecked Sendable {
    override func poll() -> Bool { turn() }
}

final class PackedTransmitQueue: VirtioTransmitQueue<PackedDeviceRing<NoLedger>>, @unchecked Sendable {
    override func poll() -> Bool { turn() }
}

final class SplitReceiveQueue: VirtioReceiveQueue<SplitDeviceRing<NoLedger>>, @unchecked Sendable {
    override func poll() -> Bool { turn() }
}

final class PackedReceiveQueue: VirtioReceiveQueue<PackedDeviceRing<NoLedger>>, @unchecked Sendable {
    override func poll() -> Bool { turn() }
}

final class KeptPackedTransmitQueue: VirtioTransmitQueue<PackedDeviceRing<PackedInflightLedger>>, @unchecked Sendable {
    override func poll() -> Bool { turn() }
}

final class KeptPackedReceiveQueue: VirtioReceiveQueue<PackedDeviceRing<PackedInflightLedger>>, @unchecked Sendable {
    override func poll() -> Bool { turn() }
}
