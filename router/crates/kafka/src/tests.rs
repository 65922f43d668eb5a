#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use pointsman_core::port::Log as _;

use crate::{KafkaLog, KafkaSettings};

fn settings(bootstrap: String) -> KafkaSettings {
    KafkaSettings { request_timeout: Duration::from_secs(2), ..KafkaSettings::new(bootstrap) }
}

#[test]
fn an_unreachable_broker_is_a_clear_error_in_bounded_time() {
    // A port that was free a moment ago refuses connections.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let started = Instant::now();
    let error = KafkaLog::new(settings(address.clone())).unwrap().topics(None).unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(error.contains(&address) && error.contains("bootstrap"), "no cause or remedy: {error}");
}

#[test]
fn a_host_without_an_address_is_named() {
    let error = KafkaLog::new(settings("no-such-host.invalid:9092".to_owned())).unwrap().topics(None).unwrap_err();
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[test]
fn an_owned_property_is_refused_before_any_client_is_made() {
    let properties = BTreeMap::from([("enable.auto.commit".to_owned(), "true".to_owned())]);
    let error = KafkaLog::new(KafkaSettings { properties, ..settings("127.0.0.1:1".to_owned()) }).err().unwrap();
    assert!(error.to_string().contains("enable.auto.commit"), "{error}");
}

#[test]
fn commits_of_an_unreachable_group_are_an_error_and_not_absence() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let log = KafkaLog::new(settings(address)).unwrap();
    let partition = pointsman_core::record::TopicPartition::new("t", 0);
    log.committed("g", &[partition]).unwrap_err();
}

/// librdkafka refuses a property that needs what it was built without.
#[test]
fn every_build_speaks_tls_and_the_usual_sasl_mechanisms() {
    let with = |properties: &[(&str, &str)]| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let properties = properties.iter().map(owned).collect();
        let settings = KafkaSettings { properties, ..settings("127.0.0.1:1".to_owned()) };
        // A client that could be made only misses its broker.
        KafkaLog::new(settings).and_then(|log| log.topics(None)).unwrap_err().to_string()
    };
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] {
        let error = with(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", mechanism),
            ("sasl.username", "u"),
            ("sasl.password", "p"),
            ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
            ("sasl.oauthbearer.config", "principal=pointsman"),
        ]);
        assert!(error.contains("(_TRANSPORT)"), "{mechanism}: {error}");
    }
    let refused = with(&[("security.protocol", "SASL_SSL"), ("sasl.mechanism", "GSSAPI")]);
    assert_eq!(refused.contains("(_TRANSPORT)"), cfg!(feature = "gssapi"), "{refused}");
}
