//! `pointsman doctor`: whether the log is fit for a configuration.

use std::path::PathBuf;

use serde::Serialize;

use super::table::{table, width};
use super::{Exit, complain_of, configuration, json, printable, say};
use crate::doctor::{self, Finding, Severity};

/// Ask the cluster, or the embedded log, whether it is fit for a configuration; nothing is changed by it.
///
/// Looks at brokers, topics, groups, progress and rights, and says of each thing that is wrong what can be done about it. With an
/// error among what was found, the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    file: PathBuf,
    /// Who the router is to the cluster, in the commands that give it rights.
    #[arg(long, default_value = "User:pointsman")]
    principal: String,
    /// Print what was found as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Answer<'a> {
    /// Of each thing that was looked at, in the order of the table.
    findings: &'a [Finding],
    /// How many of them are errors.
    errors: usize,
    /// How many of them are warnings.
    warnings: usize,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let configuration = match configuration::load(&arguments.file) {
        Ok(configuration) => configuration,
        Err(exit) => return exit,
    };
    let findings = match doctor::examine(&configuration.plan, &configuration.directory, &arguments.principal) {
        Ok(findings) => findings,
        Err(error) => {
            complain_of(&error);
            return Exit::NotStarted;
        }
    };
    let counted = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (counted(Severity::Error), counted(Severity::Warning));
    let exit = if errors > 0 { Exit::No } else { Exit::Fine };
    if arguments.json {
        return json::answer(&Answer { findings: &findings, errors, warnings }, exit);
    }
    say(&rows(&findings, width()));
    say(&format!("errors: {errors}, warnings: {warnings}"));
    exit
}

fn rows(findings: &[Finding], width: Option<u16>) -> String {
    let mut table = table(["", "thing", "finding"], &[0], width);
    for Finding { severity, thing, cause, remedy } in findings {
        let remedy = remedy.as_ref().map(|remedy| format!("\n-> {}", printable::line(remedy))).unwrap_or_default();
        table.add_row([
            severity.name().to_owned(),
            printable::line(thing),
            format!("{}{remedy}", printable::line(cause)),
        ]);
    }
    table.trim_fmt()
}
