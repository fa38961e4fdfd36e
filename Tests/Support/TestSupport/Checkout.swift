// Where this checkout is, for tests of scripts, headers and examples.

import Foundation

/// This checkout.
public enum Checkout {
    /// The folder that Package.swift is in.
    public static let root: String = {
        var folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        while !FileManager.default.fileExists(atPath: folder.appendingPathComponent("Package.swift").path), folder.path != "/" {
            folder.deleteLastPathComponent()
        }
        return folder.path
    }()
}
