//! The Rust plugins, built from source as a user builds them, and run in the sandbox.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test may fail by panic"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use pointsman::plugin_build::{self, BuildError};
use pointsman::toolchain::{Toolchain, ToolchainChoice};
use pointsman_core::event::Event;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{CallError, PluginHost, PluginId};
use pointsman_core::record::{Header, Headers};
use pointsman_core::verdict::{Output, Patch, Verdict, Verdicts};
use pointsman_wasm::{Limits, PluginSpec, Plugins, Sandbox, SandboxSettings, WorkerPlugins};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use wit_component::DecodedWasm;
use wit_parser::{Resolve, WorldItem, WorldKey};

static TOOLCHAIN: LazyLock<Toolchain> = LazyLock::new(|| {
    Toolchain::find_or_make(ToolchainChoice::Auto, &mut |line| eprintln!("{line}"))
        .unwrap_or_else(|error| panic!("{error}"))
});

/// The components by package name.
static COMPONENTS: LazyLock<BTreeMap<String, PathBuf>> = LazyLock::new(|| {
    let build = |folder| {
        plugin_build::build_all(&repository(folder), &TOOLCHAIN, &mut |line| eprintln!("{line}"))
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let mut components = build("plugins");
    components.extend(build("tests/guests"));
    components
});

/// What the only plugin of a worker has counted since the last time.
fn counts(worker: &mut WorkerPlugins) -> Vec<(String, u64)> {
    let mut counts = Vec::new();
    worker.take_counts(&mut |_, name, count| counts.push((name.to_owned(), count)));
    counts
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn every_plugin_fits_the_contract_and_imports_nothing_else() {
    let mut contract = Resolve::default();
    let package =
        contract.push_str("pointsman.wit", &fs::read_to_string(repository("wit/pointsman.wit")).unwrap()).unwrap();
    for (name, file) in &*COMPONENTS {
        let bytes = fs::read(file).unwrap();
        let (world, door) = match name.as_str() {
            "mirror-records" => ("plugin", "processor"),
            _ => ("columnar-plugin", "columns"),
        };
        let world = contract.select_world(&[package], Some(world)).unwrap();
        wit_component::targets(&contract, world, &bytes, false).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let DecodedWasm::Component(resolve, world) = wit_component::decode(&bytes).unwrap() else {
            panic!("{name} is no component");
        };
        let names = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| -> Vec<String> {
            items.map(|(key, _)| resolve.name_world_key(key)).collect()
        };
        let world = &resolve.worlds[world];
        assert_eq!(names(&mut world.exports.iter()), [format!("pointsman:plugin/{door}@0.1.0")], "{name}");
        for import in names(&mut world.imports.iter()) {
            let ours = ["pointsman:plugin/host@0.1.0", "pointsman:plugin/types@0.1.0"];
            assert!(ours.contains(&import.as_str()), "{name} imports {import}");
        }
    }
}

#[test]
fn a_plugin_that_has_not_changed_is_not_compiled_again() {
    for (package, folder) in [("validate-order", "plugins/validate-order"), ("chaos", "plugins/chaos")] {
        let file = &COMPONENTS[package];
        let mut said = Vec::new();
        let mut build = || {
            said.clear();
            plugin_build::build(&repository(folder), &TOOLCHAIN, &mut |line| said.push(line.to_owned())).unwrap()
        };
        // Alone it may need less of what it depends on than with the others.
        assert_eq!(&build(), file);
        assert_eq!(&build(), file);
        assert!(!said.iter().any(|line| line.contains("Compiling")), "{package}: {said:#?}");
    }
}

#[test]
fn what_is_wrong_with_a_plugin_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |manifest: &str, code: &str| {
        fs::create_dir_all(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
        fs::write(folder.path().join("src/lib.rs"), code).unwrap();
    };
    let build = || plugin_build::build(folder.path(), &TOOLCHAIN, &mut |_| {}).unwrap_err();
    assert!(matches!(build(), BuildError::NoSource { .. }));

    let library = "[package]\nname = \"broken\"\nedition = \"2024\"\n[workspace]\n";
    write(library, "pub fn f() {}");
    assert!(matches!(build(), BuildError::NoLibrary { .. }));

    let component = format!("{library}[lib]\ncrate-type = [\"cdylib\"]\n");
    write(&component, "fn f() -> u8 { \"text\" }");
    let mut said = String::new();
    let error = plugin_build::build(folder.path(), &TOOLCHAIN, &mut |line| said.push_str(line)).unwrap_err();
    assert!(matches!(&error, BuildError::Failed { .. }), "{error}");
    assert!(said.contains("mismatched types") && said.contains("src/lib.rs:1"), "{said}");

    let core_module = "[target.wasm32-unknown-unknown]\nrustflags = [\"-Clinker=rust-lld\"]\n";
    write(&component, "#[unsafe(no_mangle)]\nextern \"C\" fn f() {}");
    fs::create_dir(folder.path().join(".cargo")).unwrap();
    fs::write(folder.path().join(".cargo/config.toml"), core_module).unwrap();
    let error = build();
    assert!(matches!(error, BuildError::NotAComponent { .. }), "{error}");
}

/// One worker with one plugin.
fn worker(plugin: &str, config: &Value) -> Result<WorkerPlugins, String> {
    const MEMORY_BYTES: usize = 16 << 20;
    let settings = SandboxSettings {
        workers: NonZeroUsize::MIN,
        plugins: 1,
        memory_bytes: MEMORY_BYTES,
        table_elements: 10_000,
        cache: None,
    };
    let spec = PluginSpec {
        name: plugin.into(),
        component: COMPONENTS[plugin].clone(),
        sha256: None,
        config: config.to_string(),
        limits: Limits {
            memory_bytes: MEMORY_BYTES,
            deadline: Duration::from_millis(100),
            output_bytes: 1 << 20,
            output_events: 1000,
            table_elements: 10_000,
        },
        grants: vec![],
    };
    let plugin = Sandbox::new(&settings).unwrap().load(&spec).map_err(|error| error.to_string())?;
    Ok(Plugins::new(vec![plugin]).worker())
}

fn call(worker: &mut WorkerPlugins, events: &[Event<'_>]) -> Result<Vec<Verdict>, CallError> {
    worker.call(PluginId(0), events, 0).map(Verdicts::into_vec)
}

const fn event<'a>(value: &'a str, headers: &'a [Header<'a>]) -> Event<'a> {
    Event {
        topic: "orders.v1",
        partition: 3,
        offset: 42,
        timestamp_ms: 1_700_000_000_000,
        key: Some(b""),
        value: Some(value.as_bytes()),
        headers: Headers::Borrowed(headers),
        attempt: 1,
    }
}

const UNCHANGED: Output =
    Output { port: None, key: Patch::Keep, value: Patch::Keep, headers: None, timestamp_ms: None };

fn value(text: &str) -> Patch {
    Patch::Set(text.to_owned().into())
}

#[test]
fn orders_are_validated_and_enriched() {
    let mut validate = worker("validate-order", &json!({})).unwrap();
    let good = event(r#"{"id":"o-1","country":"DE","amount":7}"#, &[]);
    let failing = event(r#"{"id":"o-1","country":"DE","amount":7,"fail_until_attempt":2}"#, &[]);
    let verdicts = call(
        &mut validate,
        &[
            good,
            event(r#"{"type":"heartbeat"}"#, &[]),
            event(r#"{"id":"o-2","country":"DE","amount":-7}"#, &[]),
            failing,
            Event { attempt: 2, ..failing },
            Event { value: None, ..good },
        ],
    )
    .unwrap();
    assert_eq!(verdicts[0], Verdict::Pass);
    assert_eq!(verdicts[1], Verdict::Drop { reason: "heartbeat".into() });
    assert!(matches!(&verdicts[2], Verdict::Reject { code, .. } if code == "negative-amount"));
    assert!(matches!(&verdicts[3], Verdict::Retry { delay_ms: None, .. }));
    assert_eq!(verdicts[4..], [Verdict::Pass, Verdict::Pass]);

    let mut enrich = worker("enrich-order", &json!({"currencies": {"DE": "EUR"}, "eu": ["DE"]})).unwrap();
    let enriched = value(r#"{"id":"o-1","country":"DE","amount":7,"currency":"EUR"}"#);
    let output = Output { port: Some("eu".into()), value: enriched, ..UNCHANGED };
    assert_eq!(call(&mut enrich, &[good]).unwrap(), [Verdict::Emit(vec![output])]);
    assert_eq!(counts(&mut enrich), [("enriched".to_owned(), 1)]);

    let refused = worker("enrich-order", &json!({"currencies": {"DE": "euro"}})).err().unwrap();
    assert!(refused.contains("three capital letters"), "{refused}");
}

#[test]
fn headers_are_filtered_and_values_transformed() {
    let mut filter = worker("header-filter", &json!({"header": "env", "drop": ["test"]})).unwrap();
    let test = [Header { name: b"env", value: Some(b"test") }];
    let null = [test[0], Header { name: b"env", value: None }];
    let verdicts = call(&mut filter, &[event("", &test), event("", &null), event("", &[])]).unwrap();
    assert_eq!(verdicts, [Verdict::Drop { reason: "header".into() }, Verdict::Pass, Verdict::Pass]);

    let mut transform = worker("json-transform", &json!({})).unwrap();
    let output = Output { value: value(r#"{"b":1,"a":2,"seen":true}"#), ..UNCHANGED };
    assert_eq!(call(&mut transform, &[event(r#"{"b":1,"a":2}"#, &[])]).unwrap(), [Verdict::Emit(vec![output])]);
    assert_eq!(call(&mut worker("identity", &json!({})).unwrap(), &[event("", &[])]).unwrap(), [Verdict::Pass]);
}

#[test]
fn each_poison_is_told_for_what_it_is_and_leaves_no_trace() {
    let mut chaos = worker("chaos", &json!({})).unwrap();
    for (poison, class, code) in [
        ("trap", FailureClass::Trap, "panic"),
        ("loop", FailureClass::Deadline, "deadline"),
        ("memory", FailureClass::Memory, "memory-limit"),
        ("recursion", FailureClass::Trap, ""),
        ("output", FailureClass::Memory, "memory-limit"),
        ("count", FailureClass::BadOutput, ""),
    ] {
        let poisoned = json!({"poison": poison}).to_string();
        let Err(CallError::Guest { class: was, code: said, message, .. }) = call(&mut chaos, &[event(&poisoned, &[])])
        else {
            panic!("{poison} did no harm");
        };
        assert_eq!(was, class, "{poison}: {said}: {message}");
        assert!(code.is_empty() || said == code, "{poison}: {said}: {message}");
        if poison == "trap" {
            assert!(message.contains("panicked at") && message.ends_with("orders.v1/3 at offset 42"), "{message}");
        }
        assert_eq!(call(&mut chaos, &[event("{}", &[])]).unwrap(), [Verdict::Pass], "after {poison}");
    }
}

/// The guests that show what they see: one by the SDK and so by the door of columns, one by the door of records.
const MIRRORS: [&str; 2] = ["mirror", "mirror-records"];

fn described(mirror: &mut WorkerPlugins, events: &[Event<'_>]) -> Vec<Value> {
    let description = |verdict: Verdict| match verdict {
        Verdict::Emit(outputs) => match outputs.as_slice() {
            [Output { value: Patch::Set(text), .. }] => serde_json::from_slice(text).unwrap(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    call(mirror, events).unwrap().into_iter().map(description).collect()
}

fn description(event: &Event<'_>, config: &Value) -> Value {
    let name = |name| std::str::from_utf8(name).unwrap();
    json!({
        "config": config,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "timestamp": (event.timestamp_ms != -1).then_some(event.timestamp_ms),
        "key": event.key,
        "value": event.value,
        "headers": event.headers.iter().map(|header| (name(header.name), header.value)).collect::<Vec<_>>(),
        "attempt": event.attempt,
    })
}

type AnyHeader = (String, Option<Vec<u8>>);
type AnyEvent = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<AnyHeader>, u32);

fn any_event() -> impl Strategy<Value = AnyEvent> {
    let bytes = || option::of(vec(any::<u8>(), 0..20));
    let timestamp = prop_oneof![Just(-1), any::<i64>()];
    // Of few names, so that one comes twice.
    let headers = vec((prop_oneof!["[ab]?", ".{0,9}"], bytes()), 0..5);
    (any::<i64>(), timestamp, bytes(), bytes(), headers, 1..u32::MAX)
}

#[test]
fn a_plugin_sees_events_as_they_are_by_either_door() {
    let config = json!({"x": [1, null]});
    let mut mirrors = MIRRORS.map(|mirror| worker(mirror, &config).unwrap());
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let cases = (".{1,9}", any::<i32>(), vec(any_event(), 1..6));
    let mirrors = RefCell::new(&mut mirrors);
    let checked = runner.run(&cases, |(topic, partition, events)| {
        let headers: Vec<Vec<Header<'_>>> = events
            .iter()
            .map(|(.., headers, _)| {
                headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_deref() }).collect()
            })
            .collect();
        let events: Vec<Event<'_>> = events
            .iter()
            .zip(&headers)
            .map(|((offset, timestamp_ms, key, value, _, attempt), headers)| Event {
                topic: &topic,
                partition,
                offset: *offset,
                timestamp_ms: *timestamp_ms,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: Headers::Borrowed(headers),
                attempt: *attempt,
            })
            .collect();
        let expected: Vec<Value> = events.iter().map(|event| description(event, &config)).collect();
        for mirror in mirrors.borrow_mut().iter_mut() {
            prop_assert_eq!(&described(mirror, &events), &expected);
        }
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_large_event_crosses_the_border_by_either_door() {
    let large = "a".repeat(200_000);
    let event = event(&large, &[]);
    for mirror in MIRRORS {
        let mut mirror = worker(mirror, &json!({})).unwrap();
        assert_eq!(described(&mut mirror, &[event]), [description(&event, &json!({}))]);
    }
}

/// A batch is of one partition, in the contract. What a lane hands over is not always.
#[test]
fn events_of_several_partitions_are_told_apart_by_either_door() {
    let here = event("v", &[]);
    let events = [here, here, Event { partition: 4, ..here }, Event { topic: "payments.v1", ..here }, here];
    for mirror in MIRRORS {
        let mut mirror = worker(mirror, &json!({})).unwrap();
        assert_eq!(described(&mut mirror, &events), events.map(|event| description(&event, &json!({}))));
    }
}

#[test]
fn a_verdict_arrives_as_it_was_given_by_either_door() {
    for mirror in MIRRORS {
        verdicts_arrive_as_given_by(mirror);
    }
}

fn verdicts_arrive_as_given_by(name: &str) {
    let mut mirror = worker(name, &json!({})).unwrap();
    let header = |name: &str, value: Option<&[u8]>| Header { name: name.as_bytes(), value }.into();
    for (asked, verdict) in [
        ("pass", Verdict::Pass),
        ("drop", Verdict::Drop { reason: "asked".into() }),
        ("nothing", Verdict::Emit(vec![])),
        (
            "twice",
            Verdict::Emit(["first", "second"].map(|port| Output { port: Some(port.into()), ..UNCHANGED }).into()),
        ),
        (
            "rewrite",
            Verdict::Emit(vec![Output {
                port: None,
                key: value("new key"),
                value: value("new value"),
                headers: Some(vec![header("a", Some(b"1")), header("a", Some(&[0xff, 0]))]),
                timestamp_ms: Some(1),
            }]),
        ),
        (
            "nulls",
            Verdict::Emit(vec![Output {
                key: Patch::Null,
                value: Patch::Null,
                headers: Some(vec![header("n", None)]),
                ..UNCHANGED
            }]),
        ),
        ("retry", Verdict::Retry { reason: "asked for a retry".into(), delay_ms: Some(1500) }),
        ("reject", Verdict::Reject { code: "asked".into(), message: "asked for a rejection".into() }),
        ("log", Verdict::Pass),
    ] {
        let headers = [Header { name: b"answer", value: Some(asked.as_bytes()) }];
        assert_eq!(call(&mut mirror, &[event("v", &headers)]).unwrap(), [verdict], "{asked}, {name}");
    }
    assert_eq!(counts(&mut mirror), [("asked".to_owned(), 3)]);

    let refused = worker(name, &json!({"refuse": "not like this"})).err().unwrap();
    assert!(refused.contains("not like this"), "{refused}");
}
