//! House rules that a compiler does not know.

use std::collections::BTreeSet;
use std::path::Path;

use pointsman_tests::places;
use wit_parser::{Docs, Resolve, TypeDefKind};

use crate::sources;

/// Longest file, in lines, its tests not counted.
const MAX_LINES: usize = 600;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "manager", "types", "misc"];

#[test]
fn files_stay_proofreadable() {
    let broken: Vec<String> = sources::rust()
        .iter()
        .map(|source| (source.product().lines().count(), source))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, source)| format!("{}: {lines} lines", source.path))
        .collect();
    sources::none("a file has at most 600 lines, tests apart:", &broken);
}

#[test]
fn modules_are_named_for_what_they_hold() {
    let broken: Vec<String> = sources::rust()
        .iter()
        .filter(|source| {
            let names = Path::new(&source.path).with_extension("");
            names.iter().any(|name| EMPTY_NAMES.iter().any(|empty| name == *empty))
        })
        .map(|source| source.path.clone())
        .collect();
    sources::none("such a name says nothing:", &broken);
}

#[test]
fn every_file_says_what_it_is_for() {
    let broken: Vec<String> = sources::rust()
        .iter()
        // `x/tests.rs` is for the tests of `x`.
        .filter(|source| !source.path.ends_with("/tests.rs"))
        .filter(|source| {
            let first = source.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
            !first.is_some_and(|line| line.starts_with("//! "))
        })
        .map(|source| source.path.clone())
        .collect();
    sources::none("a file starts with a `//!` that says what it is for:", &broken);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together, so that this file does not find itself.
    let words =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["todo", "!("], ["unimplemented", "!("]].map(|word| word.concat());
    let broken: Vec<String> = sources::rust()
        .iter()
        .flat_map(|source| source.lines_with(|line| words.iter().any(|word| line.contains(word))))
        .collect();
    sources::none("do it, or leave it:", &broken);
}

#[test]
fn tests_neither_sleep_nor_are_ignored() {
    let words = [["::", "sleep("], ["#[", "ignore"]].map(|word| word.concat());
    let broken: Vec<String> = sources::rust()
        .iter()
        .filter(|source| source.path != "tests/src/wait.rs")
        .flat_map(|source| source.test_lines_with(|line| words.iter().any(|word| line.contains(word))))
        .collect();
    sources::none("a test waits for what it needs (`pointsman_tests::wait`), and always runs:", &broken);
}

#[test]
fn every_item_of_the_plugin_contract_is_documented() {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(places::workspace().join("wit")).expect("the contract parses");
    let package = &resolve.packages[package];
    let mut bare = Vec::new();
    let mut look = |docs: &Docs, what: String| {
        if docs.contents.as_deref().unwrap_or_default().trim().is_empty() {
            bare.push(what);
        }
    };
    look(&package.docs, "the package".into());
    for (name, id) in &package.worlds {
        look(&resolve.worlds[*id].docs, format!("world {name}"));
    }
    for (name, id) in &package.interfaces {
        let interface = &resolve.interfaces[*id];
        look(&interface.docs, format!("interface {name}"));
        for (function, item) in &interface.functions {
            look(&item.docs, format!("{name}.{function}"));
        }
        for (type_name, id) in &interface.types {
            let item = &resolve.types[*id];
            let parts: Vec<(&str, &Docs)> = match &item.kind {
                // `use types.{…}`: documented where it stands.
                TypeDefKind::Type(_) => continue,
                TypeDefKind::Record(record) => {
                    record.fields.iter().map(|part| (part.name.as_str(), &part.docs)).collect()
                }
                TypeDefKind::Variant(variant) => {
                    variant.cases.iter().map(|part| (part.name.as_str(), &part.docs)).collect()
                }
                TypeDefKind::Enum(choice) => choice.cases.iter().map(|part| (part.name.as_str(), &part.docs)).collect(),
                TypeDefKind::Flags(flags) => flags.flags.iter().map(|part| (part.name.as_str(), &part.docs)).collect(),
                _ => Vec::new(),
            };
            look(&item.docs, format!("{name}.{type_name}"));
            for (part, docs) in parts {
                look(docs, format!("{name}.{type_name}.{part}"));
            }
        }
    }
    sources::none("these have no documentation:", &bare);
}

/// The tables of the README whose last column is called `test`: it names tests, in back quotes.
#[test]
fn every_guarantee_of_the_readme_names_a_test_that_exists() {
    let readme = sources::read("README.md");
    let lines: Vec<&str> = readme.lines().collect();
    let tables = lines.chunk_by(|line, next| line.starts_with('|') && next.starts_with('|'));
    let of_tests = tables.filter(|table| table[0].trim_end().ends_with("| test |"));
    let rows: Vec<&str> = of_tests.flat_map(|table| table.iter().copied().skip(2)).collect();
    assert!(rows.len() > 20, "the tables of guarantees are not found");
    let tests = test_names();
    let mut broken = Vec::new();
    for row in rows {
        let last = row.trim().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            broken.push(format!("names no test: {row}"));
        }
        for name in named {
            if !tests.contains(name.rsplit("::").next().unwrap_or(name)) {
                broken.push(format!("there is no test `{name}`: {row}"));
            }
        }
    }
    sources::none("a guarantee is worth what its test is:", &broken);
}

/// Names of all functions in test code, those of the broker's trials included.
fn test_names() -> BTreeSet<String> {
    let sources = sources::rust();
    let functions = sources.iter().flat_map(|source| source.test().lines()).filter_map(|line| {
        let name = line.trim_start().trim_start_matches("pub(crate) ").strip_prefix("fn ")?;
        Some(name.split(['(', '<']).next().unwrap_or(name).to_owned())
    });
    functions.collect()
}

#[test]
fn the_changelog_knows_this_version() {
    let changelog = sources::read("CHANGELOG.md");
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        changelog
            .lines()
            .any(|line| line.starts_with("## ") && (line.contains(version) || line.contains("Unreleased"))),
        "CHANGELOG.md has no section for {version}, and none called Unreleased"
    );
}
