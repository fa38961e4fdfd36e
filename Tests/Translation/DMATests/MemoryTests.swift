// What cannot be had is an error that says what was asked for. Each test is a process of its own with few addresses
// left.

import FrameMaps
import Glibc
import Testing

@testable import DMA

/// Leaves this process `byteCount` bytes of addresses beyond what it has.
private func leaveAddresses(_ byteCount: UInt) {
    let text = (try? ProcessSizes.read()) ?? 0
    var limit = rlimit()
    limit.rlim_cur = text + byteCount
    limit.rlim_max = limit.rlim_cur
    precondition(setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0)
}

private enum ProcessSizes {
    /// Bytes of addresses in use, from /proc.
    static func read() throws -> UInt {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var buffer = [CChar](repeating: 0, count: 128)
        guard fgets(&buffer, 128, file) != nil else { return 0 }
        return UInt(strtoul(buffer, nil, 10)) * 4096
    }
}

/// Whether this is built for ThreadSanitizer, whose own memory comes out of the same addresses.
private let isSanitized = dlsym(nil, "__tsan_init") != nil

@Suite(.timeLimit(.minutes(1)))
struct MemoryTests {
    @Test(.enabled(if: !isSanitized)) func aDeviceWithoutMemoryForItsTablesIsAnError() async {
        await #expect(processExitsWith: .success) {
            // What a device has in tables besides windows, which it can do without: 68 MiB of page counts are the
            // largest.
            leaveAddresses(40 << 20)
            do {
                _ = try DMADevice(name: "vbd-51712", options: DMAOptions(model: .p2m))
                exit(2)
            } catch {
                let expected = "vbd-51712: no memory of 71303168 bytes for counts of 17825792 pages"
                exit("\(error)" == expected ? 0 : 3)
            }
        }
    }

    @Test(.enabled(if: !isSanitized)) func anIommuWithoutMemoryIsAnError() async {
        await #expect(processExitsWith: .success) {
            leaveAddresses(160 << 20)
            do {
                _ = try IommuDomain(device: "vbd-51712", mode: .deferred, batchLimit: 1 << 24)
                exit(2)
            } catch {
                exit("\(error)" == "vbd-51712: no memory of 268435456 bytes for batches of 16777216 ranges" ? 0 : 3)
            }
        }
    }

    @Test func moreStaleRangesThanThereCanBe() {
        let expected = DMAError.noTables(name: "d", of: "batches of \(Int.max) ranges", byteCount: .max)
        #expect(throws: expected) { _ = try IommuDomain(device: "d", mode: .deferred, batchLimit: .max) }
    }

    @Test(.enabled(if: !isSanitized)) func aFrameMapWithoutMemoryIsAnError() async {
        await #expect(processExitsWith: .success) {
            leaveAddresses(16 << 20)
            do throws(FrameMapError) {
                _ = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 40, frameLimit: 1 << 40)
                exit(2)
            } catch {
                exit(error == .noMemory(frames: 1 << 40, byteCount: 32 << 20) ? 0 : 3)
            }
        }
    }

    /// Tables without a window: everything works, by walks.
    @Test(.enabled(if: !isSanitized)) func withoutAddressesForAWindow() async {
        await #expect(processExitsWith: .success) {
            // Room for the allocator's records, 64 MiB, and not for a window, 2 GiB.
            leaveAddresses(200 << 20)
            guard let device = try? DMADevice(name: "d", options: DMAOptions(model: .p2m, iommu: .strict)) else { exit(2) }
            guard let memory = try? device.allocateCoherent(8192) else { exit(3) }
            memory.region.fill(0, count: 8192, with: 7)
            guard let run = unsafe device.bus.resolveRun(memory.segment, .toDevice) else { exit(4) }
            exit(unsafe run.memory.load(as: UInt8.self) == 7 ? 0 : 5)
        }
    }

    @Test func aPoolThatHasNoPlaceBelowTheMask() {
        let options = DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF), bouncePool: 1 << 20)
        #expect(throws: DMAError.noPool(name: "vbd-1", byteCount: 1 << 20, mask: 0xFFFF)) {
            _ = try DMADevice(name: "vbd-1", options: options)
        }
    }

    /// A budget is a number: the largest one costs nothing, and is not what there is.
    @Test func theLargestBudget() throws {
        let pool = BouncePool(name: "p", byteCount: .max)
        #expect(pool.maximum == Int.max & ~4095 && pool.slotCount == 0)
        let options = DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF))
        let device = try DMADevice(name: "d", options: options, pool: pool)
        #expect(throws: DMAError.self) { _ = try device.pool?.state.value.take(2 << 20) }
        let slots = try (0..<3).map { _ in try device.pool!.state.value.take(1 << 20) }
        #expect(pool.slotsInUse == 3 * 512)
        for slot in slots { device.pool!.state.value.giveBack(slot) }
    }
}
