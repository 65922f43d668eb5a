//! The door, as clients meet it.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pointsman_config::plan::{AdminPlan, Secret};
use pointsman_wasm::Plugins;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver};
use ureq::Agent;
use ureq::http::Request;

use super::api::{self, Within, document};
use super::entry::{Porter, is_this_machine};
use super::server::Bounds;
use super::*;
use crate::counters::Counters;
use crate::dead_letter::tests::sample;
use crate::dispatch::Workers;
use crate::lanes::tests::plan_with;
use crate::lanes::{LaneName, Lanes, Verb};

mod dead_letters;
mod retries;
mod samples;

const OPERATOR: &str = "operator-operator-operator";
const READER: &str = "reader-reader-reader";

const TOKENS: &str = r#"
[admin]
listen = "0.0.0.0:7090"
open = ["metrics", "health"]
[[admin.tokens]]
name = "oncall"
role = "operator"
token = "operator-operator-operator"
[[admin.tokens]]
name = "grafana"
role = "reader"
# Of "reader-reader-reader".
token_sha256 = "SHA256"
"#;

/// The door of a router that has no lanes. It is open until this is dropped.
pub(super) struct Open {
    pub(super) address: SocketAddr,
    drained: Receiver<()>,
    samples: Arc<Samples>,
    _serving: Serving,
    _folder: TempDir,
}

/// Without tokens, as a rule; `admin` is the configuration's.
pub(super) fn open_with(admin: Option<&str>, bounds: Bounds, within: Within) -> Open {
    let plan = plan_with(admin.unwrap_or_default());
    let (folder, log) = sample();
    let (drain, drained) = mpsc::channel(1);
    let workers = Arc::new(Workers::new(Vec::new()));
    let lanes = Lanes { plan: Arc::clone(&plan), workers, groups: Vec::new() };
    let log: Arc<dyn Log> = Arc::new(log);
    let counters = Arc::new(Counters::new(&plan));
    let samples = Arc::<Samples>::default();
    let plugins = Plugins::new(Vec::new());
    let office = Office {
        telemetry: Telemetry::start(counters, lanes.clone(), plugins, Arc::clone(&log)).unwrap(),
        lanes,
        log,
        digests: Vec::new(),
        drain,
        log_filter: None,
        samples: Arc::clone(&samples),
        hands: work::Hands::default(),
        plan: Arc::clone(&plan),
    };
    let at: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let admin = plan.admin.clone().unwrap_or_else(|| AdminPlan::at(at));
    let door = Door::open(at).unwrap();
    let address = door.address();
    let router = api::router(Arc::new(office), Porter::new(&admin), within);
    Open { address, drained, samples, _serving: door.serve(router, bounds).unwrap(), _folder: folder }
}

fn open() -> Open {
    open_with(None, Bounds::default(), Within::default())
}

/// Two tokens.
fn tokens() -> String {
    use sha2::{Digest as _, Sha256};
    let digest: [u8; 32] = Sha256::digest(READER).into();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    TOKENS.replace("SHA256", &digest)
}

pub(super) fn open_with_tokens() -> Open {
    open_with(Some(&tokens()), Bounds::default(), Within::default())
}

/// Status, headers and body.
pub(super) struct Answer {
    pub(super) status: u16,
    challenge: Option<String>,
    pub(super) body: Value,
}

impl Answer {
    fn error(&self) -> (u16, &str) {
        (self.status, self.body["error"].as_str().unwrap_or_default())
    }
}

pub(super) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Answer {
    let agent: Agent =
        Agent::config_builder().http_status_as_error(false).allow_non_standard_methods(true).build().into();
    let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = match body {
        Some(body) => {
            agent.run(request.header("content-type", "application/json").body(body.to_owned()).unwrap()).unwrap()
        }
        None => agent.run(request.body(()).unwrap()).unwrap(),
    };
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status: answer.status().as_u16(), challenge, body }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn a_door_answers_what_is_asked_and_refuses_what_is_not_there() {
    let open = open();
    let address = open.address;
    let client = Client::new(address, None);
    assert_eq!(client.lanes().unwrap(), []);
    // A name that means something in a path.
    let lane = LaneName { route: "r/..?#%".into(), topic: "t".into(), partition: 3 };
    for verb in [Verb::Pause, Verb::Resume, Verb::Skip { drop: true }] {
        let Err(ClientError::Refused(complaint)) = client.tell(&lane, verb) else { unreachable!("there is no lane") };
        assert_eq!(complaint.error, "no-lane");
        assert!(complaint.message.starts_with("r/..?#% t/3: this router has no such lane"), "{}", complaint.message);
    }
    for (method, path, body, error) in [
        ("GET", "/v2", None, (404, "no-such-path")),
        ("DELETE", "/v1/lanes", None, (405, "no-such-method")),
        ("POST", "/v1/lanes/r/t/x/pause", None, (400, "malformed")),
        ("POST", "/v1/lanes/r/t/0/skip", Some("{\"dorp\": true}"), (422, "malformed")),
        ("POST", "/v1/lanes/r/t/0/skip", Some("{"), (400, "malformed")),
        ("GET", "/v1/log-level", None, (409, "no-log")),
        ("PUT", "/v1/log-level", Some("{\"filter\": \"info\"}"), (409, "no-log")),
    ] {
        let answer = ask(address, method, path, &[], body);
        assert_eq!(answer.error(), error, "{method} {path}: {}", answer.body);
        assert!(!answer.body["message"].as_str().unwrap().is_empty(), "{method} {path}");
    }
}

#[test]
fn a_router_is_told_to_stop_once() {
    let mut open = open();
    for _ in 0..3 {
        let answer = ask(open.address, "POST", "/v1/drain", &[], None);
        assert_eq!((answer.status, answer.body), (202, json!({ "draining": true })));
    }
    assert_eq!(open.drained.try_recv(), Ok(()));
    assert!(open.drained.try_recv().is_err());
}

#[test]
fn a_browser_is_turned_away() {
    let open = open();
    for header in [("origin", "http://example.org"), ("host", "example.org")] {
        let answer = ask(open.address, "GET", "/v1/lanes", &[header], None);
        assert_eq!(answer.error(), (403, "stranger"), "{header:?}");
    }
    for (host, ours) in [
        ("127.0.0.1:7090", true),
        ("127.9.9.9", true),
        ("[::1]:7090", true),
        ("localhost:8080", true),
        ("localhost.example.org", false),
        ("192.168.0.1:7090", false),
        ("", false),
    ] {
        assert_eq!(is_this_machine(host), ours, "{host}");
    }
}

/// What answers anybody, by the configuration of these tests.
const OPEN: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// Every path of the document, with its methods and with something in place of its parameters; and some that are in none.
fn every_path() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&document().to_json().unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let path = path.split('/').map(|part| if part.starts_with('{') { "0" } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let mut paths: Vec<_> = paths.collect();
    assert!(paths.len() >= 14, "{paths:?}");
    paths.extend(
        [("GET", "/"), ("POST", "/v1/lanes"), ("OPTIONS", "/v1/lanes"), ("HEAD", "/v1/lanes")]
            .map(|(method, path)| (method.to_owned(), path.to_owned())),
    );
    paths
}

#[test]
fn with_tokens_nothing_answers_without_one_and_a_reader_changes_nothing() {
    let open = open_with_tokens();
    let wrong = [
        None,
        Some("Bearer ".to_owned()),
        Some(bearer("operator-operator-operato")),
        Some(bearer("operator-operator-operator-")),
        Some(OPERATOR.to_owned()),
        Some(format!("Basic {OPERATOR}")),
    ];
    for (method, path) in every_path() {
        let is_open = method == "GET" && OPEN.contains(&&*path);
        for header in wrong.iter().filter(|_| !is_open) {
            let header: Vec<_> = header.iter().map(|header| ("authorization", &**header)).collect();
            let answer = ask(open.address, &method, &path, &header, None);
            assert_eq!(answer.status, 401, "{method} {path} with {header:?}");
            assert!(answer.challenge.unwrap().starts_with("Bearer realm=\"pointsman\""), "{method} {path}");
        }
        let reads = ["GET", "HEAD"].contains(&&*method);
        let answer = ask(open.address, &method, &path, &[("authorization", &bearer(READER))], None);
        assert_eq!(answer.status == 403, !reads, "{method} {path}: {}", answer.body);
        assert!(answer.status != 401 && (answer.challenge.is_some() != reads), "{method} {path}");
        if path != "/v1/drain" {
            let answer = ask(open.address, &method, &path, &[("authorization", &bearer(OPERATOR))], None);
            assert!(![401, 403].contains(&answer.status), "{method} {path}: {}", answer.body);
        }
    }
    // Two tokens are none.
    let two = [("authorization", &*bearer(OPERATOR)), ("authorization", &*bearer(OPERATOR))];
    assert_eq!(ask(open.address, "GET", "/v1/lanes", &two, None).error(), (401, "no-token"));
    // A browser's page has no token, so what it says of itself is not asked.
    let through = [("authorization", &*bearer(READER)), ("host", "pointsman.example.org")];
    assert_eq!(ask(open.address, "GET", "/v1/lanes", &through, None).status, 200);
    // What is open to anybody is so for reading, and there alone.
    for path in OPEN {
        assert_ne!(ask(open.address, "GET", path, &[], None).status, 401, "{path}");
        assert_eq!(ask(open.address, "POST", path, &[], None).status, 401, "{path}");
        assert_eq!(ask(open.address, "GET", &format!("{path}/"), &[], None).status, 401, "{path}");
    }
}

#[test]
fn a_client_shows_its_token_or_is_told_that_it_needs_one() {
    let open = open_with_tokens();
    let lane = LaneName { route: "r".into(), topic: "t".into(), partition: 0 };
    let client = |token: Option<&str>| Client::new(open.address, token.map(|token| Secret::new(token.to_owned())));
    assert_eq!(client(Some(OPERATOR)).lanes().unwrap(), []);
    assert_eq!(client(Some(READER)).lanes().unwrap(), []);
    for (client, words) in [
        (client(None), "the admin door asks for a token"),
        (client(Some("wrong-wrong-wrong-wrong")), "does not know this token"),
        (client(Some(READER)), "grafana is a reader"),
        (client(Some(OPERATOR)), "no such lane"),
    ] {
        let refused = client.tell(&lane, Verb::Pause).unwrap_err().to_string();
        assert!(refused.contains(words) && !refused.contains(OPERATOR), "{refused}");
    }
}

/// To take the new one: `INSTA_UPDATE=always`.
#[test]
fn the_document_describes_every_path() {
    insta::assert_snapshot!("openapi", document().to_pretty_json().unwrap());
    let open = open();
    assert_eq!(ask(open.address, "GET", "/v1/openapi.json", &[], None).body, json!(document()));
    for (method, path) in every_path() {
        let answer = ask(open.address, &method, &path, &[], None);
        assert!(path == "/" || answer.error().1 != "no-such-path", "{method} {path}");
    }
    // Paths come from `routes!` alone, which has them described.
    assert!(!include_str!("api.rs").contains(".route("), "a path that the document does not have");
}

/// Whoever is slow, or comes in numbers, is waited for and gets no more than its share.
#[test]
fn a_flood_is_bounded_and_the_door_answers_through_it() {
    let bounds = Bounds { connections: 4, headers_within: Duration::from_millis(300), ..Bounds::default() };
    let open = open_with(None, bounds, Within { usual: Duration::from_secs(2), ..Within::default() });
    let begin = |text: &str| {
        let mut stream = TcpStream::connect(open.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let slow: Vec<_> = (0..20).map(|_| begin("GET /v1/lanes HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")).collect();
    let idle: Vec<_> = (0..20).map(|_| TcpStream::connect(open.address).unwrap()).collect();
    assert_eq!(Client::new(open.address, None).lanes().unwrap(), []);
    for mut stream in slow.into_iter().chain(idle) {
        // It is hung up on.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let read = |mut stream: TcpStream| {
        let mut text = [0; 4096];
        let read = stream.read(&mut text).unwrap();
        String::from_utf8_lossy(&text[..read]).into_owned()
    };
    // A body that does not come.
    let post =
        "POST /v1/lanes/r/t/0/skip HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ";
    assert!(read(begin(&format!("{post}17\r\n\r\n{{"))).starts_with("HTTP/1.1 504 "));
    // One that is announced as too large, and headers that are.
    assert!(read(begin(&format!("{post}99999999999\r\n\r\n{{"))).starts_with("HTTP/1.1 413 "));
    let wide = format!("GET /v1/lanes HTTP/1.1\r\nHost: localhost\r\nX-Wide: {}", "x".repeat(40_000));
    assert!(read(begin(&wide)).starts_with("HTTP/1.1 431 "));
    assert_eq!(Client::new(open.address, None).lanes().unwrap(), []);
}

#[test]
fn what_blocks_is_bounded_also_where_nobody_waits_for_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let hands = work::Hands::default();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let given_up = hands.handling.work(move || wait.recv());
        // It is begun, and not waited for.
        assert!(tokio::time::timeout(Duration::from_millis(1), given_up).await.is_err());
        let refused = hands.handling.work(|| ()).await.unwrap_err();
        assert_eq!((refused.status.as_u16(), &*refused.complaint.error), (409, "busy"));
        drop(go);
        let done = tokio::time::timeout(Duration::from_secs(30), async {
            while hands.handling.work(|| ()).await.is_err() {
                tokio::task::yield_now().await;
            }
        });
        done.await.unwrap();
    });
}

#[test]
fn a_port_that_is_taken_is_told_with_the_remedy() {
    let open = open();
    let error = Door::open(open.address).err().unwrap().to_string();
    assert!(error.starts_with(&format!("can't open the admin door at {}: ", open.address)), "{error}");
    assert!(error.ends_with("stop it, or choose another port in `[admin] listen`"), "{error}");
}

#[test]
fn whoever_does_not_answer_or_answers_something_else_is_named() {
    // A socket that listens and is gone again: nobody has its port.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Client::new(free, None).lanes().unwrap_err().to_string();
    assert!(error.starts_with(&format!("nobody answers at {free}: ")), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 1024]);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
        }
    });
    let error = Client::new(other, None).lanes().unwrap_err().to_string();
    assert!(error.starts_with(&format!("what listens at {other} is not the admin door")), "{error}");
}
