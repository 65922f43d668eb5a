//! What `pointsman check --json` says.

use pointsman_config::acls::{self, Acl, Resource, RouteAcls};
use serde::Serialize;

/// What is to be said of a configuration.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// The configuration file, as it was named.
    pub(super) file: String,
    /// Whether there is no error among the findings, which is what exit code 0 says.
    pub(super) fine: bool,
    /// How many routes it has; null where it can't be used.
    pub(super) routes: Option<usize>,
    /// How many plugins it has; null where it can't be used.
    pub(super) plugins: Option<usize>,
    /// Those of the file in its order, then those of the components.
    pub(super) findings: Vec<Finding>,
}

/// One thing that is wrong, doubtful, or worth a note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) severity: Severity,
    /// The thing and the cause, in a sentence without a full stop.
    pub(super) message: String,
    /// The remedy, where it is not in the message.
    pub(super) help: Option<String>,
    /// The file that it stands in; null, as line and column, where it stands nowhere: it is about a component, or the whole.
    pub(super) file: Option<String>,
    /// The line, from 1.
    pub(super) line: Option<usize>,
    /// The column in characters, from 1.
    pub(super) column: Option<usize>,
    /// Other places of the file that have to do with it, each with what is there.
    pub(super) others: Vec<Other>,
    /// The plugin that it is about, where it is about a component.
    pub(super) plugin: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Severity {
    /// The router does not run with it, or --strict refuses it.
    Error,
    /// The router runs, and what is written may not be what is meant.
    Warning,
    /// Good to know.
    Note,
}

/// Another place of the same file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Other {
    /// From 1.
    line: usize,
    /// In characters, from 1.
    column: usize,
    /// What is there.
    label: String,
}

impl Finding {
    /// One that stands nowhere in the file.
    pub(super) fn new(severity: Severity, message: String, plugin: Option<String>) -> Self {
        Self { severity, message, help: None, file: None, line: None, column: None, others: Vec::new(), plugin }
    }
}

impl From<&pointsman_config::Finding> for Finding {
    fn from(finding: &pointsman_config::Finding) -> Self {
        let other = |(line, column, label): (usize, usize, &str)| Other { line, column, label: label.to_owned() };
        Self {
            severity: if finding.is_mistake() { Severity::Error } else { Severity::Warning },
            message: finding.message().to_owned(),
            help: Some(finding.help().to_owned()),
            file: Some(finding.file().to_owned()),
            line: Some(finding.line()),
            column: Some(finding.column()),
            others: finding.others().map(other).collect(),
            plugin: None,
        }
    }
}

/// What `check --acls --json` says.
#[derive(Debug, Serialize)]
pub(super) struct Rights {
    /// Who they are for.
    principal: String,
    /// In the order of the file.
    routes: Vec<RouteRights>,
}

/// The rights of one route.
#[derive(Debug, Serialize)]
struct RouteRights {
    /// Its name.
    route: String,
    /// What the router needs.
    run: Vec<Right>,
    /// What whoever replays or discards its dead letters needs.
    handle: Vec<Right>,
}

/// One right.
#[derive(Debug, Serialize)]
struct Right {
    /// On what: `group`, `topic`, `transactional-id` or `cluster`.
    resource: &'static str,
    /// Its name; null for the cluster.
    name: Option<String>,
    /// `literal`, or `prefixed`: all whose names begin with this one.
    pattern: &'static str,
    /// As `kafka-acls.sh` has it, such as `Read`.
    operation: &'static str,
    /// Why, and when it can be done without.
    why: &'static str,
    /// The command for a shell that gives it.
    command: String,
}

impl Rights {
    pub(super) fn new(routes: &[RouteAcls], bootstrap: &str, principal: &str) -> Self {
        let right = |acl: &Acl| {
            let (resource, name, pattern) = match &acl.resource {
                Resource::Group(name) => ("group", Some(name), "literal"),
                Resource::Topic(name) => ("topic", Some(name), "literal"),
                Resource::TransactionalId(name) => ("transactional-id", Some(name), "literal"),
                Resource::TransactionalIdPrefix(name) => ("transactional-id", Some(name), "prefixed"),
                Resource::Cluster => ("cluster", None, "literal"),
            };
            let (name, operation) = (name.map(ToString::to_string), acl.operation.name());
            let command = acls::command(acl, bootstrap, principal);
            Right { resource, name, pattern, operation, why: acl.why, command }
        };
        let rights = |acls: &[Acl]| acls.iter().map(right).collect();
        let of = |RouteAcls { route, acls, handling }: &RouteAcls| RouteRights {
            route: route.to_string(),
            run: rights(acls),
            handle: rights(handling),
        };
        Self { principal: principal.to_owned(), routes: routes.iter().map(of).collect() }
    }
}
