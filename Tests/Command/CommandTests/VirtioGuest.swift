// A guest with Debian's own virtio drivers, for the tests that boot one.

import TestSupport

enum VirtioGuest {
    /// Where its kernel and root file system are; made once.
    static let directory = Result {
        let directory = "\(Tools.buildDirectory)/guest"
        let outcome = try RunningProcess.run(
            ["\(Checkout.root)/tools/guest/prepare", directory], in: try Scratch(), seconds: 300)
        guard outcome.status == 0 else { throw TestFailure("\(outcome)") }
        return directory
    }

    /// What boots it, for a shell: the file `script` of a directory is run in it, with QEMU's arguments of `$qemu`.
    static func command(in path: String) throws -> String {
        "\(Checkout.root)/tools/guest/run \(try directory.get()) \"$(cat \(path)/script)\" $qemu"
    }
}
