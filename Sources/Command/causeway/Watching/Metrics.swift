// causeway metrics: every number of a host and its backends for Prometheus.

import ArgumentParser
import CommandSupport
import LinuxSystem

struct Metrics: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints every counter once, in the text format of Prometheus, or serves them.",
        discussion: """
            For Prometheus itself:
              causeway metrics --listen 127.0.0.1:9834
            For node_exporter's textfile collector, or any other scraper:
              causeway metrics > /var/lib/prometheus/node-exporter/causeway.prom.new &&
                mv /var/lib/prometheus/node-exporter/causeway.prom{.new,}
            causeway_vbd_… and causeway_vif_… are a device's, as its backend counts, with the frontend's domain and name, the device's number
            and name, and what it is of; causeway_vbd_latency_seconds is how long requests took; what a disk failed is
            causeway_vbd_failures_total, by operation and errno; causeway_vif_drops_total what was dropped, by direction and reason;
            causeway_netfront_… an interface's, as its frontend counts; causeway_domain_… what a domain of a loopback host holds,
            causeway_host_… the host itself. causeway_up is 0 once a backend has died and left its socket, and the command then ends with 1.
            """)

    @OptionGroup var host: HostOptions
    @Option(
        help: ArgumentHelp(
            "Serves them at http://ADDRESS/metrics until interrupted: a port, 127.0.0.1:PORT or [::1]:PORT.", valueName: "address"))
    var listen: String?

    func run() throws {
        let directory = try host.directory()
        if let listen { return try serve(listen, directory) }
        let metrics = try HostMetrics(of: directory)
        for line in metrics.lines { printLine(line) }
        if let dead = StatusClient.complaint(metrics.dead, in: directory) { throw Failure("metrics: \(dead)") }
    }

    private func serve(_ text: String, _ directory: RunDirectory) throws {
        let address = try LoopbackAddress(text[...], port: MetricsServer.usualPort, hostless: true, subject: "--listen: \(text)")
        Signals.block(Signals.termination)
        let server = try MetricsServer(address) { () throws(Failure) in try HostMetrics(of: directory).lines }
        try onTermination { server.stop() }
        note("metrics: http://\(address.host):\(server.port)/metrics")
        server.run()
    }
}
