// swift-tools-version: 6.2
// libFuzzer targets for what peers write. A package of its own: sanitizers instrument it and the rooms below it, not the product.

import Foundation
import PackageDescription

let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()

func fuzzer(_ name: String, _ products: [String], _ targets: [String] = []) -> Target {
    .executableTarget(
        name: name,
        dependencies: ["FuzzSupport"] + targets.map { .target(name: $0) } + products.map { .product(name: $0, package: "causeway") },
        // libFuzzer brings its own main.
        swiftSettings: [.swiftLanguageMode(.v6), .unsafeFlags(["-parse-as-library"])])
}

var targets: [Target] = [
    .target(name: "FuzzSupport", swiftSettings: [.swiftLanguageMode(.v6)]),
    fuzzer("FuzzBlockRequest", ["SharedRing"]),
    fuzzer("FuzzRing", ["SharedRing"]),
    // The tests' own, by a link: a package's sources may not lie outside it.
    .target(name: "DumpWriter", swiftSettings: [.swiftLanguageMode(.v6)]),
    fuzzer("FuzzDump", ["XenTranslation"], ["DumpWriter"]),
    .target(
        name: "NetworkRig",
        dependencies: ["NetworkBackend", "NetworkFrontend", "InProcessHypervisor", "SharedRing"].map { .product(name: $0, package: "causeway") },
        swiftSettings: [.swiftLanguageMode(.v6)]),
    fuzzer("FuzzTransmit", ["NetworkBackend", "InProcessHypervisor", "SharedRing"], ["NetworkRig"]),
    fuzzer("FuzzReceive", ["NetworkBackend", "NetworkFrontend", "InProcessHypervisor", "SharedRing"], ["NetworkRig"]),
    fuzzer("FuzzControl", ["NetworkBackend", "InProcessHypervisor", "SharedRing"], ["NetworkRig"]),
]
if FileManager.default.fileExists(atPath: folder.appendingPathComponent("Sources/FuzzStore").path) {
    targets.append(fuzzer("FuzzStore", ["XenStore"]))
}

let package = Package(
    name: "causeway-fuzz",
    dependencies: [.package(name: "causeway", path: "../..")],
    targets: targets
)
