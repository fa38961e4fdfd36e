// Which image, in which cluster, by whose right.

/// An image's place in a cluster.
package struct RBDPlace: Sendable, Equatable {
    /// The pool.
    package var pool: String
    /// The namespace within it; empty: the pool's own.
    package var nameSpace: String
    /// The image.
    package var image: String
    /// Which of its snapshots; empty: the image as it is now.
    package var snapshot: String
    /// Whose key is used, without `client.`.
    package var user: String
    /// The cluster's configuration; nil: where Ceph looks for it.
    package var configuration: String?
    /// More options of that configuration, in their order.
    package var options: [Option]

    /// One option of a cluster's configuration.
    package struct Option: Sendable, Equatable {
        /// Ceph's name for it.
        package var name: String
        /// As Ceph reads it.
        package var value: String

        /// As given.
        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// As given.
    package init(
        pool: String, nameSpace: String = "", image: String, snapshot: String = "", user: String = "admin",
        configuration: String? = nil, options: [Option] = []
    ) {
        self.pool = pool
        self.nameSpace = nameSpace
        self.image = image
        self.snapshot = snapshot
        self.user = user
        self.configuration = configuration
        self.options = options
    }
}
