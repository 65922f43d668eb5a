//! `pointsman check`: says everything that is wrong with a configuration.

use std::path::{Path, PathBuf};

use pointsman_config::acls;
use pointsman_config::plan::{AdminPlan, BrokerPlan, ComponentPlan, Plan, Role};
use pointsman_wasm::{Inspection, Provision};

use super::{Exit, complain, complain_of, configuration, printable, say};
use crate::topology;

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
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let configuration = match configuration::load(&arguments.file) {
        Ok(configuration) => configuration,
        Err(exit) => return exit,
    };
    let plan = &configuration.plan;
    if arguments.acls {
        let bootstrap = match &plan.broker {
            BrokerPlan::Kafka { bootstrap, .. } => bootstrap.as_str(),
            BrokerPlan::Embedded { .. } => {
                complain("error: the embedded log has no ACLs; give the configuration a `broker.bootstrap`");
                return Exit::No;
            }
        };
        say(acls::render(&acls::acls(plan), bootstrap, &arguments.principal).trim_end());
        return Exit::Fine;
    }
    if let Some(note) = plan.admin.as_ref().and_then(open_to_others) {
        complain(&format!("note: {note}"));
    }
    let exit = components(plan, &configuration.directory, arguments.strict);
    if exit == Exit::Fine {
        let (routes, plugins) = (counted(plan.routes.len(), "route"), counted(plan.plugins.len(), "plugin"));
        say(&format!("{} is fine: {routes}, {plugins}", arguments.file.display()));
    }
    exit
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

/// Looks at the components of all plugins.
fn components(plan: &Plan, directory: &Path, strict: bool) -> Exit {
    let mut sandbox = None;
    let mut exit = Exit::Fine;
    let mut tell = |text: &str| {
        if strict {
            exit = Exit::Configuration;
        }
        complain(&format!("{}: {text}", if strict { "error" } else { "note" }));
    };
    let mut broken = false;
    for plugin in &plan.plugins {
        let ComponentPlan::File(file) = &plugin.component else { continue };
        let file = directory.join(file);
        if !file.exists() {
            let (name, file) = (&plugin.name, file.display());
            tell(&format!(
                "plugin {name}: {file} is not there, so it was not looked at; build it, or correct its path"
            ));
            continue;
        }
        let sandbox = match &mut sandbox {
            Some(sandbox) => sandbox,
            none => match topology::sandbox_to_look() {
                Ok(made) => none.insert(made),
                Err(error) => {
                    complain_of(&error);
                    return Exit::NotStarted;
                }
            },
        };
        match sandbox.examine(&topology::spec(plugin, &file)) {
            Ok(inspection) => {
                for line in without(&inspection, &plugin.grants) {
                    tell(&format!("plugin {}: {line}", plugin.name));
                }
            }
            Err(error) => {
                complain_of(&error);
                broken = true;
            }
        }
    }
    if broken { Exit::Configuration } else { exit }
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
