//! What a machine allows, from the best to the least.

use serde::{Deserialize, Serialize};

/// How pods are made on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Environment {
    /// Namespaces made directly, with the privileges that the caller has.
    Root,
    /// Namespaces made inside a user namespace; no privilege needed.
    UserNamespace,
    /// No namespaces: processes share the machine's network. Not a security boundary.
    Plain,
}

impl Environment {
    /// In the order in which they are tried.
    pub const ALL: [Environment; 3] = [Environment::Root, Environment::UserNamespace, Environment::Plain];

    /// The word for arguments and output.
    pub fn name(self) -> &'static str {
        match self {
            Environment::Root => "root",
            Environment::UserNamespace => "user-namespace",
            Environment::Plain => "plain",
        }
    }

    /// The environment called `name`.
    pub fn parse(name: &str) -> Option<Environment> {
        Environment::ALL.into_iter().find(|environment| environment.name() == name)
    }

    /// Whether pods have network namespaces of their own.
    pub fn has_namespaces(self) -> bool {
        self != Environment::Plain
    }
}

impl std::fmt::Display for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Environment::Root => "namespaces, as root",
            Environment::UserNamespace => "namespaces inside a user namespace",
            Environment::Plain => "plain: no namespaces, not a security boundary",
        })
    }
}
