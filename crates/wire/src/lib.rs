//! How planes talk: protobuf, model to protobuf and back, delta-xDS sessions, certificate requests.
