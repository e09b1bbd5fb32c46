//! `lateen check PATH…`: what is wrong in files, without a mesh.
//!
//! Nothing is said of files that are right. An error, and a field of a security object that is not enforced,
//! exits with 1; a field about traffic that is not enforced, or a warning, only with `--strict`.

mod picture;

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::Context as _;
use lateen_model::Str;
use lateen_world::{Problem, Settings, Severity, load};
use serde::Serialize;

use crate::args::{CheckArgs, Format};
use crate::objects;
use crate::output::{BAD, Output, WARN, plural, styled};

/// How bad a problem is to somebody who asks whether files are right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Weight {
    Warning,
    Error,
}

impl Weight {
    fn of(problem: &Problem) -> Self {
        let security = problem.object.as_ref().is_some_and(|object| object.kind.is_security());
        match problem.severity {
            Severity::Error => Self::Error,
            Severity::Unsupported if security => Self::Error,
            Severity::Unsupported | Severity::Warning => Self::Warning,
        }
    }
}

/// A problem as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    severity: Weight,
    /// The field or kind is right, and not enforced yet.
    unsupported: bool,
    file: &'a str,
    line: u32,
    column: u32,
    length: u32,
    object: Option<String>,
    field: Option<&'a str>,
    text: &'a str,
    message: &'a str,
    expected: Option<&'a str>,
    suggestion: Option<&'a str>,
}

pub(super) fn run(args: &CheckArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let found = objects::read(&args.paths)
        .map_err(|(path, error)| anyhow::Error::from(error).context(format!("read {}", path.display())))?;
    let texts: HashMap<Str, String> = found.files.iter().cloned().collect();
    let mut problems = found.problems;
    problems.extend(load(Settings::default(), found.files).problems);
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    let errors = problems.iter().filter(|problem| Weight::of(problem) == Weight::Error).count();
    match args.format.output {
        Format::Json => {
            output.json(&problems.iter().map(row).collect::<Vec<_>>()).context("write the result")?;
        }
        Format::Text => {
            for problem in &problems {
                let text = texts.get(&problem.file).map(String::as_str).unwrap_or_default();
                output.line(picture::draw(problem, Weight::of(problem) == Weight::Error, text))?;
                output.line("")?;
            }
            if !problems.is_empty() {
                output.note(summary(errors, problems.len() - errors))?;
            }
        }
    }
    let failed = errors > 0 || (args.strict && !problems.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn summary(errors: usize, warnings: usize) -> String {
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(styled(BAD, plural(errors as u64, "error")));
    }
    if warnings > 0 {
        parts.push(styled(WARN, plural(warnings as u64, "warning")));
    }
    parts.join(", ")
}

fn row(problem: &Problem) -> Row<'_> {
    Row {
        severity: Weight::of(problem),
        unsupported: problem.severity == Severity::Unsupported,
        file: &problem.file,
        line: problem.line,
        column: problem.column,
        length: problem.length,
        object: problem.object.as_ref().map(ToString::to_string),
        field: problem.field.as_deref(),
        text: &problem.text,
        message: &problem.message,
        expected: problem.expected.as_deref(),
        suggestion: problem.suggestion.as_deref(),
    }
}
