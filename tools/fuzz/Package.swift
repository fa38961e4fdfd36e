// swift-tools-version: 6.2
// libFuzzer targets for what peers write. A package of its own: sanitizers instrument it and the modules below it, not
// the product.

import Foundation
import PackageDescription

let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()

func fuzzer(_ name: String, _ products: [String], _ targets: [String] = []) -> Target {
    .executableTarget(
        name: name,
        dependencies: ["FuzzSupport"] + targets.map { .target(name: $0) }
            + products.map { .product(name: $0, package: "causeway") },
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
    fuzzer("FuzzTranslation", ["XenTranslation"]),
    .target(
        name: "NetworkRig",
        dependencies: ["NetworkBackend", "NetworkFrontend", "InProcess", "SharedRing"].map {
            .product(name: $0, package: "causeway")
        },
        swiftSettings: [.swiftLanguageMode(.v6)]),
    .target(
        name: "VirtioRig",
        dependencies: ["FuzzSupport"] + ["VirtioModel", "VirtioRing"].map { .product(name: $0, package: "causeway") },
        swiftSettings: [.swiftLanguageMode(.v6)]),
    fuzzer("FuzzSplitRing", ["VirtioModel", "VirtioRing"], ["VirtioRig"]),
    fuzzer("FuzzPackedRing", ["VirtioModel", "VirtioRing"], ["VirtioRig"]),
    fuzzer("FuzzVhostSession", ["VhostUser"]),
    fuzzer("FuzzDeviceState", ["DeviceState"]),
    fuzzer("FuzzVirtioBlock", ["VirtioModel", "VirtioBlock"], ["VirtioRig"]),
    fuzzer("FuzzNVMe", ["NVMe", "NVMeModel"]),
    fuzzer("FuzzNBD", ["NBDServer", "BlockBackend", "DeviceBus", "InProcess", "SharedRing", "Toolstack"]),
    fuzzer("FuzzVirtioNetwork", ["VirtioModel", "VirtioNetwork"], ["VirtioRig"]),
    fuzzer("FuzzTransmit", ["NetworkBackend", "InProcess", "SharedRing"], ["NetworkRig"]),
    fuzzer("FuzzReceive", ["NetworkBackend", "NetworkFrontend", "InProcess", "SharedRing"], ["NetworkRig"]),
    fuzzer("FuzzControl", ["NetworkBackend", "InProcess", "SharedRing"], ["NetworkRig"]),
    fuzzer("FuzzHost", ["Loopback", "LinuxSystem", "SharedRing", "XenStore"]),
]
if FileManager.default.fileExists(atPath: folder.appendingPathComponent("Sources/FuzzStore").path) {
    targets.append(fuzzer("FuzzStore", ["XenStore"]))
}

let package = Package(
    name: "causeway-fuzz",
    dependencies: [.package(name: "causeway", path: "../..")],
    targets: targets
)
