//! `pointsman plugin test`: what a plugin says of sample events, compared with what it is to say.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use pointsman_config::plan::PluginLimits;
use pointsman_wasm::{PluginSpec, Plugins, Sandbox, SandboxSettings, WorkerPlugins};
use serde::Serialize;

use super::samples::{self, SampleArguments, Samples, numbered, told};
use crate::cli::{Exit, complain, complain_of, json, say};
use crate::plugin_test;
use crate::topology::{self, StartError};

/// The time at which samples are judged, in milliseconds since 1970-01-01 UTC: the same on each run.
const NOW_MS: i64 = 1_700_000_000_000;

/// Run a plugin over sample events, and compare its verdicts with the expected ones.
///
/// The plugin is built first, if it is a folder, and runs in the sandbox that the router has, within the limits that a
/// configuration has by default. Its folder `samples` has `events.jsonl` (records as `pointsman produce` reads them),
/// `verdicts.jsonl` (a line of JSON for each) and, if it needs one, `config.json`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    samples: SampleArguments,
    /// Write what the plugin says as what is expected, instead of comparing.
    #[arg(long)]
    bless: bool,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    test(arguments).unwrap_or_else(|exit| exit)
}

fn test(arguments: &Arguments) -> Result<Exit, Exit> {
    let Arguments { samples, bless, json: is_json } = arguments;
    // The samples first: to build takes longer.
    let Samples { events, config } = told(samples.read())?;
    let expected = told(Expected::read(samples.folder().join("verdicts.jsonl"), *bless))?;
    let component = samples.component()?;
    let mut worker = load(component, config, &samples.grants).map_err(|error| {
        complain_of(&error);
        Exit::NotStarted
    })?;
    Ok(match plugin_test::judge(&mut worker, &events, NOW_MS) {
        Ok(said) if *bless => expected.bless(&said, *is_json),
        Ok(said) => expected.compare(said).conclude(*is_json),
        Err(trouble) => {
            complain(&format!("error: {trouble}"));
            Exit::No
        }
    })
}

/// The plugin as a route without limits of its own would have it.
fn load(component: PathBuf, config: String, grants: &[String]) -> Result<WorkerPlugins, StartError> {
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
        config,
        limits,
        grants: grants.to_vec(),
    };
    Ok(Plugins::new(vec![sandbox.load(&spec)?]).worker())
}

/// What is to be said of the samples.
struct Expected {
    file: PathBuf,
    /// Without empty lines.
    verdicts: Vec<String>,
}

impl Expected {
    /// Reads a file of verdicts; where they are blessed, there need be none.
    fn read(file: PathBuf, bless: bool) -> Result<Self, String> {
        let text = match samples::read(&file) {
            Err((io::ErrorKind::NotFound, _)) if bless => String::new(),
            text => text.map_err(|(_, message)| format!("{message}; `--bless` writes it"))?,
        };
        let verdicts = numbered(&text).map(|(_, line)| line.to_owned()).collect();
        Ok(Self { file, verdicts })
    }

    fn bless(&self, said: &[String], is_json: bool) -> Exit {
        let text: String = said.iter().map(|line| format!("{line}\n")).collect();
        if let Err(error) = fs::write(&self.file, text) {
            complain(&format!("error: can't write {}: {error}", self.file.display()));
            return Exit::NotStarted;
        }
        let file = self.file.display().to_string();
        if is_json {
            return json::answer(&Blessed { blessed: said.len(), file }, Exit::Fine);
        }
        say(&format!("{} verdicts written to {file}", said.len()));
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

/// What was written, with --bless.
#[derive(Debug, Serialize)]
struct Blessed {
    /// How many verdicts.
    blessed: usize,
    /// Where they are.
    file: String,
}

/// What came of the comparison.
#[derive(Debug, Serialize)]
struct Results {
    /// Events whose verdict is the expected one.
    passed: usize,
    /// All others, and verdicts that are expected of no event.
    failed: usize,
    /// Of each that failed.
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
    fn conclude(&self, is_json: bool) -> Exit {
        let exit = if self.failed == 0 { Exit::Fine } else { Exit::No };
        if is_json {
            return json::answer(self, exit);
        }
        for Mismatch { event, expected, got } in &self.mismatches {
            say(&format!("event {event}"));
            say(&format!("  expected  {}", expected.as_deref().unwrap_or("nothing: there is no line for it")));
            say(&format!("  got       {}", got.as_deref().unwrap_or("nothing: there is no such event")));
        }
        say(&format!("{} passed, {} failed", self.passed, self.failed));
        exit
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    #[test]
    fn each_difference_is_told_with_its_event() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("verdicts.jsonl");
        fs::write(&file, "\"pass\"\n\n{ \"drop\" : \"old\" }\n").unwrap();
        let expected = Expected::read(file, false).unwrap();
        let said = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let results = expected.compare(said(&["\"pass\"", "{\"drop\":\"old\"}", "\"pass\""]));
        assert_eq!((results.passed, results.failed), (2, 1));
        let missing = Mismatch { event: 3, expected: None, got: Some("\"pass\"".into()) };
        assert_eq!(results.mismatches, [missing]);
        let fewer = expected.compare(said(&["\"pass\""]));
        assert_eq!((fewer.failed, fewer.mismatches[0].event, fewer.mismatches[0].got.as_ref()), (1, 2, None));
        assert_eq!(expected.compare(said(&["\"pass\"", "{\"drop\":\"new\"}", "\"pass\""])).failed, 2);
    }

    #[test]
    fn expectations_must_be_there_unless_they_are_blessed() {
        let folder = tempfile::tempdir().unwrap();
        let read =
            |bless| Expected::read(folder.path().join("verdicts.jsonl"), bless).map(|expected| expected.verdicts);
        assert!(read(false).unwrap_err().contains("--bless"));
        assert_eq!(read(true), Ok(Vec::new()));
    }
}
