//! `Any`: `google.protobuf.Any` over shared bytes.

use bytes::Bytes;

/// `google.protobuf.Any` whose value is shared, so that one encoding serves every proxy.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Any {
    /// `type.googleapis.com/` and the full name of the message.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}
