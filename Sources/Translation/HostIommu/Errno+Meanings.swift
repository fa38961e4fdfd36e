// The errors that mean something here.

import Glibc
import LinuxSystem

extension Errno {
    static var invalid: Errno { Errno(EINVAL) }
    static var overflow: Errno { Errno(EOVERFLOW) }
    static var messageSize: Errno { Errno(EMSGSIZE) }
    static var notTTY: Errno { Errno(ENOTTY) }
}
