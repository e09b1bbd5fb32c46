//! `docs/reference/commands/` is written from the declarations of the flags, and stays what they say.
//!
//! After a change of help: `RENEW=1 cargo test -p lateen --test reference`, and commit the result.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory as _};
use lateen_cli::args::Cli;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/commands")
}

/// Name of a page to its text, for every command and for the list of them.
fn pages() -> BTreeMap<String, String> {
    let mut root = Cli::command();
    root.build();
    let mut pages = BTreeMap::new();
    let mut list = "# Commands\n\n".to_owned();
    for command in root.get_subcommands_mut().filter(|command| !command.is_hide_set()) {
        let name = command.get_name().to_owned();
        writeln!(list, "* [lateen {name}]({name}.md): {}", command.get_about().unwrap()).unwrap();
        pages.insert(format!("{name}.md"), page(&name, command));
    }
    list.push_str(
        "\nEach exits with 0 when it worked, 1 when it did not and 2 when it was called wrongly.\n",
    );
    pages.insert("README.md".to_owned(), list);
    pages
}

fn page(name: &str, command: &mut Command) -> String {
    let about = command.get_long_about().or(command.get_about()).unwrap().to_string();
    let usage = command.render_usage().to_string();
    let mut page = format!("# lateen {name}\n\n{about}\n\n```text\n{}\n```\n", usage.trim());
    let flags: Vec<&Arg> = command.get_arguments().filter(|flag| is_told(flag)).collect();
    if !flags.is_empty() {
        page.push_str("\n| | | default |\n| --- | --- | --- |\n");
    }
    for flag in flags {
        writeln!(page, "| {} | {} | {} |", term(flag), meaning(flag), default(flag)).unwrap();
    }
    if let Some(examples) = command.get_after_help() {
        let lines: Vec<String> =
            examples.to_string().lines().skip(1).map(|line| line.trim().to_owned()).collect();
        writeln!(page, "\n## Examples\n\n```sh\n{}\n```", lines.join("\n")).unwrap();
    }
    page
}

fn is_told(flag: &Arg) -> bool {
    !flag.is_hide_set() && !["help", "version", "color"].contains(&flag.get_id().as_str())
        || flag.get_id() == "version" && flag.get_num_args().is_some_and(|values| values.takes_values())
}

/// `--rate <PER_SECOND>`.
fn term(flag: &Arg) -> String {
    let values: Vec<String> =
        flag.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>")).collect();
    let takes = flag.get_action().takes_values();
    let value = if takes { values.join(" ") } else { String::new() };
    let name = flag.get_long().map(|long| format!("--{long}")).unwrap_or_default();
    format!("`{}`", [name, value].join(" ").trim())
}

fn meaning(flag: &Arg) -> String {
    let help = flag.get_long_help().or(flag.get_help()).unwrap().to_string();
    let values = flag.get_possible_values();
    let values: Vec<String> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    let choice = match values.is_empty() || !flag.get_action().takes_values() {
        true => String::new(),
        false => format!(": {}", values.join(", ")),
    };
    let text = help.split_whitespace().collect::<Vec<_>>().join(" ") + &choice;
    text.replace('|', "\\|")
}

fn default(flag: &Arg) -> String {
    let values = flag.get_default_values();
    let values: Vec<_> =
        values.iter().map(|value| value.to_string_lossy()).filter(|value| !value.is_empty()).collect();
    if values.is_empty() || !flag.get_action().takes_values() {
        String::new()
    } else {
        format!("`{}`", values.join(" "))
    }
}

#[test]
fn the_reference_says_what_the_flags_say() {
    let (directory, pages) = (directory(), pages());
    if std::env::var_os("RENEW").is_some() {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in &pages {
            fs::write(directory.join(name), text).unwrap();
        }
    }
    let there: BTreeMap<String, String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect();
    for (name, text) in &pages {
        let renew = "renew with: RENEW=1 cargo test -p lateen --test reference";
        assert_eq!(
            there.get(name),
            Some(text),
            "docs/reference/commands/{name} is not what the code says; {renew}"
        );
    }
    assert_eq!(there.len(), pages.len(), "a page without a command");
}
