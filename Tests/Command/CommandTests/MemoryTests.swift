import Foundation
import Testing

extension EndToEnd {
    /// Every way in which a backend's disk reaches memory, with data that would show a wrong one. All combinations:
    /// tools/verify-memory.sh.
    @Suite("Memory models") struct Memory {
        /// Runs the verify job and looks at what the backend says of its disk before the pair goes.
        private func verify(_ options: [String], megabytes: Int = 16) throws -> [String: Int] {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: megabytes)
            let job = verifyJob(megabytes: megabytes)[2].replacingOccurrences(of: "exec fio", with: "fio")
            let script =
                "\(job) && '\(Tools.causeway)' status --json > '\(scratch.path)/status.json' && '\(Tools.causeway)' status > '\(scratch.path)/status.txt'"
            let outcome = try pair(["\(image),raw,xvda,w"], options: options, command: ["sh", "-c", script], in: scratch)
            #expect(outcome.status == 0, "\(options): \(outcome.errors.suffix(2000))")
            let data = try #require(FileManager.default.contents(atPath: "\(scratch.path)/status.json"))
            let text = String(
                decoding: FileManager.default.contents(atPath: "\(scratch.path)/status.txt") ?? Foundation.Data(), as: UTF8.self)
            let json = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
            let devices = try #require(json["devices"] as? [[String: Any]])
            #expect(devices.count == 1 && text.contains("iotlb-misses"))
            let numbers = try #require(devices.first).compactMapValues { $0 as? Int }
            // What must be 0 in a healthy run, whatever the options.
            for name in [
                "dma-live", "bounce-slots-used", "iommu-faults", "unmappable", "unmap-failures", "dma-misuses", "rejected",
            ] {
                #expect(numbers[name] == 0, "\(options): \(name)")
            }
            #expect(numbers["requests"] ?? 0 > 0 && numbers["dma-maps"] ?? 0 > 0)
            return numbers
        }

        @Test(
            "fio verifies under every memory model and IOMMU mode",
            arguments: ["p2m", "identity", "vp"], ["off", "strict", "deferred"])
        func models(_ model: String, _ iommu: String) throws {
            let numbers = try verify(["--memory-model", model, "--iommu", iommu])
            #expect((numbers["iotlb-misses"] ?? 0 > 0) == (iommu != "off"))
        }

        @Test("fio verifies through bounces, and the status says why", arguments: ["p2m", "identity"])
        func bounces(_ model: String) throws {
            let options = ["--memory-model", model, "--dma-mask", "32", "--dma-boundary", "14", "--bounce-pool", "8M"]
            let numbers = try verify(options)
            #expect(numbers["bounced-mask"] ?? 0 > 0 && numbers["bounce-slots"] ?? 0 > 0)
        }
    }
}
