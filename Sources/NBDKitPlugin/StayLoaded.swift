// nbdkit unloads a plugin before it exits. Threads of ours that still wind down (the hypervisor's listener, the Swift runtime's own)
// would then run code that is no longer mapped.

import CLinux

/// Keeps this library mapped until the process ends.
func stayLoaded() {
    // SAFETY: an address within this library; it is only looked up.
    _ = unsafe causeway_stay_loaded(#dsohandle)
}
