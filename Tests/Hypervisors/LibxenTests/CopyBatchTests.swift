// What surrounds the hypercall of a grant copy; the hypercall itself is tested in the lab, on a Xen.

import Hypervisor
@testable import Libxen
import SharedMemory
import Testing
import XenTypes

@Suite("Batches of grant copies") struct CopyBatchTests {
    private let region: SharedRegion
    init() throws { region = try SharedRegion(anonymous: 8192) }

    private func operation(offset: Int = 0, byteCount: Int = 512) -> GrantCopy {
        GrantCopy(
            source: .grant(GrantReference(9), of: DomainID(1), offset: offset), destination: .local(region, offset: 0),
            byteCount: byteCount)
    }

    @Test func whatIsWrongIsNeverSent_andTheOthersKeepTheirPlaces() throws {
        // Across a page's end; negative; past the region.
        let operations = [
            operation(), operation(offset: 4000, byteCount: 512), operation(byteCount: -1), operation(offset: 8),
            operation(byteCount: 9000),
        ]
        var sent: [[Int]] = []
        let statuses = try CopyBatch.run(operations) { places in
            sent.append(places)
            return places.map { $0 == 3 ? .permissionDenied : .okay }
        } pause: {
        }
        #expect(sent == [[0, 3]])
        #expect(statuses == [.okay, .badCopyArgument, .badCopyArgument, .permissionDenied, .badCopyArgument])
    }

    @Test func whatIsPagedOutIsAskedForAgainAlone_andNotForEver() throws {
        var sent: [[Int]] = []
        var pauses = 0
        let statuses = try CopyBatch.run([operation(), operation(), operation()]) { places in
            sent.append(places)
            // The second comes back at the third attempt, the last never.
            return places.map { $0 == 0 || $0 == 1 && sent.count == 3 ? .okay : .tryAgain }
        } pause: {
            pauses += 1
        }
        #expect(sent == [[0, 1, 2], [1, 2], [1, 2], [2]])
        #expect(pauses == 3)
        #expect(statuses == [.okay, .okay, .tryAgain])
    }

    @Test func aHypercallThatFailsIsThrownAndNotTriedAgain() throws {
        var calls = 0
        #expect(throws: HypervisorError.system("no", doing: "copying")) {
            try CopyBatch.run([operation()]) { _ throws(HypervisorError) in
                calls += 1
                throw .system("no", doing: "copying")
            } pause: {
            }
        }
        #expect(calls == 1)
        let nothing = try CopyBatch.run([]) { _ in
            []
        } pause: {
        }
        #expect(nothing.isEmpty)
    }
}
