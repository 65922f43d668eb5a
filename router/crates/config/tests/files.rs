//! Every file in `tests/config/valid` compiles to the plan in the snapshot beside it, every file in
//! `tests/config/invalid` to the errors there. To add a case, drop a file in, run the tests, and look at the snapshot.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pointsman_config::{Variables, compile};

/// Not to be seen in any plan, warning or error.
const SECRETS: [&str; 3] = ["hunter2", "swordfish", "topsecret"];

/// The variables of every file.
fn variables() -> impl Variables {
    [
        ("HOSTNAME", "host-1"),
        ("KAFKA_PASSWORD", "swordfish"),
        ("ENRICH_TOKEN", "topsecret"),
        ("ONCALL_TOKEN", "swordfish-swordfish"),
        ("OTLP_TOKEN", "swordfish"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into_iter()
    .collect::<BTreeMap<_, _>>()
}

fn each_file(kind: &str, check: impl Fn(&str, &str) -> String) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/config").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty(), "no files in {}", folder.display());
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(folder.canonicalize().unwrap());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for path in files {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let shown = check(&name, &fs::read_to_string(&path).unwrap());
            assert!(!SECRETS.iter().any(|secret| shown.contains(secret)), "{name} shows a secret:\n{shown}");
            insta::assert_snapshot!(name.trim_end_matches(".toml"), shown);
        }
    });
}

#[test]
fn valid_files_compile_to_their_plans() {
    each_file("valid", |name, text| {
        let (plan, warnings) = compile(text, name, &variables()).unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: String = warnings.iter().map(|warning| warning.render(false)).collect();
        format!("{plan:#?}\n{warnings}")
    });
}

#[test]
fn invalid_files_report_all_their_mistakes() {
    each_file("invalid", |name, text| match compile(text, name, &variables()) {
        Ok(_) => panic!("{name} compiles"),
        Err(errors) => {
            assert!(!SECRETS.iter().any(|secret| format!("{errors:?}").contains(secret)), "{errors:?}");
            errors.render(false)
        }
    });
}

#[test]
fn every_example_compiles_without_a_warning() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../configs");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        // Route tests are of another kind, and run by tests of their own.
        if name.ends_with(".toml") && !name.ends_with(".test.toml") {
            let text = fs::read_to_string(&path).unwrap();
            let (_, warnings) = compile(&text, &name, &variables()).unwrap_or_else(|errors| panic!("{errors}"));
            assert!(warnings.is_empty(), "{warnings:?}");
        }
    }
}
