//! Completions, by the shells that read them where they are installed.

use std::process::{Command, Stdio};

fn script(shell: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
    let output = command.args(["completions", shell]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_shell_knows_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = script(shell);
        for word in ["run", "status", "service-account", "environment"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

/// What a shell says to a question asked after it has read the script; none when it is not installed.
fn ask(shell: &str, arguments: &[&str], question: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("_lateen");
    std::fs::write(&file, script(shell)).unwrap();
    let question = question.replace("SCRIPT", file.to_str().unwrap());
    let mut command = Command::new(shell);
    command.args(arguments).arg(question).stdin(Stdio::null()).env("HOME", directory.path());
    let output = command.output().ok()?;
    assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn bash_completes() {
    let question = "source SCRIPT
        COMP_WORDS=(lateen run --na) COMP_CWORD=2
        _lateen lateen --na run
        echo ${COMPREPLY[@]}
        COMP_WORDS=(lateen sta) COMP_CWORD=1
        _lateen lateen sta lateen
        echo ${COMPREPLY[@]}";
    if let Some(said) = ask("bash", &["--norc", "-c"], question) {
        assert_eq!(said, "--name --namespace\nstatus\n");
    }
}

#[test]
fn fish_completes() {
    let question = "source SCRIPT; complete -C 'lateen sta'; complete -C 'lateen run --na'";
    if let Some(said) = ask("fish", &["--no-config", "-c"], question) {
        for word in ["status", "--name", "--namespace"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}

#[test]
fn zsh_reads_the_script() {
    let question = "autoload -Uz compinit && compinit -u -D; source SCRIPT; whence -w _lateen";
    if let Some(said) = ask("zsh", &["-f", "-c"], question) {
        assert_eq!(said, "_lateen: function\n");
    }
}
