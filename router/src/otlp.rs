//! The way to an OpenTelemetry collector: OTLP over HTTP, as protobuf
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::sync::LazyLock;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use pointsman_config::Plan;
use pointsman_config::plan::{Secret, TelemetryPlan};
use thiserror::Error;
use ureq::Agent;
use ureq::http::header::{CONTENT_TYPE, RETRY_AFTER};

/// Longest that a collector may want to be left alone; whoever wants more is asked again after it.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// Who this process is, where the configuration does not say: the same in all that it tells.
static INSTANCE: LazyLock<String> = LazyLock::new(|| format!("{:032x}", fastrand::u128(..)));
/// An answer tells what was not taken, and no more.
const MAX_ANSWER: u64 = 64 << 10;

/// Where it is sent, and in whose name. Its calls block.
pub(crate) struct Collector {
    agent: Agent,
    url: String,
    headers: Vec<(String, Secret)>,
    resource: Resource,
}

/// It was not taken.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    /// It may be taken later.
    #[error("{why}")]
    Later {
        /// What went wrong.
        why: String,
        /// How long the collector wants to be left alone.
        after: Option<Duration>,
    },
    /// It never will be.
    #[error("{0}")]
    Never(String),
}

impl Collector {
    /// For one kind of what is told: `traces` or `metrics`.
    pub(crate) fn new(plan: &Plan, telemetry: &TelemetryPlan, kind: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(telemetry.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            // The collector is near; what the environment says of proxies is about what is far away.
            .proxy(None)
            .user_agent(concat!("pointsman/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.into(),
            url: format!("{}/v1/{kind}", telemetry.endpoint),
            headers: telemetry.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            resource: resource(plan, telemetry),
        }
    }

    /// Who tells it.
    pub(crate) fn resource(&self) -> Resource {
        self.resource.clone()
    }

    /// Sends one message. The answer is the collector's, and may say that it has not taken all.
    ///
    /// # Errors
    /// [`SendError`].
    pub(crate) fn send(&self, message: &[u8]) -> Result<Vec<u8>, SendError> {
        let later = |why, after| SendError::Later { why: format!("{}: {why}", self.url), after };
        let mut request = self.agent.post(&self.url).header(CONTENT_TYPE, "application/x-protobuf");
        for (name, value) in &self.headers {
            request = request.header(name, value.reveal());
        }
        let mut response = request.send(message).map_err(|error| later(error.to_string(), None))?;
        let status = response.status();
        if status.is_success() {
            // It is taken, whatever becomes of the rest of the answer: sent again, it would be there twice.
            return Ok(response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().unwrap_or_default());
        }
        let why = format!("it answers {status}");
        match status.as_u16() {
            // The ones that the protocol names as worth another try.
            429 | 502..=504 => {
                let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
                Err(later(why, after.and_then(retry_after)))
            }
            _ => Err(SendError::Never(format!("{}: {why}", self.url))),
        }
    }
}

/// Seconds; a date is not made use of.
fn retry_after(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn resource(plan: &Plan, telemetry: &TelemetryPlan) -> Resource {
    let instance = plan.router.instance_id.clone().unwrap_or_else(|| INSTANCE.clone());
    let mut attributes = vec![
        text("service.name", &*plan.router.name),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", instance),
    ];
    attributes.extend(telemetry.attributes.iter().map(|(name, value)| text(name, value.as_str())));
    Resource { attributes, ..Default::default() }
}

/// Who has counted and measured it.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "pointsman".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    }
}

/// An attribute that is a text.
pub(crate) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// An attribute that is a number.
pub(crate) fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{RETRY_AFTER_MAX, retry_after};

    /// Whoever adds it to a time, or some of it to itself, must not meet the end of numbers.
    #[test]
    fn no_collector_is_left_alone_for_ever() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&u64::MAX.to_string()), Some(RETRY_AFTER_MAX));
        for text in ["", "-1", "1e9", "18446744073709551616", "Fri, 27 Nov 2026 16:51:00 GMT"] {
            assert_eq!(retry_after(text), None, "{text}");
        }
    }
}
