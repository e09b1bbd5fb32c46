//! Gateways, their credentials, and the settings of the mesh.

use super::common::{
    Result, check_requires, each, hosts_from_pb, hosts_to_pb, key, mirror, object_from_pb, object_to_pb,
    optional_namespace, port, selector_from_pb, selector_to_pb,
};
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    AccessLog, ClientCertificate, Credential, Gateway, Key, Listener, ListenerProtocol, ListenerTls,
    MeshSettings, Namespace, OutboundPolicy, PathNormalization, Resource, Secret, TrustDomain,
};

mirror!(outbound_to_pb, outbound_from_pb: OutboundPolicy = pb::mesh::Outbound {
    AllowAny = AllowAny, RegistryOnly = RegistryOnly,
});
mirror!(access_log_to_pb, access_log_from_pb: AccessLog = pb::mesh::AccessLog {
    Off = Off, Errors = Errors, All = All,
});
mirror!(normalization_to_pb, normalization_from_pb: PathNormalization = pb::mesh::PathNormalization {
    Base = Unspecified, None = None, MergeSlashes = MergeSlashes, DecodeAndMergeSlashes = DecodeAndMergeSlashes,
});
mirror!(protocol_to_pb, protocol_from_pb: ListenerProtocol = pb::listener::Protocol {
    Http = Http, Https = Https, Tcp = Tcp,
});
mirror!(client_certificate_to_pb, client_certificate_from_pb:
    ClientCertificate = pb::listener_tls::ClientCertificate { None = None, Required = Required });

pub(super) fn mesh_to_pb(key: &Key, mesh: &MeshSettings) -> pb::Mesh {
    pb::Mesh {
        key: key.to_string(),
        requires: Vec::new(),
        trust_domain: mesh.trust_domain.to_string(),
        root_namespace: mesh.root_namespace.to_string(),
        outbound: outbound_to_pb(mesh.outbound),
        access_log: access_log_to_pb(mesh.access_log),
        path_normalization: normalization_to_pb(mesh.path_normalization),
    }
}

pub(super) fn mesh_from_pb(message: pb::Mesh) -> Result<(Key, Resource)> {
    check_requires(&message.requires)?;
    let mesh = MeshSettings {
        trust_domain: TrustDomain::parse(&message.trust_domain)?,
        root_namespace: Namespace::parse(&message.root_namespace)?,
        outbound: outbound_from_pb(message.outbound)?,
        access_log: access_log_from_pb(message.access_log)?,
        path_normalization: normalization_from_pb(message.path_normalization)?,
    };
    Ok((key(&message.key)?, Resource::Mesh(mesh)))
}

pub(super) fn gateway_to_pb(key: &Key, gateway: &Gateway) -> pb::Gateway {
    let listener = |listener: &Listener| pb::Listener {
        name: listener.name.to_string(),
        port: listener.port.into(),
        protocol: protocol_to_pb(listener.protocol),
        hosts: hosts_to_pb(&listener.hosts),
        tls: listener.tls.as_ref().map(|tls| pb::ListenerTls {
            credentials: tls.credentials.iter().map(ToString::to_string).collect(),
            client_certificate: client_certificate_to_pb(tls.client_certificate),
        }),
    };
    pb::Gateway {
        key: key.to_string(),
        requires: Vec::new(),
        object: object_to_pb(key, &gateway.key),
        selector: selector_to_pb(&gateway.selector),
        selector_namespace: gateway.selector_namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
        listeners: gateway.listeners.iter().map(listener).collect(),
    }
}

pub(super) fn gateway_from_pb(message: pb::Gateway) -> Result<(Key, Resource)> {
    check_requires(&message.requires)?;
    let own = key(&message.key)?;
    let gateway = Gateway {
        key: object_from_pb(&own, &message.object)?,
        selector: selector_from_pb(message.selector),
        selector_namespace: optional_namespace(&message.selector_namespace)?,
        listeners: each(message.listeners, "listeners", listener_from_pb)?,
    };
    Ok((own, Resource::Gateway(gateway)))
}

fn listener_from_pb(message: pb::Listener) -> Result<Listener> {
    let tls = |tls: pb::ListenerTls| -> Result<ListenerTls> {
        Ok(ListenerTls {
            credentials: each(tls.credentials, "credentials", |text| key(&text))?,
            client_certificate: client_certificate_from_pb(tls.client_certificate)?,
        })
    };
    Ok(Listener {
        name: message.name.into(),
        port: port(message.port)?,
        protocol: protocol_from_pb(message.protocol)?,
        hosts: hosts_from_pb(message.hosts)?,
        tls: message.tls.map(tls).transpose()?,
    })
}

pub(super) fn credential_to_pb(key: &Key, credential: &Credential) -> pb::Credential {
    pb::Credential {
        key: key.to_string(),
        requires: Vec::new(),
        certificate_chain: credential.certificate_chain.to_string(),
        private_key: credential.private_key.expose().to_owned(),
        client_roots: credential.client_roots.as_ref().map(ToString::to_string),
    }
}

pub(super) fn credential_from_pb(message: pb::Credential) -> Result<(Key, Resource)> {
    check_requires(&message.requires)?;
    if message.private_key.is_empty() {
        return Err(super::Invalid::new("has no private key; a dump leaves it out"));
    }
    let credential = Credential {
        certificate_chain: message.certificate_chain.into(),
        private_key: Secret::new(message.private_key),
        client_roots: message.client_roots.map(Into::into),
    };
    Ok((key(&message.key)?, Resource::Credential(credential)))
}
