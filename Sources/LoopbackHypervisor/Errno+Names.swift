import Glibc
import LinuxSystem

extension Errno {
    static var wouldBlock: Errno { Errno(EAGAIN) }
    static var tooManyReferences: Errno { Errno(ETOOMANYREFS) }
    static var processFileTableFull: Errno { Errno(EMFILE) }
    static var systemFileTableFull: Errno { Errno(ENFILE) }
}
