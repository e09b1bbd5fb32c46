//! Processes: only a dump of the control plane holds them.

use super::common::{
    Result, check_requires, duration_from_pb, duration_to_pb, each, key, labels_to_pb, mirror, need,
    object_from_pb, object_to_pb, port, strs, texts,
};
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    Command, Key, Namespace, Probe, ProbeCheck, Process, ProcessPort, Resource, RestartPolicy, Run,
    ServiceAccount,
};

mirror!(restart_to_pb, restart_from_pb: RestartPolicy = pb::process::Restart {
    Always = Always, OnFailure = OnFailure, Never = Never,
});

pub(super) fn to_pb(key: &Key, process: &Process) -> pb::Process {
    use pb::process::Run as Wire;
    let run = match &process.run {
        Run::Gateway => Wire::Gateway(pb::GatewayProxy {}),
        Run::Command(command) => Wire::Command(pb::Command {
            command: texts(&command.command),
            args: texts(&command.args),
            env: command.env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            working_dir: command.working_dir.as_ref().map(ToString::to_string),
        }),
    };
    let port = |port: &ProcessPort| pb::ProcessPort { name: port.name.to_string(), port: port.port.into() };
    pb::Process {
        key: key.to_string(),
        requires: Vec::new(),
        object: object_to_pb(key, &process.key),
        name: process.name.to_string(),
        namespace: process.namespace.to_string(),
        labels: labels_to_pb(&process.labels),
        service_account: process.service_account.to_string(),
        run: Some(run),
        ports: process.ports.iter().map(port).collect(),
        replicas: process.replicas,
        readiness: process.readiness.as_ref().map(probe_to_pb),
        restart: restart_to_pb(process.restart),
    }
}

pub(super) fn from_pb(message: pb::Process) -> Result<(Key, Resource)> {
    use pb::process::Run as Wire;
    check_requires(&message.requires)?;
    let own = key(&message.key)?;
    let run = match need(message.run, "run")? {
        Wire::Gateway(_) => Run::Gateway,
        Wire::Command(command) => Run::Command(Command {
            command: strs(command.command),
            args: strs(command.args),
            env: command.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            working_dir: command.working_dir.map(Into::into),
        }),
    };
    let process = Process {
        key: object_from_pb(&own, &message.object)?,
        name: message.name.into(),
        namespace: Namespace::parse(&message.namespace)?,
        labels: message.labels.into_iter().collect(),
        service_account: ServiceAccount::parse(&message.service_account)?,
        run,
        ports: each(message.ports, "ports", |one| {
            Ok(ProcessPort { name: one.name.into(), port: port(one.port)? })
        })?,
        replicas: message.replicas,
        readiness: message.readiness.map(probe_from_pb).transpose()?,
        restart: restart_from_pb(message.restart)?,
    };
    Ok((own, Resource::Process(process)))
}

fn probe_to_pb(probe: &Probe) -> pb::Probe {
    use pb::probe::Check;
    let check = match &probe.check {
        ProbeCheck::HttpGet { port, path } => {
            Check::HttpGet(pb::HttpGet { port: (*port).into(), path: path.to_string() })
        }
        ProbeCheck::TcpSocket { port } => Check::TcpPort((*port).into()),
        ProbeCheck::Exec { command } => Check::Exec(pb::Exec { command: texts(command) }),
    };
    pb::Probe {
        check: Some(check),
        initial_delay: Some(duration_to_pb(probe.initial_delay)),
        period: Some(duration_to_pb(probe.period)),
        timeout: Some(duration_to_pb(probe.timeout)),
        failure_threshold: probe.failure_threshold,
        success_threshold: probe.success_threshold,
    }
}

fn probe_from_pb(message: pb::Probe) -> Result<Probe> {
    use pb::probe::Check;
    let check = match need(message.check, "check")? {
        Check::HttpGet(get) => ProbeCheck::HttpGet { port: port(get.port)?, path: get.path.into() },
        Check::TcpPort(number) => ProbeCheck::TcpSocket { port: port(number)? },
        Check::Exec(exec) => ProbeCheck::Exec { command: strs(exec.command) },
    };
    Ok(Probe {
        check,
        initial_delay: duration_from_pb(need(message.initial_delay, "initial_delay")?)?,
        period: duration_from_pb(need(message.period, "period")?)?,
        timeout: duration_from_pb(need(message.timeout, "timeout")?)?,
        failure_threshold: message.failure_threshold,
        success_threshold: message.success_threshold,
    })
}
