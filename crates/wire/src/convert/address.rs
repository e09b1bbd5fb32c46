//! Services and workloads: `istio.workload`, with what it cannot say in `extensions`.

use super::common::{
    Result, check_requires, each, key, labels_to_pb, mirror, port, protocol_from_pb, protocol_to_pb,
    service_id_from_pb, service_id_to_pb, strs, texts, visibility_from_pb, visibility_to_pb,
};
use super::{Invalid, authorization};
use crate::Any;
use crate::pb::istio::workload as istio;
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    AppProtocol, ClusterId, Health, Hostname, Key, Locality, Location, MeshAddr, Namespace, NetworkId,
    NodeName, Origin, PolicyId, Resolution, Service, ServiceAccount, ServiceId, ServicePort, TargetPort,
    TrustDomain, Tunnel, Visibility, Workload, WorkloadPort,
};
use prost::Message;
use std::collections::BTreeMap;
use std::net::IpAddr;

const WORKLOAD_EXTENSION: &str = "lateen.dev/workload";
const SERVICE_EXTENSION: &str = "lateen.dev/service";

mirror!(tunnel_to_pb, tunnel_from_pb: Tunnel = istio::TunnelProtocol {
    None = None, Hbone = Hbone, IstioMtls = LegacyIstioMtls,
});
mirror!(health_to_pb, health_from_pb: Health = istio::WorkloadStatus {
    Healthy = Healthy, Unhealthy = Unhealthy,
});
mirror!(resolution_to_pb, resolution_from_pb: Resolution = pb::service_extension::Resolution {
    Static = Unspecified, Original = Original, Dns = Dns, DnsRoundRobin = DnsRoundRobin, Dynamic = Dynamic,
});
mirror!(location_to_pb, location_from_pb: Location = pb::service_extension::Location {
    Internal = Internal, External = External,
});

/// An extension of ours, by name.
pub(super) fn extension(name: &str, type_name: &str, message: &impl Message) -> istio::Extension {
    let type_url = format!("type.googleapis.com/{type_name}");
    let config = Any { type_url, value: message.encode_to_vec().into() };
    istio::Extension { name: name.to_owned(), config: Some(config) }
}

/// The extension with this name. One that is there but cannot be read is an error: it could narrow.
pub(super) fn find_extension<M: Message + Default>(
    extensions: &[istio::Extension],
    name: &str,
) -> Result<Option<M>> {
    let Some(extension) = extensions.iter().find(|extension| extension.name == name) else {
        return Ok(None);
    };
    let value = extension.config.as_ref().map(|any| any.value.clone()).unwrap_or_default();
    match M::decode(value) {
        Ok(message) => Ok(Some(message)),
        Err(error) => Err(Invalid::new(format!("extension {name}: {error}"))),
    }
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(super) fn ip(bytes: &[u8]) -> Result<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ok(bytes.into());
    }
    let bytes = <[u8; 16]>::try_from(bytes);
    bytes.map(Into::into).map_err(|_| Invalid::new("an address has neither 4 nor 16 bytes"))
}

/// What istio's messages can say of a protocol; UDP they cannot.
fn standard_protocol(protocol: AppProtocol) -> Option<i32> {
    let standard = match protocol {
        AppProtocol::Detect => istio::AppProtocol::Unknown,
        AppProtocol::Http1 => istio::AppProtocol::Http11,
        AppProtocol::Http2 => istio::AppProtocol::Http2,
        AppProtocol::Grpc => istio::AppProtocol::Grpc,
        AppProtocol::Tcp => istio::AppProtocol::Tcp,
        AppProtocol::Tls => istio::AppProtocol::Tls,
        AppProtocol::Udp => return None,
    };
    Some(standard as i32)
}

fn protocol_of_standard(protocol: i32) -> AppProtocol {
    match istio::AppProtocol::try_from(protocol) {
        Ok(istio::AppProtocol::Http11) => AppProtocol::Http1,
        Ok(istio::AppProtocol::Http2) => AppProtocol::Http2,
        Ok(istio::AppProtocol::Grpc) => AppProtocol::Grpc,
        Ok(istio::AppProtocol::Tcp) => AppProtocol::Tcp,
        Ok(istio::AppProtocol::Tls) => AppProtocol::Tls,
        Ok(istio::AppProtocol::Unknown) | Err(_) => AppProtocol::Detect,
    }
}

pub(super) fn service_to_pb(key: &Key, service: &Service) -> istio::Service {
    let extension_message = pb::ServiceExtension {
        key: key.to_string(),
        requires: Vec::new(),
        ports: service.ports.iter().map(service_port_to_pb).collect(),
        location: location_to_pb(service.location),
        visibility: Some(visibility_to_pb(&service.visibility)),
        resolution: resolution_to_pb(service.resolution),
    };
    let standard_port = |port: &ServicePort| {
        let target_port = match port.target {
            TargetPort::Number(number) => number.into(),
            TargetPort::Name(_) => 0,
        };
        let app_protocol = standard_protocol(port.protocol)?;
        Some(istio::Port { service_port: port.number.into(), target_port, app_protocol })
    };
    let address = |address: &MeshAddr| istio::NetworkAddress {
        network: address.network.to_string(),
        address: octets(address.ip),
        length: None,
    };
    let load_balancing = service.publish_not_ready.then(|| istio::LoadBalancing {
        health_policy: istio::load_balancing::HealthPolicy::AllowAll as i32,
        ..Default::default()
    });
    let visibility = match service.visibility {
        Visibility::Public => istio::service::Visibility::Public,
        Visibility::Only(_) => istio::service::Visibility::Namespace,
    };
    istio::Service {
        name: service.name.to_string(),
        namespace: service.namespace.to_string(),
        hostname: service.hostname.to_string(),
        addresses: service.addresses.iter().map(address).collect(),
        ports: service.ports.iter().filter_map(standard_port).collect(),
        subject_alt_names: texts(&service.subject_alt_names),
        load_balancing,
        extensions: vec![extension(SERVICE_EXTENSION, "lateen.v1.ServiceExtension", &extension_message)],
        canonical: service.canonical,
        visibility: visibility as i32,
        ..Default::default()
    }
}

fn service_port_to_pb(port: &ServicePort) -> pb::ServicePort {
    use pb::service_port::Target;
    pb::ServicePort {
        number: port.number.into(),
        name: port.name.to_string(),
        protocol: protocol_to_pb(port.protocol),
        target: Some(match &port.target {
            TargetPort::Number(number) => Target::TargetNumber((*number).into()),
            TargetPort::Name(name) => Target::TargetName(name.to_string()),
        }),
    }
}

fn service_port_from_pb(message: pb::ServicePort) -> Result<ServicePort> {
    use pb::service_port::Target;
    Ok(ServicePort {
        number: port(message.number)?,
        name: message.name.into(),
        protocol: protocol_from_pb(message.protocol)?,
        target: match super::common::need(message.target, "target")? {
            Target::TargetNumber(number) => TargetPort::Number(port(number)?),
            Target::TargetName(name) => TargetPort::Name(name.into()),
        },
    })
}

fn service_port_from_standard(message: istio::Port) -> Result<ServicePort> {
    Ok(ServicePort {
        number: port(message.service_port)?,
        name: Default::default(),
        protocol: protocol_of_standard(message.app_protocol),
        target: TargetPort::Number(port(message.target_port)?),
    })
}

pub(super) fn service_from_pb(message: istio::Service) -> Result<(Key, Service)> {
    let namespace = Namespace::parse(&message.namespace)?;
    let hostname = Hostname::parse(&message.hostname)?;
    let extension = find_extension::<pb::ServiceExtension>(&message.extensions, SERVICE_EXTENSION)?;
    let allow_all = istio::load_balancing::HealthPolicy::AllowAll as i32;
    let addresses = each(message.addresses, "addresses", |address| {
        Ok(MeshAddr { network: NetworkId::parse(&address.network)?, ip: ip(&address.address)? })
    })?;
    let (own_key, ports, location, visibility, resolution) = match extension {
        Some(ours) => {
            check_requires(&ours.requires)?;
            let ports = each(ours.ports, "ports", service_port_from_pb)?;
            let visibility = visibility_from_pb(ours.visibility)?;
            let resolution = resolution_from_pb(ours.resolution)?;
            (key(&ours.key)?, ports, location_from_pb(ours.location)?, visibility, resolution)
        }
        None => {
            let own_key = Key::new(Origin::Service, namespace.clone(), message.name.as_str());
            let ports = each(message.ports, "ports", service_port_from_standard)?;
            let visibility = match istio::service::Visibility::try_from(message.visibility) {
                Ok(istio::service::Visibility::Public) => Visibility::Public,
                _ => Visibility::Only(vec![namespace.clone()]),
            };
            (own_key.section(hostname.as_str()), ports, Location::Internal, visibility, Resolution::Static)
        }
    };
    let service = Service {
        namespace,
        name: message.name.into(),
        hostname,
        addresses,
        ports,
        subject_alt_names: strs(message.subject_alt_names),
        location,
        canonical: message.canonical,
        visibility,
        publish_not_ready: message.load_balancing.is_some_and(|it| it.health_policy == allow_all),
        resolution,
    };
    Ok((own_key, service))
}

/// Text that is left out where it is what a reader assumes anyway.
fn unless_default<T: Default + PartialEq + ToString>(value: &T) -> String {
    if *value == T::default() { String::new() } else { value.to_string() }
}

pub(super) fn workload_to_pb(workload: &Workload) -> istio::Workload {
    let udp = workload.services.values().flatten().any(|port| port.protocol == AppProtocol::Udp);
    let ours = pb::WorkloadExtension {
        requires: Vec::new(),
        labels: labels_to_pb(&workload.labels),
        policies: workload.policies.iter().map(ToString::to_string).collect(),
        services: if udp { workload.services.iter().map(exact_ports).collect() } else { Vec::new() },
    };
    let Locality { region, zone, subzone } = &workload.locality;
    let locality = (workload.locality != Locality::default()).then(|| istio::Locality {
        region: region.to_string(),
        zone: zone.to_string(),
        subzone: subzone.to_string(),
    });
    istio::Workload {
        uid: workload.uid.to_string(),
        name: workload.name.to_string(),
        namespace: workload.namespace.to_string(),
        addresses: workload.addresses.iter().copied().map(octets).collect(),
        hostname: workload.hostname.as_ref().map(ToString::to_string).unwrap_or_default(),
        network: workload.network.to_string(),
        tunnel_protocol: tunnel_to_pb(workload.tunnel),
        trust_domain: unless_default(&workload.trust_domain),
        service_account: unless_default(&workload.service_account),
        node: workload.node.to_string(),
        canonical_name: workload.canonical_name.to_string(),
        canonical_revision: workload.canonical_revision.to_string(),
        workload_name: workload.workload_name.to_string(),
        services: workload
            .services
            .iter()
            .map(|(id, ports)| (id.to_string(), standard_ports(ports)))
            .collect(),
        authorization_policies: workload.policies.iter().filter_map(authorization::reference).collect(),
        status: health_to_pb(workload.health),
        cluster_id: workload.cluster.to_string(),
        locality,
        extensions: vec![extension(WORKLOAD_EXTENSION, "lateen.v1.WorkloadExtension", &ours)],
        capacity: (workload.weight != 1).then_some(workload.weight),
        ..Default::default()
    }
}

fn standard_ports(ports: &[WorkloadPort]) -> istio::PortList {
    let standard = |port: &WorkloadPort| {
        Some(istio::Port {
            service_port: port.service_port.into(),
            target_port: port.target_port.into(),
            app_protocol: standard_protocol(port.protocol)?,
        })
    };
    istio::PortList { ports: ports.iter().filter_map(standard).collect() }
}

fn exact_ports((id, ports): (&ServiceId, &Vec<WorkloadPort>)) -> pb::WorkloadService {
    let exact = |port: &WorkloadPort| pb::WorkloadPort {
        service_port: port.service_port.into(),
        target_port: port.target_port.into(),
        protocol: protocol_to_pb(port.protocol),
    };
    pb::WorkloadService { service: Some(service_id_to_pb(id)), ports: ports.iter().map(exact).collect() }
}

pub(super) fn workload_from_pb(message: istio::Workload) -> Result<(Key, Workload)> {
    let own_key = key(&message.uid).map_err(|error| error.at("uid"))?;
    let extension = find_extension::<pb::WorkloadExtension>(&message.extensions, WORKLOAD_EXTENSION)?;
    let standard = services_from_standard(message.services)?;
    let (labels, policies, services) = match extension {
        Some(ours) => {
            check_requires(&ours.requires)?;
            // A policy of a kind that is not known here arrives refused, and then denies the whole
            // namespace: its name in this list would add nothing.
            let policies = ours.policies.iter().filter_map(|text| PolicyId::parse(text)).collect();
            let services = if ours.services.is_empty() { standard } else { services_from_pb(ours.services)? };
            (ours.labels.into_iter().collect(), policies, services)
        }
        None => {
            let policies = each(&message.authorization_policies, "authorization_policies", |text| {
                authorization::key_of_reference(text)
            })?;
            (Default::default(), policies, standard)
        }
    };
    let trust_domain = match message.trust_domain.as_str() {
        "" => TrustDomain::default(),
        text => TrustDomain::parse(text)?,
    };
    let service_account = match message.service_account.as_str() {
        "" => ServiceAccount::default(),
        text => ServiceAccount::parse(text)?,
    };
    let locality = message.locality.unwrap_or_default();
    let workload = Workload {
        uid: message.uid.into(),
        name: message.name.into(),
        namespace: Namespace::parse(&message.namespace)?,
        addresses: each(&message.addresses, "addresses", |bytes| ip(bytes))?,
        hostname: (!message.hostname.is_empty()).then(|| message.hostname.into()),
        network: NetworkId::parse(&message.network)?,
        tunnel: tunnel_from_pb(message.tunnel_protocol)?,
        trust_domain,
        service_account,
        node: NodeName::parse(&message.node)?,
        cluster: ClusterId::parse(&message.cluster_id)?,
        canonical_name: message.canonical_name.into(),
        canonical_revision: message.canonical_revision.into(),
        workload_name: message.workload_name.into(),
        labels,
        services,
        policies,
        health: health_from_pb(message.status)?,
        locality: Locality {
            region: locality.region.into(),
            zone: locality.zone.into(),
            subzone: locality.subzone.into(),
        },
        weight: message.capacity.unwrap_or(1),
    };
    Ok((own_key, workload))
}

type Services = BTreeMap<ServiceId, Vec<WorkloadPort>>;

fn services_from_standard(services: BTreeMap<String, istio::PortList>) -> Result<Services> {
    let one = |(id, list): (String, istio::PortList)| {
        let id =
            ServiceId::parse(&id).ok_or_else(|| Invalid::new("a service is not named namespace/hostname"))?;
        let ports = each(list.ports, "services", |message| {
            Ok(WorkloadPort {
                service_port: port(message.service_port)?,
                target_port: port(message.target_port)?,
                protocol: protocol_of_standard(message.app_protocol),
            })
        })?;
        Ok((id, ports))
    };
    services.into_iter().map(one).collect()
}

fn services_from_pb(services: Vec<pb::WorkloadService>) -> Result<Services> {
    let one = |message: pb::WorkloadService| {
        let id = service_id_from_pb(&super::common::need(message.service, "service")?)?;
        let ports = each(message.ports, "ports", |message| {
            Ok(WorkloadPort {
                service_port: port(message.service_port)?,
                target_port: port(message.target_port)?,
                protocol: protocol_from_pb(message.protocol)?,
            })
        })?;
        Ok((id, ports))
    };
    services.into_iter().map(one).collect()
}
