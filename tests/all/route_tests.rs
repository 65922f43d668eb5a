//! `pointsman test`, by the files in `tests/route_tests`: those in that folder pass; those in `failing` fail, and what is
//! said of them is in a snapshot beside them. A new file there is a new test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use insta::{Settings, assert_snapshot};
use pointsman_tests::{places, router};

/// The test files of a folder, in the order of their names.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries: Result<Vec<_>, _> = folder.read_dir()?.collect();
    let paths = entries?.into_iter().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(".test.toml")).collect();
    files.sort();
    ensure!(!files.is_empty(), "{} has no test files", folder.display());
    Ok(files)
}

/// Runs one file from its own folder, and tells what came of it.
fn run(file: &Path, options: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let name = file.file_name().context("a test file has a name")?;
    let folder = file.parent().context("a test file has a folder")?;
    let output = router::command()?.arg("test").args(options).arg(name).current_dir(folder).output()?;
    let (said, complained) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    let code = output.status.code();
    let exit = code.map_or_else(|| output.status.to_string(), |code| format!("exit {code}"));
    Ok((code, format!("{exit}\n--- standard output ---\n{said}--- standard error ---\n{complained}")))
}

#[test]
fn every_route_test_passes() -> anyhow::Result<()> {
    let mut all = files(&places::workspace().join("tests/route_tests"))?;
    all.extend(files(&places::workspace().join("configs"))?);
    let mut failed = String::new();
    for file in all {
        let (code, told) = run(&file, &[])?;
        if code != Some(0) {
            failed.push_str(&format!("{}: {told}\n", file.display()));
        }
    }
    ensure!(failed.is_empty(), "{failed}");
    Ok(())
}

#[test]
fn every_failing_route_test_says_what_is_wrong() -> anyhow::Result<()> {
    let folder = places::workspace().join("tests/route_tests/failing");
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path(folder.canonicalize()?);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for file in files(&folder)? {
        let (code, told) = run(&file, &[])?;
        ensure!(matches!(code, Some(1..=3)), "{} does not fail: {told}", file.display());
        let name = file.file_name().context("a test file has a name")?.to_string_lossy();
        settings.bind(|| assert_snapshot!(name.trim_end_matches(".test.toml"), told));
    }
    Ok(())
}

#[test]
fn a_filter_that_nothing_matches_has_proved_nothing() -> anyhow::Result<()> {
    let file = places::workspace().join("tests/route_tests/by_hand.test.toml");
    let (code, told) = run(&file, &["--filter", "each verdict"])?;
    ensure!(code == Some(0) && told.contains("1 passed, 0 failed"), "{told}");
    let (code, told) = run(&file, &["--filter", "no such case"])?;
    ensure!(code == Some(1) && told.contains("no such case"), "{told}");
    Ok(())
}

#[test]
fn results_are_json_where_that_is_asked_for() -> anyhow::Result<()> {
    let file = places::workspace().join("tests/route_tests/failing/differences.test.toml");
    let (code, told) = run(&file, &["--json"])?;
    ensure!(code == Some(1), "{told}");
    let json = told.split("--- ").nth(1).and_then(|part| part.split_once('\n')).context("standard output")?.1;
    let results: serde_json::Value = serde_json::from_str(json)?;
    ensure!(results["passed"] == 1 && results["failed"] == 3, "{results}");
    let case = &results["files"][0]["cases"][0];
    ensure!(case["passed"] == false && case["mismatches"][0]["got"] == "delivered", "{case}");
    Ok(())
}
