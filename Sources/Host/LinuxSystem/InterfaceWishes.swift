// What the users of an interface want it to do itself (checksums, segmentation), as `ethtool -K` has it.

import CLinux

/// An administrator's wishes, taken down to be put back after something that overwrites them.
package struct InterfaceWishes: Sendable {
    private var features = causeway_features()

    /// The wishes for an interface, those too that cannot be fulfilled now; nil where it has none.
    package init?(of name: String) {
        // SAFETY: the name is read and the structure filled in during the call.
        guard unsafe causeway_interface_features(name, &features) == 0 else { return nil }
    }

    /// Wishes for the same again. Who may not has changed nothing by it.
    package func restore(on name: String) {
        var features = features
        // SAFETY: both are only read, during the call.
        _ = unsafe causeway_interface_want_features(name, &features)
    }
}
