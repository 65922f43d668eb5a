//! `pointsman produce` in transactions, on a real cluster.

use std::fs;
use std::process::Output;

use anyhow::ensure;
use pointsman_tests::kafka::Kafka;
use pointsman_tests::places::Scratch;
use pointsman_tests::router;
use pointsman_tests::trials::Trial;

pub(crate) const TRIALS: &[Trial] = &[Trial::shared(
    "produce::a_transaction_is_written_whole_or_not_at_all",
    a_transaction_is_written_whole_or_not_at_all,
)];

fn produce(kafka: &Kafka, topic: &str, lines: &str, more: &[&str]) -> anyhow::Result<Output> {
    let folder = Scratch::new("produce-")?;
    let [file, input] = ["config.toml", "input"].map(|name| folder.path().join(name));
    let text = format!(
        "version = 1\n[router]\nname = \"{topic}\"\ndelivery = \"exactly-once\"\n[broker]\nbootstrap = \"{}\"\n\
         [[routes]]\nname = \"main\"\nfrom = [\"{topic}\"]\n[[routes.outputs]]\ntopic = \"elsewhere\"\n",
        kafka.bootstrap()
    );
    fs::write(&file, text)?;
    fs::write(&input, lines)?;
    let mut command = router::command()?;
    command.arg("produce").arg(file).arg(topic).arg("--input").arg(input).args(more);
    Ok(command.output()?)
}

/// By default where delivery is exactly-once.
fn a_transaction_is_written_whole_or_not_at_all(kafka: &Kafka) -> anyhow::Result<()> {
    let topic = Kafka::unique("produce");
    kafka.create_topic(&topic, 2)?;
    let good: String = (0..100).map(|number| format!("{{\"key\":\"{number}\",\"value\":{number}}}\n")).collect();
    let bad = format!("{good}no record\n");

    let failed = produce(kafka, &topic, &bad, &[])?;
    ensure!(failed.status.code() == Some(2), "{failed:?}");
    ensure!(kafka.read_all(&topic)?.is_empty(), "a part is there");
    let written = produce(kafka, &topic, &good, &[])?;
    let said = String::from_utf8_lossy(&written.stdout);
    ensure!(written.status.success() && said.ends_with(", in 1 transaction\n"), "{written:?}");
    // Beside the records there is the marker of the transaction, in each partition.
    ensure!(kafka.read_all(&topic)?.len() == 100 && kafka.count(&topic)? == 102, "{}", kafka.count(&topic)?);
    let apart = produce(kafka, &topic, &bad, &["--no-transaction"])?;
    ensure!(apart.status.code() == Some(2) && kafka.read_all(&topic)?.len() == 200, "{apart:?}");
    Ok(())
}
