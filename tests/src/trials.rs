//! Tests that are given a broker: libtest-mimic trials that are skipped, loudly, where there is none.

use std::env;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use libtest_mimic::{Arguments, Completion, Failed};

use crate::kafka::proxy::Proxy;
use crate::kafka::{Kafka, Unavailable};

/// What a test does with its Kafka.
type Body = fn(&Kafka) -> anyhow::Result<()>;

/// What a test does, and with which Kafka.
#[derive(Clone, Copy, Debug)]
enum Work {
    Shared(Body),
    Alone(Body),
    Behind(fn(&Kafka, &Proxy) -> anyhow::Result<()>),
}

/// One test that needs Kafka.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    name: &'static str,
    work: Work,
}

impl Trial {
    /// A test on the Kafka that all tests share.
    #[must_use]
    pub const fn shared(name: &'static str, body: Body) -> Self {
        Self { name, work: Work::Shared(body) }
    }

    /// A test with a broker of its own, which it may stop, kill and pause.
    #[must_use]
    pub const fn alone(name: &'static str, body: Body) -> Self {
        Self { name, work: Work::Alone(body) }
    }

    /// A test with a broker of its own, or with so many as `POINTSMAN_TEST_BROKERS` says, and a proxy in front of each, which its
    /// clients' connections go through.
    #[must_use]
    pub const fn behind(name: &'static str, body: fn(&Kafka, &Proxy) -> anyhow::Result<()>) -> Self {
        Self { name, work: Work::Behind(body) }
    }

    fn run(self) -> Result<Completion, Failed> {
        let done = match self.work {
            Work::Shared(body) => on_shared(body),
            Work::Alone(body) => Kafka::start().map(|kafka| body(&kafka)),
            Work::Behind(body) => brokers().map_err(Unavailable::Broken).and_then(|brokers| {
                let (kafka, proxy) = Kafka::start_behind(brokers)?;
                Ok(body(&kafka, &proxy))
            }),
        };
        match done {
            Ok(Ok(())) => Ok(Completion::Completed),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(Unavailable::NotHere(why)) => {
                eprintln!("SKIPPED {}: no Kafka on this machine: {why}", self.name);
                Ok(Completion::ignored_with("no Kafka on this machine"))
            }
            Err(Unavailable::Broken(error)) => Err(self.failed(&error)),
        }
    }

    fn failed(self, error: &anyhow::Error) -> Failed {
        let why = format!("{error:#}");
        // Others may take long yet.
        eprintln!("FAILED {}: {why}", self.name);
        FAILURES.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}: {why}", self.name));
        why.into()
    }
}

/// To be told once more behind the broker's log, where those look who are shown the end only.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// How many brokers a test has behind proxies.
fn brokers() -> anyhow::Result<usize> {
    let Ok(text) = env::var("POINTSMAN_TEST_BROKERS") else { return Ok(1) };
    let brokers = text.parse().ok().filter(|brokers| (1..=9).contains(brokers));
    brokers.with_context(|| format!("POINTSMAN_TEST_BROKERS is {text}, and not a number from 1 to 9"))
}

fn on_shared(body: Body) -> Result<anyhow::Result<()>, Unavailable> {
    match Kafka::shared() {
        Ok(kafka) => Ok(body(kafka)),
        Err(Unavailable::NotHere(why)) => Err(Unavailable::NotHere(why.clone())),
        Err(Unavailable::Broken(error)) => Err(Unavailable::Broken(anyhow::anyhow!("{error:#}"))),
    }
}

/// Runs the tests that `arguments` choose, and ends the shared broker.
#[must_use]
pub fn run(arguments: &Arguments, suites: &[&[Trial]]) -> ExitCode {
    let trials = suites
        .iter()
        .flat_map(|suite| suite.iter().copied())
        .map(|trial| libtest_mimic::Trial::ignorable_test(trial.name, move || trial.run()))
        .collect();
    let conclusion = libtest_mimic::run(arguments, trials);
    Kafka::end_shared(conclusion.has_failed());
    FAILURES.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|failure| eprintln!("FAILED {failure}"));
    conclusion.exit_code()
}
