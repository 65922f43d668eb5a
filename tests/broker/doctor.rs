//! `pointsman doctor` on a real cluster.

use std::fs;

use anyhow::{Context as _, ensure};
use pointsman_tests::kafka::{Kafka, TopicSpec};
use pointsman_tests::places::Scratch;
use pointsman_tests::router;
use pointsman_tests::trials::Trial;
use serde_json::Value;

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("doctor::nothing_is_wrong_with_topics_that_are_fit", nothing_is_wrong_with_topics_that_are_fit),
    Trial::shared("doctor::what_may_not_be_done_is_found", what_may_not_be_done_is_found),
    Trial::shared("doctor::what_is_wrong_with_topics_is_found", what_is_wrong_with_topics_is_found),
];

/// Severity, thing and cause of what is not as it should be; and the exit code.
type Found = (Vec<(String, String, String)>, Option<i32>);

fn examine(kafka: &Kafka, [source, output]: [&str; 2]) -> anyhow::Result<Found> {
    let folder = Scratch::new("doctor-")?;
    let file = folder.path().join("config.toml");
    let text = format!(
        r#"version = 1
[router]
name = "{source}"
delivery = "exactly-once"
[broker]
bootstrap = "{}"
[[routes]]
name = "main"
from = ["{source}"]
[[routes.outputs]]
topic = "{output}"
"#,
        kafka.bootstrap()
    );
    fs::write(&file, text)?;
    let answer = router::command()?.arg("doctor").arg(&file).arg("--json").output()?;
    let said: Value =
        serde_json::from_slice(&answer.stdout).with_context(|| String::from_utf8_lossy(&answer.stderr).into_owned())?;
    let findings = said["findings"].as_array().context("there are no findings")?;
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    ensure!(findings.iter().any(|finding| text(finding, "thing").starts_with("broker ")), "{said}");
    let wrong = findings.iter().filter(|finding| finding["severity"] != "ok");
    let wrong = wrong.map(|finding| (text(finding, "severity"), text(finding, "thing"), text(finding, "cause")));
    Ok((wrong.collect(), answer.status.code()))
}

fn nothing_is_wrong_with_topics_that_are_fit(kafka: &Kafka) -> anyhow::Result<()> {
    let [source, output] = ["doctor-in", "doctor-out"].map(Kafka::unique);
    kafka.create_topic(&source, 3)?;
    kafka.create_topic(&output, 3)?;
    let (wrong, code) = examine(kafka, [&source, &output])?;
    // The broker is alone.
    let things: Vec<&str> = wrong.iter().map(|(_, thing, _)| thing.as_str()).collect();
    ensure!(things == ["cluster"] && code == Some(0), "{code:?} {wrong:#?}");
    Ok(())
}

/// Of two topics whoever asks may see one, and nothing else. (With a broker of its own, which has an authorizer.)
fn what_may_not_be_done_is_found(_: &Kafka) -> anyhow::Result<()> {
    let kafka = Kafka::start_with(&[
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
    ])?;
    let topics = ["doctor-in", "doctor-out"];
    for topic in topics {
        kafka.create_topic(topic, 1)?;
    }
    let rights = |(wrong, code): Found| -> (Vec<(String, String)>, Option<i32>) {
        let rights = wrong.into_iter().filter(|(.., cause)| cause.contains("may not"));
        (rights.map(|(severity, thing, cause)| (severity, format!("{thing}: {cause}"))).collect(), code)
    };
    let (before, code) = rights(examine(&kafka, topics)?);
    ensure!(before.is_empty() && code == Some(0), "{code:?} {before:#?}");
    kafka.let_see_only("doctor-out", "User:ANONYMOUS")?;
    let (after, code) = rights(examine(&kafka, topics)?);
    let lacks_write = |(severity, what): &(String, String)| {
        severity == "error" && what.starts_with("topic doctor-out: ") && what.contains("may not Write")
    };
    ensure!(after.iter().any(lacks_write) && code == Some(1), "{code:?} {after:#?}");
    ensure!(after.iter().all(|(_, what)| what.starts_with("topic doctor-out")), "{after:#?}");
    Ok(())
}

fn what_is_wrong_with_topics_is_found(kafka: &Kafka) -> anyhow::Result<()> {
    let [source, output, nowhere] = ["doctor-in", "doctor-out", "doctor-nowhere"].map(Kafka::unique);
    let retry = format!("{source}.main.{source}.retry");
    kafka.create_topics(&[
        TopicSpec::new(&source, 3),
        TopicSpec::new(&output, 3).with("min.insync.replicas", "2").with("max.message.bytes", "1000"),
        TopicSpec::new(&retry, 1).with("cleanup.policy", "compact"),
    ])?;
    let (wrong, code) = examine(kafka, [&source, &output])?;
    for (severity, topic, words) in [
        ("error", &output, "min.insync.replicas is 2, and it has 1 replica"),
        ("warning", &output, "it takes 1000 bytes (max.message.bytes)"),
        ("error", &retry, "it has 1 partition, and its source"),
        ("error", &retry, "is compacted"),
    ] {
        let thing = format!("topic {topic}");
        let is_it = |(how_bad, what, cause): &(String, String, String)| {
            how_bad == severity && *what == thing && cause.contains(words)
        };
        ensure!(wrong.iter().any(is_it), "{severity} {thing} {words}: {wrong:#?}");
    }
    ensure!(code == Some(1), "{code:?}");
    let (wrong, code) = examine(kafka, [&source, &nowhere])?;
    let thing = format!("topic {nowhere}");
    ensure!(wrong.iter().any(|(_, what, cause)| *what == thing && cause == "it is not there"), "{wrong:#?}");
    ensure!(code == Some(1), "{code:?}");
    Ok(())
}
