//! What librdkafka's clients tell of themselves at intervals: of that, how they get on with their brokers
//! (<https://github.com/confluentinc/librdkafka/blob/master/STATISTICS.md>).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pointsman_core::port::{ClientRole, Connections};
use serde::Deserialize;

/// How often they tell, in milliseconds.
pub(crate) const INTERVAL_MS: &str = "15000";

/// Of all clients of a log. Clones are of the same ones.
#[derive(Clone, Default)]
pub struct Statistics(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    clients: Vec<Weak<Told>>,
    /// What was counted for clients that are gone.
    gone: BTreeMap<(ClientRole, String), Counts>,
}

/// What one client has told last. Nobody looks into it before somebody asks.
pub(crate) struct Told {
    role: ClientRole,
    text: Mutex<Vec<u8>>,
    registry: Statistics,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    timeouts: u64,
    errors: u64,
    retries: u64,
    disconnects: u64,
}

/// The part of it that is made use of.
#[derive(Deserialize)]
struct Client {
    #[serde(default)]
    brokers: BTreeMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    #[serde(default)]
    nodename: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    outbuf_cnt: i64,
    #[serde(default)]
    waitresp_cnt: i64,
    #[serde(default)]
    req_timeouts: u64,
    #[serde(default)]
    txerrs: u64,
    #[serde(default)]
    rxerrs: u64,
    #[serde(default)]
    txretries: u64,
    #[serde(default)]
    disconnects: u64,
    #[serde(default)]
    rtt: Window,
    #[serde(default)]
    throttle: Window,
}

/// Values of the last interval: of `rtt` in microseconds, of `throttle` in milliseconds.
#[derive(Default, Deserialize)]
struct Window {
    #[serde(default)]
    cnt: i64,
    #[serde(default)]
    max: i64,
    #[serde(default)]
    p99: i64,
}

impl Statistics {
    /// A client begins.
    pub(crate) fn begin(&self, role: ClientRole) -> Arc<Told> {
        let told = Arc::new(Told { role, text: Mutex::default(), registry: self.clone() });
        let mut registry = locked(&self.0);
        registry.clients.retain(|client| client.strong_count() > 0);
        registry.clients.push(Arc::downgrade(&told));
        told
    }

    /// How all of them get on, by role and broker.
    pub(crate) fn connections(&self) -> Vec<Connections> {
        let (clients, gone) = {
            let registry = locked(&self.0);
            let clients: Vec<Arc<Told>> = registry.clients.iter().filter_map(Weak::upgrade).collect();
            (clients, registry.gone.clone())
        };
        let mut all: BTreeMap<(ClientRole, String), Connections> = BTreeMap::new();
        for ((role, broker), counts) in gone {
            let sum = all.entry((role, broker.clone())).or_insert_with(|| none(role, broker));
            counts.add_to(sum);
        }
        for told in clients {
            for broker in told.brokers() {
                let role = told.role;
                let sum =
                    all.entry((role, broker.nodename.clone())).or_insert_with(|| none(role, broker.nodename.clone()));
                broker.add_to(sum);
            }
        }
        all.into_values().collect()
    }
}

fn none(role: ClientRole, broker: String) -> Connections {
    Connections { role, broker, ..Connections::default() }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Told {
    /// Keeps what the client tells.
    pub(crate) fn tell(&self, text: &[u8]) {
        let mut kept = locked(&self.text);
        kept.clear();
        kept.extend_from_slice(text);
    }

    /// The brokers that it knows by their addresses. What can't be read tells of none.
    fn brokers(&self) -> Vec<Broker> {
        let client: Option<Client> = serde_json::from_slice(&locked(&self.text)).ok();
        let brokers = client.into_iter().flat_map(|client| client.brokers.into_values());
        brokers.filter(|broker| !broker.nodename.is_empty()).collect()
    }
}

/// What was counted goes on to count.
impl Drop for Told {
    fn drop(&mut self) {
        let brokers = self.brokers();
        let mut registry = locked(&self.registry.0);
        for broker in brokers {
            let counts = broker.counts();
            let sum = registry.gone.entry((self.role, broker.nodename)).or_default();
            sum.timeouts += counts.timeouts;
            sum.errors += counts.errors;
            sum.retries += counts.retries;
            sum.disconnects += counts.disconnects;
        }
    }
}

impl Broker {
    fn counts(&self) -> Counts {
        Counts {
            timeouts: self.req_timeouts,
            errors: self.txerrs + self.rxerrs,
            retries: self.txretries,
            disconnects: self.disconnects,
        }
    }

    fn add_to(&self, sum: &mut Connections) {
        self.counts().add_to(sum);
        sum.connected += u64::from(self.state == "UP");
        sum.waiting += u64::try_from(self.outbuf_cnt.max(0) + self.waitresp_cnt.max(0)).unwrap_or(0);
        if self.rtt.cnt > 0 {
            let seconds = self.rtt.p99 as f64 / 1e6;
            sum.rtt_seconds = Some(sum.rtt_seconds.map_or(seconds, |most| most.max(seconds)));
        }
        sum.throttled_seconds = sum.throttled_seconds.max(self.throttle.max as f64 / 1e3);
    }
}

impl Counts {
    fn add_to(self, sum: &mut Connections) {
        sum.timeouts += self.timeouts;
        sum.errors += self.errors;
        sum.retries += self.retries;
        sum.disconnects += self.disconnects;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(state: &str, timeouts: u64, p99: i64) -> String {
        format!(
            r#"{{"name": "x", "msg_cnt": 3, "brokers": {{
                "kafka-1:9092/1": {{"nodename": "kafka-1:9092", "state": "{state}", "outbuf_cnt": 1, "waitresp_cnt": 2,
                    "req_timeouts": {timeouts}, "txerrs": 1, "rxerrs": 2, "txretries": 4, "disconnects": 5,
                    "rtt": {{"cnt": 9, "max": 9000, "p99": {p99}}}, "throttle": {{"cnt": 1, "max": 250}}}},
                "GroupCoordinator": {{"nodename": "", "state": "INIT", "outbuf_cnt": -1}}
            }}}}"#
        )
    }

    #[test]
    fn clients_of_one_kind_are_told_together_and_what_was_counted_stays() {
        let statistics = Statistics::default();
        let consumer = statistics.begin(ClientRole::Consumer);
        let [first, second] = [(); 2].map(|()| statistics.begin(ClientRole::Producer));
        consumer.tell(text("UP", 0, 1000).as_bytes());
        first.tell(text("UP", 7, 2000).as_bytes());
        second.tell(b"{ torn");
        second.tell(text("DOWN", 1, 4000).as_bytes());
        let expected = |role, connected, timeouts, rtt: Option<f64>, clients: u64| Connections {
            role,
            broker: "kafka-1:9092".into(),
            connected,
            waiting: 3 * if rtt.is_some() { clients } else { 0 },
            rtt_seconds: rtt,
            throttled_seconds: if rtt.is_some() { 0.25 } else { 0.0 },
            timeouts,
            errors: 3 * clients,
            retries: 4 * clients,
            disconnects: 5 * clients,
        };
        let told = statistics.connections();
        let producers = expected(ClientRole::Producer, 1, 8, Some(0.004), 2);
        assert_eq!(told, [expected(ClientRole::Consumer, 1, 0, Some(0.001), 1), producers]);
        drop((first, second));
        assert_eq!(statistics.connections()[1], expected(ClientRole::Producer, 0, 8, None, 2));
    }
}
