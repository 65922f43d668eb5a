//! The log: tracing to standard error, for people or as JSON.

use std::io::IsTerminal as _;

use clap::ValueEnum;

use crate::log_filter::{self, LogFilter};

/// Where and how much is logged.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How log lines look, on standard error.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// What is logged: a level, or directives such as `info,pointsman=debug`. Default: `info`; for commands that draw
    /// on the terminal, `error`.
    #[arg(long, global = true, env = "POINTSMAN_LOG")]
    log: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log of the process.
///
/// # Errors
/// A sentence: what is to be logged can't be read.
pub(crate) fn start(arguments: &Arguments, default: &str) -> Result<(), String> {
    let wanted = arguments.log.as_deref().unwrap_or(default);
    let filter = log_filter::parse(wanted).map_err(|error| format!("--log or POINTSMAN_LOG: {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_writer(|| super::progress::Stderr)
        // It would be told on standard error, by a macro that panics where that can't be written to: a full disk must not
        // end a worker.
        .log_internal_errors(false);
    let wanted = wanted.to_owned();
    // A second start in one process (tests) keeps the first.
    match arguments.log_format {
        Format::Text => {
            let log = log.with_target(false).with_ansi(std::io::stderr().is_terminal());
            let log = log.with_env_filter(filter).with_filter_reloading();
            let handle = log.reload_handle();
            if log.try_init().is_ok() {
                log_filter::set_of_process(LogFilter::new(wanted, move |filter| {
                    handle.reload(filter).map_err(|error| error.to_string())
                }));
            }
        }
        Format::Json => {
            let log = log.json().flatten_event(true).with_current_span(true).with_span_list(false);
            let log = log.with_env_filter(filter).with_filter_reloading();
            let handle = log.reload_handle();
            if log.try_init().is_ok() {
                log_filter::set_of_process(LogFilter::new(wanted, move |filter| {
                    handle.reload(filter).map_err(|error| error.to_string())
                }));
            }
        }
    }
    Ok(())
}
