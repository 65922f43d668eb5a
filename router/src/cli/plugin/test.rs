//! `pointsman plugin test`: what a plugin says of sample events, compared with what it is to say.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_config::plan::PluginLimits;
use pointsman_wasm::{PluginSpec, Plugins, Sandbox, SandboxSettings, WorkerPlugins};
use serde::Serialize;

use super::build::exit_of;
use crate::cli::building::Builder;
use crate::cli::{Exit, complain, complain_of, say};
use crate::plugin_test;
use crate::record_text::{RecordLine, parse_line};
use crate::toolchain::ToolchainChoice;
use crate::topology::{self, StartError};

/// Where a plugin's folder has its samples.
const SAMPLES: &str = "samples";

/// The time at which samples are judged, in milliseconds since 1970-01-01 UTC: the same on each run.
const NOW_MS: i64 = 1_700_000_000_000;

/// Run a plugin over sample events, and compare its verdicts with the expected ones.
///
/// The plugin is built first, if it is a folder, and runs in the sandbox that the router has, within the limits that a
/// configuration has by default. Its folder `samples` has `events.jsonl` (records as `pointsman produce` reads them),
/// `verdicts.jsonl` (a line of JSON for each) and, if it needs one, `config.json`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The plugin's folder, or its component.
    plugin: PathBuf,
    /// The folder of the samples. By default `samples` beside the plugin's sources, or beside its component.
    #[arg(long, value_name = "FOLDER")]
    samples: Option<PathBuf>,
    /// Write what the plugin says as what is expected, instead of comparing.
    #[arg(long)]
    bless: bool,
    /// What the plugin is granted: clock, random, stdout, env:NAME.
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
    /// Which wasm32 toolchain to use for Rust.
    #[arg(long, value_enum, default_value_t)]
    toolchain: ToolchainChoice,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let is_folder = arguments.plugin.is_dir();
    let beside = if is_folder { Some(arguments.plugin.as_path()) } else { arguments.plugin.parent() };
    let folder = arguments.samples.clone().unwrap_or_else(|| beside.unwrap_or(Path::new("")).join(SAMPLES));
    // The samples first: to build takes longer.
    let samples = match Samples::read(&folder, arguments.bless) {
        Ok(samples) => samples,
        Err(message) => {
            complain(&format!("error: {message}"));
            return Exit::Configuration;
        }
    };
    let component = match is_folder {
        true => Builder::new(arguments.toolchain).build(&arguments.plugin),
        false => Ok(arguments.plugin.clone()),
    };
    let component = match component {
        Ok(component) => component,
        Err(error) => {
            complain_of(&error);
            return exit_of(&error);
        }
    };
    let mut worker = match load(component, &samples.config, &arguments.grants) {
        Ok(worker) => worker,
        Err(error) => {
            complain_of(&error);
            return Exit::NotStarted;
        }
    };
    match plugin_test::judge(&mut worker, &samples.events, NOW_MS) {
        Ok(said) if arguments.bless => samples.bless(&said),
        Ok(said) => samples.compare(said).conclude(arguments.json),
        Err(trouble) => {
            complain(&format!("error: {trouble}"));
            Exit::No
        }
    }
}

/// The plugin as a route without limits of its own would have it.
fn load(component: PathBuf, config: &str, grants: &[String]) -> Result<WorkerPlugins, StartError> {
    let limits = topology::limits(&PluginLimits::default());
    let sandbox = Sandbox::new(&SandboxSettings {
        workers: NonZeroUsize::MIN,
        plugins: 1,
        memory_bytes: limits.memory_bytes,
        table_elements: limits.table_elements,
        cache: topology::cache_directory(),
    })?;
    let name = component.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy());
    let spec = PluginSpec {
        name: Arc::from(&*name),
        component: component.clone(),
        sha256: None,
        config: config.to_owned(),
        limits,
        grants: grants.to_vec(),
    };
    Ok(Plugins::new(vec![sandbox.load(&spec)?]).worker())
}

/// Sample events, and what is to be said of them.
struct Samples {
    events: Vec<RecordLine>,
    config: String,
    verdicts_file: PathBuf,
    /// Without empty lines.
    verdicts: Vec<String>,
}

impl Samples {
    /// Reads a folder of samples; where they are blessed, there need be no verdicts.
    fn read(folder: &Path, bless: bool) -> Result<Self, String> {
        let text = |name: &str| {
            let file = folder.join(name);
            fs::read_to_string(&file).map_err(|error| (error.kind(), format!("can't read {}: {error}", file.display())))
        };
        let missing = |(kind, message)| match kind {
            std::io::ErrorKind::NotFound => Ok(String::new()),
            _ => Err(message),
        };
        let events_text = text("events.jsonl").map_err(|(_, message)| {
            format!("{message}; write an event a line, such as {{\"key\": \"a\", \"value\": {{\"id\": 1}}}}")
        })?;
        let mut events = Vec::new();
        for (number, line) in numbered(&events_text) {
            let event = parse_line(line);
            events.push(
                event.map_err(|error| format!("{}: line {number}: {error}", folder.join("events.jsonl").display()))?,
            );
        }
        if events.is_empty() {
            return Err(format!("{} has no events; write one a line", folder.join("events.jsonl").display()));
        }
        let verdicts = match text("verdicts.jsonl") {
            Err(absent) if bless => missing(absent)?,
            read => read.map_err(|(_, message)| format!("{message}; `--bless` writes it"))?,
        };
        let config = text("config.json").or_else(missing)?;
        let config = if config.trim().is_empty() { "{}".to_owned() } else { config };
        let object: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&config);
        if let Err(error) = object {
            return Err(format!("{}: not a JSON object: {error}", folder.join("config.json").display()));
        }
        let verdicts = numbered(&verdicts).map(|(_, line)| line.to_owned()).collect();
        Ok(Self { events, config, verdicts_file: folder.join("verdicts.jsonl"), verdicts })
    }

    fn bless(&self, said: &[String]) -> Exit {
        let text: String = said.iter().map(|line| format!("{line}\n")).collect();
        if let Err(error) = fs::write(&self.verdicts_file, text) {
            complain(&format!("error: can't write {}: {error}", self.verdicts_file.display()));
            return Exit::NotStarted;
        }
        say(&format!("{} verdicts written to {}", said.len(), self.verdicts_file.display()));
        Exit::Fine
    }

    fn compare(&self, said: Vec<String>) -> Results {
        let events = said.len();
        let mut expected = self.verdicts.iter();
        let mut mismatches = Vec::new();
        for (index, got) in said.into_iter().enumerate() {
            let expected = expected.next();
            if !expected.is_some_and(|expected| plugin_test::same(expected, &got)) {
                mismatches.push(Mismatch { event: index + 1, expected: expected.cloned(), got: Some(got) });
            }
        }
        let surplus = expected.zip(events + 1..);
        mismatches.extend(surplus.map(|(line, event)| Mismatch { event, expected: Some(line.clone()), got: None }));
        Results { passed: events.saturating_sub(mismatches.len()), failed: mismatches.len(), mismatches }
    }
}

/// The lines that are not empty, with their numbers.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty())
}

/// What came of the comparison.
#[derive(Debug, Serialize)]
struct Results {
    passed: usize,
    failed: usize,
    mismatches: Vec<Mismatch>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Mismatch {
    /// Number of the event, from 1.
    event: usize,
    /// The line that is expected; null where there is none.
    expected: Option<String>,
    /// The line that was said; null where there is no such event.
    got: Option<String>,
}

impl Results {
    fn conclude(&self, json: bool) -> Exit {
        if json {
            match serde_json::to_string_pretty(self) {
                Ok(text) => say(&text),
                Err(error) => {
                    complain(&format!("error: can't write the results as JSON: {error}"));
                    return Exit::Fatal;
                }
            }
        } else {
            for Mismatch { event, expected, got } in &self.mismatches {
                say(&format!("event {event}"));
                say(&format!("  expected  {}", expected.as_deref().unwrap_or("nothing: there is no line for it")));
                say(&format!("  got       {}", got.as_deref().unwrap_or("nothing: there is no such event")));
            }
            say(&format!("{} passed, {} failed", self.passed, self.failed));
        }
        if self.failed == 0 { Exit::Fine } else { Exit::No }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    #[test]
    fn each_difference_is_told_with_its_event() {
        let events = "{\"value\":1}\n\n{\"value\":2}\n{\"value\":3}\n";
        let verdicts = "\"pass\"\n{ \"drop\" : \"old\" }\n";
        let folder = folder(&[("events.jsonl", events), ("verdicts.jsonl", verdicts)]);
        let samples = Samples::read(folder.path(), false).unwrap();
        let said = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let results = samples.compare(said(&["\"pass\"", "{\"drop\":\"old\"}", "\"pass\""]));
        assert_eq!((results.passed, results.failed), (2, 1));
        let missing = Mismatch { event: 3, expected: None, got: Some("\"pass\"".into()) };
        assert_eq!(results.mismatches, [missing]);
        let fewer = samples.compare(said(&["\"pass\""]));
        assert_eq!((fewer.failed, fewer.mismatches[0].event, fewer.mismatches[0].got.as_ref()), (1, 2, None));
        assert_eq!(samples.compare(said(&["\"pass\"", "{\"drop\":\"new\"}", "\"pass\""])).failed, 2);
    }

    #[test]
    fn samples_that_cannot_be_read_say_where() {
        let read = |files: &[(&str, &str)], bless| Samples::read(folder(files).path(), bless).err();
        let good = ("events.jsonl", "{\"value\":1}");
        assert!(read(&[], false).unwrap().contains("events.jsonl"));
        assert!(read(&[("events.jsonl", "\n")], true).unwrap().contains("has no events"));
        assert!(read(&[("events.jsonl", "{\"value\":1}\n{\"vaule\":1}")], true).unwrap().contains("line 2"));
        assert!(read(&[good], false).unwrap().contains("--bless"));
        assert_eq!(read(&[good], true), None);
        assert!(read(&[good, ("config.json", "[]")], true).unwrap().contains("not a JSON object"));
    }
}
