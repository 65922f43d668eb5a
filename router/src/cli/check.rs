//! `pointsman check`: says everything that is wrong with a configuration.

mod answer;

use std::path::{Path, PathBuf};

use pointsman_config::acls;
use pointsman_config::plan::{AdminPlan, BrokerPlan, ComponentPlan, Plan, PluginPlan, Role};
use pointsman_wasm::{Inspection, Provision, Sandbox};

use self::answer::{Answer, Finding, Rights, Severity};
use super::configuration::{self, Configuration, Environment, Unusable};
use super::{Exit, complain, complain_of, json, printable, say, with_causes};
use crate::topology::{self, StartError};

/// Check a configuration and the components that it names, and say everything that is wrong with them.
///
/// Where a plugin imports what it is not granted, that is said, and what it finds in its place. A component that is not
/// there is said, too, and is no mistake: it may be built later.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    file: PathBuf,
    /// Refuse plugins that import anything that they are not granted, and components that are not there.
    #[arg(long, conflicts_with = "acls")]
    strict: bool,
    /// Print the smallest set of Kafka ACLs that each route needs.
    #[arg(long)]
    acls: bool,
    /// Who the ACLs are for.
    #[arg(long, default_value = "User:pointsman", requires = "acls")]
    principal: String,
    /// Print what was found, mistakes of the file included, as one JSON object; with --acls, the rights.
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    if arguments.acls {
        return rights(arguments);
    }
    if arguments.json { for_a_program(arguments) } else { for_a_person(arguments) }
}

fn rights(arguments: &Arguments) -> Exit {
    let plan = match configuration::load(&arguments.file) {
        Ok(configuration) => configuration.plan,
        Err(exit) => return exit,
    };
    let bootstrap = match &plan.broker {
        BrokerPlan::Kafka { bootstrap, .. } => bootstrap.as_str(),
        BrokerPlan::Embedded { .. } => {
            complain("error: the embedded log has no ACLs; give the configuration a `broker.bootstrap`");
            return Exit::No;
        }
    };
    let acls = acls::acls(&plan);
    if arguments.json {
        return json::answer(&Rights::new(&acls, bootstrap, &arguments.principal), Exit::Fine);
    }
    say(acls::render(&acls, bootstrap, &arguments.principal).trim_end());
    Exit::Fine
}

/// The mistakes of the file, and its warnings, are shown with their lines.
fn for_a_person(arguments: &Arguments) -> Exit {
    let Configuration { plan, directory } = match configuration::load(&arguments.file) {
        Ok(configuration) => configuration,
        Err(exit) => return exit,
    };
    let found = match findings(&plan, &directory, arguments.strict) {
        Ok(found) => found,
        Err(error) => {
            complain_of(&error);
            return Exit::NotStarted;
        }
    };
    for Finding { severity, message, .. } in &found {
        complain(&format!("{}: {message}", if *severity == Severity::Error { "error" } else { "note" }));
    }
    if is_wrong(&found) {
        return Exit::Configuration;
    }
    let (routes, plugins) = (counted(plan.routes.len(), "route"), counted(plan.plugins.len(), "plugin"));
    say(&format!("{} is fine: {routes}, {plugins}", arguments.file.display()));
    Exit::Fine
}

/// All of it is one answer.
fn for_a_program(arguments: &Arguments) -> Exit {
    let file = arguments.file.display().to_string();
    let (Configuration { plan, directory }, warnings) = match configuration::read(&arguments.file, &Environment) {
        Ok(read) => read,
        Err(Unusable::Wrong(errors)) => {
            let findings = errors.mistakes().iter().map(Finding::from).collect();
            return json::answer(
                &Answer { file, fine: false, routes: None, plugins: None, findings },
                Exit::Configuration,
            );
        }
        Err(unread @ Unusable::Unread { .. }) => {
            complain(&format!("error: {unread}"));
            return Exit::Configuration;
        }
    };
    let mut found: Vec<Finding> = warnings.iter().map(Finding::from).collect();
    match findings(&plan, &directory, arguments.strict) {
        Ok(more) => found.extend(more),
        Err(error) => {
            complain_of(&error);
            return Exit::NotStarted;
        }
    }
    let fine = !is_wrong(&found);
    let (routes, plugins) = (Some(plan.routes.len()), Some(plan.plugins.len()));
    let exit = if fine { Exit::Fine } else { Exit::Configuration };
    json::answer(&Answer { file, fine, routes, plugins, findings: found }, exit)
}

fn is_wrong(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// What is to be said of a plan besides what its file shows.
fn findings(plan: &Plan, directory: &Path, strict: bool) -> Result<Vec<Finding>, StartError> {
    let open = plan.admin.as_ref().and_then(open_to_others);
    let mut found: Vec<Finding> = open.map(|note| Finding::new(Severity::Note, note, None)).into_iter().collect();
    let mut sandbox = None;
    for plugin in &plan.plugins {
        let ComponentPlan::File(file) = &plugin.component else { continue };
        let file = directory.join(file);
        let severity = if strict { Severity::Error } else { Severity::Note };
        let named = |severity, message| Finding::new(severity, message, Some(plugin.name.to_string()));
        if !file.exists() {
            let (name, file) = (&plugin.name, file.display());
            let message =
                format!("plugin {name}: {file} is not there, so it was not looked at; build it, or correct its path");
            found.push(named(severity, message));
            continue;
        }
        let sandbox = match &mut sandbox {
            Some(sandbox) => sandbox,
            none => none.insert(topology::sandbox_to_look()?),
        };
        match lacking(sandbox, plugin, &file) {
            Ok(lines) => {
                found.extend(lines.into_iter().map(|line| named(severity, format!("plugin {}: {line}", plugin.name))));
            }
            Err(why) => found.push(named(Severity::Error, why)),
        }
    }
    Ok(found)
}

/// What a plugin imports and is not granted; or why this router could not load it.
fn lacking(sandbox: &Sandbox, plugin: &PluginPlan, file: &Path) -> Result<Vec<String>, String> {
    match sandbox.examine(&topology::spec(plugin, file)) {
        Ok(inspection) => Ok(without(&inspection, &plugin.grants)),
        Err(error) => Err(with_causes(&error)),
    }
}

/// Who can get to the admin door from elsewhere.
fn open_to_others(admin: &AdminPlan) -> Option<String> {
    (!admin.listen.ip().is_loopback()).then(|| {
        let operators = admin.tokens.iter().filter(|token| token.role == Role::Operator).count();
        let readers = admin.tokens.len() - operators;
        format!(
            "other machines can reach the admin door at {}: with the tokens of {} and {}, and without TLS, which is to be put in \
             front of it where others can listen",
            admin.listen,
            counted(operators, "operator"),
            counted(readers, "reader"),
        )
    })
}

/// What a plugin imports and is not granted: a line for each grant that it lacks, and for each import that is denied.
fn without(inspection: &Inspection, grants: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for (import, provision) in &inspection.imports {
        let import = printable::line(import);
        match provision {
            Some(provision @ Provision::StandIn { is, .. }) => {
                if let Some(grant) = provision.lacks(grants) {
                    lines.push(format!("it imports {import}, and is not granted {grant:?}: it gets {is}"));
                }
            }
            Some(Provision::Denied) => {
                lines.push(format!("it imports {import}, which is never granted: its functions trap"));
            }
            Some(Provision::Host) | None => {}
        }
    }
    lines
}

fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use pointsman_wasm::Digest;

    use super::*;

    #[test]
    fn a_door_that_others_can_reach_is_told() {
        let (plan, _) =
            pointsman_config::compile(pointsman_config::REFERENCE, "r", &|_: &str| Some("v".repeat(16))).unwrap();
        let mut admin = plan.admin.unwrap();
        assert_eq!(open_to_others(&admin), None);
        admin.listen = "0.0.0.0:7090".parse().unwrap();
        let told = open_to_others(&admin).unwrap();
        assert!(told.contains("with the tokens of 1 operator and 1 reader, and without TLS"), "{told}");
    }

    #[test]
    fn what_a_plugin_is_not_granted_is_said_with_what_it_gets() {
        let random = Provision::StandIn { grant: Some("random"), is: "a fixed stream" };
        let inspection = Inspection {
            digest: Digest([0; 32]),
            bytes: 0,
            exports: None,
            callable: true,
            imports: vec![
                ("pointsman:plugin/host@0.1.0".into(), Some(Provision::Host)),
                ("wasi:io/poll@0.2.6".into(), Some(Provision::StandIn { grant: None, is: "waits" })),
                ("wasi:random/random@0.2.6".into(), Some(random)),
                ("wasi:http/types@0.2.6".into(), Some(Provision::Denied)),
            ],
            memory_bytes: 0,
        };
        let denied = "it imports wasi:http/types@0.2.6, which is never granted: its functions trap";
        let lacked = "it imports wasi:random/random@0.2.6, and is not granted \"random\": it gets a fixed stream";
        assert_eq!(without(&inspection, &[]), [lacked, denied]);
        assert_eq!(without(&inspection, &["random".into()]), [denied]);
    }
}
