//! How a process of ours lives: workers, snapshots, drain, readiness, sockets, logs, metrics. Knows nothing of meshes.
