// libcauseway-translation as its users meet it: a C program, a Python script, and a C program that does everything
// wrong.

import DumpWriter
import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("libcauseway-translation") struct TranslationLibrary {
        private let scratch: Scratch
        private let root = Checkout.root
        private var library: String { "\(Tools.buildDirectory)/libcauseway-translation.so" }

        init() throws { scratch = try Scratch() }

        private func dump(
            _ entries: [(pfn: UInt64, frame: UInt64)?], _ kind: DumpWriter.Kind = .paravirtual, name: String = "guest.core"
        ) throws -> String {
            let path = "\(scratch.path)/\(name)"
            try Foundation.Data(DumpWriter(kind, entries).write().bytes).write(to: URL(fileURLWithPath: path))
            return path
        }

        /// Builds a C program against the library in the build directory.
        private func compile(_ source: String) throws -> String {
            let program = "\(scratch.path)/program"
            let outcome = try RunningProcess.run(
                [
                    "cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-o", program, "\(root)/\(source)",
                    "-I\(root)/Sources/Exports/CCausewayTranslation",
                    "-L\(Tools.buildDirectory)", "-lcauseway-translation", "-pthread", "-Wl,-rpath,\(Tools.buildDirectory)",
                ], in: scratch)
            guard outcome.status == 0 else { throw TestFailure("cc: \(outcome.errors)") }
            return program
        }

        private let said = """
            0x104123 is frame 0x2a004 + 0x123, 12 pages in a row, rw
            frame 0x2a004 is pfn 0x104
            pfn 0x200 is foreign
              pfn 0xfe for 2 pages: nothing
              pfn 0x100 for 16 pages: mapped
              pfn 0x110 for 1 pages: mapped
              pfn 0x111 for 13 pages: nothing
            answers from before may be wrong
            the device wrote 20000 bytes in its 32 bits; some were bounced; the page has 'xd'
            iova + 0x1005 is address 0x2a001005
            fault at the mapping: write denied
            fault at the mapping: not mapped

            """

        @Test("the C example") func cExample() throws {
            let program = try compile("Examples/translation/translation.c")
            let path = try dump([(5, 0x99), (6, 0x77)])
            let outcome = try RunningProcess.run([program, path], in: scratch)
            #expect(outcome.status == 0, "\(outcome)")
            #expect(outcome.output == said + "\(path): PV, 2 pages, 0 findings\npfn 0x5 is frame 0x99, its first byte 0x00\n")
            let broken = try RunningProcess.run([program, "\(root)/Package.swift"], in: scratch)
            #expect(
                broken.status == 1 && broken.errors.hasSuffix("Package.swift: ELF header, offset 0x0: not an ELF file\n"),
                "\(broken)")
        }

        @Test("the Python example") func pythonExample() throws {
            let path = try dump([(0x40, 0), (0x41, 0)], .autoTranslated)
            let outcome = try RunningProcess.run(
                ["python3", "\(root)/Examples/translation/translation.py", path], environment: packageEnvironment, in: scratch)
            #expect(
                outcome.status == 0
                    && outcome.output == """
                        0x104123 is frame 0x2a004 + 0x123, 12 pages in a row, local
                        frame 0x2a004 is pfn 0x104
                        5 scattered pages behind the IOMMU: 1 segment of 20480 bytes
                        iova + 0x1005 is address 0x2a001005
                        \(path): auto-translated, 2 pages, 0 findings
                        pfn 0x40 is frame 0x40, its first byte 0x00

                        """,
                "\(outcome)")
        }

        /// Where Python finds the package, and that the library.
        private var packageEnvironment: [String: String] {
            ["PYTHONPATH": "\(root)/Python", "CAUSEWAY_TRANSLATION_LIBRARY": library, "PYTHONDONTWRITEBYTECODE": "1"]
        }

        @Test("the Python package has every function of the header, and holds what the library needs") func pythonPackage() throws {
            let broken = "\(scratch.path)/broken.core"
            try Foundation.Data([1, 2, 3]).write(to: URL(fileURLWithPath: broken))
            let outcome = try RunningProcess.run(
                [
                    "python3", "\(root)/Tests/Exports/TranslationLibrary/package.py",
                    "\(root)/Sources/Exports/CCausewayTranslation/causeway_translation.h",
                    try dump([(1, 10), (2, 11), (3, 10)]), broken,
                ], environment: packageEnvironment, in: scratch)
            #expect(outcome.status == 0 && outcome.output.isEmpty && outcome.errors.isEmpty, "\(outcome)")
            // One that is not there is said in a line that names it.
            let lost = try RunningProcess.run(
                ["python3", "-c", "import causeway_translation"],
                environment: packageEnvironment.merging(["CAUSEWAY_TRANSLATION_LIBRARY": "/nowhere.so"]) { $1 }, in: scratch)
            #expect(lost.status == 1 && lost.errors.contains("ImportError: /nowhere.so"), "\(lost)")
        }

        @Test("the example of a device's memory") func deviceExample() throws {
            let program = try compile("Examples/translation/device.c")
            let outcome = try RunningProcess.run([program], in: scratch)
            #expect(
                outcome.status == 0
                    && outcome.output == """
                        driver: 1048576 bytes registered
                        a buffer of 8192 bytes: 8192 in a row
                        refused: 4096 bytes would have to be locked in memory, and 0 of 1048576 bytes are left (ulimit -l)
                        driver: 1048576 bytes withdrawn
                        found afterwards: no

                        """,
                "\(outcome)")
            let lost = try RunningProcess.run([program, "vfio-type1:/dev/vfio/none"], in: scratch)
            #expect(lost.status == 1 && lost.errors.contains("No such file or directory"), "\(lost)")
        }

        @Test("a device's space: fixed addresses, budget, files, dirty pages, 57 bits") func space() throws {
            let program = try compile("Tests/Exports/TranslationLibrary/space.c")
            let outcome = try RunningProcess.run([program, "software"], in: scratch)
            #expect(outcome.status == 0 && outcome.output.isEmpty, "\(outcome)")
        }

        @Test(
            "memory that its owner unmaps, moves or discards is withdrawn from the devices first, without rights too",
            arguments: [[], ["uid"]])
        func registry(as user: [String]) throws {
            // Another user runs it: the directory is nobody's but ours.
            let program = try compile("Tests/Exports/TranslationLibrary/registry.c")
            let outcome = try RunningProcess.run([program] + (geteuid() == 0 ? user : []), in: scratch)
            #expect(outcome.status == 0 && outcome.output.isEmpty, "\(outcome)")
        }

        @Test("every misuse is answered, and nothing ends the process") func misuse() throws {
            let program = try compile("Tests/Exports/TranslationLibrary/misuse.c")
            let broken = "\(scratch.path)/broken.core"
            try Foundation.Data([1, 2, 3]).write(to: URL(fileURLWithPath: broken))
            let outcome = try RunningProcess.run([program, try dump([(1, 10), (2, 11), (3, 10)]), broken], in: scratch)
            #expect(outcome.status == 0 && outcome.output.isEmpty, "\(outcome)")
        }

        @Test("the header is C++ too, and the library exports what it declares") func symbols() throws {
            let header = try String(
                contentsOfFile: "\(root)/Sources/Exports/CCausewayTranslation/causeway_translation.h", encoding: .utf8)
            let declared = Set(header.matches(of: /\b(causeway_[a-z_]+)\(/).map { String($0.1) })
            let table = try RunningProcess.run(["nm", "-D", "--defined-only", library], in: scratch)
            let exported = Set(
                table.output.split(separator: "\n").compactMap { $0.split(separator: " ").last.map(String.init) }.filter {
                    $0.hasPrefix("causeway_")
                })
            #expect(declared.count > 40 && declared.isSubset(of: exported), "\(declared.subtracting(exported))")
            // The installed library shows these and no others.
            let map = try String(contentsOfFile: "\(root)/Packaging/causeway-translation.map", encoding: .utf8)
            let shown = map.matches(of: /causeway_[a-z_]+/).map { String($0.0) }
            #expect(declared.allSatisfy { name in shown.contains { name.hasPrefix($0) } }, "\(shown)")
            let cxx = "\(scratch.path)/x.cc"
            try "#include <causeway_translation.h>\nint main() { return causeway_translation_version() == 0; }\n".write(
                toFile: cxx, atomically: true, encoding: .utf8)
            let outcome = try RunningProcess.run(
                ["c++", "-Wall", "-Werror", "-fsyntax-only", "-I\(root)/Sources/Exports/CCausewayTranslation", cxx], in: scratch)
            #expect(outcome.status == 0, "\(outcome.errors)")
        }
    }
}
