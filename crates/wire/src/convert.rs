//! `Entry` to `Any` and back: one pair of functions for both ends of the wire.
//!
//! [`encode`] always succeeds and gives the same bytes for the same entry. [`decode`] believes nothing:
//! what it cannot fully understand it refuses by name, and where that was a security resource it hands out
//! a stand-in that denies the target, so that an unknown word never opens a door.

mod address;
mod authorization;
mod common;
mod gateway;
mod policy;
mod process;
mod refused;
mod route;
mod type_url;

pub use common::Invalid;
pub(crate) use common::{namespaces_from_pb, namespaces_to_pb};
pub use refused::{Refused, deny_all};
pub use type_url::TypeUrl;

use crate::Any;
use crate::pb::{istio, lateen::v1 as pb};
use bytes::Bytes;
use common::Context;
use lateen_model::{Entry, PolicyKind, Resource, Scope, Str, Target};
use prost::Message;

/// What our decoder knows beyond the base of `lateen.v1`: the words that may stand in `requires`.
/// A release that gives an existing field or message a new meaning adds a word here and writes it there.
pub const KNOWN_REQUIREMENTS: &[&str] = &[];

/// The longest encoded resource that is taken in, in bytes.
pub const MAX_RESOURCE_BYTES: usize = 4 << 20;

/// An entry as it travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// The type it travels under.
    pub type_url: TypeUrl,
    /// Its name there.
    pub name: Str,
    /// The encoded message.
    pub bytes: Bytes,
}

impl Encoded {
    /// As `google.protobuf.Any`; the bytes are shared.
    pub fn to_any(&self) -> Any {
        Any { type_url: self.type_url.as_str().to_owned(), value: self.bytes.clone() }
    }
}

/// Encodes an entry. Its scope stays behind: it is the sender's affair.
pub fn encode(entry: &Entry) -> Encoded {
    match &entry.resource {
        Resource::Workload(workload) => {
            let address = istio::workload::address::Type::Workload(address::workload_to_pb(workload));
            encoded(
                TypeUrl::Address,
                workload.uid.clone(),
                &istio::workload::Address { r#type: Some(address) },
            )
        }
        Resource::Service(service) => {
            let message = address::service_to_pb(&entry.key, service);
            let address = istio::workload::address::Type::Service(message);
            let name = service.id().to_string().into();
            encoded(TypeUrl::Address, name, &istio::workload::Address { r#type: Some(address) })
        }
        Resource::Policy(policy) => {
            let message = policy::to_pb(&entry.key, policy);
            if let PolicyKind::Authorization(authorization) = &policy.kind
                && let Some(scope) = authorization::scope(&entry.key, policy)
            {
                let message = authorization::to_pb(
                    &entry.key,
                    scope,
                    authorization,
                    authorization::extension(&message),
                );
                let name = format!("{}/{}", message.namespace, message.name);
                encoded(TypeUrl::Authorization, name.into(), &message)
            } else {
                keyed(TypeUrl::Policy, entry, &message)
            }
        }
        Resource::Mesh(mesh) => keyed(TypeUrl::Mesh, entry, &gateway::mesh_to_pb(&entry.key, mesh)),
        Resource::Gateway(gateway) => {
            keyed(TypeUrl::Gateway, entry, &gateway::gateway_to_pb(&entry.key, gateway))
        }
        Resource::Credential(credential) => {
            keyed(TypeUrl::Credential, entry, &gateway::credential_to_pb(&entry.key, credential))
        }
        Resource::Route(route) => keyed(TypeUrl::Route, entry, &route::to_pb(&entry.key, route)),
        Resource::Process(process) => keyed(TypeUrl::Process, entry, &process::to_pb(&entry.key, process)),
    }
}

/// As [`encode`], but in the form of a dump, which is for people: an authorization as our own policy alone,
/// and a credential without its private key.
pub(crate) fn encode_for_dump(entry: &Entry) -> Encoded {
    match &entry.resource {
        Resource::Policy(policy) => keyed(TypeUrl::Policy, entry, &policy::to_pb(&entry.key, policy)),
        Resource::Credential(credential) => {
            let mut message = gateway::credential_to_pb(&entry.key, credential);
            message.private_key.clear();
            keyed(TypeUrl::Credential, entry, &message)
        }
        _ => encode(entry),
    }
}

fn keyed(type_url: TypeUrl, entry: &Entry, message: &impl Message) -> Encoded {
    encoded(type_url, entry.key.to_string().into(), message)
}

fn encoded(type_url: TypeUrl, name: Str, message: &impl Message) -> Encoded {
    Encoded { type_url, name, bytes: message.encode_to_vec().into() }
}

/// Decodes what travelled under a type and a name. The scope is `Everyone`: who holds it was meant.
///
/// # Errors
/// A [`Refused`] that names the resource, when the bytes are no such message, are too many, ask for
/// knowledge this release does not have, or hold anything the model cannot.
pub fn decode(type_url: TypeUrl, name: &str, bytes: Bytes) -> Result<Entry, Refused> {
    decode_sent(type_url, Sent::Named(name), bytes)
}

/// Decodes an item of a dump, which has no name beside what it says of itself.
pub(crate) fn decode_from_dump(type_url: TypeUrl, place: &str, bytes: Bytes) -> Result<Entry, Refused> {
    decode_sent(type_url, Sent::At(place), bytes)
}

/// How a resource came: under a name that it must bear, or from a place.
#[derive(Clone, Copy)]
enum Sent<'a> {
    Named(&'a str),
    At(&'a str),
}

impl Sent<'_> {
    fn as_str(&self) -> &str {
        let (Self::Named(text) | Self::At(text)) = self;
        text
    }

    /// A resource must be what it is sent as, or one could take another's place.
    fn check(self, written: &str) -> Result<(), Invalid> {
        match self {
            Self::Named(sent) if sent != written => {
                let written: String = written.chars().take(256).collect();
                Err(Invalid::new(format!("names itself {written:?}")))
            }
            Self::Named(_) | Self::At(_) => Ok(()),
        }
    }
}

fn decode_sent(type_url: TypeUrl, sent: Sent<'_>, bytes: Bytes) -> Result<Entry, Refused> {
    match type_url {
        TypeUrl::Authorization | TypeUrl::Policy => decode_policy(type_url, sent, bytes),
        _ => decode_plain(type_url, sent, bytes).map_err(|why| Refused::plain(type_url, sent.as_str(), &why)),
    }
}

fn decode_plain(type_url: TypeUrl, sent: Sent<'_>, bytes: Bytes) -> Result<Entry, Invalid> {
    let context = Context::default();
    let (key, resource) = match type_url {
        TypeUrl::Address => {
            use istio::workload::address::Type;
            match parse::<istio::workload::Address>(bytes)?.r#type {
                Some(Type::Workload(workload)) => {
                    let (key, workload) = address::workload_from_pb(workload)?;
                    sent.check(&workload.uid)?;
                    return Ok(entry(key, Resource::Workload(workload)));
                }
                Some(Type::Service(service)) => {
                    let (key, service) = address::service_from_pb(service)?;
                    sent.check(&service.id().to_string())?;
                    return Ok(entry(key, Resource::Service(service)));
                }
                None => return Err(Invalid::new("type is not set or not known")),
            }
        }
        TypeUrl::Mesh => gateway::mesh_from_pb(parse::<pb::Mesh>(bytes)?)?,
        TypeUrl::Gateway => gateway::gateway_from_pb(parse::<pb::Gateway>(bytes)?)?,
        TypeUrl::Credential => gateway::credential_from_pb(parse::<pb::Credential>(bytes)?)?,
        TypeUrl::Route => route::from_pb(&context, parse::<pb::Route>(bytes)?)?,
        TypeUrl::Process => process::from_pb(parse::<pb::Process>(bytes)?)?,
        TypeUrl::Authorization | TypeUrl::Policy | TypeUrl::Revision => {
            return Err(Invalid::new("not a resource of this kind"));
        }
    };
    sent.check(&key.to_string())?;
    Ok(entry(key, resource))
}

fn decode_policy(type_url: TypeUrl, sent: Sent<'_>, bytes: Bytes) -> Result<Entry, Refused> {
    let name = sent.as_str();
    let garbled = |why: Invalid| Refused::security(type_url, name, &why, None, Target::Mesh);
    if type_url == TypeUrl::Policy {
        let message = parse::<pb::Policy>(bytes).map_err(garbled)?;
        let result = policy::from_pb(&Context::default(), &message)
            .and_then(|(key, policy)| sent.check(&key.to_string()).map(|()| (key, policy)));
        return match result {
            Ok((key, policy)) => Ok(entry(key, Resource::Policy(policy))),
            Err(why) => Err(refused::policy(type_url, name, &why, &message)),
        };
    }
    let message = parse::<istio::security::Authorization>(bytes).map_err(garbled)?;
    let extension = authorization::find_extension(&message).map_err(garbled)?;
    let written = format!("{}/{}", message.namespace, message.name);
    let result = match &extension {
        Some(policy) => policy::from_pb(&Context::default(), policy),
        None => authorization::from_pb(&message),
    };
    let refuse = |why: &Invalid| match &extension {
        Some(policy) => refused::policy(type_url, name, why, policy),
        None => refused::authorization(type_url, name, why, &message),
    };
    match result.and_then(|found| sent.check(&written).map(|()| found)) {
        Ok((key, policy)) => Ok(entry(key, Resource::Policy(policy))),
        Err(why) => Err(refuse(&why)),
    }
}

fn entry(key: lateen_model::Key, resource: Resource) -> Entry {
    Entry { key, scope: Scope::Everyone, resource }
}

fn parse<M: Message + Default>(bytes: Bytes) -> Result<M, Invalid> {
    if bytes.len() > MAX_RESOURCE_BYTES {
        return Err(Invalid::new(format!("{} bytes are more than {MAX_RESOURCE_BYTES}", bytes.len())));
    }
    M::decode(bytes).map_err(|error| Invalid::new(format!("not a message of its type: {error}")))
}

#[cfg(test)]
mod tests;
