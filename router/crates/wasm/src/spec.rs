//! What the router says of one plugin.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;

/// One plugin to be loaded.
#[derive(Clone, Debug)]
pub struct PluginSpec {
    /// Name, for errors and logs.
    pub name: Arc<str>,
    /// File of the component.
    pub component: PathBuf,
    /// SHA-256 that the file must have.
    pub sha256: Option<Digest>,
    /// What `configure` is given: JSON text.
    pub config: String,
    /// What one instance, and one call, may use.
    pub limits: Limits,
    /// What it may use beyond computing: `clock`, `random`, `stdout`, and `env:NAME` for each variable.
    pub grants: Vec<String>,
}

/// What one instance, and one call, may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, all its memories together, in bytes.
    pub memory_bytes: usize,
    /// CPU time of one call, to about [`TICK`](crate::TICK); and of making an instance, its `configure` included. Waiting
    /// for a processor is not counted.
    pub deadline: Duration,
    /// Bytes that the verdicts of one call may hold: every text, key, value, header name and header value, and
    /// [`HEADER_BYTES`](crate::HEADER_BYTES) more for each header. Texts count in full, also where only their heads are kept.
    pub output_bytes: usize,
    /// Events that the verdicts of one call may emit in all.
    pub output_events: usize,
    /// Elements of one table.
    pub table_elements: usize,
}

/// What a plugin was granted, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    pub(crate) clock: bool,
    pub(crate) random: bool,
    pub(crate) stdout: bool,
    /// Names and values.
    pub(crate) environment: Vec<(String, String)>,
}

/// Why a grant can't be given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GrantError {
    /// There is no such grant.
    Unknown(String),
    /// The variable isn't set, or isn't UTF-8.
    Unset(String),
}

impl Grants {
    /// Resolves grants. `variable` looks an environment variable up.
    pub(crate) fn resolve(grants: &[String], variable: impl Fn(&str) -> Option<String>) -> Result<Self, GrantError> {
        let mut resolved = Self::default();
        for grant in grants {
            match (grant.as_str(), grant.strip_prefix("env:")) {
                ("clock", _) => resolved.clock = true,
                ("random", _) => resolved.random = true,
                ("stdout", _) => resolved.stdout = true,
                (_, Some(name)) if !name.is_empty() => {
                    let value = variable(name).ok_or_else(|| GrantError::Unset(name.into()))?;
                    resolved.environment.push((name.into(), value));
                }
                _ => return Err(GrantError::Unknown(grant.clone())),
            }
        }
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(grants: &[&str]) -> Result<Grants, GrantError> {
        let grants: Vec<String> = grants.iter().map(|grant| (*grant).into()).collect();
        Grants::resolve(&grants, |name| (name == "REGION").then(|| "eu".into()))
    }

    #[test]
    fn nothing_is_granted_that_is_not_named() {
        assert_eq!(resolve(&[]), Ok(Grants::default()));
        let all = Grants { clock: true, random: true, stdout: true, environment: vec![("REGION".into(), "eu".into())] };
        assert_eq!(resolve(&["stdout", "random", "env:REGION", "clock"]), Ok(all));
        assert_eq!(resolve(&["env:HOME"]), Err(GrantError::Unset("HOME".into())));
        for unknown in ["env:", "network", "Clock", ""] {
            assert_eq!(resolve(&[unknown]), Err(GrantError::Unknown(unknown.into())));
        }
    }
}
