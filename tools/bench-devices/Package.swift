// swift-tools-version: 6.2
// The device side alone, beside fio: what a disk costs before any ring or second process comes on top.

import PackageDescription

let package = Package(
    name: "causeway-bench-devices",
    dependencies: [.package(name: "causeway", path: "../..")],
    targets: [
        .executableTarget(
            name: "bench-devices",
            dependencies: [.product(name: "BlockDevices", package: "causeway"), .product(name: "NVMe", package: "causeway")],
            swiftSettings: [.swiftLanguageMode(.v6)])
    ]
)
