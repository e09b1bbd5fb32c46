//! Between the values of the API and the nouns of the mesh.

use std::collections::BTreeMap;
use std::time::Duration;

use lateen_model as model;
use lateen_model::{InvalidName, Namespace, NodeName, ObjectName, ServiceAccount, Str};

use super::types::{
    Command, Instance, NamedInstance, Port, Probe, ProbeCheck, Process, Restart, Run, Tunnel,
};

/// A value of the API that is not one of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// A name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The printed form of a key.
    #[error("{0:?} is no key; expected cluster/group/kind/namespace/name")]
    Key(String),
    /// Too much of something.
    #[error("{what}: {count}, at most {most} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}

/// Generous for a process; each is shipped to every proxy.
const MOST_LABELS: usize = 128;
const MOST_ADDRESSES: usize = 16;
const MOST_PORTS: usize = 1024;

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), InvalidValue> {
    if count > most { Err(InvalidValue::TooMany { what, count, most }) } else { Ok(()) }
}

impl Instance {
    /// The instance of this namespace and name.
    ///
    /// # Errors
    /// When a name is not valid.
    pub fn to_model(&self, namespace: &str, name: &str) -> Result<model::Instance, InvalidValue> {
        at_most("labels", self.labels.len(), MOST_LABELS)?;
        at_most("addresses", self.addresses.len(), MOST_ADDRESSES)?;
        at_most("ports", self.ports.len(), MOST_PORTS)?;
        Ok(model::Instance {
            name: ObjectName::parse(name)?.as_shared().clone(),
            namespace: Namespace::parse(namespace)?,
            process: ObjectName::parse(&self.process)?.as_shared().clone(),
            labels: self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            service_account: ServiceAccount::parse(&self.service_account)?,
            addresses: self.addresses.clone(),
            ports: self.ports.iter().map(Port::to_model).collect(),
            tunnel: match self.tunnel {
                Tunnel::None => model::Tunnel::None,
                Tunnel::Hbone => model::Tunnel::Hbone,
                Tunnel::IstioMtls => model::Tunnel::IstioMtls,
            },
            ready: self.ready,
            node: NodeName::parse(&self.node)?,
        })
    }
}

impl From<&model::Instance> for Instance {
    fn from(instance: &model::Instance) -> Self {
        Self {
            process: instance.process.to_string(),
            labels: texts(instance.labels.iter()),
            service_account: instance.service_account.to_string(),
            addresses: instance.addresses.clone(),
            ports: instance.ports.iter().map(Port::from).collect(),
            tunnel: match instance.tunnel {
                model::Tunnel::None => Tunnel::None,
                model::Tunnel::Hbone => Tunnel::Hbone,
                model::Tunnel::IstioMtls => Tunnel::IstioMtls,
            },
            ready: instance.ready,
            node: instance.node.to_string(),
        }
    }
}

impl From<&model::Instance> for NamedInstance {
    fn from(instance: &model::Instance) -> Self {
        Self {
            namespace: instance.namespace.to_string(),
            name: instance.name.to_string(),
            instance: instance.into(),
        }
    }
}

impl Process {
    /// The process as the mesh has it.
    ///
    /// # Errors
    /// When a name is not valid.
    pub fn to_model(&self) -> Result<model::Process, InvalidValue> {
        Ok(model::Process {
            key: model::Key::parse(&self.key).ok_or_else(|| InvalidValue::Key(self.key.clone()))?,
            name: self.name.as_str().into(),
            namespace: Namespace::parse(&self.namespace)?,
            labels: self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            service_account: ServiceAccount::parse(&self.service_account)?,
            run: match &self.run {
                Run::Command(command) => model::Run::Command(command.to_model()),
                Run::Gateway => model::Run::Gateway,
            },
            ports: self.ports.iter().map(Port::to_model).collect(),
            replicas: self.replicas,
            readiness: self.readiness.as_ref().map(Probe::to_model),
            restart: match self.restart {
                Restart::Always => model::RestartPolicy::Always,
                Restart::OnFailure => model::RestartPolicy::OnFailure,
                Restart::Never => model::RestartPolicy::Never,
            },
        })
    }
}

impl From<&model::Process> for Process {
    fn from(process: &model::Process) -> Self {
        Self {
            key: process.key.to_string(),
            name: process.name.to_string(),
            namespace: process.namespace.to_string(),
            labels: texts(process.labels.iter()),
            service_account: process.service_account.to_string(),
            run: match &process.run {
                model::Run::Command(command) => Run::Command(command.into()),
                model::Run::Gateway => Run::Gateway,
            },
            ports: process.ports.iter().map(Port::from).collect(),
            replicas: process.replicas,
            readiness: process.readiness.as_ref().map(Probe::from),
            restart: match process.restart {
                model::RestartPolicy::Always => Restart::Always,
                model::RestartPolicy::OnFailure => Restart::OnFailure,
                model::RestartPolicy::Never => Restart::Never,
            },
        }
    }
}

impl Command {
    fn to_model(&self) -> model::Command {
        let shared = |texts: &[String]| texts.iter().map(|text| Str::from(text.as_str())).collect();
        model::Command {
            command: shared(&self.command),
            args: shared(&self.args),
            env: self.env.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
            working_dir: self.working_dir.as_deref().map(Str::from),
        }
    }
}

impl From<&model::Command> for Command {
    fn from(command: &model::Command) -> Self {
        let owned = |texts: &[Str]| texts.iter().map(ToString::to_string).collect();
        Self {
            command: owned(&command.command),
            args: owned(&command.args),
            env: texts(command.env.iter()),
            working_dir: command.working_dir.as_ref().map(ToString::to_string),
        }
    }
}

impl Port {
    fn to_model(&self) -> model::ProcessPort {
        model::ProcessPort { name: self.name.as_str().into(), port: self.port }
    }
}

impl From<&model::ProcessPort> for Port {
    fn from(port: &model::ProcessPort) -> Self {
        Self { name: port.name.to_string(), port: port.port }
    }
}

impl Probe {
    fn to_model(&self) -> model::Probe {
        model::Probe {
            check: match &self.check {
                ProbeCheck::HttpGet { port, path } => {
                    model::ProbeCheck::HttpGet { port: *port, path: path.as_str().into() }
                }
                ProbeCheck::TcpSocket { port } => model::ProbeCheck::TcpSocket { port: *port },
                ProbeCheck::Exec { command } => model::ProbeCheck::Exec {
                    command: command.iter().map(|text| Str::from(text.as_str())).collect(),
                },
            },
            initial_delay: Duration::from_millis(self.initial_delay_ms),
            period: Duration::from_millis(self.period_ms),
            timeout: Duration::from_millis(self.timeout_ms),
            failure_threshold: self.failure_threshold,
            success_threshold: self.success_threshold,
        }
    }
}

impl From<&model::Probe> for Probe {
    fn from(probe: &model::Probe) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            check: match &probe.check {
                model::ProbeCheck::HttpGet { port, path } => {
                    ProbeCheck::HttpGet { port: *port, path: path.to_string() }
                }
                model::ProbeCheck::TcpSocket { port } => ProbeCheck::TcpSocket { port: *port },
                model::ProbeCheck::Exec { command } => {
                    ProbeCheck::Exec { command: command.iter().map(ToString::to_string).collect() }
                }
            },
            initial_delay_ms: millis(probe.initial_delay),
            period_ms: millis(probe.period),
            timeout_ms: millis(probe.timeout),
            failure_threshold: probe.failure_threshold,
            success_threshold: probe.success_threshold,
        }
    }
}

fn texts<'a>(pairs: impl Iterator<Item = (&'a Str, &'a Str)>) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: &str = r#"{
        "process": "reviews-v1", "labels": {"app": "reviews"}, "serviceAccount": "reviews",
        "addresses": ["10.0.0.1", "fd00::1"], "ports": [{"name": "http", "port": 9080}],
        "tunnel": "hbone", "ready": true, "node": "here"
    }"#;

    #[test]
    fn an_instance_survives_the_api() {
        let instance: Instance = serde_json::from_str(INSTANCE).expect("an instance");
        let model = instance.to_model("shop", "reviews-v1-0").expect("valid");
        assert_eq!((&*model.name, model.namespace.as_str()), ("reviews-v1-0", "shop"));
        assert_eq!(Instance::from(&model), instance);
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        let instance: Instance = serde_json::from_str(INSTANCE).expect("an instance");
        assert!(instance.to_model("Shop", "reviews").is_err());
        assert!(instance.to_model("shop", "../reviews").is_err());
        let many = (0..129).map(|n| (n.to_string(), String::new())).collect();
        let error = Instance { labels: many, ..instance }.to_model("shop", "reviews").expect_err("too many");
        assert_eq!(error.to_string(), "labels: 129, at most 128 are taken");
        assert!(
            serde_json::from_str::<Instance>(r#"{"process":"x","redy":true}"#).is_err(),
            "a misspelt field"
        );
    }

    #[test]
    fn a_process_survives_the_api() {
        let text = r#"{
            "key": "Kubernetes/lateen.dev/Process/shop/cart", "name": "cart", "namespace": "shop",
            "labels": {"app": "cart"}, "serviceAccount": "cart", "ports": [{"name": "", "port": 80}],
            "run": {"command": {"command": ["./cart"], "args": ["-v"], "env": {"A": "b"}, "workingDir": "x"}},
            "replicas": 2, "restart": "OnFailure",
            "readiness": {"check": {"httpGet": {"port": 80, "path": "/ready"}}, "initialDelayMs": 0,
                "periodMs": 1000, "timeoutMs": 500, "failureThreshold": 3, "successThreshold": 1}
        }"#;
        let process: Process = serde_json::from_str(text).expect("a process");
        assert_eq!(Process::from(&process.to_model().expect("valid")), process);
        let gateway = Process { run: Run::Gateway, readiness: None, ..process };
        assert_eq!(Process::from(&gateway.to_model().expect("valid")), gateway);
    }
}
