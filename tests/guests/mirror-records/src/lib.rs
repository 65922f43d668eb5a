//! What `mirror` does, by the door of records, and from the WIT text alone: without the SDK. Tests compare the two.
#![allow(clippy::allow_attributes_without_reason, reason = "generated code")]

wit_bindgen::generate!({ path: "../../../wit", world: "plugin" });

use std::sync::OnceLock;

use exports::pointsman::plugin::processor::Guest;
use pointsman::plugin::host::{self, Level};
use pointsman::plugin::types::{Event, Header, Output, Patch, Rejection, Retry, Verdict};
use serde_json::{Value, json};

/// The configuration of this instance.
static CONFIG: OnceLock<Value> = OnceLock::new();

const UNCHANGED: Output = Output { port: None, key: Patch::Keep, value: Patch::Keep, headers: None, timestamp: None };

struct Mirror;

impl Guest for Mirror {
    fn configure(config: String) -> Result<(), String> {
        let config: Value = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        if let Some(refusal) = config["refuse"].as_str() {
            return Err(refusal.to_owned());
        }
        CONFIG.get_or_init(|| config);
        Ok(())
    }

    fn process(events: Vec<Event>) -> Vec<Verdict> {
        events.iter().map(judge).collect()
    }
}

fn judge(event: &Event) -> Verdict {
    let asked = event.headers.iter().rev().find(|header| header.name == "answer");
    let asked = asked.and_then(|header| std::str::from_utf8(header.value.as_deref()?).ok());
    match asked {
        Some(asked) => answer(asked),
        None => Verdict::Emit(vec![Output { value: Patch::Set(describe(event).to_string().into()), ..UNCHANGED }]),
    }
}

fn describe(event: &Event) -> Value {
    let headers: Vec<_> = event.headers.iter().map(|header| (&header.name, &header.value)).collect();
    json!({
        "config": CONFIG.get(),
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "timestamp": (event.timestamp != -1).then_some(event.timestamp),
        "key": event.key,
        "value": event.value,
        "headers": headers,
        "attempt": event.attempt,
    })
}

fn answer(asked: &str) -> Verdict {
    match asked {
        "pass" => Verdict::Pass,
        "drop" => Verdict::Drop("asked".into()),
        "nothing" => Verdict::Emit(vec![]),
        "twice" => {
            let to = |port: &str| Output { port: Some(port.into()), ..UNCHANGED };
            Verdict::Emit(vec![to("first"), to("second")])
        }
        "rewrite" => Verdict::Emit(vec![Output {
            key: Patch::Set("new key".into()),
            value: Patch::Set("new value".into()),
            headers: Some(vec![
                Header { name: "a".into(), value: Some("1".into()) },
                Header { name: "a".into(), value: Some(vec![0xff, 0x00]) },
            ]),
            timestamp: Some(1),
            ..UNCHANGED
        }]),
        "nulls" => Verdict::Emit(vec![Output {
            key: Patch::Null,
            value: Patch::Null,
            headers: Some(vec![Header { name: "n".into(), value: None }]),
            ..UNCHANGED
        }]),
        "retry" => Verdict::Retry(Retry { reason: "asked for a retry".into(), delay: Some(1500) }),
        "reject" => Verdict::Reject(Rejection { code: "asked".into(), message: "asked for a rejection".into() }),
        "log" => {
            for (level, name) in
                [(Level::Debug, "Debug"), (Level::Info, "Info"), (Level::Warn, "Warn"), (Level::Error, "Error")]
            {
                host::log(level, &format!("a line of {name}"));
            }
            host::count("asked", 3);
            Verdict::Pass
        }
        other => Verdict::Reject(Rejection {
            code: "unknown-answer".into(),
            message: format!("`{other}` is no answer this guest knows"),
        }),
    }
}

export!(Mirror);
