//! The canonical YAML and JSON of a whole catalog: what a proxy dumps, a proxy can load.
//!
//! The text is derived from the descriptors of the messages that travel, so there is no second schema. Two
//! things differ from protobuf's JSON for the sake of people: addresses are written as addresses, and an
//! authorization appears as our own policy alone. Private keys are never written; the item says so.

use crate::convert::{self, Invalid, Refused, TypeUrl};
use crate::pb::DESCRIPTORS;
use crate::pb::lateen::v1 as pb;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lateen_model::{Catalog, Delta, Entry, Namespace, ProxyRole, Resource, Revision, Scope, Selector};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("the build wrote a valid descriptor set"));

/// Fields that hold an address as bytes.
const ADDRESSES: [&str; 3] = [
    "istio.workload.Workload.addresses",
    "istio.workload.NetworkAddress.address",
    "istio.security.Address.address",
];

/// Why a text is no dump.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No YAML, or more of it than is read.
    #[error("read the dump: {0}")]
    Yaml(Box<serde_saphyr::Error>),
    /// No JSON.
    #[error("read the dump: {0}")]
    Json(#[from] serde_json::Error),
    /// An item that is none.
    #[error("items[{index}]: {why}")]
    Item {
        /// Its place in the list.
        index: usize,
        /// What is wrong.
        why: String,
    },
}

/// What a dump held.
#[derive(Default)]
pub struct Loaded {
    /// The resources that could be read, with stand-ins for refused security resources.
    pub catalog: Catalog,
    /// What was refused.
    pub refused: Vec<Refused>,
}

/// The catalog as YAML, in the order of shipping.
pub fn to_yaml(catalog: &Catalog) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: true };
    serde_saphyr::to_string_with_options(&to_value(catalog), options)
        .expect("a JSON value has only text keys and finite numbers")
}

/// The catalog as JSON, in the order of shipping.
pub fn to_json(catalog: &Catalog) -> String {
    serde_json::to_string_pretty(&to_value(catalog)).expect("a JSON value has only text keys")
}

/// Reads what [`to_yaml`] or [`to_json`] wrote.
///
/// # Errors
/// When the text is no YAML or an item has no such form. A resource that has the form but not the sense is
/// refused by itself.
pub fn from_yaml(text: &str) -> Result<Loaded, Error> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: 128,
            max_events: 50_000_000,
            max_nodes: 25_000_000,
            max_total_scalar_bytes: 1 << 30,
            max_aliases: 0,
            max_anchors: 0,
        },
    };
    let value = serde_saphyr::from_str_with_options(text, options);
    from_value(value.map_err(|error| Error::Yaml(Box::new(error)))?)
}

/// Reads what [`to_json`] wrote.
///
/// # Errors
/// As [`from_yaml`].
pub fn from_json(text: &str) -> Result<Loaded, Error> {
    from_value(serde_json::from_str(text)?)
}

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).expect("a message of our protos")
}

fn to_value(catalog: &Catalog) -> Value {
    let items = catalog.to_delta().set.iter().map(|entry| item_to_pb(entry)).collect();
    let dump = pb::Dump { revision: catalog.revision().0, items };
    let descriptor = descriptor("lateen.v1.Dump");
    let message = DynamicMessage::decode(descriptor.clone(), dump.encode_to_vec().as_slice());
    let message = message.expect("what was just encoded");
    let mut value = serde_json::to_value(message).expect("every type in an Any is in the pool");
    walk(&mut value, &descriptor, &bytes_to_address);
    value
}

fn item_to_pb(entry: &Entry) -> pb::DumpItem {
    let omitted = match entry.resource {
        Resource::Credential(_) => vec!["privateKey".to_owned()],
        _ => Vec::new(),
    };
    let resource = convert::encode_for_dump(entry).to_any();
    pb::DumpItem { scope: Some(scope_to_pb(&entry.scope)), omitted, resource: Some(resource) }
}

fn from_value(mut value: Value) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    let items = match value.get_mut("items").map(Value::take) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Error::Item { index: 0, why: "items is no list".to_owned() }),
    };
    let mut delta = Delta::default();
    for (index, item) in items.into_iter().enumerate() {
        match read_item(index, item).map_err(|why| Error::Item { index, why })? {
            Ok(entry) => delta.set.push(Arc::new(entry)),
            Err(mut refused) => {
                delta.set.extend(refused.stand_in.take().map(|entry| Arc::new(*entry)));
                loaded.refused.push(refused);
            }
        }
    }
    let revision = match value.get("revision") {
        Some(Value::String(text)) => text.parse().unwrap_or(1),
        Some(number) => number.as_u64().unwrap_or(1),
        None => 1,
    };
    loaded.catalog = Catalog::after(Revision(revision.saturating_sub(1)));
    loaded.catalog.apply(&delta);
    Ok(loaded)
}

fn read_item(index: usize, mut item: Value) -> Result<Result<Entry, Refused>, String> {
    let descriptor = descriptor("lateen.v1.DumpItem");
    walk(&mut item, &descriptor, &address_to_bytes);
    let message = DynamicMessage::deserialize(descriptor, item).map_err(|error| error.to_string())?;
    let item: pb::DumpItem = message.transcode_to().map_err(|error| error.to_string())?;
    let resource = item.resource.ok_or("has no resource")?;
    let type_url = TypeUrl::parse(&resource.type_url)
        .ok_or_else(|| format!("{:?} is no type of resource that is known", resource.type_url))?;
    let scope = scope_from_pb(item.scope).map_err(|error| error.to_string())?;
    let entry = convert::decode_from_dump(type_url, &format!("items[{index}]"), resource.value);
    Ok(entry.map(|entry| Entry { scope, ..entry }))
}

/// Changes every address in a JSON value of a message.
fn walk(value: &mut Value, descriptor: &MessageDescriptor, change: &impl Fn(&mut Value)) {
    let Value::Object(fields) = value else { return };
    if descriptor.full_name() == "google.protobuf.Any" {
        let name = fields.get("@type").and_then(Value::as_str).and_then(|url| url.rsplit('/').next());
        if let Some(descriptor) = name.and_then(|name| POOL.get_message_by_name(name))
            && descriptor.full_name() != "google.protobuf.Any"
        {
            walk(value, &descriptor, change);
        }
        return;
    }
    for field in descriptor.fields() {
        if let Some(value) = fields.get_mut(field.json_name()) {
            walk_field(value, &field, change);
        }
    }
}

fn walk_field(value: &mut Value, field: &FieldDescriptor, change: &impl Fn(&mut Value)) {
    // The reflected message keeps its maps in an order that differs from run to run.
    if field.is_map()
        && let Value::Object(entries) = value
    {
        entries.sort_keys();
    }
    let values: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(entries) if field.is_map() => entries.iter_mut().map(|(_, value)| value).collect(),
        one => vec![one],
    };
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    match kind {
        Kind::Message(inner) => values.into_iter().for_each(|value| walk(value, &inner, change)),
        Kind::Bytes if ADDRESSES.contains(&field.full_name()) => values.into_iter().for_each(change),
        _ => {}
    }
}

fn bytes_to_address(value: &mut Value) {
    let bytes = value.as_str().and_then(|text| BASE64.decode(text).ok()).unwrap_or_default();
    let ip = <[u8; 4]>::try_from(bytes.as_slice())
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from));
    if let Ok(ip) = ip {
        *value = Value::String(ip.to_string());
    }
}

fn address_to_bytes(value: &mut Value) {
    let bytes = match value.as_str().and_then(|text| text.parse().ok()) {
        Some(IpAddr::V4(ip)) => BASE64.encode(ip.octets()),
        Some(IpAddr::V6(ip)) => BASE64.encode(ip.octets()),
        None => return,
    };
    *value = Value::String(bytes);
}

fn scope_to_pb(scope: &Scope) -> pb::Scope {
    use pb::scope::Scope as Wire;
    let wire = match scope {
        Scope::Everyone => Wire::Everyone(pb::Everyone {}),
        Scope::Nobody => Wire::Nobody(pb::Nobody {}),
        Scope::Namespaces(namespaces) => Wire::Namespaces(convert::namespaces_to_pb(namespaces)),
        Scope::Workloads { namespace, selector, role } => Wire::Workloads(pb::WorkloadScope {
            namespace: namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
            selector: selector
                .labels()
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            role: role.map(|role| role_to_pb(role) as i32),
        }),
    };
    pb::Scope { scope: Some(wire) }
}

fn scope_from_pb(scope: Option<pb::Scope>) -> Result<Scope, Invalid> {
    use pb::scope::Scope as Wire;
    Ok(match scope.and_then(|scope| scope.scope) {
        // What a proxy was shown is meant for it.
        None | Some(Wire::Everyone(_)) => Scope::Everyone,
        Some(Wire::Nobody(_)) => Scope::Nobody,
        Some(Wire::Namespaces(namespaces)) => Scope::Namespaces(convert::namespaces_from_pb(namespaces)?),
        Some(Wire::Workloads(workloads)) => Scope::Workloads {
            namespace: match workloads.namespace.as_str() {
                "" => None,
                text => Some(Namespace::parse(text)?),
            },
            selector: Selector::new(workloads.selector.into_iter().collect()),
            role: workloads.role.map(role_from_pb).transpose()?,
        },
    })
}

fn role_to_pb(role: ProxyRole) -> pb::workload_scope::Role {
    match role {
        ProxyRole::Node => pb::workload_scope::Role::Node,
        ProxyRole::Sidecar => pb::workload_scope::Role::Sidecar,
        ProxyRole::Waypoint => pb::workload_scope::Role::Waypoint,
        ProxyRole::Gateway => pb::workload_scope::Role::Gateway,
    }
}

fn role_from_pb(role: i32) -> Result<ProxyRole, Invalid> {
    match pb::workload_scope::Role::try_from(role) {
        Ok(pb::workload_scope::Role::Node) => Ok(ProxyRole::Node),
        Ok(pb::workload_scope::Role::Sidecar) => Ok(ProxyRole::Sidecar),
        Ok(pb::workload_scope::Role::Waypoint) => Ok(ProxyRole::Waypoint),
        Ok(pb::workload_scope::Role::Gateway) => Ok(ProxyRole::Gateway),
        Ok(pb::workload_scope::Role::Unspecified) | Err(_) => Err(Invalid::new("role is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    fn catalog(entries: Vec<Entry>) -> Catalog {
        let mut catalog = Catalog::after(Revision(41));
        catalog.apply(&Delta { set: entries.into_iter().map(Arc::new).collect(), removed: Vec::new() });
        catalog
    }

    fn without_credentials(catalog: &Catalog) -> Vec<Arc<Entry>> {
        let mut set = catalog.to_delta().set;
        set.retain(|entry| !matches!(entry.resource, Resource::Credential(_)));
        set
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_dumped_can_be_loaded(entries in testing::entries(12)) {
            let catalog = catalog(entries);
            let credentials = catalog.len() - without_credentials(&catalog).len();
            for loaded in [from_yaml(&to_yaml(&catalog)).unwrap(), from_json(&to_json(&catalog)).unwrap()] {
                prop_assert_eq!(loaded.catalog.to_delta().set, without_credentials(&catalog));
                prop_assert_eq!(loaded.catalog.revision(), Revision(42));
                prop_assert_eq!(loaded.refused.len(), credentials);
            }
        }

        #[test]
        fn any_text_is_a_dump_or_an_error(text in "[\\-a-z:{}\\[\\]\" \n@./]{0,80}") {
            let _ = from_yaml(&text);
            let _ = from_yaml(&format!("items:\n- resource: {{'@type': type.googleapis.com/{text}}}"));
        }
    }

    #[test]
    fn a_private_key_is_not_in_a_dump() {
        use lateen_model::{Credential, Key, Namespace, Origin, Secret};
        let key = Key::new(Origin::Secret, Namespace::default(), "tls");
        let credential = Credential {
            certificate_chain: "CHAIN".into(),
            private_key: Secret::new("SECRET"),
            client_roots: None,
        };
        let catalog = catalog(vec![Entry::for_everyone(key, Resource::Credential(credential))]);
        for text in [to_yaml(&catalog), to_json(&catalog)] {
            assert!(
                !text.contains("SECRET") && text.contains("CHAIN") && text.contains("privateKey"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_dump_is_for_people() {
        use lateen_model::{Key, MeshAddr, Namespace, Origin};
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut service = testing::service().new_tree(&mut runner).unwrap().current();
        let ip = "10.1.2.3".parse().unwrap();
        service.addresses = vec![MeshAddr { network: Default::default(), ip }];
        let key = Key::new(Origin::Service, Namespace::default(), "s");
        let text = to_yaml(&catalog(vec![Entry::for_everyone(key, Resource::Service(service))]));
        assert!(text.contains("address: \"10.1.2.3\"\n"), "{text}");
        assert!(text.contains("key: Kubernetes//Service/default/s\n"), "{text}");
    }

    #[test]
    fn an_unreadable_item_is_named() {
        let error = from_yaml("items:\n- resource: {'@type': type.googleapis.com/lateen.v1.Nothing}").err();
        assert!(error.unwrap().to_string().starts_with("items[0]: "));
    }
}
