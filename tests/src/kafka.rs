//! A real Apache Kafka for the tests: a single node of it on this machine, or the cluster that
//! `POINTSMAN_TEST_BOOTSTRAP` names.
//!
//! Its jars come from Maven Central, once, into the target folder ([`jars`]). Where there is neither that variable nor
//! Java and Maven, [`Kafka::start`] answers [`Unavailable::NotHere`], and the test counts as skipped; with
//! `POINTSMAN_TEST_REQUIRE_KAFKA` set it fails instead.

mod acls;
mod broker;
mod jars;
mod progress;
pub mod proxy;
mod tail;
mod topics;

use std::env;
use std::fmt;
use std::sync::OnceLock;

use rdkafka::ClientConfig;

pub use broker::Broker;
pub use progress::{Lag, Watermarks};
use proxy::Proxy;
pub use tail::Tail;
pub use topics::{Sample, TopicSpec, Unseen, header_text, owned};

/// A Kafka that tests can use. A broker of our own ends when this is dropped.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    /// None of a given cluster's.
    brokers: Vec<Broker>,
}

/// Why there is no Kafka.
#[derive(Debug)]
pub enum Unavailable {
    /// This machine has nothing to run one with: the text says what is missing. Tests are skipped.
    NotHere(String),
    /// It should have worked. Tests fail.
    Broken(anyhow::Error),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHere(why) => write!(f, "no Kafka on this machine: {why}"),
            Self::Broken(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Unavailable {}

impl From<anyhow::Error> for Unavailable {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

impl Kafka {
    /// Starts a broker of its own, also where a cluster is given: for tests that stop or kill it. It serves when this
    /// returns.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn start() -> Result<Self, Unavailable> {
        Self::start_with(&[])
    }

    /// Like [`start`](Self::start), with more lines for its `server.properties`.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn start_with(properties: &[(&str, &str)]) -> Result<Self, Unavailable> {
        let jars = jars::fetch().map_err(require)?;
        let broker = Broker::start(&jars, properties)?;
        Ok(Self { bootstrap: broker.bootstrap(), brokers: vec![broker] })
    }

    /// So many brokers of its own, each behind a proxy: they tell their clients the proxies' addresses, and all that those do but to
    /// ask for that goes through them.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn start_behind(brokers: usize) -> Result<(Self, Proxy), Unavailable> {
        let jars = jars::fetch().map_err(require)?;
        let first = Proxy::new()?;
        let mut proxies = vec![first.clone()];
        for _ in 1..brokers {
            proxies.push(first.beside()?);
        }
        let advertised =
            |proxy: &Proxy| ("advertised.listeners".to_owned(), format!("PLAINTEXT://{}", proxy.address()));
        // A broker asks others by what they advertise, and that at once.
        let brokers =
            Broker::start_all(&jars, proxies.iter().map(|proxy| vec![advertised(proxy)]).collect(), |at, broker| {
                proxies[at].lead_to(&broker.bootstrap());
            })?;
        let bootstrap = brokers.iter().map(Broker::bootstrap).collect::<Vec<_>>().join(",");
        Ok((Self { bootstrap, brokers }, first))
    }

    /// The Kafka that all tests of this binary share: the cluster that `POINTSMAN_TEST_BOOTSTRAP` names, or one broker
    /// that the first caller starts. Nobody may stop it; topics and groups need names of their own.
    ///
    /// # Errors
    /// [`Unavailable`], the same for every caller.
    pub fn shared() -> Result<&'static Self, &'static Unavailable> {
        shared()
            .get_or_init(|| match env::var("POINTSMAN_TEST_BOOTSTRAP") {
                Ok(bootstrap) => Ok(Self { bootstrap, brokers: Vec::new() }),
                Err(_) => Self::start(),
            })
            .as_ref()
    }

    /// Ends the broker that [`shared`](Self::shared) started, if it did: statics are never dropped. `failed` says
    /// whether a test has failed, and so whether the end of its log is of interest.
    pub fn end_shared(failed: bool) {
        let Some(Ok(Self { brokers, .. })) = shared().get() else { return };
        for broker in brokers {
            if failed {
                broker.print_log_tail();
            }
            broker.end();
        }
    }

    /// `host:port`, for `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The broker process, to stop, kill or pause.
    ///
    /// # Panics
    /// On a cluster that `POINTSMAN_TEST_BOOTSTRAP` names; one from [`start`](Self::start) always has it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test that asks for this of a given cluster is wrong")]
    pub fn broker(&self) -> &Broker {
        self.brokers.first().expect("a given cluster can't be stopped: use Kafka::start")
    }

    /// The broker processes; none of a given cluster's.
    #[must_use]
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The configuration of a plain client of this cluster.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }
}

/// The place of the shared Kafka.
fn shared() -> &'static OnceLock<Result<Kafka, Unavailable>> {
    static SHARED: OnceLock<Result<Kafka, Unavailable>> = OnceLock::new();
    &SHARED
}

/// What is not here fails, where Kafka is required.
fn require(unavailable: Unavailable) -> Unavailable {
    match unavailable {
        Unavailable::NotHere(why) if env::var_os("POINTSMAN_TEST_REQUIRE_KAFKA").is_some() => {
            Unavailable::Broken(anyhow::anyhow!("POINTSMAN_TEST_REQUIRE_KAFKA is set, but: {why}"))
        }
        other => other,
    }
}
