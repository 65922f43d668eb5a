//! `pointsman test`: route tests written in TOML, without any broker.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_config::{Plan, Variables as _};
use pointsman_core::port::PluginId;
use pointsman_wasm::Plugins;
use serde::Serialize;

use super::building::Builder;
use super::configuration::{self, Environment};
use super::{Exit, complain, complain_of, json, say};
use crate::route_test::{self, Case, Components, Mismatch};
use crate::toolchain::ToolchainChoice;
use crate::topology::{self, StartError};

/// What the name of a test file ends with.
const SUFFIX: &str = ".test.toml";

/// Run route tests: given these records, expect these deliveries. No broker is needed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Test files, and folders whose *.test.toml files are meant.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Run only cases whose name has this text in it.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
    /// Which wasm32 toolchain builds plugins that are given as source.
    #[arg(long, value_enum, default_value_t)]
    toolchain: ToolchainChoice,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let paths = match find(&arguments.paths) {
        Ok(paths) => paths,
        Err(message) => {
            complain(&format!("error: {message}"));
            return Exit::Configuration;
        }
    };
    // All files are read before any is run, so that all mistakes are told at once.
    let files: Vec<Option<TestFile>> = paths.iter().map(|path| TestFile::read(path)).collect();
    let Some(mut files) = files.into_iter().collect::<Option<Vec<TestFile>>>() else { return Exit::Configuration };
    if let Some(text) = &arguments.filter {
        for file in &mut files {
            file.cases.retain(|case| case.name.contains(text.as_str()));
        }
        files.retain(|file| !file.cases.is_empty());
    }
    let mut builder = Builder::new(arguments.toolchain);
    let mut build = |folder: PathBuf| builder.build(&folder);
    let mut results = Results::default();
    for file in files {
        match file.run(&mut build) {
            Ok(result) => {
                if !arguments.json {
                    result.say();
                }
                results.add(result);
            }
            Err(error) => {
                complain_of(&error);
                return Exit::NotStarted;
            }
        }
    }
    results.conclude(arguments)
}

/// The files that are meant, those of a folder in the order of their names.
fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let unreadable = |error| format!("can't read the folder {}: {error}", path.display());
        let mut inside = Vec::new();
        for entry in path.read_dir().map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            if file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)) && file.is_file() {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(format!("the folder {} has no files called *{SUFFIX}; name the test files", path.display()));
        }
        inside.sort();
        found.append(&mut inside);
    }
    Ok(found)
}

/// A test file, read.
struct TestFile {
    name: String,
    plan: Plan,
    /// The configuration's folder.
    directory: PathBuf,
    cases: Vec<Case>,
}

impl TestFile {
    /// All its mistakes are printed.
    fn read(path: &Path) -> Option<Self> {
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                complain(&format!("error: can't read the test file {name}: {error}"));
                return None;
            }
        };
        let mut directory = PathBuf::new();
        let folder = path.parent().unwrap_or(Path::new(""));
        let read = route_test::read(&text, &name, |config, variables| {
            let loaded = configuration::load_with(&folder.join(config), &|name: &str| {
                variables.get(name).cloned().or_else(|| Environment.get(name))
            });
            let configuration = loaded.ok()?;
            directory = configuration.directory;
            Some(configuration.plan)
        });
        match read {
            Ok((plan, cases)) => Some(Self { name, plan, directory, cases }),
            Err(mistakes) => {
                complain(&mistakes.render(std::io::stderr().is_terminal()));
                None
            }
        }
    }

    fn run(mut self, build: &mut dyn FnMut(PathBuf) -> Result<PathBuf, StartError>) -> Result<FileResult, StartError> {
        // Limits make records wait, and the clock of a case does not run.
        self.plan.routes.iter_mut().for_each(|route| route.rate_limit = None);
        self.plan.plugins.iter_mut().for_each(|plugin| plugin.rate_limit = None);
        let components = self.load(build)?;
        let plan = Arc::new(self.plan);
        let cases = self.cases.into_iter().map(|case| {
            let mismatches = route_test::check(&case, &plan, &components);
            CaseResult { name: case.name, passed: mismatches.is_empty(), mismatches }
        });
        Ok(FileResult { cases: cases.collect(), file: self.name })
    }

    /// Loads the plugins that cases call as components, and no others.
    fn load(&self, build: &mut dyn FnMut(PathBuf) -> Result<PathBuf, StartError>) -> Result<Components, StartError> {
        let called = route_test::components_of(&self.plan, &self.cases);
        if called.is_empty() {
            return Ok(Components { plugins: Plugins::new(Vec::new()), numbers: BTreeMap::new() });
        }
        let called: Vec<PluginId> = called.into_iter().collect();
        let plans: Vec<_> = called.iter().map(|plugin| &self.plan.plugins[plugin.0 as usize]).collect();
        let files: Result<Vec<PathBuf>, StartError> = plans
            .iter()
            .map(|plugin| topology::component(plugin, &self.directory, &mut |_, folder| build(folder)))
            .collect();
        let files = files?;
        let chosen: Vec<_> = plans.into_iter().zip(&files).collect();
        let plugins = topology::load_chosen(&self.plan, &chosen)?;
        Ok(Components { plugins, numbers: called.into_iter().zip((0..).map(PluginId)).collect() })
    }
}

/// What became of all files.
#[derive(Default, Serialize)]
struct Results {
    /// Cases that passed.
    passed: usize,
    /// Cases that failed.
    failed: usize,
    /// Those with a case that was run.
    files: Vec<FileResult>,
}

#[derive(Serialize)]
struct FileResult {
    /// The test file, as it was named.
    file: String,
    /// In the order of the file.
    cases: Vec<CaseResult>,
}

#[derive(Serialize)]
struct CaseResult {
    /// Its name.
    name: String,
    /// Whether all was as expected.
    passed: bool,
    /// What was not.
    mismatches: Vec<Mismatch>,
}

impl FileResult {
    fn say(&self) {
        say(&self.file);
        for CaseResult { name, passed, mismatches } in &self.cases {
            say(&format!("  {}  {name}", if *passed { "ok    " } else { "FAILED" }));
            for mismatch in mismatches {
                for line in mismatch.to_string().lines() {
                    say(&format!("          {line}"));
                }
            }
        }
    }
}

impl Results {
    fn add(&mut self, file: FileResult) {
        let passed = file.cases.iter().filter(|case| case.passed).count();
        self.passed += passed;
        self.failed += file.cases.len() - passed;
        self.files.push(file);
    }

    fn conclude(&self, arguments: &Arguments) -> Exit {
        // Nothing that ran has proved nothing.
        let exit = if self.failed > 0 || self.passed == 0 { Exit::No } else { Exit::Fine };
        if self.passed == 0 && self.failed == 0 {
            complain(&format!("no case has {:?} in its name", arguments.filter.as_deref().unwrap_or_default()));
        }
        if arguments.json {
            return json::answer(self, exit);
        }
        say(&format!("{} passed, {} failed", self.passed, self.failed));
        exit
    }
}
