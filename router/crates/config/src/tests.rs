#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use toml::de::{DeTable, DeValue};

use crate::findings::{CONFIGURATION, Findings};
use crate::read::{Reading, document};
use crate::{ConfigErrors, Plan, REFERENCE, Variables, compile, refused_properties};

fn variables() -> impl Variables {
    BTreeMap::from(
        ["HOSTNAME", "KAFKA_PASSWORD", "ENRICH_TOKEN", "ONCALL_TOKEN", "OTLP_TOKEN"]
            .map(|name| (name.to_owned(), format!("value-of-{name}"))),
    )
}

fn compiled(text: &str) -> Result<Plan, ConfigErrors> {
    compile(text, "test.toml", &variables()).map(|(plan, _)| plan)
}

/// The keys in the reference, those in commented lines included, as the readers call them.
fn documented_keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let document = DeTable::parse(REFERENCE).unwrap();
    collect("", document.get_ref(), &mut keys);
    let mut table = String::new();
    for line in REFERENCE.lines() {
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_matches(['[', ']']).replace("plugins.enrich", "plugins.NAME");
        }
        let key = line.strip_prefix("# ").and_then(|line| line.split_once(" = ")).map(|(key, _)| key);
        if let Some(key) = key.filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
            keys.insert(format!("{table}.{key}"));
        }
    }
    keys
}

fn collect(path: &str, table: &DeTable<'_>, keys: &mut BTreeSet<String>) {
    for (name, value) in table {
        let name = if path == "plugins" { "NAME" } else { name.get_ref().as_ref() };
        let key = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        if name != "NAME" {
            keys.insert(key.clone());
        }
        // What is in these is the operator's own.
        const OWN: [&str; 4] =
            ["broker.librdkafka", "plugins.NAME.config", "telemetry.headers", "telemetry.attributes"];
        if !OWN.contains(&key.as_str()) {
            descend(&key, value.get_ref(), keys);
        }
    }
}

fn descend(key: &str, value: &DeValue<'_>, keys: &mut BTreeSet<String>) {
    match value {
        DeValue::Table(table) => collect(key, table, keys),
        DeValue::Array(elements) => elements.iter().for_each(|element| descend(key, element.get_ref(), keys)),
        _ => {}
    }
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    let findings = Findings::default();
    let parsed = DeTable::parse(REFERENCE).unwrap();
    let variables = variables();
    document(&Reading { what: CONFIGURATION, text: REFERENCE, variables: &variables, findings: &findings }, &parsed);
    assert_eq!(documented_keys(), findings.keys());
}

/// The lines `key = …` of the reference, each with its number and the comment above it.
fn documented_lines() -> Vec<(usize, String)> {
    let mut comment = String::new();
    let mut lines = Vec::new();
    for (number, line) in REFERENCE.lines().enumerate() {
        if let Some(words) = line.strip_prefix('#') {
            comment.push_str(words);
        } else {
            if line.contains(" = ") && !comment.is_empty() {
                lines.push((number, comment.clone()));
            }
            comment.clear();
        }
    }
    lines
}

fn without_line(number: usize) -> String {
    let lines = REFERENCE.lines().enumerate();
    lines.filter(|(other, _)| *other != number).map(|(_, line)| format!("{line}\n")).collect()
}

#[test]
fn the_reference_states_the_defaults_of_the_code() {
    let whole = format!("{:?}", compiled(REFERENCE).unwrap());
    let (mut defaults, mut required) = (0, 0);
    for (number, comment) in documented_lines() {
        let line = REFERENCE.lines().nth(number).unwrap();
        let without = compiled(&without_line(number)).map(|plan| format!("{plan:?}"));
        if comment.contains("Required") {
            assert!(without.is_err(), "`{line}` is not required");
            required += 1;
        } else if comment.ends_with("Default:")
            || comment.contains("Default: the router's")
            || comment.contains("Default: ROUTER")
            || comment.contains("Default: GROUP")
        {
            let without = without.unwrap_or_else(|errors| panic!("without `{line}`: {errors}"));
            assert_eq!(without, whole, "`{line}` is not the default");
            defaults += 1;
        }
    }
    assert!(defaults >= 35 && required >= 7, "{defaults} defaults and {required} required keys were found");
}

#[test]
fn a_plan_shows_no_secret() {
    let plan = format!("{:?}", compiled(REFERENCE).unwrap());
    assert!(plan.contains("value-of-HOSTNAME"));
    assert!(
        !plan.contains("value-of-KAFKA_PASSWORD")
            && !plan.contains("value-of-ENRICH_TOKEN")
            && !plan.contains("value-of-ONCALL_TOKEN")
            && !plan.contains("value-of-OTLP_TOKEN"),
        "{plan}"
    );
}

/// The reference for the embedded log.
fn embedded_reference() -> String {
    let of_clusters = ["bootstrap = ", "fetch_ahead = ", "\"s"];
    let lines = REFERENCE.lines().filter(|line| !of_clusters.iter().any(|start| line.starts_with(start)));
    let lines = lines.filter(|line| *line != "[broker.librdkafka]");
    lines
        .map(|line| {
            let key = line
                .strip_prefix("# ")
                .filter(|line| ["embedded = ", "retention = ", "max_size = "].iter().any(|key| line.starts_with(key)));
            format!("{}\n", key.unwrap_or(line))
        })
        .collect()
}

#[test]
fn the_reference_states_the_defaults_of_the_embedded_log() {
    let text = embedded_reference();
    let whole = format!("{:?}", compiled(&text).unwrap());
    for line in ["retention = \"7d\"\n", "max_size = \"16GiB\"\n"] {
        let without = text.replacen(line, "", 1);
        assert_ne!(without, text, "{line}");
        assert_eq!(format!("{:?}", compiled(&without).unwrap()), whole);
    }
}

/// A file of a program's making may be long, and have one mistake everywhere.
#[test]
fn of_many_mistakes_and_of_long_lines_little_is_shown() {
    let route = |number: usize| {
        format!(
            "[[routes]]\nname = \"r{number}\"\nfrom = [\"t{number}\"]\nbogus = 1\n[[routes.outputs]]\ntopic = \"o{number}\"\n"
        )
    };
    let head = "version = 1\n[router]\nname = \"r\"\n[broker]\nembedded = \".\"\n";
    let errors = compiled(&(head.to_owned() + &(0..300).map(route).collect::<String>())).unwrap_err();
    let text = errors.render(false);
    assert_eq!(errors.mistakes().len(), 300);
    assert_eq!((text.matches("─[test.toml:").count(), text.matches("test.toml:").count()), (100, 300), "{text}");
    assert!(text.ends_with("300 mistakes in the configuration.\n"));

    let long = format!("{head}[[routes]]\nname = \"r\"\nfrom = [{}]\n", "\"t\", ".repeat(10_000));
    let text = compiled(&long).unwrap_err().render(false);
    assert!(text.contains("test.toml:8: "), "{text}");
    assert!(text.lines().all(|line| line.len() < 1000));
}

#[test]
fn each_refused_property_is_refused_for_topics_too() {
    for name in refused_properties() {
        for prefix in ["", "topic."] {
            let text = REFERENCE
                .replace("\n[broker.librdkafka]\n", &format!("\n[broker.librdkafka]\n\"{prefix}{name}\" = \"1\"\n"));
            let errors = compiled(&text).unwrap_err();
            assert_eq!(errors.mistakes().len(), 1, "{errors}");
            assert!(
                errors.mistakes()[0].message().starts_with(&format!("`{prefix}{name}` can't be set: ")),
                "{errors}"
            );
        }
    }
}

const WITH_SECRETS: &str = r#"version = 1
[router]
name = "demo"
[broker]
bootstrap = "kafka:9092"
[broker.librdkafka]
"sasl.username" = "sprat=herring"
"ssl.key.password" = """
sprat=herring"""
[plugins.enrich]
component = "enrich.wasm"
config = { deep = [{ any = "sprat=herring" }], token = "sprat=herring" }
limits = { memory = "64MiB" }
[[routes]]
name = "orders"
from = ["orders"]
stages = ["enrich"]
retry = { max = "5m" }
[[routes.outputs]]
when = 'value.total > 100 && headers.tier == "gold"'
topic = "orders.large"
[[routes.outputs]]
topic = "orders.v2"
"#;

/// The text with one piece of it replaced.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let piece = prop_oneof![Just(String::new()), "[\\[\\]{}=\"'.,#\n a-z0-9$]{1,3}", ".{0,4}"];
    (0..text.len(), 0_usize..12, piece).prop_map(move |(start, length, piece)| {
        let start = text.floor_char_boundary(start);
        let end = text.ceil_char_boundary((start + length).min(text.len()));
        format!("{}{piece}{}", &text[..start], &text[end..])
    })
}

/// The text without one line, with one character replaced, or with something else between one key and its value.
fn slip() -> impl Strategy<Value = String> {
    let lines = WITH_SECRETS.lines().count();
    let without = (0..lines).prop_map(|gone| {
        let lines = WITH_SECRETS.lines().enumerate();
        lines.filter(|(number, _)| *number != gone).map(|(_, line)| format!("{line}\n")).collect()
    });
    let replaced = (0..WITH_SECRETS.len(), "[x=:\\[\"'{, ]")
        .prop_map(|(at, with)| format!("{}{with}{}", &WITH_SECRETS[..at], &WITH_SECRETS[at + 1..]));
    let equals: Vec<usize> = WITH_SECRETS.match_indices(" = ").map(|(at, _)| at).collect();
    let separated = (proptest::sample::select(equals), ":? ?|==")
        .prop_map(|(at, with)| format!("{}{with}{}", &WITH_SECRETS[..at], &WITH_SECRETS[at + 3..]));
    prop_oneof![without, replaced, separated]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_compile_panic(text in prop_oneof![".{0,200}", mutated(REFERENCE), mutated(WITH_SECRETS)]) {
        match compile(&text, "test.toml", &variables()) {
            Ok((plan, warnings)) => {
                let _shown = format!("{plan:?} {warnings:?}");
            }
            Err(errors) => {
                prop_assert!(!errors.mistakes().is_empty());
                for mistake in errors.mistakes() {
                    prop_assert!(!mistake.help().is_empty() && !mistake.message().is_empty());
                    prop_assert!(!mistake.render(true).is_empty());
                }
            }
        }
    }

    #[test]
    fn no_slip_shows_a_secret(text in slip()) {
        let shown = match compile(&text, "test.toml", &variables()) {
            Ok((plan, warnings)) => {
                format!("{plan:?} {}", warnings.iter().map(|warning| warning.render(false)).collect::<String>())
            }
            Err(errors) => format!("{errors:?} {errors}"),
        };
        prop_assert!(!shown.contains("sprat") && !shown.contains("herring"), "{}", shown);
    }
}

#[test]
fn topics_of_failures_are_those_for_retries_and_dead_letters() {
    let plan = compiled(
        r#"
version = 1
[router]
name = "r"
[broker]
bootstrap = "localhost:9092"
[[routes]]
name = "a"
from = ["in", "more"]
retry = {}
[[routes.outputs]]
topic = "out"
"#,
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let names: BTreeSet<_> = plan.topics_of_failures().iter().map(|id| &*plan.topics[id.0 as usize].name).collect();
    assert_eq!(names, BTreeSet::from(["r.a.in.retry", "r.a.more.retry", "r.a.dead-letter"]));
    assert_eq!(names.len() + 1, plan.topics.len(), "and the output");
}
