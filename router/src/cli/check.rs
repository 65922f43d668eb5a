//! `pointsman check`: says everything that is wrong with a configuration.

use std::path::PathBuf;

use pointsman_config::acls;
use pointsman_config::plan::BrokerPlan;

use super::{Exit, complain, configuration, say};

/// Check a configuration, and say everything that is wrong with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    file: PathBuf,
    /// Print the smallest set of Kafka ACLs that each route needs.
    #[arg(long)]
    acls: bool,
    /// Who the ACLs are for.
    #[arg(long, default_value = "User:pointsman", requires = "acls")]
    principal: String,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let plan = match configuration::load(&arguments.file) {
        Ok(configuration) => configuration.plan,
        Err(exit) => return exit,
    };
    if arguments.acls {
        let bootstrap = match &plan.broker {
            BrokerPlan::Kafka { bootstrap, .. } => bootstrap.as_str(),
            BrokerPlan::Embedded { .. } => {
                complain("error: the embedded log has no ACLs; give the configuration a `broker.bootstrap`");
                return Exit::No;
            }
        };
        say(acls::render(&acls::acls(&plan), bootstrap, &arguments.principal).trim_end());
    } else {
        let (routes, plugins) = (counted(plan.routes.len(), "route"), counted(plan.plugins.len(), "plugin"));
        say(&format!("{} is fine: {routes}, {plugins}", arguments.file.display()));
    }
    Exit::Fine
}

fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
