//! `lateen status`: is the mesh well?

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use lateen_control::api::types::{Object, ObjectState, Problem, Proxy, Status};
use serde::Serialize;

use crate::args::{Format, StatusArgs};
use crate::mesh::Announcement;
use crate::output::{BAD, GOOD, Output, STRONG, Table, WARN, WithHint as _, plural, styled};

/// Everything the command knows, as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    #[serde(flatten)]
    mesh: &'a Announcement,
    control: &'a Status,
}

pub(super) fn run(args: StatusArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let mesh = Announcement::find(args.state.state.as_deref())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let status = runtime.block_on(mesh.api().status()).context("ask the control plane");
    let status = status.hint("it is started again when it ends; `lateen up` tells why it does")?;
    if args.format.output == Format::Json {
        output.json(&Report { mesh: &mesh, control: &status })?;
    } else {
        show(&mesh, &status, output)?;
    }
    let well = status.ready && status.proxies.iter().all(|proxy| proxy.refused.is_empty());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(mesh: &Announcement, status: &Status, output: &mut Output) -> anyhow::Result<()> {
    let mut head = Table::without_head();
    head.row(["mesh", &format!("{}, revision {}", status.trust_domain, status.revision)]);
    head.row(["objects", &status.directory]);
    head.row(["state", &status.state]);
    head.row(["environment", &mesh.environment]);
    head.row(["admin pages", &format!("http://{}/", mesh.admin)]);
    if let Some(authority) = &status.authority {
        let signed = plural(authority.issued, "certificate");
        head.row([
            "authority",
            &format!("{signed} signed, root expires {}", from_now(authority.root_expires)),
        ]);
    }
    output.line(head)?;
    if mesh.environment == lateen_sandbox::Environment::Plain.name() {
        output.line(styled(
            WARN,
            "plain mode: processes share the machine's network; this is no security boundary",
        ))?;
    }
    for waiting in &status.waiting_for {
        output.line(styled(WARN, format!("waiting for {waiting}")))?;
    }
    for (source, problem) in
        status.sources.iter().flat_map(|one| one.problems.iter().map(move |p| (&one.name, p)))
    {
        output.line(styled(BAD, format!("{source}: {problem}")))?;
    }
    output.line("")?;
    proxies(&status.proxies, output)?;
    objects(&status.objects, output)?;
    // What is no object at all: a kind that nobody knows, a text that is not YAML.
    for (number, problem) in status.problems.iter().enumerate() {
        let gap = if number == 0 { "\n" } else { "" };
        output.line(format!("{gap}{}", styled(BAD, place(problem))))?;
    }
    Ok(())
}

/// A problem with the place where it stands.
fn place(problem: &Problem) -> String {
    format!("{}:{}:{}: {}", problem.file, problem.line, problem.column, problem.message)
}

fn proxies(proxies: &[Proxy], output: &mut Output) -> anyhow::Result<()> {
    let mut table = Table::new(["PROXY", "ROLE", "IDENTITY", "REVISION", "CERTIFICATE"]);
    for proxy in proxies {
        let revision = match proxy.revision {
            Some(revision) if proxy.current => styled(GOOD, revision),
            Some(revision) => styled(WARN, format!("{revision} (behind)")),
            None => styled(WARN, "none yet"),
        };
        let certificate = proxy.certificate_expires.map_or_else(|| "unknown".to_owned(), from_now);
        table.row([&proxy.node, &proxy.role, &proxy.identity, &revision, &format!("expires {certificate}")]);
    }
    output.line(table)?;
    for proxy in proxies {
        for (resource, why) in &proxy.refused {
            output.line(styled(BAD, format!("{} refused {resource}: {why}", proxy.node)))?;
        }
    }
    Ok(())
}

fn objects(objects: &[Object], output: &mut Output) -> anyhow::Result<()> {
    let telling = |object: &&Object| object.state != ObjectState::Accepted || !object.problems.is_empty();
    for object in objects.iter().filter(telling) {
        let name = format!("{} {}/{}", object.kind, object.namespace, object.name);
        let style = if object.state <= ObjectState::Unsupported { WARN } else { BAD };
        let state = format!("{:?}", object.state);
        output.line(format!(
            "\n{}: {} ({}:{})",
            styled(STRONG, name),
            styled(style, state),
            object.file,
            object.line
        ))?;
        for problem in &object.problems {
            output.line(format!("  {}", place(problem)))?;
        }
    }
    Ok(())
}

/// `in 23 h 59 min`, or `3 min ago`.
fn from_now(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = Duration::from_secs(seconds);
    let (left, form) = if at >= now { (at - now, ("in ", "")) } else { (now - at, ("", " ago")) };
    let minutes = left.as_secs() / 60;
    let text = match minutes {
        0..=59 => format!("{minutes} min"),
        60..=2879 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => plural(minutes / 1440, "day"),
    };
    format!("{}{text}{}", form.0, form.1)
}
