//! What is in `deploy/` for the person on call: alert rules, their tests, the runbook and the dashboard are of one piece, and know no
//! metric that is not told.
//!
//! Prometheus' own `promtool` says whether rules and configuration are sound, and runs the rules' tests. Where it is not there that is
//! said and skipped, unless `POINTSMAN_TEST_REQUIRE_PROMTOOL` is set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use anyhow::{Context as _, bail, ensure};
use pointsman_core::failure::FailureClass;
use pointsman_tests::places::{self, Scratch};
use regex::Regex;
use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::{Map, Value};

use crate::languages;
use crate::sources;

const RULES: &str = "deploy/prometheus/rules.yml";
const DASHBOARD: &str = "deploy/grafana/dashboard.json";
/// What Prometheus tells apart its targets by, and what Kubernetes does.
const TARGET: [&str; 3] = ["job", "instance", "pod"];

#[test]
fn prometheus_takes_the_rules_and_the_scrape_configuration() -> anyhow::Result<()> {
    promtool(&["check", "rules", RULES])?;
    promtool(&["check", "config", "deploy/prometheus/prometheus.yml"])
}

/// Every file `deploy/prometheus/*.test.yml`.
#[test]
fn each_alert_fires_when_it_is_to_and_not_otherwise() -> anyhow::Result<()> {
    let files: Vec<String> = tests_of_rules().into_iter().map(|(file, _)| file).collect();
    let mut arguments = vec!["test", "rules"];
    arguments.extend(files.iter().map(String::as_str));
    promtool(&arguments)
}

/// Queries of the dashboard, as if they were rules.
#[test]
fn prometheus_understands_the_queries_of_the_dashboard() -> anyhow::Result<()> {
    let rules: Vec<Value> = (1..)
        .zip(dashboard_queries())
        .map(|(number, query)| {
            let query = query.replace("$__rate_interval", "5m");
            serde_json::json!({ "record": format!("query:{number}"), "expr": query })
        })
        .collect();
    let folder = Scratch::new("dashboard")?;
    // JSON is YAML.
    let file = folder.path().join("rules.yml");
    fs::write(&file, serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string())?;
    promtool(&["check", "rules", &file.to_string_lossy()])
}

#[test]
fn every_alert_says_what_it_takes_to_act_on_it() {
    let placeholder = Regex::new(r"\$labels\.(\w+)").expect("it is one");
    let known = Metrics::read();
    let mut broken = Vec::new();
    for (name, rule) in alerts() {
        let mut must = |holds: bool, what: String| broken.extend((!holds).then(|| format!("{name}: {what}")));
        let severity = text(&rule["labels"]["severity"]);
        must(["critical", "warning", "info"].contains(&severity), format!("the severity `{severity}` is none"));
        must(!text(&rule["for"]).is_empty(), "there is no `for`".into());
        let annotations = &rule["annotations"];
        must(!text(&annotations["summary"]).is_empty(), "there is no summary".into());
        must(!text(&annotations["description"]).is_empty(), "there is no description".into());
        let url = format!("https://runbook.example/RUNBOOK.md#{}", name.to_lowercase());
        must(text(&annotations["runbook_url"]) == url, format!("`runbook_url` is not {url}"));
        let labels = known.labels_in(text(&rule["expr"]));
        let said = format!("{} {}", text(&annotations["summary"]), text(&annotations["description"]));
        for found in placeholder.captures_iter(&said) {
            must(labels.contains(&found[1]), format!("nothing in its query has the label `{}`", &found[1]));
        }
        let is_of_one_lane = labels.contains("partition") && !text(&rule["expr"]).starts_with("count ");
        if is_of_one_lane {
            for label in ["route", "topic", "partition"] {
                must(
                    said.contains(&format!("$labels.{label} ")),
                    format!("it is about a lane, and does not name its {label}"),
                );
            }
        }
    }
    sources::none("at 3 a.m. an alert has to say what it is about:", &broken);
}

#[test]
fn every_alert_has_a_section_of_the_runbook_and_cases_of_both_kinds() {
    let alerts: BTreeSet<String> = alerts().into_keys().collect();
    let runbook = sources::read("deploy/RUNBOOK.md");
    let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut at = "";
    for line in runbook.lines() {
        if line.starts_with('#') {
            at = line.strip_prefix("## ").unwrap_or_default();
        }
        sections.entry(at).or_default().push(line);
    }
    sections.remove("");
    let mut broken = Vec::new();
    let dashboard: Value = serde_json::from_str(&sources::read(DASHBOARD)).expect("the dashboard is JSON");
    let panels = list(&dashboard["panels"]);
    for (section, lines) in &sections {
        for line in lines.iter().filter(|line| line.starts_with("**Look at:** ")) {
            for quoted in line.split('"').skip(1).step_by(2) {
                if !panels.iter().any(|panel| text(&panel["title"]).starts_with(quoted)) {
                    broken.push(format!("{section}: the dashboard has no panel \"{quoted}\""));
                }
            }
        }
        if !alerts.contains(*section) {
            broken.push(format!("{section}: the runbook has it, and the rules don't"));
        }
        for part in ["Means", "Look at", "Usual causes", "Do", "Leave it alone"] {
            if !lines.iter().any(|line| line.starts_with(&format!("**{part}:** "))) {
                broken.push(format!("{section}: the runbook does not say `{part}`"));
            }
        }
    }
    let (mut fire, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for (_, tests) in tests_of_rules() {
        for case in list(&tests["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])) {
            let kind = if list(&case["exp_alerts"]).is_empty() { &mut silent } else { &mut fire };
            kind.insert(text(&case["alertname"]).to_owned());
        }
    }
    for alert in &alerts {
        let has = [
            (sections.contains_key(alert.as_str()), "section of the runbook"),
            (fire.contains(alert), "case in which it fires"),
            (silent.contains(alert), "case in which it must not fire"),
        ];
        broken.extend(has.iter().filter(|(has, _)| !has).map(|(_, what)| format!("{alert}: there is no {what}")));
    }
    broken.extend(
        fire.union(&silent).filter(|name| !alerts.contains(*name)).map(|name| format!("{name}: tested, and no alert")),
    );
    sources::none("rules, runbook and tests belong together:", &broken);
}

#[test]
fn rules_and_dashboard_know_no_metric_that_is_not_told() {
    let known = Metrics::read();
    let mut broken = Vec::new();
    let rules = load(RULES);
    for rule in list(&rules["groups"][0]["rules"]) {
        known.check(RULES, text(&rule["expr"]), &mut broken);
    }
    for (file, tests) in tests_of_rules() {
        for series in list(&tests["tests"]).iter().flat_map(|test| list(&test["input_series"])) {
            known.check(&file, text(&series["series"]), &mut broken);
        }
    }
    for query in dashboard_queries() {
        known.check(DASHBOARD, &query, &mut broken);
    }
    for name in
        Regex::new(r"\b(?:pointsman|process)_\w+").expect("it is one").find_iter(&sources::read("deploy/RUNBOOK.md"))
    {
        if !known.known.contains_key(name.as_str()) {
            broken.push(format!("deploy/RUNBOOK.md: there is no metric `{}`", name.as_str()));
        }
    }
    sources::none("deploy/METRICS.md has all metrics and their labels:", &broken);
}

/// What the check above is worth.
#[test]
fn what_is_not_told_is_found() {
    let known = Metrics::read();
    for (query, finding) in [
        ("sum(rate(pointsman_record_total[5m]))", "no metric `pointsman_record_total`"),
        ("node_load1 > 3", "no metric `node_load1`"),
        ("pointsman_handling_seconds > 3", "no metric `pointsman_handling_seconds`"),
        (r#"pointsman_lag_seconds{rout="a"}"#, "no label `rout`"),
        (r#"pointsman_lag_seconds{le="1"}"#, "no label `le`"),
        ("max by (router) (pointsman_lag_seconds)", "no label `router`"),
        (r#"pointsman_lane_state{state=~"halted|asleep"}"#, "no state `asleep`"),
        (r#"pointsman_failures_total{class="tarp"}"#, "no class `tarp`"),
        ("lane:pointsman_lag:max > 1", "no metric `lane:pointsman_lag:max`"),
    ] {
        let mut broken = Vec::new();
        known.check("query", query, &mut broken);
        assert!(broken.iter().any(|line| line.contains(finding)), "{query}: {broken:?}");
    }
    let mut broken = Vec::new();
    known.check(
        "query",
        r#"sum by (le) (rate(pointsman_handling_seconds_bucket{job="a",route=~"$route"}[5m])) or vector(0)"#,
        &mut broken,
    );
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn panels_of_the_dashboard_have_numbers_and_places_of_their_own() {
    let dashboard: Value = serde_json::from_str(&sources::read(DASHBOARD)).expect("the dashboard is JSON");
    let panels = list(&dashboard["panels"]);
    assert!(panels.len() > 40, "the panels are not found");
    let mut taken = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    for panel in panels {
        let title = text(&panel["title"]);
        let number = panel["id"].as_u64().unwrap_or_default();
        assert!(number > 0 && numbers.insert(number), "{title}: the number {number} is another panel's");
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a panel has a place"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}: it does not fit");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let other = taken.insert(place, title);
            assert!(other.is_none(), "{title} lies upon {other:?}");
        }
        assert!(panel["type"] == "row" || !list(&panel["targets"]).is_empty(), "{title}: it shows nothing");
    }
}

#[test]
fn the_dashboard_is_made_by_its_script() -> anyhow::Result<()> {
    let script = places::workspace().join("deploy/grafana/dashboard.py");
    let output = match Command::new("python3").arg(&script).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return languages::skipped(&"python3 is not there"),
        output => output.context("can't run python3")?,
    };
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(
        String::from_utf8_lossy(&output.stdout) == sources::read(DASHBOARD),
        "{DASHBOARD} is not up to date: python3 deploy/grafana/dashboard.py > {DASHBOARD}"
    );
    Ok(())
}

/// Runs it at the root of the repository.
#[expect(clippy::print_stderr, reason = "whoever runs the tests is to read it")]
fn promtool(arguments: &[&str]) -> anyhow::Result<()> {
    let output = match Command::new("promtool").args(arguments).current_dir(places::workspace()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let missing = "promtool is not there; it is in Debian's package `prometheus`";
            ensure!(env::var_os("POINTSMAN_TEST_REQUIRE_PROMTOOL").is_none(), "{missing}");
            eprintln!("SKIPPED: {missing}");
            return Ok(());
        }
        output => output.context("can't run promtool")?,
    };
    if !output.status.success() {
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        bail!("promtool {}: {}", arguments.join(" "), said.concat());
    }
    Ok(())
}

/// A file of YAML, as if it were JSON. Nothing is asked of it but texts, lists and maps.
fn load(file: &str) -> Value {
    fn json(node: &Yaml<'_>) -> Value {
        if let Some(nodes) = node.as_sequence() {
            return nodes.iter().map(json).collect();
        }
        if let Some(nodes) = node.as_mapping() {
            let pairs = nodes.iter().map(|(key, node)| (key.as_str().unwrap_or_default().to_owned(), json(node)));
            return Value::Object(pairs.collect::<Map<_, _>>());
        }
        node.as_str().map_or(Value::Null, Value::from)
    }
    let documents = Yaml::load_from_str(&sources::read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    json(documents.first().expect("the file has something in it"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The alerts by name.
fn alerts() -> BTreeMap<String, Value> {
    let rules = load(RULES);
    let alerts: BTreeMap<String, Value> = list(&rules["groups"][0]["rules"])
        .iter()
        .filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule.clone())))
        .collect();
    assert!(alerts.len() > 20, "the alerts are not found");
    alerts
}

/// The files of tests of the rules, with what is in them.
fn tests_of_rules() -> Vec<(String, Value)> {
    let is_one = |file: &PathBuf| file.to_string_lossy().ends_with(".test.yml");
    let entries = fs::read_dir(places::workspace().join("deploy/prometheus")).expect("the folder is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).filter(is_one).collect();
    files.sort();
    assert!(!files.is_empty(), "the tests of the rules are not found");
    let name = |file: &Path| format!("deploy/prometheus/{}", file.file_name().unwrap_or_default().to_string_lossy());
    files.iter().map(|file| (name(file), load(&name(file)))).collect()
}

/// The queries of all panels, of variables and of annotations.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&sources::read(DASHBOARD)).expect("the dashboard is JSON");
    let of_panels =
        list(&dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"])).map(|target| &target["expr"]);
    let of_annotations = list(&dashboard["annotations"]["list"]).iter().map(|annotation| &annotation["expr"]);
    let mut queries: Vec<String> = of_panels.chain(of_annotations).map(|query| text(query).to_owned()).collect();
    let values = Regex::new(r"^label_values\((.*), (\w+)\)$").expect("it is one");
    for variable in list(&dashboard["templating"]["list"]) {
        if let Some(found) = values.captures(text(&variable["definition"])) {
            queries.push(format!("group by ({}) ({})", &found[2], &found[1]));
        }
    }
    assert!(queries.len() > 40 && queries.iter().all(|query| !query.is_empty()), "the queries are not found");
    queries
}

/// What is told of a metric.
#[derive(Clone, Default)]
struct Told {
    labels: BTreeSet<String>,
    help: String,
}

/// All that can be asked for: the metrics of the reference page, what the rules make of them, and Prometheus' own `up`.
struct Metrics {
    known: BTreeMap<String, Told>,
    selector: Regex,
    matcher: Regex,
    labels: Regex,
    range: Regex,
}

impl Metrics {
    fn read() -> Self {
        let regex = |text: &str| Regex::new(text).expect("it is one");
        let mut metrics = Self {
            known: BTreeMap::new(),
            selector: regex(r"([A-Za-z_:][\w:]*)\s*(?:\{([^{}]*)\}|(\()|)"),
            matcher: regex(r#"(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#),
            labels: regex(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"),
            range: regex(r"\[[^\]]*\]|\boffset\s+\w+"),
        };
        let target = |labels: Vec<&str>| labels.into_iter().chain(TARGET).map(str::to_owned).collect::<BTreeSet<_>>();
        metrics.known.insert("up".into(), Told { labels: target(vec![]), help: String::new() });
        for line in sources::read("deploy/METRICS.md").lines() {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, kind, labels, help] = cells[..] else { continue };
            let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else { continue };
            let labels = labels.split('`').skip(1).step_by(2).collect();
            let told = Told { labels: target(labels), help: help.to_owned() };
            if kind == "histogram" {
                for ending in ["_sum", "_count"] {
                    metrics.known.insert(format!("{name}{ending}"), told.clone());
                }
                let mut bucket = told;
                bucket.labels.insert("le".into());
                metrics.known.insert(format!("{name}_bucket"), bucket);
            } else {
                metrics.known.insert(name.to_owned(), told);
            }
        }
        assert!(metrics.known.len() > 50, "the metrics are not found");
        for rule in list(&load(RULES)["groups"][0]["rules"]) {
            let Some(name) = rule["record"].as_str() else { continue };
            let query = text(&rule["expr"]);
            let sources: Vec<&Told> =
                metrics.selectors(query).filter_map(|(name, _)| metrics.known.get(&name)).collect();
            let mut told = Told {
                labels: sources.iter().flat_map(|told| told.labels.clone()).collect(),
                help: sources.iter().map(|told| told.help.as_str()).collect::<Vec<_>>().join(" "),
            };
            // A rule that records something begins with what it puts together.
            let found = metrics.labels.captures(query).expect("it puts something together");
            let is_kept = |label: &str| words(&found[2]).any(|named| named == label) == (&found[1] == "by");
            told.labels.retain(|label| is_kept(label));
            metrics.known.insert(name.to_owned(), told);
        }
        metrics
    }

    /// The metrics that a query names, each with what stands in its braces. Whatever is neither called nor one of the language's
    /// words is a metric.
    fn selectors(&self, query: &str) -> impl Iterator<Item = (String, String)> {
        let bare = self.range.replace_all(query, "");
        let bare = self.labels.replace_all(&bare, "").into_owned();
        let found: Vec<(String, String)> = self
            .selector
            .captures_iter(&bare)
            .filter(|found| found.get(3).is_none() && !["and", "or", "unless", "bool"].contains(&&found[1]))
            .map(|found| (found[1].to_owned(), found.get(2).map_or(String::new(), |inside| inside.as_str().to_owned())))
            .collect();
        found.into_iter()
    }

    /// Labels of anything that the query names.
    fn labels_in(&self, query: &str) -> BTreeSet<&str> {
        let told: Vec<&Told> = self.selectors(query).filter_map(|(name, _)| self.known.get(&name)).collect();
        told.into_iter().flat_map(|told| told.labels.iter().map(String::as_str)).collect()
    }

    fn check(&self, place: &str, query: &str, broken: &mut Vec<String>) {
        let mut complain = |what: String| broken.push(format!("{place}: {what}: {query}"));
        let mut named = 0;
        for (name, inside) in self.selectors(query) {
            named += 1;
            let Some(told) = self.known.get(&name) else {
                complain(format!("there is no metric `{name}`"));
                continue;
            };
            for found in self.matcher.captures_iter(&inside) {
                let (label, values) = (&found[1], &found[2]);
                if !told.labels.contains(label) {
                    complain(format!("`{name}` has no label `{label}`"));
                }
                for value in values.split('|').filter(|value| !self.is_told(label, value)) {
                    complain(format!("`{name}` has no {label} `{value}`"));
                }
            }
        }
        if named == 0 {
            complain("it names no metric".into());
        }
        let labels = self.labels_in(query);
        for found in self.labels.captures_iter(query) {
            for label in words(&found[2]).filter(|label| !labels.contains(label)) {
                complain(format!("nothing there has a label: no label `{label}`"));
            }
        }
    }

    /// Whether a label may have the value: of those with a fixed set of words the reference page has them all, with one metric or
    /// another that has the label.
    fn is_told(&self, label: &str, value: &str) -> bool {
        let is_word = |told: &Told| {
            told.help.split(|letter: char| letter != '-' && !letter.is_alphabetic()).any(|word| word == value)
        };
        match label {
            "class" => FailureClass::ALL.iter().any(|class| class.name() == value),
            "status" | "state" | "fate" | "error" | "kind" | "outcome" | "direction" => {
                self.known.values().any(|told| told.labels.contains(label) && is_word(told))
            }
            _ => true,
        }
    }
}

/// What is between the commas.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}
