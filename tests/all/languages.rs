//! Plugins in every language: the same verdicts, through the sandbox; and what `pointsman plugin new` makes of each works.
//!
//! Where a language's compiler is missing its tests say so and are skipped, unless `POINTSMAN_TEST_REQUIRE_LANGUAGES` is set.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pointsman::plugin_build::{self, BuildError};
use pointsman_core::event::Event;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{CallError, PluginHost as _, PluginId};
use pointsman_core::record::{Header, Headers};
use pointsman_core::verdict::{Output, Patch, Verdict, Verdicts};
use pointsman_tests::places::{self, Scratch};
use pointsman_tests::{plugins, router};
use pointsman_wasm::{Digest, Limits, PluginSpec, Plugins, Sandbox, SandboxSettings, WorkerPlugins};

const LIMITS: Limits = Limits {
    memory_bytes: 128 << 20,
    deadline: Duration::from_secs(5),
    output_bytes: 32 << 20,
    output_events: 10_000,
    table_elements: 10_000,
};

/// The plugin of `tests/guests/conformance` in another language; `None` where its compiler is missing.
fn in_language(language: &str) -> anyhow::Result<Option<PathBuf>> {
    let folder = places::workspace().join("tests/languages").join(language);
    let mut said = String::new();
    let mut announce = |line: &str| said.push_str(&format!("{line}\n"));
    let built = match language {
        "go" => plugin_build::build_go(&folder, &mut announce),
        "python" => plugin_build::build_python(&folder, &mut announce),
        "js" | "ts" => plugin_build::build_javascript(&folder, &mut announce),
        _ => plugin_build::build_c(&folder, &mut announce),
    };
    match built {
        Ok(component) => Ok(Some(component)),
        Err(error @ BuildError::NoCompiler { .. }) => skipped(&error).map(|()| None),
        Err(error) => bail!("{error}\n{said}"),
    }
}

/// Says that something is missing, or fails where it must not be.
#[expect(clippy::print_stderr, reason = "whoever runs the tests is to read it")]
pub(crate) fn skipped(missing: &dyn std::fmt::Display) -> anyhow::Result<()> {
    ensure!(std::env::var_os("POINTSMAN_TEST_REQUIRE_LANGUAGES").is_none(), "{missing}");
    eprintln!("SKIPPED: {missing}");
    Ok(())
}

/// Loads a component; `cache` is a folder, since some take seconds to compile.
fn load(component: &Path, config: &str, cache: &Path) -> anyhow::Result<WorkerPlugins> {
    let settings = SandboxSettings {
        workers: NonZeroUsize::MIN,
        plugins: 1,
        memory_bytes: LIMITS.memory_bytes,
        table_elements: LIMITS.table_elements,
        cache: Some(cache.into()),
    };
    let spec = PluginSpec {
        name: "conformance".into(),
        component: component.into(),
        sha256: None,
        config: config.into(),
        limits: LIMITS,
        grants: Vec::new(),
    };
    Ok(Plugins::new(vec![Sandbox::new(&settings)?.load(&spec)?]).worker())
}

/// An offset far beyond what a number of 32 bits, or of 53, can hold.
const LARGE_OFFSET: i64 = 1 << 60;

/// An offset that JavaScript's numbers still tell from its neighbours, as they do the next hundred.
const OFFSET_IN_JAVASCRIPT: i64 = (1 << 53) - 1000;

/// Events of every kind there is.
struct Samples {
    first_offset: i64,
    values: Vec<Option<Vec<u8>>>,
    headers: Vec<Vec<(String, Option<Vec<u8>>)>>,
}

/// What a header asks the plugin for.
const ANSWERS: [&str; 12] = [
    "pass",
    "drop",
    "nothing",
    "twice",
    "rewrite",
    "nulls",
    "empty",
    "retry",
    "retry-after",
    "reject",
    "describe",
    "PASS",
];

impl Samples {
    fn new(first_offset: i64) -> Self {
        let every_byte: Vec<u8> = (0..=255).collect();
        let deep = ["[".repeat(20_000), "]".repeat(20_000)].concat();
        let values = vec![
            None,
            Some(Vec::new()),
            Some("žluťoučký 🐎 \u{0}\u{7f} \u{10ffff}".into()),
            Some(every_byte.clone()),
            Some(deep.into()),
            Some(vec![0x5a; 1 << 17]),
        ];
        let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
        let mut headers = vec![
            vec![],
            vec![header("a", Some(b"1")), header("a", Some(b"2")), header("a", None), header("", Some(b""))],
            vec![header("\u{1f4a9}=|,", Some(&every_byte))],
            (0..500).map(|number| header(&format!("h{number}"), Some(&[7; 3]))).collect(),
            // The last one counts; null and what is no text ask for nothing.
            vec![header("answer", Some(b"drop")), header("answer", Some(b"pass"))],
            vec![header("answer", Some(b"drop")), header("answer", None)],
            vec![header("answer", Some(&[0xff]))],
        ];
        headers.extend(ANSWERS.map(|answer| vec![header("answer", Some(answer.as_bytes()))]));
        Self { first_offset, values, headers }
    }

    /// Judges each value with each list of headers, in batches of this size.
    fn judge(&self, worker: &mut WorkerPlugins, batch: usize) -> anyhow::Result<Vec<Verdict>> {
        let lists: Vec<Vec<Header<'_>>> = self
            .headers
            .iter()
            .map(|list| {
                list.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_deref() }).collect()
            })
            .collect();
        let pairs = self.values.iter().flat_map(|value| lists.iter().map(move |headers| (value, headers)));
        let events: Vec<Event<'_>> = (0_u32..)
            .zip(pairs)
            .map(|(number, (value, headers))| Event {
                topic: "objednávky.v1",
                partition: 3,
                offset: self.first_offset + i64::from(number),
                timestamp_ms: [-1, 0, 1_700_000_000_000][number as usize % 3],
                key: [None, Some(&b""[..]), Some(b"k\xff")][number as usize % 3],
                value: value.as_deref(),
                headers: Headers::Borrowed(headers),
                attempt: 1 + number % 2,
            })
            .collect();
        let mut verdicts = Vec::new();
        for batch in events.chunks(batch) {
            verdicts.extend(worker.call(PluginId(0), batch, 0).map(Verdicts::into_vec)?);
        }
        Ok(verdicts)
    }
}

fn counts(worker: &mut WorkerPlugins) -> Vec<(String, u64)> {
    let mut counts = Vec::new();
    worker.take_counts(&mut |_, name, count| counts.push((name.to_owned(), count)));
    counts
}

/// What the memory of an instance does.
#[derive(PartialEq, Eq)]
enum Memory {
    /// It is the same after many calls.
    Steady,
    /// It grows with what was judged, until the instance reaches its limit, and another takes its place.
    Grows,
}

/// What a plugin says of the event that it panics at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Panics {
    /// Which one it is.
    Named,
    /// Nothing: the language has no panic that its SDK could see.
    Silent,
}

/// A plugin gives the verdicts that the one in Rust gives.
fn conforms(component: &Path, memory: Memory, panics: Panics, first_offset: i64) -> anyhow::Result<()> {
    let config = r#"{"currency":"€","deep":[[[]]]}"#;
    let samples = Samples::new(first_offset);
    let cache = Scratch::new("cache-")?;
    let mut reference = load(&plugins::component("conformance")?, config, cache.path())?;
    let expected = samples.judge(&mut reference, 7)?;
    let expected_counts = counts(&mut reference);
    let mut worker = load(component, config, cache.path())?;
    for batch in [1, 7, expected.len()] {
        let verdicts = samples.judge(&mut worker, batch)?;
        for (number, (expected, got)) in expected.iter().zip(&verdicts).enumerate() {
            ensure!(expected == got, "event {number} in batches of {batch}: expected {expected:?}, got {got:?}");
        }
        ensure!(verdicts.len() == expected.len(), "{} verdicts of {}", verdicts.len(), expected.len());
        assert_eq!(counts(&mut worker), expected_counts);
    }
    // This is more than its memory limit in all.
    for _ in 0..40 {
        match samples.judge(&mut worker, 7) {
            Ok(verdicts) => ensure!(verdicts == expected, "the verdicts change from call to call"),
            Err(error) => {
                let is_limit = matches!(
                    error.downcast_ref(),
                    Some(CallError::Guest { class: FailureClass::Memory, .. }) if memory == Memory::Grows
                );
                ensure!(is_limit, "{error:#}");
            }
        }
    }

    let refused =
        load(component, r#"{"refuse":true}"#, cache.path()).err().context("the configuration is accepted")?.to_string();
    ensure!(refused.contains("it refuses its configuration: asked to refuse"), "{refused}");
    panics_at_the_third_event(&mut worker, panics)?;
    let again = samples.judge(&mut worker, 7)?;
    ensure!(again == expected, "a new instance goes on as the one before");
    Ok(())
}

fn panics_at_the_third_event(worker: &mut WorkerPlugins, panics: Panics) -> anyhow::Result<()> {
    let answers =
        ["pass", "drop", "trap", "pass"].map(|answer| [Header { name: b"answer", value: Some(answer.as_bytes()) }]);
    let events = answers.each_ref().map(|headers| Event {
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp_ms: -1,
        key: None,
        value: None,
        headers: Headers::Borrowed(headers),
        attempt: 1,
    });
    match worker.call(PluginId(0), &events, 0) {
        Err(CallError::Guest { class: FailureClass::Trap, code, message, suspect }) => {
            let said = suspect == Some(2) && code == "panic" && message.contains("asked to trap");
            ensure!(said == (panics == Panics::Named), "at event {suspect:?}, {code}: {message}");
        }
        other => bail!("it must trap: {other:?}"),
    }
    Ok(())
}

#[test]
fn the_reference_says_what_it_is_asked_for() -> anyhow::Result<()> {
    let cache = Scratch::new("cache-")?;
    let mut reference = load(&plugins::component("conformance")?, "{}", cache.path())?;
    let samples = Samples::new(LARGE_OFFSET);
    let verdicts = samples.judge(&mut reference, 1000)?;
    let first = samples.headers.len() - ANSWERS.len();
    let unchanged = Output { port: None, key: Patch::Keep, value: Patch::Keep, headers: None, timestamp_ms: None };
    let to = |port: &str| Output { port: Some(port.into()), ..unchanged.clone() };
    assert_eq!(verdicts[first], Verdict::Pass);
    assert_eq!(verdicts[first + 1], Verdict::Drop { reason: "asked".into() });
    assert_eq!(verdicts[first + 3], Verdict::Emit(vec![to("first"), to("second")]));
    assert_eq!(verdicts[first + 8], Verdict::Retry { reason: "busy".into(), delay_ms: Some(1500) });
    let described = "7b7d|6f626a65646ec3a1766b792e7631|3|1152921504606846976|-1|1|-|-|";
    let described = Patch::Set(described.to_owned().into());
    assert_eq!(verdicts[0], Verdict::Emit(vec![Output { value: described, ..unchanged }]));
    panics_at_the_third_event(&mut reference, Panics::Named)
}

#[test]
fn a_plugin_in_go_conforms() -> anyhow::Result<()> {
    in_language("go")?.map_or(Ok(()), |component| conforms(&component, Memory::Steady, Panics::Named, LARGE_OFFSET))
}

#[test]
fn a_plugin_in_python_conforms() -> anyhow::Result<()> {
    // componentize-py keeps some of what crosses the border.
    in_language("python")?.map_or(Ok(()), |component| conforms(&component, Memory::Grows, Panics::Named, LARGE_OFFSET))
}

#[test]
fn a_plugin_in_c_conforms() -> anyhow::Result<()> {
    in_language("c")?.map_or(Ok(()), |component| conforms(&component, Memory::Steady, Panics::Silent, LARGE_OFFSET))
}

#[test]
fn a_plugin_in_javascript_conforms() -> anyhow::Result<()> {
    in_language("js")?
        .map_or(Ok(()), |component| conforms(&component, Memory::Steady, Panics::Named, OFFSET_IN_JAVASCRIPT))
}

#[test]
fn a_plugin_in_typescript_conforms() -> anyhow::Result<()> {
    in_language("ts")?
        .map_or(Ok(()), |component| conforms(&component, Memory::Steady, Panics::Named, OFFSET_IN_JAVASCRIPT))
}

/// Makes a new plugin, tests it natively with this command, and as a component.
fn new_plugin(language: &str, native: &[&str]) -> anyhow::Result<()> {
    let parent = Scratch::new("new-")?;
    let program = |arguments: &[&str]| -> anyhow::Result<(Option<i32>, String)> {
        let output = router::command()?.args(arguments).current_dir(parent.path()).output()?;
        let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
        Ok((output.status.code(), said))
    };
    let (code, said) = program(&["plugin", "new", "--lang", language, "by-country"])?;
    ensure!(code == Some(0), "{said}");
    let folder = parent.path().join("by-country");
    match Command::new(native[0]).args(&native[1..]).current_dir(&folder).output() {
        Ok(output) => {
            let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
            ensure!(output.status.success(), "{said}");
        }
        Err(error) => skipped(&format!("{}: {error}", native[0]))?,
    }
    let (code, said) = program(&["plugin", "test", "by-country"])?;
    if code == Some(3) && said.contains("there is no compiler of") {
        return skipped(&said);
    }
    ensure!(code == Some(0) && said.contains("5 passed, 0 failed"), "{code:?}: {said}");

    // An expectation that is not met is told, and blessed.
    let verdicts = folder.join("samples/verdicts.jsonl");
    let good = std::fs::read_to_string(&verdicts)?;
    std::fs::write(&verdicts, good.replace("tombstone", "gone"))?;
    let (code, said) = program(&["plugin", "test", "by-country", "--json"])?;
    ensure!(code == Some(1) && said.contains("\"failed\": 1"), "{code:?}: {said}");
    ensure!(program(&["plugin", "test", "by-country", "--bless"])?.0 == Some(0), "blessing fails");
    ensure!(program(&["plugin", "test", "by-country"])?.0 == Some(0), "what is blessed passes");

    // The README's last command, on the file that it names.
    let readme = std::fs::read_to_string(folder.join("README.md"))?;
    let component = readme.lines().find_map(|line| line.strip_prefix("pointsman plugin inspect "));
    let component = folder.join(component.context("the README inspects the component")?);
    let (code, said) = program(&["plugin", "inspect", &component.to_string_lossy(), "--json"])?;
    ensure!(code == Some(0), "it can be loaded: {said}");
    let built =
        router::command()?.args(["plugin", "build", "by-country", "--json"]).current_dir(parent.path()).output()?;
    let told: serde_json::Value = serde_json::from_slice(&built.stdout)?;
    ensure!(told["language"] == language, "{told:#}");
    let bytes = std::fs::read(parent.path().join(told["component"].as_str().context("a path")?))?;
    ensure!(told["bytes"] == bytes.len() && told["sha256"] == Digest::of(&bytes).to_string(), "{told:#}");
    // QuickJS leaves the answers of WASI to the router.
    let own = ["js", "ts"].contains(&language);
    ensure!(own || !said.contains("wasi:"), "it imports nothing but the contract: {said}");
    Ok(())
}

#[test]
fn a_new_plugin_in_rust_works() -> anyhow::Result<()> {
    new_plugin("rust", &["cargo", "test", "--quiet"])
}

#[test]
fn a_new_plugin_in_go_works() -> anyhow::Result<()> {
    new_plugin("go", &["go", "test", "./..."])
}

#[test]
fn a_new_plugin_in_python_works() -> anyhow::Result<()> {
    new_plugin("python", &["python3", "-m", "unittest"])
}

#[test]
fn a_new_plugin_in_javascript_works() -> anyhow::Result<()> {
    new_plugin("js", &["node", "--test"])
}

#[test]
fn a_new_plugin_in_typescript_works() -> anyhow::Result<()> {
    new_plugin("ts", &["npm", "test"])
}

#[test]
fn a_new_plugin_in_c_works() -> anyhow::Result<()> {
    new_plugin("c", &["make", "test"])
}

/// Runs a command that must succeed in a folder of the repository.
fn passes(folder: &str, command: &[&str]) -> anyhow::Result<()> {
    let folder = places::workspace().join(folder);
    match Command::new(command[0]).args(&command[1..]).current_dir(folder).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => skipped(&format!("{}: {error}", command[0])),
    }
}

#[test]
fn the_sdk_for_go_passes_its_tests() -> anyhow::Result<()> {
    passes("plugin-sdk/go", &["go", "test", "./..."])
}

#[test]
fn the_sdk_for_javascript_passes_its_tests() -> anyhow::Result<()> {
    passes("plugin-sdk/js", &["node", "--test"])
}

#[test]
fn the_types_of_the_sdk_for_javascript_fit() -> anyhow::Result<()> {
    let options = [
        "--ignoreConfig",
        "--noEmit",
        "--strict",
        "--target",
        "es2023",
        "--module",
        "esnext",
        "--moduleResolution",
        "bundler",
    ];
    for folder in ["tests/languages/ts", "plugins/route-by-type"] {
        passes(folder, &[&["tsc"], &options[..], &["plugin.ts"]].concat())?;
    }
    Ok(())
}
