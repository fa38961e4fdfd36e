// The one place that says which version this is: `causeway --version` prints it, and the Makefile reads this line for
// the manual page and for pkg-config (`make version` shows what it read).

/// Major, minor, patch, as in https://semver.org. The C library's interface has a number of its own, in
/// causeway_translation.h.
let causewayVersion = "1.0.0"
