//! What a command says: results on stdout, progress and errors on stderr.
//!
//! Results are a table for people or JSON for programs. Colour appears only where a terminal shows
//! it, unless `--color` says otherwise, and NO_COLOR is honoured (<https://no-color.org>).

mod error;
mod table;
mod words;

pub use error::{WithHint, WrongUsage, causes, hints, is_broken_pipe};
pub use table::Table;
pub use words::{bytes, duration, plural, rate};

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::Style;
use serde::Serialize;

use crate::args::Color;

/// Heads of tables and the names in them.
pub const STRONG: Style = Style::new().bold();
/// What is less important.
pub const DIM: Style = Style::new().dimmed();
/// What went well.
pub const GOOD: Style = color(anstyle::AnsiColor::Green);
/// What needs a look.
pub const WARN: Style = color(anstyle::AnsiColor::Yellow);
/// What failed.
pub const BAD: Style = color(anstyle::AnsiColor::Red).bold();

const fn color(color: anstyle::AnsiColor) -> Style {
    Style::new().fg_color(Some(anstyle::Color::Ansi(color)))
}

/// `text` in a style; a stream that shows no colour removes it again.
pub fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Where a command writes.
pub struct Output {
    stdout: Box<dyn Write>,
    stderr: Box<dyn Write>,
    terminal: bool,
}

impl Output {
    /// The process's own stdout and stderr.
    pub fn of_process(color: Color) -> Self {
        let choice = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Output {
            stdout: Box::new(AutoStream::new(io::stdout(), choice)),
            stderr: Box::new(AutoStream::new(io::stderr(), choice)),
            terminal: io::IsTerminal::is_terminal(&io::stderr()),
        }
    }

    /// Two writers of a test, neither a terminal.
    pub fn to(stdout: impl Write + 'static, stderr: impl Write + 'static) -> Self {
        Output { stdout: Box::new(stdout), stderr: Box::new(stderr), terminal: false }
    }

    /// Whether somebody watches stderr, so that progress is worth showing.
    pub fn is_watched(&self) -> bool {
        self.terminal
    }

    /// One line of the result.
    pub fn line(&mut self, line: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.stdout, "{line}")?;
        self.stdout.flush()
    }

    /// The result as it stands.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()
    }

    /// The result as JSON, indented, with a newline at the end.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.stdout, value)?;
        self.line("")
    }

    /// A remark that is not part of the result, on stderr.
    pub fn note(&mut self, note: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.stderr, "{note}")?;
        self.stderr.flush()
    }

    /// Prints an error with its causes and its hint on stderr.
    pub fn report(&mut self, error: &anyhow::Error) {
        // Nothing can be done when stderr is gone.
        let _ = self.note(error::describe(error));
    }
}
