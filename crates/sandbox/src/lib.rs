//! One machine as a cluster: each process in a network namespace of its own, with an address, a name and an identity.
