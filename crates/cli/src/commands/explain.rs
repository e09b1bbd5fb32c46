//! `lateen explain`: what would happen to a request, decision by decision, by the functions of the proxies.

mod json;
mod offline;

use std::process::ExitCode;

use anyhow::Context as _;
use lateen_engine::{CannotAsk, Journey, Question, journey};

use lateen_model::Catalog;

use crate::args::{ExplainArgs, Format};
use crate::mesh::Announcement;
use crate::output::{BAD, DIM, GOOD, Output, STRONG, WithHint as _, WrongUsage, plural, styled};

pub(super) fn run(args: &ExplainArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let question = question(args)?;
    let (catalog, errors) = match &args.dir {
        Some(dir) => {
            let mesh = offline::read(dir)?;
            (mesh.catalog, mesh.errors)
        }
        None => (running(args)?, 0),
    };
    let journey = match journey(&catalog, &question) {
        Ok(journey) => journey,
        Err(error @ CannotAsk::Url { .. }) => return Err(WrongUsage(error.to_string()).into()),
        Err(error @ CannotAsk::NoWorkload { .. }) => {
            return Err(error).hint("--from takes the NAMESPACE/NAME of a Process or WorkloadEntry");
        }
    };
    if let (1.., Some(dir)) = (errors, &args.dir) {
        let errors = plural(errors as u64, "error");
        output.note(format_args!("{errors} in these files; see: lateen check {}", dir.display()))?;
    }
    match args.format.output {
        Format::Json => output.json(&json::journey(&journey))?,
        Format::Text => text(&journey, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that the running mesh means, from its control plane.
fn running(args: &ExplainArgs) -> anyhow::Result<Catalog> {
    let mesh = Announcement::find(args.state.state.as_deref())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let yaml = runtime.block_on(mesh.api().catalog()).context("ask the control plane")?;
    Ok(lateen_wire::json::from_yaml(&yaml).context("read what the control plane said")?.catalog)
}

fn question(args: &ExplainArgs) -> anyhow::Result<Question> {
    let header = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| WrongUsage(format!("header {text:?} is not NAME=VALUE")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let headers: Result<_, WrongUsage> = args.header.iter().map(header).collect();
    Ok(Question {
        from: args.from.clone(),
        to: args.to.clone(),
        method: args.method.clone(),
        headers: headers?,
        random: 0,
    })
}

fn text(journey: &Journey, output: &mut Output) -> anyhow::Result<()> {
    for line in journey.to_string().lines() {
        let style = match line.trim_start() {
            verdict if verdict.starts_with("=> DENIED") => Some(BAD),
            verdict if verdict.starts_with("=>") => Some(GOOD),
            skipped if skipped.starts_with("no  ") => Some(DIM),
            head if head.len() == line.len() => Some(STRONG),
            _ => None,
        };
        match style {
            Some(style) => output.line(styled(style, line))?,
            None => output.line(line)?,
        }
    }
    Ok(())
}
