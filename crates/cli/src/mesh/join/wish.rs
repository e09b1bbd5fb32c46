//! What a `lateen run` asks for, judged, as the process and the service that the mesh will know.

use std::collections::{BTreeMap, BTreeSet};

use lateen_control::api::types::{Command, Port, Process, Restart, Run};
use lateen_model::{Namespace, ObjectName, ServiceAccount};
use serde_json::json;

use super::message::Join;

/// The label that only the workload of one `lateen run` has; its service selects by it.
const LABEL: &str = "lateen.dev/run";
/// Ports that the sidecar has for itself, in the same network as the process.
const SIDECAR: [u16; 4] = [15001, 15006, 15008, 15053];

/// Why a wish cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidWish {
    #[error(transparent)]
    Name(#[from] lateen_model::InvalidName),
    #[error(
        "name {0:?} is not valid: a service cannot have a dot in its name; expected letters, digits and '-'"
    )]
    Dot(String),
    #[error("port {0} is not one that a process can listen on")]
    Port(u16),
    #[error("port {0} is one that the sidecar listens on; choose another")]
    Sidecar(u16),
    #[error("port {0} is named twice")]
    Twice(u16),
    #[error(
        "label {0:?} is not valid: expected KEY=VALUE, of letters, digits, '-', '_' and '.', at most 63 each"
    )]
    Label(String),
    #[error("no command is named")]
    Command,
}

/// The process that is wanted, as if it stood in the directory of the mesh.
///
/// # Errors
/// When a name, a port or a label has not the form that it needs.
pub(crate) fn process(join: &Join) -> Result<Process, InvalidWish> {
    ObjectName::parse(&join.name)?;
    if join.name.contains('.') || join.name.len() > 63 {
        return Err(InvalidWish::Dot(join.name.clone()));
    }
    Namespace::parse(&join.namespace)?;
    ServiceAccount::parse(&join.service_account)?;
    if join.command.is_empty() {
        return Err(InvalidWish::Command);
    }
    for (key, value) in &join.labels {
        if !is_label_key(key) || !is_label_value(value) {
            return Err(InvalidWish::Label(format!("{key}={value}")));
        }
    }
    let mut labels = BTreeMap::from([("app".to_owned(), join.name.clone())]);
    labels.extend(join.labels.clone());
    labels.insert(LABEL.to_owned(), join.name.clone());
    Ok(Process {
        key: String::new(),
        name: join.name.clone(),
        namespace: join.namespace.clone(),
        labels,
        service_account: join.service_account.clone(),
        run: Run::Command(Command {
            command: join.command.clone(),
            args: Vec::new(),
            env: placeholders(&join.env),
            working_dir: None,
        }),
        ports: ports(&join.ports)?,
        replicas: 1,
        readiness: None,
        restart: Restart::Never,
    })
}

/// Whether a wish can be granted at all, before anybody is asked.
///
/// # Errors
/// As [`process`].
pub(crate) fn check(join: &Join) -> Result<(), InvalidWish> {
    process(join).map(drop)
}

fn ports(numbers: &[u16]) -> Result<Vec<Port>, InvalidWish> {
    let mut seen = BTreeSet::new();
    let check = |&port: &u16| match port {
        0 => Err(InvalidWish::Port(port)),
        _ if SIDECAR.contains(&port) => Err(InvalidWish::Sidecar(port)),
        _ if !seen.insert(port) => Err(InvalidWish::Twice(port)),
        // A name that says no protocol: it is found out from the first bytes.
        _ => Ok(Port { name: format!("port-{port}"), port }),
    };
    numbers.iter().map(check).collect()
}

/// Only variables that name a service or a port are ours to read; a shell's own `${…}` stays as it is.
fn placeholders(env: &[(String, String)]) -> BTreeMap<String, String> {
    let ours = |value: &str| value.contains("${service:") || value.contains("${port:");
    env.iter().filter(|(_, value)| ours(value)).cloned().collect()
}

/// `[prefix/]name`, as Kubernetes has it.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(|prefix| ObjectName::parse(prefix).is_ok()) && !name.is_empty() && is_label_value(name)
}

fn is_label_value(value: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// The service of the process, as a document of the directory would say it; none without a port.
pub(crate) fn service(process: &Process) -> Option<String> {
    let ports = process.ports.iter();
    let ports: Vec<_> =
        ports.map(|port| json!({"name": port.name, "port": port.port, "targetPort": port.port})).collect();
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": process.name, "namespace": process.namespace},
        "spec": {"selector": {LABEL: process.name}, "ports": ports},
    });
    // JSON is YAML.
    (!ports.is_empty()).then(|| service.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(change: impl FnOnce(&mut Join)) -> Join {
        let mut join = Join {
            name: "cart".to_owned(),
            namespace: "shop".to_owned(),
            service_account: "default".to_owned(),
            labels: BTreeMap::new(),
            ports: vec![8080],
            command: vec!["./cart".to_owned()],
            env: vec![("HOME".to_owned(), "/".to_owned())],
            directory: "/".into(),
        };
        change(&mut join);
        join
    }

    #[test]
    fn a_wish_becomes_a_process_and_its_service() {
        let env = [("A", "${debian_chroot:+x}"), ("B", "http://${service:ratings:9080}/")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let wished = process(&join(|join| join.env.extend(env))).unwrap();
        assert_eq!(wished.labels["app"], "cart");
        let Run::Command(command) = &wished.run else { panic!("a command") };
        assert_eq!(command.env.keys().collect::<Vec<_>>(), ["B"]);
        assert_eq!(
            service(&wished).unwrap(),
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"cart","namespace":"shop"},"spec":{"selector":{"lateen.dev/run":"cart"},"ports":[{"name":"port-8080","port":8080,"targetPort":8080}]}}"#
        );
        assert_eq!(service(&process(&join(|join| join.ports.clear())).unwrap()), None);
    }

    #[test]
    fn labels_may_be_chosen_but_not_the_one_that_is_ours() {
        let labels = [("app", "till"), (LABEL, "other")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let wished = process(&join(|join| join.labels.extend(labels))).unwrap();
        assert_eq!((&*wished.labels["app"], &*wished.labels[LABEL]), ("till", "cart"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |change: fn(&mut Join), expected: &str| {
            let error = process(&join(change)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|join| join.name = "Cart".to_owned(), "lower-case letters");
        check(|join| join.name = "cart.shop".to_owned(), "dot");
        check(|join| join.namespace = String::new(), "namespace");
        check(|join| join.service_account = "/".to_owned(), "service account");
        check(|join| join.ports = vec![0], "port 0");
        check(|join| join.ports = vec![15008], "sidecar");
        check(|join| join.ports = vec![80, 80], "twice");
        check(|join| join.command.clear(), "no command");
        check(|join| drop(join.labels.insert("a b".to_owned(), "x".to_owned())), "KEY=VALUE");
        check(|join| drop(join.labels.insert("a".to_owned(), "-x".to_owned())), "KEY=VALUE");
        check(|join| drop(join.labels.insert(String::new(), String::new())), "KEY=VALUE");
    }
}
