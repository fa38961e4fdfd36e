// What Prometheus and Grafana are given: metrics in its form, rules that fire when they should, and no name that nobody
// tells.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("monitoring") struct Monitoring {
        private static let folder = Checkout.root + "/Packaging/monitoring"
        /// Told only once something has failed.
        private static let rare = ["causeway_vbd_failures_total"]

        @Test("promtool has nothing to say of what metrics serves; rules and dashboard use no other names")
        func names() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let vifs = Tools.isRoot ? ["mac=00:16:3e:01:02:09"] : []
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], vifs: vifs, in: scratch)
            let server = try RunningProcess(
                [Tools.causeway, "metrics", "--listen", "0"], environment: pair.environment, in: scratch)
            defer { kill(server.pid, SIGKILL) }
            #expect(eventually(10_000) { server.errors.contains("/metrics\n") })
            let address = try #require(server.errors.firstMatch(of: /http:[^\n]+/)).output
            let told = try RunningProcess.run(["curl", "-sS", "-D", "\(scratch.path)/head", String(address)], in: scratch)
            #expect(told.status == 0, "\(told)")
            let head = try String(contentsOfFile: "\(scratch.path)/head", encoding: .utf8)
            #expect(head.hasPrefix("HTTP/1.1 200 OK\r\n") && head.contains("Content-Type: text/plain; version=0.0.4"), "\(head)")
            let elsewhere = try RunningProcess.run(["curl", "-sSi", String(address.dropLast())], in: scratch)
            #expect(elsewhere.output.hasPrefix("HTTP/1.1 404 "), "\(elsewhere)")
            try Foundation.Data(told.output.utf8).write(to: URL(filePath: "\(scratch.path)/metrics"))
            let checked = try RunningProcess.run(["sh", "-c", "promtool check metrics <\(scratch.path)/metrics"], in: scratch)
            #expect(checked.status == 0 && checked.output.isEmpty && checked.errors.isEmpty, "\(checked)")
            let known = Set(told.output.matches(of: /causeway_[a-z_]+/).map { String($0.output) } + Self.rare)
            for file in ["causeway.rules.yml", "grafana-dashboard.json"] {
                let text = try String(contentsOfFile: "\(Self.folder)/\(file)", encoding: .utf8)
                let used = text.matches(of: /causeway_(vbd|vif|host|domain|up|build)[a-z_]*/).map { String($0.output.0) }
                #expect(used.count >= 8)
                for name in used where Tools.isRoot || !name.contains("_vif_") { #expect(known.contains(name), "\(file): \(name)") }
            }
            // Whoever says half a request holds up the others for two seconds, and no longer however slowly it goes on.
            let port = try #require(address.firstMatch(of: /:([0-9]+)\//)).1
            let slow = try RunningProcess(
                ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/\(port); while printf x >&3; do sleep 0.3; done"], in: scratch)
            defer { kill(slow.pid, SIGKILL) }
            sleepMilliseconds(300)
            let patient = try RunningProcess.run(["curl", "-sS", "-m", "8", String(address)], in: scratch)
            #expect(patient.status == 0 && patient.output.contains("causeway_up 1\n"), "\(patient)")
            // It ends when it is asked to, whoever is connected.
            kill(server.pid, SIGTERM)
            #expect(server.wait(seconds: 10)?.status == 0)
            #expect(pair.stop()?.status == 0)
        }

        @Test("the rules make sense to promtool, and fire when a backend is dead and when a disk fails, and not before")
        func rules() throws {
            let scratch = try Scratch()
            let checked = try RunningProcess.run(["promtool", "check", "rules", "\(Self.folder)/causeway.rules.yml"], in: scratch)
            #expect(checked.status == 0 && checked.output.contains("6 rules found"), "\(checked)")
            let path = "\(scratch.path)/test.yml"
            try Foundation.Data(Self.scenario.replacing("RULES", with: "\(Self.folder)/causeway.rules.yml").utf8).write(
                to: URL(filePath: path))
            let tested = try RunningProcess.run(["promtool", "test", "rules", path], in: scratch)
            #expect(tested.status == 0, "\(tested)")
        }

        private static let scenario = """
            rule_files: [RULES]
            evaluation_interval: 5s
            tests:
              - interval: 5s
                input_series:
                  - {series: 'causeway_up{instance="a"}', values: '1x6 0x20'}
                  - {series: 'causeway_vbd_failures_total{instance="a",guest="g",vdev="xvda",target="t",operation="write",errno="EIO"}', values: '0x6 0+1x20'}
                alert_rule_test:
                  - {eval_time: 30s, alertname: CausewayBackendDead}
                  - eval_time: 60s
                    alertname: CausewayBackendDead
                    exp_alerts:
                      - exp_labels: {severity: critical, instance: a}
                        exp_annotations:
                          summary: "A backend on a has died, and nobody has begun in its place"
                          description: "Its guests' requests wait. Begin it again (systemctl status causeway-backend): it goes on where it was."
                  - {eval_time: 30s, alertname: CausewayDiskFails}
                  - eval_time: 60s
                    alertname: CausewayDiskFails
                    exp_alerts:
                      - exp_labels: {severity: warning, instance: a, guest: g, vdev: xvda, target: t, operation: write, errno: EIO}
                        exp_annotations: {summary: "g/xvda: write fails with EIO", description: "The disk is t."}
            """
    }
}
