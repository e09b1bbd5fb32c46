//! Tables of a run: printed, kept in its record, and put into the documentation from there.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use lateen_cli::output::{Output, Table};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::machine::Machine;

/// One table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sheet {
    pub(crate) title: String,
    pub(crate) heads: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Sheet {
    pub(crate) fn new<const N: usize>(title: impl Into<String>, heads: [&str; N]) -> Self {
        Sheet { title: title.into(), heads: heads.map(str::to_owned).into(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn print(&self, output: &mut Output) -> anyhow::Result<()> {
        output.line(format_args!("\n{}\n", self.title))?;
        let mut table = Table::without_head();
        table.row(&self.heads);
        for row in &self.rows {
            table.row(row);
        }
        output.line(table.numbers_from(1))?;
        Ok(())
    }

    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("| --- |{}\n", " ---: |".repeat(self.heads.len().saturating_sub(1)));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("**{}**\n\n{}{rule}{rows}", self.title, line(&self.heads))
    }
}

/// Prints the tables and writes the record of a run to `NAME.json`.
pub(crate) fn publish(
    results: &Path,
    name: &str,
    machine: &Machine,
    sheets: &[Sheet],
    notes: &[String],
    details: Value,
    output: &mut Output,
) -> anyhow::Result<()> {
    for sheet in sheets {
        sheet.print(output)?;
    }
    for note in notes {
        output.line(format_args!("\n{note}"))?;
    }
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let record = json!({
        "bench": name,
        "command": command,
        "machine": machine,
        "notes": notes,
        "sheets": sheets,
        "details": details,
    });
    fs::create_dir_all(results)?;
    let path = results.join(format!("{name}.json"));
    let mut json = serde_json::to_string_pretty(&record)?;
    json.push('\n');
    fs::write(&path, json).with_context(|| format!("write {}", path.display()))?;
    output.note(format_args!("\nwritten: {}", path.display()))?;
    Ok(())
}
