//! A plugin of each language: what it costs alone, and what becomes of it under load in one router.
//!
//! ```text
//! cargo bench --locked -p pointsman-tests --bench languages                  # ten minutes of load
//! cargo bench --locked -p pointsman-tests --bench languages -- --minutes 1
//! cargo bench --locked -p pointsman-tests --bench languages -- --only go,c --save
//! cargo bench --locked -p pointsman-tests --bench languages -- --part load    # or `alone`
//! ```
//!
//! The plugins are those of `tests/languages`, a folder each, and the one in Rust that they are compared with
//! (`tests/guests/conformance`); all of them do the same. First each is measured alone (`pointsman plugin bench` does that,
//! too), and a new plugin is built twice, without and with what the compiler has kept. Then one router has a route for each,
//! all of them on one source topic of an embedded log, and is given as many records as the slowest can take. It ends with an
//! error if any call traps, runs into its deadline, or gives a malformed answer, or if any record has another fate than
//! it is to have. Instances that reach their memory limit are replaced, and counted.
//!
//! CPU of an event under load is that of the whole process but for the thread that writes records, over the events of all
//! routes.
#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

mod alone;
mod building;
mod load;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use pointsman_tests::{places, plugins};

/// What each plugin is configured with: it repeats it in its answers.
const CONFIG: &str = r#"{"currency":"EUR"}"#;

/// What headers ask the plugins for, in turn; without one that they know they describe the whole event.
const ANSWERS: [&str; 6] = ["pass", "describe", "drop", "rewrite", "pass", "nulls"];

/// The memory that an instance may have, in MiB: Python's grows.
const MEMORY_MIB: usize = 128;

#[derive(Parser)]
#[command(about = "What plugins of each language cost, alone and under load")]
struct Options {
    /// Minutes of load.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seconds for which each size of a batch is measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only these languages, by the names of their folders.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What is measured; both without it.
    #[arg(long)]
    part: Option<Part>,
    /// Keep the tables in tests/bench/results: languages.md, and languages-load.md.
    #[arg(long)]
    save: bool,
    /// What Cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of what is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What each plugin costs alone.
    Alone,
    /// What becomes of them in one router.
    Load,
}

/// A plugin that does what all of them do.
struct Subject {
    language: String,
    component: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let [time, load] = [options.seconds, options.minutes * 60.0].map(Duration::try_from_secs_f64);
    let (time, load) = (time.context("--seconds")?, load.context("--minutes")?);
    let subjects = subjects(&options.only)?;
    if options.part != Some(Part::Load) {
        let circumstances = circumstances();
        let costs = alone::table(&subjects, time)?;
        let text = format!("# What a plugin of each language costs\n\n{costs}\n{circumstances}\n");
        tell("languages.md", &text, options.save)?;
    }
    if options.part == Some(Part::Alone) {
        return Ok(());
    }
    let circumstances = circumstances();
    let under_load = load::run(&subjects, load)?;
    let text =
        format!("# Plugins of each language under load, in one router\n\n{}\n{circumstances}\n", under_load.text());
    tell("languages-load.md", &text, options.save)?;
    under_load.verdict()
}

/// Prints what was measured, and keeps it if that is wanted.
fn tell(name: &str, text: &str, save: bool) -> anyhow::Result<()> {
    println!("{text}");
    if save {
        let file = places::workspace().join("tests/bench/results").join(name);
        fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
    }
    Ok(())
}

/// The one in Rust, and one for each folder of `tests/languages`.
fn subjects(only: &[String]) -> anyhow::Result<Vec<Subject>> {
    let wanted = |language: &str| only.is_empty() || only.iter().any(|only| only == language);
    let mut subjects = Vec::new();
    if wanted("rust") {
        subjects.push(Subject { language: "rust".into(), component: plugins::component("conformance")? });
    }
    let folder = places::workspace().join("tests/languages");
    let mut languages = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("can't read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            languages.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    languages.sort();
    for language in languages.into_iter().filter(|language| wanted(language)) {
        let component = building::component(&folder.join(&language))?;
        subjects.push(Subject { language, component });
    }
    ensure!(!subjects.is_empty(), "there is no plugin in any of {only:?}");
    Ok(subjects)
}

/// On what, and when, this is measured.
fn circumstances() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let profile = if cfg!(debug_assertions) { "with the checks of a test build" } else { "optimised" };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    format!(
        "- {processors} processors; others had a load of {load} on them at the start; the router is {profile}\n\
         - {}, version {}\n\
         - `cargo bench --locked -p pointsman-tests --bench languages -- {}`",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        env!("CARGO_PKG_VERSION"),
        arguments.join(" ")
    )
}
