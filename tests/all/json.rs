//! Answers of `--json`: one document on standard output, and nothing else there.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use pointsman_tests::places::Scratch;
use pointsman_tests::router;
use pointsman_wasm::componentize;
use serde_json::{Value, json};

/// Runs a command with `--json`: how it ended, its answer, and what it complained of.
fn ask(folder: &Path, arguments: &[&str]) -> anyhow::Result<(Option<i32>, Value, String)> {
    let output = router::command()?.args(arguments).arg("--json").current_dir(folder).output()?;
    let complained = String::from_utf8(output.stderr)?;
    let answer = serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?}: {complained}"))?;
    Ok((output.status.code(), answer, complained))
}

/// A configuration with one plugin, whose component is not there.
const CONFIG: &str = r#"version = 1
[router]
name = "r"
[broker]
bootstrap = "kafka:9092"
[plugins.judge]
component = "judge.wasm"
[[routes]]
name = "orders"
from = ["in"]
stages = ["judge"]
dead_letter = { topic = "dead" }
[[routes.outputs]]
topic = "out"
"#;

#[test]
fn check_tells_a_program_each_finding_with_its_place_and_remedy() -> anyhow::Result<()> {
    let folder = Scratch::new("json-")?;
    let write = |text: &str| fs::write(folder.path().join("router.toml"), text);
    write(&CONFIG.replace("name = \"orders\"\nfrom", "name = \"orders\"\nform"))?;
    let (code, answer, complained) = ask(folder.path(), &["check", "router.toml"])?;
    ensure!(code == Some(2) && complained.is_empty(), "{code:?}: {complained}");
    ensure!(answer["fine"] == false && answer["routes"].is_null(), "{answer:#}");
    let findings = answer["findings"].as_array().context("findings")?;
    let misspelt = findings.iter().find(|finding| finding["message"].as_str().unwrap_or("").contains("form"));
    let misspelt = misspelt.with_context(|| format!("{answer:#}"))?;
    ensure!(misspelt["severity"] == "error", "{misspelt:#}");
    let place = ["file", "line", "column"].map(|member| &misspelt[member]);
    ensure!(place == [&json!("router.toml"), &json!(10), &json!(1)], "{misspelt:#}");
    ensure!(misspelt["help"].as_str().is_some_and(|help| help.contains("from")), "{misspelt:#}");

    // What two places make together has both of them.
    let twice = CONFIG.split_once("[[routes]]").context("a route")?.1;
    write(&format!("{CONFIG}[[routes]]{twice}"))?;
    let (_, answer, _) = ask(folder.path(), &["check", "router.toml"])?;
    let findings = answer["findings"].as_array().context("findings")?;
    let both = findings.iter().find(|finding| finding["others"][0]["line"] == 9);
    ensure!(both.is_some_and(|finding| finding["line"] == 16), "{answer:#}");

    write(CONFIG)?;
    let (code, answer, complained) = ask(folder.path(), &["check", "router.toml"])?;
    ensure!(code == Some(0) && complained.is_empty(), "{code:?}: {complained}");
    ensure!(answer["fine"] == true && answer["routes"] == 1 && answer["plugins"] == 1, "{answer:#}");
    let note = &answer["findings"][0];
    ensure!(note["severity"] == "note" && note["plugin"] == "judge" && note["line"].is_null(), "{answer:#}");
    let (code, answer, _) = ask(folder.path(), &["check", "router.toml", "--strict"])?;
    ensure!(code == Some(2) && answer["fine"] == false, "{answer:#}");
    ensure!(answer["findings"][0]["severity"] == "error", "{answer:#}");
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_an_error_and_no_answer() -> anyhow::Result<()> {
    let folder = Scratch::new("json-")?;
    let output = router::command()?.args(["check", "none.toml", "--json"]).current_dir(folder.path()).output()?;
    ensure!(output.status.code() == Some(2) && output.stdout.is_empty(), "{output:?}");
    ensure!(String::from_utf8(output.stderr)?.starts_with("error: can't read the configuration none.toml"));
    Ok(())
}

#[test]
fn rights_are_told_a_program_with_their_commands() -> anyhow::Result<()> {
    let folder = Scratch::new("json-")?;
    fs::write(folder.path().join("router.toml"), CONFIG)?;
    let (code, answer, _) = ask(folder.path(), &["check", "router.toml", "--acls", "--principal", "User:ana"])?;
    ensure!(code == Some(0) && answer["principal"] == "User:ana", "{answer:#}");
    let route = &answer["routes"][0];
    ensure!(route["route"] == "orders", "{answer:#}");
    let has = |part: &str, resource: &str, name: &str, operation: &str| {
        let rights = route[part].as_array().map(Vec::as_slice).unwrap_or_default();
        rights.iter().any(|right| {
            let command = right["command"].as_str().unwrap_or_default();
            right["resource"] == resource
                && right["name"] == name
                && right["operation"] == operation
                && command.contains("--allow-principal 'User:ana'")
                && command.ends_with(&format!("--{resource} '{name}' --operation {operation}"))
        })
    };
    ensure!(has("run", "topic", "in", "Read") && has("run", "topic", "out", "Write"), "{route:#}");
    ensure!(has("handle", "topic", "dead", "Read") && !has("run", "topic", "dead", "Read"), "{route:#}");
    Ok(())
}

/// A plugin that passes each event.
const PASSING: &str = r#"(module
  (memory (export "memory") 17)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "pointsman:plugin/processor@0.1.0#configure") (param i32 i32) (result i32) (i32.const 2048))
  (func (export "pointsman:plugin/processor@0.1.0#process") (param $events i32) (param $count i32) (result i32)
    (i32.store (i32.const 1024) (i32.const 4096))
    (i32.store (i32.const 1028) (local.get $count))
    (i32.const 1024)))"#;

#[test]
fn what_is_made_for_a_plugin_is_told_a_program() -> anyhow::Result<()> {
    let folder = Scratch::new("json-")?;
    let (code, answer, _) = ask(folder.path(), &["plugin", "new", "--lang", "ts", "by-country"])?;
    ensure!(code == Some(0) && answer == json!({ "folder": "by-country", "language": "ts" }), "{answer:#}");
    ensure!(folder.path().join("by-country/plugin.ts").exists(), "it is not there");

    fs::write(folder.path().join("judge.wasm"), componentize(&wat::parse_str(PASSING)?)?)?;
    fs::create_dir(folder.path().join("samples"))?;
    fs::write(folder.path().join("samples/events.jsonl"), "{\"value\":1}")?;
    let (code, answer, _) = ask(folder.path(), &["plugin", "test", "judge.wasm", "--bless"])?;
    ensure!(code == Some(0) && answer == json!({ "blessed": 1, "file": "samples/verdicts.jsonl" }), "{answer:#}");
    let (code, answer, _) = ask(folder.path(), &["plugin", "test", "judge.wasm"])?;
    ensure!(code == Some(0) && answer["passed"] == 1, "{answer:#}");
    Ok(())
}
