//! `pointsman plugin inspect`, and what `check` says of components.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman::plugin_bench;
use pointsman::progress::{Stand, Total, Unit};
use pointsman::record_text::parse_line;
use pointsman_tests::places::Scratch;
use pointsman_tests::router;
use pointsman_wasm::{Digest, Limits, PluginSpec, componentize};
use serde_json::Value;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A guest that passes nothing, since it is never run; `{imports}` is what it imports beside the contract.
const MODULE: &str = r#"(module
  (import "pointsman:plugin/host@0.1.0" "log" (func (param i32 i32 i32)))
  {imports}
  (memory (export "memory") 3)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "pointsman:plugin/processor@0.1.0#configure") (param i32 i32) (result i32) (i32.const 2048))
  (func (export "pointsman:plugin/processor@0.1.0#process") (param i32 i32) (result i32) (i32.const 2048)))"#;

/// What the guest imports of the world outside, and the WIT for it.
const OUTSIDE: (&str, &str) = (
    r#"(import "wasi:random/random@0.2.6" "get-random-u64" (func (result i64)))
       (import "wasi:sockets/door@0.2.6" "open" (func))"#,
    "package test:guest;
     package wasi:random@0.2.6 { interface random { get-random-u64: func() -> u64; } }
     package wasi:sockets@0.2.6 { interface door { open: func(); } }
     world plugin { include pointsman:plugin/plugin@0.1.0; import wasi:random/random@0.2.6; import wasi:sockets/door@0.2.6; }",
);

/// A component that imports nothing but the contract.
fn modest() -> anyhow::Result<Vec<u8>> {
    Ok(componentize(&wat::parse_str(MODULE.replace("{imports}", ""))?)?)
}

/// A component that asks for more.
fn curious() -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    resolve.push_str("pointsman.wit", include_str!("../../wit/pointsman.wit"))?;
    let package = resolve.push_str("guest.wit", OUTSIDE.1)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    let mut module = wat::parse_str(MODULE.replace("{imports}", OUTSIDE.0))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

/// Runs the program: exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
    let output = router::command()?.args(arguments).current_dir(folder).output()?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

#[test]
fn an_inspection_shows_world_digest_memory_and_what_each_import_would_be() -> anyhow::Result<()> {
    let folder = Scratch::new("inspect-")?;
    let bytes = curious()?;
    fs::write(folder.path().join("curious.wasm"), &bytes)?;
    let (code, said, complained) = run(folder.path(), &["plugin", "inspect", "curious.wasm", "--json"])?;
    ensure!(code == Some(0), "{complained}");
    let answer: Value = serde_json::from_str(&said)?;
    assert_eq!(answer["sha256"], Digest::of(&bytes).to_string());
    assert_eq!((&answer["world"], &answer["memory_bytes"]), (&"plugin".into(), &(3 << 16).into()));
    let import = |name: &str| {
        let imports = answer["imports"].as_array().map(Vec::as_slice).unwrap_or_default();
        imports.iter().find(|import| import["name"] == name).cloned().with_context(|| format!("{name} is not named"))
    };
    assert_eq!(import("wasi:random/random@0.2.6")?["grant"], "random");
    assert_eq!(import("wasi:sockets/door@0.2.6")?["provided"], "denied");
    assert_eq!(import("pointsman:plugin/host@0.1.0")?["provided"], "contract");

    let (code, said, _) = run(folder.path(), &["plugin", "inspect", "curious.wasm"])?;
    ensure!(code == Some(0) && said.contains("a fixed stream of bytes"), "{said}");
    Ok(())
}

#[test]
fn an_inspection_of_what_is_no_plugin_answers_no() -> anyhow::Result<()> {
    let folder = Scratch::new("inspect-")?;
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes);
    write("module.wasm", &wat::parse_str("(module)")?)?;
    write("empty.wasm", &wat::parse_str("(component)")?)?;
    for (file, exit, why) in [
        ("module.wasm", 1, "core WebAssembly module"),
        ("empty.wasm", 1, "This router can't load it."),
        ("missing.wasm", 2, "can't be read"),
    ] {
        let (code, said, complained) = run(folder.path(), &["plugin", "inspect", file])?;
        ensure!(code == Some(exit) && (said + &complained).contains(why), "{file}: {code:?}");
    }
    Ok(())
}

/// A configuration with one plugin, of which `plugin` says more.
fn configuration(plugin: &str) -> String {
    format!(
        "version = 1\n[router]\nname = \"r\"\n[broker]\nembedded = \"./data\"\n\
         [plugins.judge]\ncomponent = \"judge.wasm\"\n{plugin}\n\
         [[routes]]\nname = \"r\"\nfrom = [\"in\"]\nstages = [\"judge\"]\n[[routes.outputs]]\ntopic = \"out\"\n"
    )
}

#[test]
fn check_says_what_a_plugin_asks_for_beyond_its_grants() -> anyhow::Result<()> {
    let folder = Scratch::new("check-")?;
    let check = |plugin: &str, options: &[&str]| {
        fs::write(folder.path().join("router.toml"), configuration(plugin))?;
        run(folder.path(), &[&["check", "router.toml"], options].concat())
    };
    let (code, said, noted) = check("", &[])?;
    ensure!(code == Some(0) && said.contains("is fine") && noted.contains("is not there"), "{said}{noted}");
    ensure!(check("", &["--strict"])?.0 == Some(2), "a component that is not there is not fine");

    let bytes = curious()?;
    fs::write(folder.path().join("judge.wasm"), &bytes)?;
    let (code, _, noted) = check("", &[])?;
    ensure!(code == Some(0), "{noted}");
    ensure!(noted.contains("wasi:random/random@0.2.6, and is not granted \"random\""), "{noted}");
    ensure!(noted.contains("wasi:sockets/door@0.2.6, which is never granted"), "{noted}");
    let (code, _, refused) = check("", &["--strict"])?;
    ensure!(code == Some(2) && refused.contains("error: plugin judge: it imports wasi:random"), "{refused}");
    let (_, _, granted) = check("grants = [\"random\"]", &[])?;
    ensure!(!granted.contains("wasi:random") && granted.contains("wasi:sockets"), "{granted}");

    fs::write(folder.path().join("judge.wasm"), modest()?)?;
    let (code, said, noted) = check("", &["--strict"])?;
    ensure!(code == Some(0) && said.contains("is fine") && noted.is_empty(), "{said}{noted}");
    // Pinned to the other one: both digests are shown.
    let (code, _, pin) = check(&format!("sha256 = \"{}\"", Digest::of(&bytes)), &[])?;
    let both = [Digest::of(&bytes), Digest::of(&modest()?)].map(|digest| digest.to_string());
    ensure!(code == Some(2) && both.iter().all(|digest| pin.contains(digest)), "{pin}");
    let (code, _, short) = check("limits = { memory = \"128KiB\" }\n", &[])?;
    ensure!(code == Some(2) && short.contains("limit"), "{short}");
    Ok(())
}

/// Runs `plugin bench` over these events: exit code, and its JSON.
fn bench(folder: &Path, component: &[u8], events: &str) -> anyhow::Result<(Option<i32>, Value)> {
    fs::write(folder.join("judge.wasm"), component)?;
    fs::write(folder.join("some.jsonl"), events)?;
    let arguments = ["plugin", "bench", "judge.wasm", "--events", "some.jsonl", "--seconds", "0", "--json"];
    let (code, said, complained) = run(folder, &arguments)?;
    Ok((code, serde_json::from_str(&said).with_context(|| complained)?))
}

/// A plugin that traps at an event whose value begins with `t`, and else gives memory up for good with each call.
const LEAKING: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (memory.grow (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1))))
    (if (i32.eq (local.get $at) (i32.const -1)) (then (unreachable)))
    (i32.mul (local.get $at) (i32.const 65536)))
  (func (export "pointsman:plugin/processor@0.1.0#configure") (param i32 i32) (result i32) (i32.const 2048))
  (func (export "pointsman:plugin/processor@0.1.0#process") (param $events i32) (param $count i32) (result i32)
    (local $left i32)
    (local.set $left (local.get $count))
    (loop $next
      (if (i32.eq (i32.load8_u (i32.load offset=48 (local.get $events))) (i32.const 0x74)) (then (unreachable)))
      (local.set $events (i32.add (local.get $events) (i32.const 72)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    (i32.store (i32.const 1024) (i32.const 4096))
    (i32.store (i32.const 1028) (local.get $count))
    (i32.const 1024)))"#;

#[test]
fn a_bench_tells_what_a_plugin_costs_and_which_event_it_fails_on() -> anyhow::Result<()> {
    let folder = Scratch::new("bench-")?;
    let good = "{\"value\":\"a\"}\n{\"value\":\"b\"}\n";
    let leaking = componentize(&wat::parse_str(LEAKING)?)?;
    let (code, figures) = bench(folder.path(), &leaking, good)?;
    ensure!(code == Some(0), "{figures:#}");
    assert_eq!((&figures["samples"], &figures["bytes"]), (&2.into(), &leaking.len().into()));
    let calls = figures["calls"].as_array().context("there are calls")?;
    for (calls, size) in calls.iter().zip([1, 16, 256]) {
        let of = |of: &str| calls[of]["median"].as_f64().unwrap_or_default();
        ensure!(calls["events"] == size && of("event_ns") > 0.0 && of("empty_event_ns") > 0.0, "{calls:#}");
    }
    // Its limit is 64 MiB, and each call takes a page at least.
    let replaced = calls.iter().filter_map(|calls| calls["replaced"].as_u64()).sum::<u64>();
    ensure!(replaced > 0, "{figures:#}");
    let (code, said, _) =
        run(folder.path(), &["plugin", "bench", "judge.wasm", "--events", "some.jsonl", "--seconds", "0"])?;
    ensure!(code == Some(0) && said.contains("instances were replaced"), "{said}");

    let (code, figures) = bench(folder.path(), &leaking, &format!("{good}{{\"value\":\"trap\"}}\n"))?;
    ensure!(code == Some(1), "{figures:#}");
    for calls in figures["calls"].as_array().context("there are calls")? {
        let (failure, timed) = (&calls["failure"], &calls["event_ns"]);
        ensure!(failure["event"] == 3 && failure["class"] == "trap" && timed.is_null(), "{calls:#}");
    }
    Ok(())
}

#[test]
fn a_bench_tells_how_much_of_its_time_has_passed() -> anyhow::Result<()> {
    let folder = Scratch::new("bench-")?;
    let component = folder.path().join("judge.wasm");
    fs::write(&component, componentize(&wat::parse_str(LEAKING)?)?)?;
    let limits = Limits {
        memory_bytes: 64 << 20,
        deadline: Duration::from_secs(5),
        output_bytes: 1 << 20,
        output_events: 1000,
        table_elements: 1000,
    };
    let (name, config) = ("judge".into(), "{}".into());
    let spec = PluginSpec { name, component, sha256: None, config, limits, grants: Vec::new() };
    let told = RefCell::new(Vec::new());
    let progress = |stand: &Stand<'_>| {
        assert_eq!((stand.what, stand.unit), ("measuring", Unit::Milliseconds));
        told.borrow_mut().push((stand.done, stand.total));
    };
    let event = parse_line("{\"value\":\"a\"}")?;
    plugin_bench::measure(&spec, &[event], Duration::from_millis(40), &progress)?;
    let told = told.into_inner();
    // A quarter for instances, three sizes of a batch, and memory.
    ensure!(told.iter().all(|(_, total)| *total == Total::AtMost(170)), "{told:?}");
    ensure!(told.is_sorted_by_key(|(done, _)| *done), "{told:?}");
    // Each of the parts but the last takes its time.
    ensure!(told.last().is_some_and(|(done, _)| *done >= 120), "{told:?}");
    Ok(())
}

#[test]
fn a_bench_needs_events_and_a_plugin() -> anyhow::Result<()> {
    let folder = Scratch::new("bench-")?;
    fs::write(folder.path().join("judge.wasm"), modest()?)?;
    fs::write(folder.path().join("some.jsonl"), "{\"value\":1}")?;
    for (arguments, exit, why) in [
        (["judge.wasm", "--events", "none.jsonl"], 2, "none.jsonl"),
        (["none.wasm", "--events", "some.jsonl"], 3, "none.wasm"),
        (["judge.wasm", "--seconds", "4000"], 2, "from 0 to 3600"),
    ] {
        let (code, _, complained) = run(folder.path(), &[&["plugin", "bench"], &arguments[..]].concat())?;
        ensure!(code == Some(exit) && complained.contains(why), "{arguments:?}: {code:?}: {complained}");
    }
    Ok(())
}
