import LinuxSystem
import NetworkProtocol
import Packets
import Testing

/// Chains of extra information, as both ends of the rings take them.
struct ExtraChainTests {
    private static let gso = ExtraInfo(segmenting: .tcp4, size: 1448)

    private func more(_ extra: ExtraInfo) -> ExtraInfo {
        var extra = extra
        extra.hasMore = true
        return extra
    }

    private func hash() -> ExtraInfo { ExtraInfo(hash: 7, over: .ipv4TCP, .toeplitz) }

    @Test func whatItSaysIsKept() throws {
        var chain = ExtraChain()
        #expect(chain.hasMore && chain.count == 0)
        #expect(chain.take(more(Self.gso)) == nil && chain.hasMore)
        #expect(chain.take(hash()) == nil && !chain.hasMore && chain.count == 2)
        #expect(try #require(chain.segmentation) == (.tcp4, 1448) && chain.multicast == nil)
    }

    @Test func anAddressIsWantedOrNotAnyMore() throws {
        let address = try #require(MACAddress("01:00:5e:00:00:01"))
        for isAdded in [true, false] {
            var chain = ExtraChain()
            #expect(chain.take(ExtraInfo(multicast: address, isAdded: isAdded)) == nil)
            #expect(try #require(chain.multicast) == (address, isAdded))
        }
    }

    /// Each type once; where repeats are taken the last one counts, and there are no more slots than types.
    @Test func aChainIsBounded() throws {
        var strict = ExtraChain()
        #expect(strict.take(more(hash())) == nil && strict.take(more(hash())) == .repeated(ExtraType.hash.rawValue))
        var lenient = ExtraChain(takesRepeats: true)
        for size in 1...UInt16(ExtraType.allCases.count) {
            #expect(lenient.take(more(ExtraInfo(segmenting: .tcp6, size: size))) == nil)
            #expect(try #require(lenient.segmentation) == (.tcp6, size))
        }
        #expect(lenient.take(Self.gso) == .endless(ExtraType.segmentation.rawValue))
    }

    @Test func nonsenseIsNamed() {
        for type in UInt8.min...UInt8.max where ExtraType(rawValue: type) == nil {
            var chain = ExtraChain(takesRepeats: true)
            #expect(chain.take(ExtraInfo(word: UInt64(type))) == .unknownType(type) && chain.count == 1)
        }
        var chain = ExtraChain()
        #expect(chain.take(ExtraInfo(segmenting: .tcp4, size: 0)) == .segmentSize(0) && chain.segmentation == nil)
        for kind in UInt8.min...UInt8.max where SegmentationType(rawValue: kind) == nil {
            var chain = ExtraChain()
            let word = Self.gso.word & ~(0xFF << 32) | UInt64(kind) << 32
            #expect(chain.take(ExtraInfo(word: word)) == .segmentationType(kind) && chain.segmentation == nil)
        }
    }
}
