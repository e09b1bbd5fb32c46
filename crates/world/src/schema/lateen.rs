//! Our own kinds: Mesh and Process.

use crate::problem::{At, Draft};
use crate::read::{Fields, Reader};
use crate::yaml::{Node, Value};
use lateen_model::{
    AccessLog, Command, Labels, Namespace, OutboundPolicy, PathNormalization, Probe, ProbeCheck, ProcessPort,
    RestartPolicy, ServiceAccount, Str, TrustDomain,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Mesh: what is not said keeps its default.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct MeshSpec {
    pub(crate) trust_domain: Option<TrustDomain>,
    pub(crate) root_namespace: Option<Namespace>,
    pub(crate) outbound: Option<OutboundPolicy>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) path_normalization: Option<PathNormalization>,
}

pub(crate) fn mesh(node: &Node, reader: &Reader) -> Option<MeshSpec> {
    let fields = reader.fields(
        node,
        &["trustDomain", "rootNamespace", "outboundPolicy", "accessLog", "pathNormalization"],
        &[],
    )?;
    let outbound = [
        ("AllowAny", OutboundPolicy::AllowAny),
        ("RegistryOnly", OutboundPolicy::RegistryOnly),
        ("ALLOW_ANY", OutboundPolicy::AllowAny),
        ("REGISTRY_ONLY", OutboundPolicy::RegistryOnly),
    ];
    // Our spelling, and Istio's.
    let normalization = [
        ("None", PathNormalization::None),
        ("Base", PathNormalization::Base),
        ("MergeSlashes", PathNormalization::MergeSlashes),
        ("DecodeAndMergeSlashes", PathNormalization::DecodeAndMergeSlashes),
        ("NONE", PathNormalization::None),
        ("DEFAULT", PathNormalization::Base),
        ("BASE", PathNormalization::Base),
        ("MERGE_SLASHES", PathNormalization::MergeSlashes),
        ("DECODE_AND_MERGE_SLASHES", PathNormalization::DecodeAndMergeSlashes),
    ];
    let access_log = [("Off", AccessLog::Off), ("Errors", AccessLog::Errors), ("All", AccessLog::All)];
    Some(MeshSpec {
        trust_domain: fields.parsed("trustDomain", TrustDomain::parse).map(|at| at.value),
        root_namespace: fields.parsed("rootNamespace", Namespace::parse).map(|at| at.value),
        outbound: fields.choice("outboundPolicy", &outbound).map(|at| at.value),
        access_log: fields.choice("accessLog", &access_log).map(|at| at.value),
        path_normalization: fields.choice("pathNormalization", &normalization).map(|at| at.value),
    })
}

/// Process.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ProcessSpec {
    pub(crate) labels: Labels,
    pub(crate) service_account: Option<At<ServiceAccount>>,
    pub(crate) command: Command,
    pub(crate) ports: Vec<ProcessPort>,
    pub(crate) replicas: u32,
    pub(crate) readiness: Option<Probe>,
    pub(crate) restart: RestartPolicy,
}

pub(crate) fn process(node: &Node, labels: &Labels, reader: &Reader) -> Option<ProcessSpec> {
    let fields = reader.fields(
        node,
        &[
            "labels",
            "serviceAccount",
            "command",
            "args",
            "env",
            "workingDir",
            "ports",
            "replicas",
            "readinessProbe",
            "restartPolicy",
        ],
        &[],
    )?;
    let words = |name| fields.texts(name).into_iter().map(|text| text.value).collect::<Vec<_>>();
    let command = words("command");
    if command.is_empty() && fields.need("command").is_some() {
        reader.push(
            Draft::error(fields.key_span("command"), "`command` is empty")
                .expected("a program and its arguments"),
        );
    }
    let mut all = labels.clone();
    for (key, value) in fields.labels("labels").iter() {
        all.insert(key.clone(), value.clone());
    }
    let ports = ports(&fields);
    let restart = [
        ("Always", RestartPolicy::Always),
        ("OnFailure", RestartPolicy::OnFailure),
        ("Never", RestartPolicy::Never),
    ];
    Some(ProcessSpec {
        labels: all,
        service_account: fields.parsed("serviceAccount", ServiceAccount::parse),
        command: Command {
            command,
            args: words("args"),
            env: environment(&fields),
            working_dir: fields.text("workingDir").map(|text| text.value),
        },
        readiness: fields.get("readinessProbe").and_then(|node| probe(node, &ports, reader)),
        ports,
        replicas: fields.integer("replicas", 0, 1000).map_or(1, |number| number.value as u32),
        restart: fields.choice("restartPolicy", &restart).map(|at| at.value).unwrap_or_default(),
    })
}

/// A list of numbers, or of `{name, port}` (`containerPort` is taken too, since people paste it).
fn ports(fields: &Fields<'_>) -> Vec<ProcessPort> {
    let reader = fields.reader;
    let mut ports: Vec<ProcessPort> = Vec::new();
    for item in fields.list("ports") {
        let port = match item.value {
            Value::Map(_) => {
                reader.fields(item, &["name", "port", "containerPort", "protocol"], &[]).and_then(|port| {
                    port.choice("protocol", &[("TCP", ()), ("UDP", ())]);
                    let number = if port.has("containerPort") {
                        port.port("containerPort")
                    } else {
                        port.need("port").and_then(|node| reader.port(node))
                    };
                    Some(ProcessPort {
                        name: port.text("name").map(|text| text.value).unwrap_or_default(),
                        port: number?.value,
                    })
                })
            }
            _ => reader.port(item).map(|number| ProcessPort { name: Str::default(), port: number.value }),
        };
        let Some(port) = port else { continue };
        if ports.iter().any(|other| other.port == port.port) {
            reader.error(item.span, format!("port {} is there already", port.port));
        } else {
            ports.push(port);
        }
    }
    ports
}

/// A mapping, or Kubernetes' list of `{name, value}`. Numbers and booleans are taken as they are written.
fn environment(fields: &Fields<'_>) -> BTreeMap<Str, Str> {
    let reader = fields.reader;
    let Some(node) = fields.get("env") else { return BTreeMap::new() };
    let value = |node: &Node| match &node.value {
        Value::Null => Some(Str::default()),
        Value::Bool(value) => Some(Str::from(value.to_string())),
        Value::Integer(value) => Some(Str::from(value.to_string())),
        _ => reader.text(node).map(|text| text.value),
    };
    match &node.value {
        Value::Map(entries) => {
            entries.iter().filter_map(|(key, node)| Some((Str::from(&*key.value), value(node)?))).collect()
        }
        _ => fields
            .each("env", &["name", "value"], &["valueFrom"])
            .filter_map(|item| {
                let name = item.need_text("name")?;
                Some((name.value, item.get("value").map_or_else(|| Some(Str::default()), value)?))
            })
            .collect(),
    }
}

fn probe(node: &Node, ports: &[ProcessPort], reader: &Reader) -> Option<Probe> {
    let fields = reader.fields(
        node,
        &[
            "httpGet",
            "tcpSocket",
            "exec",
            "initialDelaySeconds",
            "periodSeconds",
            "timeoutSeconds",
            "failureThreshold",
            "successThreshold",
        ],
        &["grpc", "terminationGracePeriodSeconds"],
    )?;
    let port = |fields: &Fields<'_>| {
        let node = fields.need("port")?;
        let Some(name) = node.as_text() else { return reader.port(node).map(|port| port.value) };
        let named = ports.iter().find(|port| port.name == name).map(|port| port.port);
        if named.is_none() {
            reader.error(node.span, format!("no port of this process is named {name:?}"));
        }
        named
    };
    let check =
        if let Some(get) = fields.fields("httpGet", &["port", "path", "scheme"], &["host", "httpHeaders"]) {
            if get.choice("scheme", &[("HTTP", false), ("HTTPS", true)]).is_some_and(|tls| tls.value) {
                get.unsupported("scheme");
            }
            let path = get.text("path").map_or_else(|| "/".into(), |text| text.value);
            ProbeCheck::HttpGet { port: port(&get)?, path }
        } else if let Some(socket) = fields.fields("tcpSocket", &["port"], &["host"]) {
            ProbeCheck::TcpSocket { port: port(&socket)? }
        } else if let Some(exec) = fields.fields("exec", &["command"], &[]) {
            ProbeCheck::Exec { command: exec.texts("command").into_iter().map(|text| text.value).collect() }
        } else {
            if !fields.has("grpc") {
                reader.error(fields.first_line(), "a probe needs `httpGet`, `tcpSocket` or `exec`");
            }
            return None;
        };
    let seconds = |name, default| {
        Duration::from_secs(fields.integer(name, 0, 86_400).map_or(default, |number| number.value as u64))
    };
    let times = |name, default| fields.integer(name, 1, 1000).map_or(default, |number| number.value as u32);
    Some(Probe {
        check,
        initial_delay: seconds("initialDelaySeconds", 0),
        // Processes on one machine start in milliseconds, so this is shorter than Kubernetes' ten.
        period: seconds("periodSeconds", 1).max(Duration::from_secs(1)),
        timeout: seconds("timeoutSeconds", 1).max(Duration::from_secs(1)),
        failure_threshold: times("failureThreshold", 3),
        success_threshold: times("successThreshold", 1),
    })
}
