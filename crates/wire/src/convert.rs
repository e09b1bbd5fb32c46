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

/// As [`encode`], but an authorization as our own policy alone: the form of a dump, which is for people.
pub(crate) fn encode_for_dump(entry: &Entry) -> Encoded {
    match &entry.resource {
        Resource::Policy(policy) => keyed(TypeUrl::Policy, entry, &policy::to_pb(&entry.key, policy)),
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
    let entry = match type_url {
        TypeUrl::Authorization | TypeUrl::Policy => return decode_policy(type_url, name, bytes),
        _ => decode_plain(type_url, name, bytes),
    };
    entry.map_err(|why| Refused::plain(type_url, name, &why))
}

fn decode_plain(type_url: TypeUrl, name: &str, bytes: Bytes) -> Result<Entry, Invalid> {
    let context = Context::default();
    let (key, resource) = match type_url {
        TypeUrl::Address => {
            use istio::workload::address::Type;
            match parse::<istio::workload::Address>(bytes)?.r#type {
                Some(Type::Workload(workload)) => {
                    let (key, workload) = address::workload_from_pb(workload)?;
                    same_name(name, &workload.uid)?;
                    return Ok(entry(key, Resource::Workload(workload)));
                }
                Some(Type::Service(service)) => {
                    let (key, service) = address::service_from_pb(service)?;
                    same_name(name, &service.id().to_string())?;
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
    same_name(name, &key.to_string())?;
    Ok(entry(key, resource))
}

fn decode_policy(type_url: TypeUrl, name: &str, bytes: Bytes) -> Result<Entry, Refused> {
    let garbled = |why: Invalid| Refused::security(type_url, name, &why, None, Target::Mesh);
    if type_url == TypeUrl::Policy {
        let message = parse::<pb::Policy>(bytes).map_err(garbled)?;
        let result = policy::from_pb(&Context::default(), &message)
            .and_then(|(key, policy)| same_name(name, &key.to_string()).map(|()| (key, policy)));
        return match result {
            Ok((key, policy)) => Ok(entry(key, Resource::Policy(policy))),
            Err(why) => Err(refused::policy(type_url, name, &why, &message)),
        };
    }
    let message = parse::<istio::security::Authorization>(bytes).map_err(garbled)?;
    let extension = authorization::find_extension(&message).map_err(garbled)?;
    let written = format!("{}/{}", message.namespace, message.name);
    let (result, refuse): (_, Box<dyn Fn(&Invalid) -> Refused>) = match &extension {
        Some(policy) => (
            policy::from_pb(&Context::default(), policy),
            Box::new(|why| refused::policy(type_url, name, why, policy)),
        ),
        None => (
            authorization::from_pb(&message),
            Box::new(|why| refused::authorization(type_url, name, why, &message)),
        ),
    };
    match result.and_then(|found| same_name(name, &written).map(|()| found)) {
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

/// A resource must be what it is sent as, or one could take another's place.
fn same_name(sent: &str, written: &str) -> Result<(), Invalid> {
    if sent == written {
        return Ok(());
    }
    Err(Invalid::new(format!("names itself {:?}", written.chars().take(256).collect::<String>())))
}

#[cfg(test)]
mod tests;
