// A host and a backend as processes, for a benchmark whose frontends are in this one.

import CommandSupport
import LinuxSystem
import XenStore

/// Both processes, and a connection to their store.
final class BenchHost {
    let run: RunDirectory
    let backend: ChildProcess
    let store: StoreClient
    private let host: ChildProcess

    /// Starts them.
    /// - Parameter arguments: the backend's.
    init(in directory: PairDirectory, backend arguments: [String]) throws(Failure) {
        run = directory.run
        let host = try ChildProcess.startHost(in: run)
        do throws(Failure) {
            backend = try ChildProcess.startRole(["backend"] + arguments, in: run)
            do throws(Failure) { store = try run.connectStore() } catch {
                backend.stop(milliseconds: 1000)
                throw error
            }
        } catch {
            host.stop(milliseconds: 1000)
            throw error
        }
        self.host = host
    }

    /// Ends both.
    func end() {
        store.close()
        backend.stop(milliseconds: 5000)
        host.stop(milliseconds: 5000)
    }
}
