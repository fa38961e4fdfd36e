// swift-tools-version: 6.2
// Micro-benchmarks of single modules, each beside a reference in C. A package of its own: nothing here is part of the
// product.

import PackageDescription

let package = Package(
    name: "causeway-bench",
    dependencies: [.package(name: "causeway", path: "../..")],
    targets: [
        .target(name: "CRingMacros"),
        .executableTarget(
            name: "ring-bench", dependencies: ["CRingMacros", .product(name: "SharedRing", package: "causeway")],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .executableTarget(
            name: "virtio-bench",
            dependencies: [.product(name: "VirtioModel", package: "causeway"), .product(name: "VirtioRing", package: "causeway")],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .executableTarget(
            name: "pair-bench",
            dependencies: [
                .product(name: "BlockBackend", package: "causeway"), .product(name: "BlockFrontend", package: "causeway"),
                .product(name: "InProcess", package: "causeway"), .product(name: "Toolstack", package: "causeway"),
            ], swiftSettings: [.swiftLanguageMode(.v6)]),
        .target(name: "CTree"),
        .executableTarget(
            name: "translate-bench", dependencies: ["CTree", .product(name: "XenTranslation", package: "causeway")],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .executableTarget(
            name: "ring-litmus", dependencies: [.product(name: "SharedRing", package: "causeway")],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .target(name: "CVhost"),
        .executableTarget(
            name: "vhost-bench",
            dependencies: [
                "CVhost", .product(name: "LinuxSystem", package: "causeway"), .product(name: "VirtioRing", package: "causeway"),
            ], swiftSettings: [.swiftLanguageMode(.v6)]),
        .executableTarget(
            name: "virtio-litmus", dependencies: [.product(name: "VirtioRing", package: "causeway")],
            swiftSettings: [.swiftLanguageMode(.v6)]),
    ]
)
