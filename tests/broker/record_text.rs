//! `pointsman produce` and `consume` on a real Kafka, with a plain client on the other side.

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use pointsman_core::record::OwnedHeader;
use pointsman_tests::kafka::{Kafka, Sample};
use pointsman_tests::places::Scratch;
use pointsman_tests::router;
use pointsman_tests::trials::Trial;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared("record_text::what_is_produced_is_in_kafka", what_is_produced_is_in_kafka),
    Trial::shared("record_text::what_is_consumed_can_be_produced_again", what_is_consumed_can_be_produced_again),
    Trial::shared("record_text::transaction_markers_at_the_end_are_an_end", transaction_markers_at_the_end_are_an_end),
];

/// Runs the command with a configuration for this cluster, and gives it `input`.
fn run(kafka: &Kafka, arguments: &[&str], input: &[u8]) -> anyhow::Result<Output> {
    let scratch = Scratch::new("record-text")?;
    let config = scratch.path().join("config.toml");
    let text = format!(
        "version = 1\n[router]\nname = \"test\"\n[broker]\nbootstrap = \"{}\"\n\
         [[routes]]\nname = \"copy\"\nfrom = [\"in\"]\n[[routes.outputs]]\ntopic = \"out\"\n",
        kafka.bootstrap()
    );
    std::fs::write(&config, text)?;
    let mut command = router::command()?;
    command.arg(arguments[0]).arg(&config).args(&arguments[1..]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("can't start pointsman")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_vec();
    // A command that ends early closes its end.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output()?;
    drop(writer.join());
    Ok(output)
}

fn answer(output: &Output) -> anyhow::Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "pointsman ended with {}: {errors}", output.status);
    Ok(String::from_utf8(output.stdout.clone())?)
}

fn what_is_produced_is_in_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("produced");
    let refused = run(kafka, &["produce", &topic], b"{\"value\":1}")?;
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    kafka.create_topic(&topic, 2)?;
    let lines = br#"{"partition":1,"timestamp":77,"key":"k","value":{"base64":"/wA="},"headers":[["a",null],["a",""],[{"base64":"/w=="},"x"]]}
{"partition":1,"key":null,"value":null}
{"vlaue":1}
{"partition":1,"value":"never"}"#;
    let stopped = run(kafka, &["produce", &topic, "--json"], lines)?;
    assert_eq!(stopped.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&stopped.stderr).contains("line 3: `vlaue`"));
    assert!(String::from_utf8_lossy(&stopped.stdout).contains("\"written\":2"));

    let read = kafka.read_all(&topic)?;
    assert_eq!(read.len(), 2);
    let headers: [(&[u8], Option<&[u8]>); 3] = [(b"a", None), (b"a", Some(b"")), (b"\xff", Some(b"x"))];
    let headers = headers.map(|(name, value)| OwnedHeader { name: name.into(), value: value.map(Into::into) });
    let (partition, record) = &read[0];
    assert_eq!((partition.partition, record.timestamp_ms), (1, 77));
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"k"[..]), Some(&b"\xff\0"[..])));
    assert_eq!(record.headers, headers);
    assert_eq!((&read[1].1.key, &read[1].1.value), (&None, &None));
    Ok(())
}

fn what_is_consumed_can_be_produced_again(kafka: &Kafka) -> anyhow::Result<()> {
    let (from, to) = (Kafka::unique("from"), Kafka::unique("to"));
    for topic in [&from, &to] {
        kafka.create_topic(topic, 3)?;
    }
    kafka.fill_with(&from, 2000, |i| Sample {
        partition: i32::try_from(i % 3).ok(),
        timestamp_ms: Some(1_000_000 + i64::try_from(i).unwrap_or_default()),
        key: (i % 5 > 0).then(|| i.to_be_bytes().into()),
        value: (i % 7 > 0).then(|| format!("{{\"i\":{i}}}").into_bytes()),
        headers: vec![OwnedHeader { name: i.to_le_bytes().into(), value: None }],
    })?;
    let lines = answer(&run(kafka, &["consume", &from, "--json-values"], b"")?)?;
    assert_eq!(lines.lines().count(), 2000);
    let times = lines.lines().map(|line| Ok(serde_json::from_str::<serde_json::Value>(line)?["timestamp"].as_i64()));
    assert!(times.collect::<anyhow::Result<Vec<_>>>()?.is_sorted(), "partitions are merged by time");
    answer(&run(kafka, &["produce", &to], lines.as_bytes())?)?;
    let records = |topic: &str| -> anyhow::Result<Vec<_>> {
        let mut records = kafka.read_all(topic)?;
        records.sort_by_key(|(partition, record)| (partition.partition, record.offset));
        Ok(records.into_iter().map(|(partition, record)| (partition.partition, record)).collect())
    };
    assert_eq!(records(&from)?, records(&to)?);
    Ok(())
}

fn transaction_markers_at_the_end_are_an_end(kafka: &Kafka) -> anyhow::Result<()> {
    const DEADLINE: Duration = Duration::from_secs(60);
    let topic = Kafka::unique("marked");
    kafka.create_topic(&topic, 1)?;
    let producer: BaseProducer = kafka.client().set("transactional.id", &topic).create()?;
    producer.init_transactions(DEADLINE)?;
    for (value, commit) in [("kept", true), ("undone", false)] {
        producer.begin_transaction()?;
        producer.send(BaseRecord::<(), str>::to(&topic).payload(value)).map_err(|(error, _)| error)?;
        producer.flush(DEADLINE)?;
        if commit {
            producer.commit_transaction(DEADLINE)?
        } else {
            producer.abort_transaction(DEADLINE)?
        };
    }
    let values = answer(&run(kafka, &["consume", &topic, "--format", "value"], b"")?)?;
    assert_eq!(values, "kept\n");
    Ok(())
}
