//! The command line. One module for each command: its arguments, and `execute`, which gives the exit code.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Parser, Subcommand};

mod building;
mod check;
mod completions;
pub(crate) mod configuration;
mod consume;
mod dead_letter;
mod dev;
mod doctor;
mod door;
mod interrupt;
mod json;
mod lag;
mod lanes;
mod log;
pub(crate) mod logging;
mod offsets;
mod plugin;
mod printable;
mod produce;
mod progress;
pub(crate) mod redraw;
mod retries;
mod routes;
mod run;
mod table;
mod tail;
mod test;
mod token;
mod top;

pub(crate) use dev::program;

/// Routes Kafka events through sandboxed WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    logging: logging::Arguments,
    #[command(flatten)]
    progress: progress::Arguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Dev(dev::Arguments),
    Test(test::Arguments),
    Produce(produce::Arguments),
    Consume(consume::Arguments),
    #[command(subcommand)]
    DeadLetter(Box<dead_letter::Command>),
    Doctor(doctor::Arguments),
    Lag(lag::Arguments),
    Lanes(lanes::Arguments),
    #[command(subcommand)]
    Offsets(offsets::Command),
    #[command(subcommand)]
    Plugin(plugin::Command),
    Retries(retries::Arguments),
    Routes(routes::Arguments),
    Tail(tail::Arguments),
    Top(top::Arguments),
    Completions(completions::Arguments),
}

/// How a command ended. The numbers are documented, and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Fine = 0,
    /// The answer is no: a test failed, a topic is not there.
    No = 1,
    /// The configuration, or the command line, is wrong.
    Configuration = 2,
    /// It could not start.
    NotStarted = 3,
    /// It was stopped by an error.
    Fatal = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    // Wrong arguments end here, with exit code 2.
    let Cli { logging, progress, command } = Cli::parse();
    progress::start(&progress);
    let level = match command {
        Command::Dev(_) if io::stdout().is_terminal() => "error",
        // What lanes say of records that are given in order to fail is no news, and what an examination is told is in its answer.
        Command::Test(_) | Command::Doctor(_) => "off",
        // What can't be found out is in the answer, and a picture is not to be written over.
        Command::Lag(_) => "error",
        // To write lines would be measured, too.
        Command::Plugin(plugin::Command::Bench(_)) => "error",
        _ => "info",
    };
    if let Err(message) = logging::start(&logging, level) {
        complain(&format!("error: {message}"));
        return Exit::Configuration.into();
    }
    let exit = match command {
        Command::Run(arguments) => run::execute(&arguments),
        Command::Check(arguments) => check::execute(&arguments),
        Command::Test(arguments) => test::execute(&arguments),
        Command::Dev(arguments) => dev::execute(&arguments),
        Command::Produce(arguments) => produce::execute(&arguments),
        Command::Consume(arguments) => consume::execute(&arguments),
        Command::DeadLetter(command) => dead_letter::execute(&command),
        Command::Doctor(arguments) => doctor::execute(&arguments),
        Command::Lag(arguments) => lag::execute(&arguments),
        Command::Lanes(arguments) => lanes::execute(&arguments),
        Command::Offsets(command) => offsets::execute(&command),
        Command::Plugin(command) => plugin::execute(&command),
        Command::Retries(arguments) => retries::execute(&arguments),
        Command::Routes(arguments) => routes::execute(&arguments),
        Command::Tail(arguments) => tail::execute(&arguments),
        Command::Top(arguments) => top::execute(&arguments),
        Command::Completions(arguments) => completions::execute(&arguments),
    };
    match UNSAID.get() {
        Some(error) if exit == Exit::Fine => output_failed(error, &mut complain),
        _ => exit,
    }
    .into()
}

/// Why something of the answer could not be printed.
static UNSAID: OnceLock<io::Error> = OnceLock::new();

/// Prints a line for the user: the answer of a command, on standard output. If that can't be written to, the command ends
/// with an error.
///
/// A reader that has gone away (`pointsman … | head`) is no error.
pub(crate) fn say(text: &str) {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => drop(UNSAID.set(error)),
        _ => {}
    }
}

/// The answer did not get to the user.
fn output_failed(error: &io::Error, complain: &mut dyn FnMut(&str)) -> Exit {
    complain(&format!("error: can't write to standard output: {error}"));
    Exit::Fatal
}

/// Prints an error or a note to the user, on standard error.
pub(crate) fn complain(text: &str) {
    let _ = progress::aside(|| writeln!(io::stderr(), "{text}"));
}

/// Prints an error with its causes.
pub(crate) fn complain_of(error: &dyn std::error::Error) {
    complain(&format!("error: {}", with_causes(error)));
}

/// An error, and below it its causes, a line each.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  because: {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
