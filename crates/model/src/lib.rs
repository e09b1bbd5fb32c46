//! The nouns of the mesh as plain typed values. No I/O, no async, no clock, no wire format, no Kubernetes.
