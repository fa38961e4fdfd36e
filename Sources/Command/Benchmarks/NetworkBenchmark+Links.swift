// What is measured of two interfaces that are joined: TCP, packets, pings.

import CommandSupport
import LinuxSystem

extension NetworkBenchmark {
    /// TCP, in Gb/s.
    /// - Parameter names: of the way there, and of the way back if that is to be measured, too.
    func measureStreams(_ links: BenchLinks, _ names: [String], _ report: inout BenchReport) throws(Failure) {
        let server = try links.startServer()
        defer { server.stop(milliseconds: 2000) }
        for streams in [1, 8] {
            for (index, direction) in names.enumerated() {
                let isReverse = index > 0
                let name = "\(direction), \(streams == 1 ? "1 stream" : "\(streams) streams")"
                var result = BenchResult(name: name, unit: "Gb/s", ours: [], reference: [])
                var bare = BenchResult(name: "\(name), beside bare taps", unit: "Gb/s", ours: [], reference: [])
                for _ in 0..<runs {
                    let job = StreamJob(streams: streams, isReverse: isReverse, seconds: seconds, congestion: congestion)
                    result.ours.append(try links.run(job, on: links.pair))
                    result.reference.append(try links.run(job, on: links.veth))
                    if let link = links.bare { bare.reference.append(try links.run(job, on: link)) }
                }
                bare.ours = result.ours
                report.results += links.bare == nil ? [result] : [result, bare]
            }
        }
    }

    /// Frames through both taps and one queue.
    func measurePackets(_ links: BenchLinks, _ names: [String], _ report: inout BenchReport) throws(Failure) {
        let drivers = ProcessorTime.roles(["backend", "frontend"])
        for size in [64, 1500] {
            for (index, direction) in names.enumerated() {
                let isReverse = index > 0
                let name = "\(direction), \(size) bytes"
                var rate = BenchResult(name: name, unit: "packets/s", ours: [], reference: [])
                var time = BenchResult(
                    name: "processor time, \(name)", unit: "ns/packet", ours: [], reference: [], moreIsBetter: false)
                for _ in 0..<runs {
                    let before = ProcessorTime.nanoseconds(of: drivers)
                    let ours = try links.flood(links.pair, byteCount: size, isReverse: isReverse, seconds: seconds)
                    time.ours.append(Double(ProcessorTime.nanoseconds(of: drivers) - before) / max(1, ours.packets))
                    rate.ours.append(ours.perSecond)
                    rate.reference.append(
                        try links.flood(links.veth, byteCount: size, isReverse: isReverse, seconds: seconds).perSecond)
                }
                report.results += [rate, time]
            }
        }
    }

    func measurePings(_ links: BenchLinks, _ name: String, _ report: inout BenchReport) throws(Failure) {
        var result = BenchResult(name: name, unit: "µs", ours: [], reference: [], moreIsBetter: false)
        for _ in 0..<runs {
            result.ours.append(try links.ping(links.pair))
            result.reference.append(try links.ping(links.veth))
        }
        report.results.append(result)
    }
}
