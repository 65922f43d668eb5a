//! Sample events of a plugin, and the plugin that is to judge them: what the commands that run one have in common.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::build::exit_of;
use crate::cli::building::Builder;
use crate::cli::{Exit, complain, complain_of};
use crate::record_text::{RecordLine, parse_line};
use crate::toolchain::ToolchainChoice;

/// Where a plugin's folder has its samples.
const SAMPLES: &str = "samples";

/// Which plugin is to judge which events.
#[derive(Debug, clap::Args)]
pub(super) struct SampleArguments {
    /// The plugin's folder, or its component.
    plugin: PathBuf,
    /// The folder of the samples. By default `samples` beside the plugin's sources, or beside its component.
    #[arg(long, value_name = "FOLDER")]
    samples: Option<PathBuf>,
    /// The events, in place of `events.jsonl` of that folder.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// The plugin's configuration, in place of `config.json` of that folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What the plugin is granted: clock, random, stdout, env:NAME.
    #[arg(long = "grant", value_name = "GRANT")]
    pub(super) grants: Vec<String>,
    /// Which wasm32 toolchain to use for Rust.
    #[arg(long, value_enum, default_value_t)]
    toolchain: ToolchainChoice,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Samples {
    /// At least one.
    pub(super) events: Vec<RecordLine>,
    /// A JSON object, as text.
    pub(super) config: String,
}

impl SampleArguments {
    /// Samples of the plugin in this folder, or of this component.
    #[cfg(test)]
    pub(super) fn of(plugin: &Path, samples: Option<&Path>) -> Self {
        let (samples, toolchain) = (samples.map(Into::into), ToolchainChoice::default());
        Self { plugin: plugin.into(), samples, events: None, config: None, grants: Vec::new(), toolchain }
    }

    /// The folder of the samples.
    pub(super) fn folder(&self) -> PathBuf {
        let beside = if self.plugin.is_dir() { Some(self.plugin.as_path()) } else { self.plugin.parent() };
        self.samples.clone().unwrap_or_else(|| beside.unwrap_or(Path::new("")).join(SAMPLES))
    }

    /// Reads events and configuration.
    pub(super) fn read(&self) -> Result<Samples, String> {
        let file = self.events.clone().unwrap_or_else(|| self.folder().join("events.jsonl"));
        let text = read(&file).map_err(|(_, message)| {
            format!("{message}; write an event a line, such as {{\"key\": \"a\", \"value\": {{\"id\": 1}}}}")
        })?;
        let mut events = Vec::new();
        for (number, line) in numbered(&text) {
            events.push(parse_line(line).map_err(|error| format!("{}: line {number}: {error}", file.display()))?);
        }
        if events.is_empty() {
            return Err(format!("{} has no events; write one a line", file.display()));
        }
        Ok(Samples { events, config: self.read_config()? })
    }

    /// One that is named must be there.
    fn read_config(&self) -> Result<String, String> {
        let file = self.config.clone().unwrap_or_else(|| self.folder().join("config.json"));
        let config = match read(&file) {
            Err((io::ErrorKind::NotFound, _)) if self.config.is_none() => String::new(),
            config => config.map_err(|(_, message)| message)?,
        };
        let config = if config.trim().is_empty() { "{}".to_owned() } else { config };
        let object: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&config);
        object.map(|_| config).map_err(|error| format!("{}: not a JSON object: {error}", file.display()))
    }

    /// The component, which is built if a folder is named. What goes wrong is told to the user.
    pub(super) fn component(&self) -> Result<PathBuf, Exit> {
        if !self.plugin.is_dir() {
            return Ok(self.plugin.clone());
        }
        Builder::new(self.toolchain).build(&self.plugin).map_err(|error| {
            complain_of(&error);
            exit_of(&error)
        })
    }
}

/// What samples say, or how the command ends.
pub(super) fn told<T>(read: Result<T, String>) -> Result<T, Exit> {
    read.map_err(|message| {
        complain(&format!("error: {message}"));
        Exit::Configuration
    })
}

/// Reads a file; an error has its kind and a sentence.
pub(super) fn read(file: &Path) -> Result<String, (io::ErrorKind, String)> {
    fs::read_to_string(file).map_err(|error| (error.kind(), format!("can't read {}: {error}", file.display())))
}

/// The lines that are not empty, with their numbers.
pub(super) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    #[test]
    fn samples_that_cannot_be_read_say_where() {
        let read = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
            SampleArguments::of(Path::new("p.wasm"), Some(folder.path())).read()
        };
        let good = ("events.jsonl", "{\"value\":1}");
        assert!(read(&[]).unwrap_err().contains("events.jsonl"));
        assert!(read(&[("events.jsonl", "\n")]).unwrap_err().contains("has no events"));
        assert!(read(&[("events.jsonl", "{\"value\":1}\n{\"vaule\":1}")]).unwrap_err().contains("line 2"));
        assert!(read(&[good, ("config.json", "[]")]).unwrap_err().contains("not a JSON object"));
        let samples = read(&[good]).unwrap();
        assert_eq!((samples.events.len(), &*samples.config), (1, "{}"));
    }

    #[test]
    fn files_that_are_named_come_before_those_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("events.jsonl", "{\"value\":1}");
        write("others.jsonl", "{\"value\":1}\n{\"value\":2}");
        write("other.json", r#"{"a":1}"#);
        let arguments = SampleArguments {
            events: Some(folder.path().join("others.jsonl")),
            config: Some(folder.path().join("other.json")),
            ..SampleArguments::of(Path::new("p.wasm"), Some(folder.path()))
        };
        let samples = arguments.read().unwrap();
        assert_eq!((samples.events.len(), &*samples.config), (2, r#"{"a":1}"#));
        let missing = SampleArguments { config: Some("no.json".into()), ..arguments };
        assert!(missing.read().unwrap_err().contains("no.json"));
    }

    #[test]
    fn samples_lie_beside_the_sources_or_the_component() {
        let folder = tempfile::tempdir().unwrap();
        let of = |plugin: &Path| SampleArguments::of(plugin, None).folder();
        assert_eq!(of(folder.path()), folder.path().join("samples"));
        assert_eq!(of(&folder.path().join("p.wasm")), folder.path().join("samples"));
        assert_eq!(of(Path::new("p.wasm")), Path::new("samples"));
    }
}
