//! Puts the tables of the last runs into the documentation, between markers that name a run:
//! `<!-- bench:http -->` and `<!-- /bench:http -->`, or one table of it: `<!-- bench:http:0 -->`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use lateen_cli::output::Output;
use serde::Deserialize;

use crate::sheet::Sheet;

/// Write the tables of the last runs into README.md and docs/performance.md.
#[derive(Debug, Clone, Args)]
pub(crate) struct DocsArgs {
    /// Directory of results.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
}

/// What of a record the documentation shows.
#[derive(Deserialize)]
struct Record {
    command: String,
    machine: Place,
    notes: Vec<String>,
    sheets: Vec<Sheet>,
}

#[derive(Deserialize)]
struct Place {
    taken: String,
    processor: String,
    cores: usize,
    kernel: String,
}

pub(crate) fn run(args: &DocsArgs, output: &mut Output) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for page in ["README.md", "docs/performance.md"] {
        let path = root.join(page);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let block = |name: &str| block(&args.results, name);
        let filled = fill(&text, block)?;
        if filled != text {
            fs::write(&path, filled).with_context(|| format!("write {}", path.display()))?;
            output.note(format_args!("written: {page}"))?;
        }
    }
    Ok(())
}

/// Replaces what stands between each pair of markers; a block that nothing is known of stays.
fn fill(text: &str, block: impl Fn(&str) -> anyhow::Result<Option<String>>) -> anyhow::Result<String> {
    const OPEN: &str = "<!-- bench:";
    const SHUT: &str = " -->";
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let after = &rest[at + OPEN.len()..];
        let (name, _) = after.split_once(SHUT).context("a marker that does not end")?;
        let end = format!("<!-- /bench:{name}{SHUT}");
        let (old, next) = after[name.len() + SHUT.len()..]
            .split_once(&end)
            .with_context(|| format!("no {end} after its beginning"))?;
        filled.push_str(&rest[..at]);
        let new = block(name)?.map(|new| format!("\n{new}"));
        filled.push_str(&format!("{OPEN}{name}{SHUT}{}{end}", new.as_deref().unwrap_or(old)));
        rest = next;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// All tables of a run, or one; none when there is no record.
fn block(results: &Path, name: &str) -> anyhow::Result<Option<String>> {
    let (run, number) = match name.split_once(':') {
        Some((run, number)) => (run, Some(number.parse::<usize>().context("a table has a number")?)),
        None => (name, None),
    };
    let Ok(text) = fs::read_to_string(results.join(format!("{run}.json"))) else { return Ok(None) };
    let record: Record = serde_json::from_str(&text).with_context(|| format!("read {run}.json"))?;
    let Place { taken, processor, cores, kernel } = &record.machine;
    let made = format!(
        "`cargo run --release -p lateen-bench -- {}`, {taken} UTC, {processor}, {cores} cores, Linux {kernel}; \
         median [min-max] of the rounds.\n",
        record.command
    );
    let sheets = record.sheets.iter().enumerate();
    let wanted = sheets.filter(|(at, _)| number.is_none_or(|number| number == *at));
    let tables: Vec<String> = wanted.map(|(_, sheet)| sheet.markdown()).collect();
    let notes: String = record.notes.iter().map(|note| format!("\n{note}\n")).collect();
    Ok(Some(format!("{made}\n{}{notes}", tables.join("\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_replaced_and_the_rest_stays() {
        let text = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n<!-- bench:y --><!-- /bench:y -->c";
        let known = |name: &str| Ok((name == "x").then(|| "new\n".to_owned()));
        let filled = fill(text, known).unwrap();
        let expected = "a\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nb\n<!-- bench:y --><!-- /bench:y -->c";
        assert_eq!(filled, expected);
        assert_eq!(fill(&filled, known).unwrap(), expected);
        assert!(fill("<!-- bench:x -->", known).is_err());
    }
}
