//! The asking side of one conversation; it lives on when the connection does not.

use super::{MARK, MAX_NAMES, MAX_REFUSALS, ProtocolError, cut};
use crate::Any;
use crate::convert::{self, Refused, TypeUrl};
use crate::pb::envoy::config::core::v3::Node;
use crate::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use crate::pb::google::rpc;
use crate::pb::lateen::v1 as pb;
use lateen_model::{Delta, Entry, Key, ProxyRole, Revision, Str, role_needs};
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The version that is told of a resource that was refused: none, so that it is sent again.
const NO_VERSION: &str = "refused";

/// One state as a whole: what changed since the batch before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// What changed, in the order in which it should be taken. Stand-ins for refused security resources
    /// are in it.
    pub delta: Delta,
    /// The state that is now complete.
    pub revision: Revision,
    /// All that is refused at this state.
    pub refused: Vec<Refused>,
}

/// What came of a response.
#[derive(Debug)]
pub struct Received {
    /// To be sent back: the acknowledgement.
    pub reply: DeltaDiscoveryRequest,
    /// The batch that the response closed. It is handed out once; hold it before the reply is sent.
    pub batch: Option<Batch>,
}

/// What is held, and what was collected since the last mark.
pub struct ClientSession {
    types: Vec<TypeUrl>,
    held: BTreeMap<TypeUrl, HashMap<Str, Held>>,
    /// Under which name a key is held now: when a service changes its host name, the new name comes and the
    /// old one goes, in any order.
    owners: HashMap<Key, (TypeUrl, Str)>,
    pending: HashMap<Key, Option<Arc<Entry>>>,
    refused: BTreeMap<(TypeUrl, Str), Refused>,
}

struct Held {
    version: String,
    /// None when it was refused and nothing stands in for it.
    key: Option<Key>,
}

impl ClientSession {
    /// A conversation about all that a proxy of this role needs.
    pub fn new(role: ProxyRole) -> Self {
        let needs = |type_url: &TypeUrl| {
            *type_url == TypeUrl::Revision || type_url.kinds().iter().any(|kind| role_needs(role, *kind))
        };
        Self {
            types: TypeUrl::SHIPPED.into_iter().filter(needs).collect(),
            held: BTreeMap::new(),
            owners: HashMap::new(),
            pending: HashMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// The first messages on a new connection: what is asked for, and what is held already. The mark is asked
    /// for last, so that no batch is closed before all types were asked for.
    pub fn connect(&self, node: Node) -> Vec<DeltaDiscoveryRequest> {
        let mut node = Some(node);
        let ask = |type_url: &TypeUrl| {
            let held = self.held.get(type_url);
            let versions =
                held.into_iter().flatten().map(|(name, held)| (name.to_string(), held.version.clone()));
            DeltaDiscoveryRequest {
                node: node.take(),
                type_url: type_url.as_str().to_owned(),
                resource_names_subscribe: vec!["*".to_owned()],
                initial_resource_versions: versions.collect(),
                ..Default::default()
            }
        };
        self.types.iter().map(ask).collect()
    }

    /// Takes in a response. A resource that cannot be taken is refused by name and the rest is taken.
    ///
    /// # Errors
    /// When the response is of a type that was not asked for, holds too much, or is a mark that cannot be
    /// read. The connection should end; what is held stays good for the next.
    pub fn receive(&mut self, response: DeltaDiscoveryResponse) -> Result<Received, ProtocolError> {
        let type_url = TypeUrl::parse(&response.type_url).filter(|type_url| self.types.contains(type_url));
        let type_url = type_url.ok_or_else(|| ProtocolError::Unasked(cut(&response.type_url)))?;
        let reply = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..Default::default()
        };
        if type_url == TypeUrl::Revision {
            let batch = self.close(&response.resources)?;
            return Ok(Received { reply, batch });
        }
        let held: usize = self.held.values().map(HashMap::len).sum();
        if held + response.resources.len() > MAX_NAMES {
            return Err(ProtocolError::TooManyNames);
        }
        let mut refusals = Vec::new();
        for resource in response.resources {
            refusals.extend(self.take(type_url, resource));
        }
        for name in response.removed_resources {
            self.remove(type_url, &name);
        }
        Ok(Received { reply: DeltaDiscoveryRequest { error_detail: nack(&refusals), ..reply }, batch: None })
    }

    /// Takes one resource; gives back the refusal if it cannot be taken.
    fn take(&mut self, type_url: TypeUrl, resource: Resource) -> Option<pb::refusals::Refusal> {
        let name = Str::from(resource.name);
        let any = resource.resource.unwrap_or_default();
        // Bytes of another type are none of this one, and refused as such.
        let bytes = if any.type_url == type_url.as_str() { any.value } else { vec![0xff].into() };
        match convert::decode(type_url, &name, bytes) {
            Ok(entry) => {
                self.refused.remove(&(type_url, name.clone()));
                self.hold(type_url, name, resource.version, entry);
                None
            }
            Err(mut refused) => {
                let refusal = pb::refusals::Refusal { name: cut(&name), reason: cut(&refused.why) };
                match refused.stand_in.take() {
                    Some(entry) => self.hold(type_url, name.clone(), NO_VERSION.to_owned(), *entry),
                    None => {
                        let names = self.held.entry(type_url).or_default();
                        let held =
                            names.entry(name.clone()).or_insert(Held { version: String::new(), key: None });
                        NO_VERSION.clone_into(&mut held.version);
                    }
                }
                self.refused.insert((type_url, name), refused);
                Some(refusal)
            }
        }
    }

    fn hold(&mut self, type_url: TypeUrl, name: Str, version: String, entry: Entry) {
        let key = entry.key.clone();
        let held = Held { version, key: Some(key.clone()) };
        let before = self.held.entry(type_url).or_default().insert(name.clone(), held);
        if let Some(before) = before.and_then(|before| before.key).filter(|before| *before != key) {
            self.let_go(type_url, &name, before);
        }
        self.owners.insert(key.clone(), (type_url, name));
        self.pending.insert(key, Some(Arc::new(entry)));
    }

    fn remove(&mut self, type_url: TypeUrl, name: &str) {
        let Some((name, held)) = self.held.get_mut(&type_url).and_then(|names| names.remove_entry(name))
        else {
            return;
        };
        self.refused.remove(&(type_url, name.clone()));
        if let Some(key) = held.key {
            self.let_go(type_url, &name, key);
        }
    }

    /// A name stands for this key no longer; the key is gone unless another name took it over.
    fn let_go(&mut self, type_url: TypeUrl, name: &Str, key: Key) {
        if self.owners.get(&key).is_some_and(|owner| *owner == (type_url, name.clone())) {
            self.owners.remove(&key);
            self.pending.insert(key, None);
        }
    }

    fn close(&mut self, resources: &[Resource]) -> Result<Option<Batch>, ProtocolError> {
        let Some(mark) = resources.iter().find(|resource| resource.name == MARK) else { return Ok(None) };
        let bytes = mark.resource.as_ref().map(|any| any.value.clone()).unwrap_or_default();
        let mark = pb::Revision::decode(bytes).map_err(|error| ProtocolError::Mark(error.to_string()))?;
        let mut delta = Delta::default();
        for (key, entry) in self.pending.drain() {
            match entry {
                Some(entry) => delta.set.push(entry),
                None => delta.removed.push(key),
            }
        }
        delta.set.sort_by(|a, b| (a.resource.kind(), &a.key).cmp(&(b.resource.kind(), &b.key)));
        delta.removed.sort();
        let refused = self.refused.values().cloned().collect();
        Ok(Some(Batch { delta, revision: Revision(mark.revision), refused }))
    }
}

/// What is said of a response with refused resources: names and reasons in the details.
fn nack(refusals: &[pb::refusals::Refusal]) -> Option<rpc::Status> {
    let first = refusals.first()?;
    let details = pb::Refusals { refusals: refusals.iter().take(MAX_REFUSALS).cloned().collect() };
    let any = Any {
        type_url: "type.googleapis.com/lateen.v1.Refusals".to_owned(),
        value: details.encode_to_vec().into(),
    };
    let message =
        format!("{} of the resources refused, first {}: {}", refusals.len(), first.name, first.reason);
    Some(rpc::Status { code: tonic::Code::InvalidArgument as i32, message, details: vec![any] })
}
