//! Which crate may know which, and that the core stays pure.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_tests::places;
use toml::{Table, Value};

use crate::sources;

/// What each crate of the workspace may use of the others.
const ARROWS: [(&str, &[&str]); 7] = [
    ("pointsman-core", &[]),
    ("pointsman-config", &["pointsman-core"]),
    ("pointsman-wasm", &["pointsman-core"]),
    ("pointsman-kafka", &["pointsman-core"]),
    ("pointsman-embedded", &["pointsman-core"]),
    ("pointsman", &["pointsman-core", "pointsman-config", "pointsman-wasm", "pointsman-kafka", "pointsman-embedded"]),
    (
        "pointsman-tests",
        &["pointsman", "pointsman-core", "pointsman-config", "pointsman-wasm", "pointsman-kafka", "pointsman-embedded"],
    ),
];

/// Foreign worlds, and who knows them. The tests are a world of their own: they look at each from outside.
const WORLDS: [(&str, &str); 8] = [
    ("wasmtime", "pointsman-wasm"),
    ("wasmparser", "pointsman-wasm"),
    ("rdkafka", "pointsman-kafka"),
    ("rdkafka-sys", "pointsman-kafka"),
    ("rusqlite", "pointsman-embedded"),
    ("tokio", "pointsman"),
    ("axum", "pointsman"),
    ("ureq", "pointsman"),
];

/// What the core may not do: IO, clocks, randomness, threads, environment.
const IMPURE: [&str; 12] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::",
    "UNIX_EPOCH",
    "Utc::now",
    "println!",
    "rand::",
];

/// Name of each crate of the workspace → the crates it depends on, those of its tests included.
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let root: Table = sources::read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let members = root["workspace"]["members"].as_array().expect("members is a list");
    members
        .iter()
        .map(|member| {
            let path = format!("{}/Cargo.toml", member.as_str().expect("a member is a path"));
            let manifest: Table = sources::read(&path).parse().unwrap_or_else(|error| panic!("{path}: {error}"));
            let name = manifest["package"]["name"].as_str().expect("a package has a name").to_owned();
            let dependencies = ["dependencies", "dev-dependencies", "build-dependencies"]
                .into_iter()
                .filter_map(|kind| manifest.get(kind).and_then(Value::as_table))
                .flat_map(|table| table.keys().cloned())
                .collect();
            (name, dependencies)
        })
        .collect()
}

#[test]
fn crates_know_only_whom_the_design_lets_them() {
    let arrows = BTreeMap::from(ARROWS);
    let crates = crates();
    assert_eq!(
        crates.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        arrows.keys().copied().collect(),
        "every crate of the workspace has its place in the design"
    );
    let mut broken = Vec::new();
    for (name, dependencies) in &crates {
        for dependency in dependencies.iter().filter(|dependency| arrows.contains_key(dependency.as_str())) {
            if !arrows[name.as_str()].contains(&dependency.as_str()) {
                broken.push(format!("{name} → {dependency}"));
            }
        }
    }
    sources::none("these crates must not know each other:", &broken);
}

#[test]
fn each_foreign_world_is_known_to_one_crate() {
    let mut broken = Vec::new();
    for (name, dependencies) in crates() {
        for (world, home) in WORLDS {
            if dependencies.contains(world) && name != home && name != "pointsman-tests" {
                broken.push(format!("{name} → {world}, which only {home} may know"));
            }
        }
    }
    sources::none("these dependencies are at the wrong place:", &broken);
}

#[test]
fn the_core_is_pure() {
    assert!(places::workspace().join("router/crates/core/src/lib.rs").exists());
    let broken: Vec<String> = sources::rust()
        .iter()
        .filter(|source| source.path.starts_with("router/crates/core/src/"))
        .flat_map(|source| {
            source.product_lines_with(|line| {
                let code = line.split("//").next().unwrap_or_default();
                IMPURE.iter().any(|impure| code.contains(impure))
            })
        })
        .collect();
    sources::none("time and randomness are arguments, and the core does no IO:", &broken);
}
