#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::CommandFactory as _;

use super::Cli;

/// Commands without `--json`, and why they have none.
const WITHOUT_JSON: [(&str, &str); 4] = [
    ("run", "what it tells is its log, which is JSON lines with --log-format json"),
    ("dev", "it draws a picture for a person; who wants data asks the admin door"),
    ("consume", "its answer is data already: JSON lines, unless --format says otherwise"),
    ("completions", "its answer is a program for a shell"),
];

/// Every command that can be run, by the words that lead to it.
fn runnable(command: &clap::Command, above: &str, found: &mut Vec<(String, clap::Command)>) {
    for below in command.get_subcommands() {
        let path = if above.is_empty() { below.get_name().to_owned() } else { format!("{above} {}", below.get_name()) };
        runnable(below, &path, found);
        if !below.is_subcommand_required_set() {
            found.push((path, below.clone()));
        }
    }
}

#[test]
fn every_command_has_json_or_a_reason_to_have_none() {
    let mut commands = Vec::new();
    runnable(&Cli::command(), "", &mut commands);
    assert!(commands.len() > 25, "{commands:?}");
    for (path, command) in &commands {
        let json = command.get_arguments().find(|argument| argument.get_long() == Some("json"));
        let reason = WITHOUT_JSON.iter().find(|(name, _)| name == path);
        match (json, reason) {
            (None, None) => panic!("`{path}` has no --json, and is not in the list of those that need none"),
            (Some(_), Some((_, why))) => panic!("`{path}` has --json, and the list says that it has none: {why}"),
            (Some(json), None) => {
                let help = json.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("JSON"), "`{path}` does not say what its --json prints: {help:?}");
            }
            (None, Some(_)) => {}
        }
    }
    for (name, _) in WITHOUT_JSON {
        assert!(commands.iter().any(|(path, _)| path == name), "there is no command `{name}`");
    }
}
