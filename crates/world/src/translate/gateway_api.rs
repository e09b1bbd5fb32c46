//! Gateway of `gateway.networking.k8s.io`: listeners, credentials, and the process that plays it.

use super::key;
use crate::manifest::Manifest;
use crate::object::ObjectKind;
use crate::problem::Draft;
use crate::schema::gateway_api::{GatewaySpec, ListenerSpec};
use crate::schema::{ObjectRef, Spec};
use crate::view::{Derived, Fact, View};
use lateen_model::{
    ClientCertificate, Credential, Entry, Gateway, Key, Labels, Listener, ListenerTls, Namespace, Origin,
    Process, ProcessPort, ProxyRole, Resource, RestartPolicy, Run, Scope, Selector, ServiceAccount, Str,
};

/// The label by which the proxies of a Gateway are known.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Whether Gateways of this class are ours; otherwise why not.
pub(crate) fn check_class(view: &View<'_>, class: &str) -> Result<(), String> {
    const CONTROLLERS: [&str; 2] = ["lateen.dev/gateway-controller", "istio.io/gateway-controller"];
    // The class lives outside of all namespaces.
    match view.get(ObjectKind::GatewayClass, &Namespace::default(), class).map(|manifest| &manifest.spec) {
        Some(Some(Spec::GatewayClass(spec))) if CONTROLLERS.contains(&spec.controller.as_str()) => Ok(()),
        Some(Some(Spec::GatewayClass(spec))) => {
            Err(format!("the class {class:?} belongs to the controller {}", spec.controller.as_str()))
        }
        _ if matches!(class, "lateen" | "istio") => Ok(()),
        _ => Err(format!("the class {class:?} is not known here")),
    }
}

pub(crate) fn gateway(view: &View<'_>, manifest: &Manifest, spec: &GatewaySpec, derived: &mut Derived) {
    if let Err(message) = check_class(view, &spec.class) {
        let draft = Draft::warning(spec.class.span, message).expected("`lateen` or `istio`");
        return derived.reject("UnknownClass", draft);
    }
    let id = key(manifest, Origin::Gateway);
    let selector: Labels = [(GATEWAY_NAME, manifest.key.name.as_str())].into_iter().collect();
    let scope = |role| Scope::Workloads {
        namespace: Some(manifest.key.namespace.clone()),
        selector: Selector::new(selector.clone()),
        role,
    };
    let mut listeners = Vec::new();
    for (index, listener) in spec.listeners.iter().enumerate() {
        if let Some(message) = conflict(listener, &spec.listeners[..index]) {
            derived.conflict(Draft::error(listener.span, message));
            continue;
        }
        let tls = (!listener.certificates.is_empty()
            || listener.protocol == lateen_model::ListenerProtocol::Https)
            .then(|| ListenerTls {
                credentials: listener
                    .certificates
                    .iter()
                    .filter_map(|reference| {
                        certificate(view, manifest, reference, &scope(Some(ProxyRole::Gateway)), derived)
                    })
                    .collect(),
                client_certificate: ClientCertificate::None,
            });
        listeners.push(Listener {
            name: listener.name.value.clone(),
            port: listener.port.value,
            protocol: listener.protocol,
            hosts: listener.host.iter().map(|host| host.value.clone()).collect(),
            tls,
        });
    }
    process(view, manifest, spec, &listeners, &selector, derived);
    let gateway = Gateway {
        key: id.clone(),
        selector: Selector::new(selector.clone()),
        selector_namespace: Some(manifest.key.namespace.clone()),
        listeners,
    };
    derived.entries.push(Entry { key: id, scope: Scope::Everyone, resource: Resource::Gateway(gateway) });
}

/// Listeners of one port speak one protocol and differ in their hosts.
fn conflict(listener: &ListenerSpec, before: &[ListenerSpec]) -> Option<String> {
    let other = before.iter().find(|other| other.port.value == listener.port.value)?;
    if other.protocol != listener.protocol {
        return Some(format!(
            "port {} speaks another protocol at the listener {:?}",
            listener.port.value,
            other.name.as_str()
        ));
    }
    let host = |listener: &ListenerSpec| listener.host.as_ref().map(|host| host.value.clone());
    let same = before
        .iter()
        .find(|other| other.port.value == listener.port.value && host(other) == host(listener))?;
    Some(format!("the listener {:?} has the same port and host", same.name.as_str()))
}

/// The credential for a reference to a Secret.
fn certificate(
    view: &View<'_>,
    manifest: &Manifest,
    reference: &ObjectRef,
    scope: &Scope,
    derived: &mut Derived,
) -> Option<Key> {
    if (reference.group.as_str(), reference.kind.as_str()) != ("", "Secret") {
        let message = format!("a certificate cannot come from a {}", reference.kind);
        derived.unresolved("InvalidKind", Draft::error(reference.name.span, message).expected("a Secret"));
        return None;
    }
    let namespace = reference.namespace.as_ref().map_or(&manifest.key.namespace, |at| &at.value);
    if !view
        .granted((ObjectKind::Gateway, &manifest.key.namespace), ("", "Secret", namespace, &reference.name))
    {
        let message = format!(
            "no ReferenceGrant in {namespace} lets a Gateway of {} use this Secret",
            manifest.key.namespace
        );
        derived.unresolved("RefNotPermitted", Draft::error(reference.name.span, message));
        return None;
    }
    credential(view, manifest, (namespace, &reference.name.value, reference.name.span), scope, derived)
}

/// The credential made from one Secret for one gateway: who may hold the key is told by its scope.
pub(crate) fn credential(
    view: &View<'_>,
    manifest: &Manifest,
    (namespace, name, span): (&Namespace, &Str, crate::problem::Span),
    scope: &Scope,
    derived: &mut Derived,
) -> Option<Key> {
    let secret = view.get(ObjectKind::Secret, namespace, name).and_then(|secret| match &secret.spec {
        Some(Spec::Secret(spec)) => Some(spec),
        _ => None,
    });
    let Some(spec) = secret else {
        let message = format!("there is no Secret {:?} in {namespace}", name.as_str());
        derived.unresolved("SecretNotFound", Draft::error(span, message));
        return None;
    };
    let Some(tls) = &spec.tls else {
        let message = format!("the Secret {:?} has no certificate and key", name.as_str());
        derived.unresolved("InvalidCertificate", Draft::error(span, message).expected("tls.crt and tls.key"));
        return None;
    };
    let section = format!("{}/{}/{}", manifest.key.kind.group(), manifest.key.namespace, manifest.key.name);
    let key = Key::new(Origin::Secret, namespace.clone(), name.clone()).section(section);
    if !derived.entries.iter().any(|entry| entry.key == key) {
        let credential = Credential {
            certificate_chain: tls.certificate_chain.clone(),
            private_key: tls.private_key.clone(),
            client_roots: tls.client_roots.clone(),
        };
        let resource = Resource::Credential(credential);
        derived.entries.push(Entry { key: key.clone(), scope: scope.clone(), resource });
    }
    Some(key)
}

/// The process that plays the gateway, unless somebody wrote one.
fn process(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &GatewaySpec,
    listeners: &[Listener],
    labels: &Labels,
    derived: &mut Derived,
) {
    let mut written = view.stating(Fact::KindIn(ObjectKind::Process, manifest.key.namespace.clone()));
    let wanted = Selector::new(labels.clone());
    let plays = |process: &Manifest| matches!(&process.spec, Some(Spec::Process(spec)) if wanted.matches(&spec.labels));
    if written.any(plays) {
        return;
    }
    // As Istio names the Deployment and the account it makes, so that policies keep their principals.
    let name = format!("{}-{}", manifest.key.name, spec.class.as_str());
    let Ok(account) = ServiceAccount::parse(&name) else { return };
    let mut labels = labels.clone();
    labels.insert("service.istio.io/canonical-name", name.as_str());
    let key = key(manifest, Origin::Gateway).section("process");
    let process = Process {
        key: key.clone(),
        name: name.into(),
        namespace: manifest.key.namespace.clone(),
        labels,
        service_account: account,
        run: Run::Gateway,
        ports: ports(listeners),
        replicas: 1,
        readiness: None,
        restart: RestartPolicy::Always,
    };
    derived.entries.push(Entry { key, scope: Scope::Nobody, resource: Resource::Process(process) });
}

/// The ports of listeners, each once.
fn ports(listeners: &[Listener]) -> Vec<ProcessPort> {
    let mut ports: Vec<ProcessPort> = Vec::new();
    for listener in listeners {
        if !ports.iter().any(|port| port.port == listener.port) {
            ports.push(ProcessPort { name: listener.name.clone(), port: listener.port });
        }
    }
    ports
}
