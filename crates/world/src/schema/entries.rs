//! ServiceEntry and WorkloadEntry.

use super::ExportTo;
use super::core::{PortSpec, protocol_of_name, protocol_word, target_port, unique};
use crate::problem::{At, Draft};
use crate::read::{Fields, Reader};
use crate::yaml::{Node, Value};
use lateen_model::{
    AppProtocol, Cidr, HostPattern, Labels, Locality, Location, NetworkId, Selector, ServiceAccount, Str,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// ServiceEntry.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ServiceEntrySpec {
    pub(crate) hosts: Vec<At<HostPattern>>,
    pub(crate) addresses: Vec<At<Cidr>>,
    pub(crate) ports: Vec<PortSpec>,
    pub(crate) location: Location,
    pub(crate) resolution: At<Resolution>,
    pub(crate) endpoints: Vec<EndpointSpec>,
    pub(crate) selector: Option<At<Selector>>,
    pub(crate) export_to: ExportTo,
    pub(crate) subject_alt_names: Vec<Str>,
}

/// How endpoints of a ServiceEntry are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolution {
    /// The address that the caller meant.
    None,
    /// Those listed or selected.
    Static,
    /// By name; not enforced yet.
    Dns,
}

/// A WorkloadEntry, or an endpoint within a ServiceEntry.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct EndpointSpec {
    pub(crate) address: Option<At<IpAddr>>,
    pub(crate) ports: BTreeMap<Str, u16>,
    pub(crate) labels: Labels,
    pub(crate) network: NetworkId,
    pub(crate) locality: Locality,
    pub(crate) weight: u32,
    pub(crate) service_account: ServiceAccount,
}

pub(crate) fn service_entry(node: &Node, reader: &Reader) -> Option<ServiceEntrySpec> {
    let fields = reader.fields(
        node,
        &[
            "hosts",
            "addresses",
            "ports",
            "location",
            "resolution",
            "endpoints",
            "workloadSelector",
            "exportTo",
            "subjectAltNames",
        ],
        &[],
    )?;
    fields.need("hosts")?;
    let parse_host = |text: At<Str>| {
        let value = reader.parse(&text, HostPattern::parse)?;
        if !matches!(value, HostPattern::Exact(_)) {
            reader.unsupported(text.span, "wildcard hosts of a ServiceEntry are not enforced yet");
        }
        Some(At { value, span: text.span })
    };
    let hosts: Vec<_> = fields.texts("hosts").into_iter().filter_map(parse_host).collect();
    let ports: Vec<_> = fields
        .each("ports", &["number", "protocol", "name", "targetPort"], &[])
        .filter_map(|port| entry_port(&port))
        .collect();
    unique(&ports, reader);
    if fields.need("ports").is_some() && ports.is_empty() {
        reader.error(fields.key_span("ports"), "a ServiceEntry needs at least one port");
    }
    let resolutions = [
        ("NONE", Resolution::None),
        ("STATIC", Resolution::Static),
        ("DNS", Resolution::Dns),
        ("DNS_ROUND_ROBIN", Resolution::Dns),
        ("DYNAMIC_DNS", Resolution::Dns),
    ];
    let resolution = fields
        .choice("resolution", &resolutions)
        .unwrap_or(At { value: Resolution::None, span: fields.first_line() });
    if resolution.value == Resolution::Dns {
        let message =
            "resolution by DNS is not enforced yet: callers reach the host as if it were not declared";
        reader.unsupported(resolution.span, message);
    }
    let dns = resolution.value == Resolution::Dns;
    let endpoints: Vec<_> = fields
        .list("endpoints")
        .iter()
        .filter_map(|item| if dns { None } else { endpoint(item, reader) })
        .collect();
    let selector = super::selector(&fields, "workloadSelector", &["labels"]);
    if selector.is_some() && !endpoints.is_empty() {
        reader.error(
            fields.key_span("workloadSelector"),
            "`endpoints` and `workloadSelector` exclude each other",
        );
    }
    let locations = [("MESH_EXTERNAL", Location::External), ("MESH_INTERNAL", Location::Internal)];
    Some(ServiceEntrySpec {
        hosts,
        addresses: fields.texts("addresses").into_iter().filter_map(|text| cidr(&text, reader)).collect(),
        ports,
        location: fields.choice("location", &locations).map_or(Location::External, |at| at.value),
        resolution,
        endpoints,
        selector,
        export_to: ExportTo::read(&fields),
        subject_alt_names: fields.texts("subjectAltNames").into_iter().map(|text| text.value).collect(),
    })
}

/// An address or a range.
pub(crate) fn cidr(text: &At<Str>, reader: &Reader) -> Option<At<Cidr>> {
    let parsed = text.parse::<Cidr>().ok().or_else(|| text.parse::<IpAddr>().ok().map(Cidr::from));
    if parsed.is_none() {
        reader.push(
            Draft::error(text.span, format!("{:?} is no address or range", text.as_str()))
                .expected("an address such as 10.0.0.1, or a range such as 10.0.0.0/8"),
        );
    }
    parsed.map(|value| At { value: value.trunc(), span: text.span })
}

fn entry_port(port: &Fields<'_>) -> Option<PortSpec> {
    port.need("number")?;
    let number = port.port("number")?;
    let name = port.need_text("name")?.value;
    let protocols = [
        ("HTTP", "http"),
        ("HTTPS", "https"),
        ("GRPC", "grpc"),
        ("GRPC-WEB", "grpc"),
        ("HTTP2", "http2"),
        ("MONGO", "tcp"),
        ("TCP", "tcp"),
        ("TLS", "tls"),
        ("UDP", "udp"),
    ];
    let protocol: AppProtocol = match port.text("protocol") {
        Some(text) => {
            let upper = At { value: Str::from(text.to_ascii_uppercase()), span: text.span };
            port.reader
                .choice(&upper, &protocols)
                .map_or(AppProtocol::Detect, |word| protocol_word(word.value))
        }
        None => protocol_of_name(&name),
    };
    let target = target_port(port, number.value);
    Some(PortSpec { number, name, protocol, target })
}

pub(crate) fn endpoint(node: &Node, reader: &Reader) -> Option<EndpointSpec> {
    let fields = reader.fields(
        node,
        &["address", "ports", "labels", "network", "locality", "weight", "serviceAccount"],
        &[],
    )?;
    let address = match fields.text("address") {
        Some(text) => match text.parse() {
            Ok(value) => Some(At { value, span: text.span }),
            Err(_) if text.starts_with("unix://") => {
                reader.unsupported(text.span, "unix sockets as endpoints are not enforced yet");
                None
            }
            Err(_) if lateen_model::Hostname::parse(&text).is_ok() => {
                reader.unsupported(text.span, "names as endpoints are not enforced yet; write an address");
                None
            }
            Err(_) => {
                reader.error(text.span, format!("{:?} is no address", text.as_str()));
                None
            }
        },
        None => {
            reader.error(fields.first_line(), "the field `address` is missing");
            None
        }
    };
    let ports = match fields.get("ports").map(|node| &node.value) {
        Some(Value::Map(entries)) => entries
            .iter()
            .filter_map(|(key, node)| Some((Str::from(&*key.value), reader.port(node)?.value)))
            .collect(),
        Some(_) => {
            fields.get("ports").inspect(|node| reader.wrong_type(node, "a mapping of port names to numbers"));
            BTreeMap::new()
        }
        None => BTreeMap::new(),
    };
    let locality = fields.text("locality").map(|text| text.value).unwrap_or_default();
    let mut parts = locality.splitn(3, '/').map(Str::from);
    let mut part = || parts.next().unwrap_or_default();
    Some(EndpointSpec {
        address,
        ports,
        labels: fields.labels("labels"),
        network: fields.parsed("network", NetworkId::parse).map(|at| at.value).unwrap_or_default(),
        locality: Locality { region: part(), zone: part(), subzone: part() },
        weight: fields.count("weight").unwrap_or(1),
        service_account: fields
            .parsed("serviceAccount", ServiceAccount::parse)
            .map(|at| at.value)
            .unwrap_or_default(),
    })
}

impl ServiceEntrySpec {
    /// Whether callers are led by it. Hosts that must be asked of a name server are left as if undeclared,
    /// so that they stay reachable; without an address `NONE` has nothing that callers could dial.
    pub(crate) fn is_enforced(&self) -> bool {
        match self.resolution.value {
            Resolution::Static => true,
            Resolution::None => self.addresses.iter().any(|range| range.is_single()),
            Resolution::Dns => false,
        }
    }
}

/// Whether a range is one address.
pub(crate) trait Single {
    /// Whether the prefix is as long as the address.
    fn is_single(&self) -> bool;
}

impl Single for Cidr {
    fn is_single(&self) -> bool {
        self.prefix_len() == self.max_prefix_len()
    }
}
