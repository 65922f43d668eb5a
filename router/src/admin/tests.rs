#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use ureq::Agent;

use super::{Client, ClientError, Complaint, Door, is_this_machine};
use crate::dispatch::Workers;
use crate::lanes::tests::plan;
use crate::lanes::{LaneName, Lanes, Verb};

/// The door of a router that has no lanes. It is open until the process ends.
fn open() -> SocketAddr {
    let lanes = Lanes { plan: plan(), workers: Arc::new(Workers::new(Vec::new())), groups: Vec::new() };
    let (tell, told) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let door = Door::open("127.0.0.1:0".parse().unwrap()).await.unwrap();
            tell.send(door.address()).unwrap();
            door.serve(lanes).await;
        });
    });
    told.recv().unwrap()
}

fn get(url: &str, header: (&str, &str)) -> (u16, Complaint) {
    let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(url).header(header.0, header.1).call().unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap())
}

#[test]
fn a_door_answers_what_is_asked_and_refuses_what_is_not_there() {
    let address = open();
    let client = Client::new(address);
    assert_eq!(client.lanes().unwrap(), []);
    // A name that means something in a path.
    let lane = LaneName { route: "r/..?#%".into(), topic: "t".into(), partition: 3 };
    for verb in [Verb::Pause, Verb::Resume, Verb::Skip { drop: true }] {
        let Err(ClientError::Refused(complaint)) = client.tell(&lane, verb) else { unreachable!("there is no lane") };
        assert_eq!(complaint.error, "no-lane");
        assert!(complaint.message.starts_with("r/..?#% t/3: this router has no such lane"), "{}", complaint.message);
    }
    let (status, complaint) = get(&format!("http://{address}/v2"), ("x", "y"));
    assert_eq!((status, &*complaint.error), (404, "no-such-path"));
}

#[test]
fn a_browser_is_turned_away() {
    let lanes = format!("http://{}/v1/lanes", open());
    for header in [("origin", "http://example.org"), ("host", "example.org")] {
        let (status, complaint) = get(&lanes, header);
        assert_eq!((status, &*complaint.error), (403, "stranger"), "{header:?}");
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

#[test]
fn a_port_that_is_taken_is_told_with_the_remedy() {
    let address = open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Door::open(address)).err().unwrap().to_string();
    assert!(error.starts_with(&format!("can't open the admin door at {address}: ")), "{error}");
    assert!(error.ends_with("stop it, or choose another port in `[admin] listen`"), "{error}");
}

#[test]
fn whoever_does_not_answer_or_answers_something_else_is_named() {
    // A socket that listens and is gone again: nobody has its port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Client::new(free).lanes().unwrap_err().to_string();
    assert!(error.starts_with(&format!("nobody answers at {free}: ")), "{error}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap();
    thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 1024]);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
        }
    });
    let error = Client::new(other).lanes().unwrap_err().to_string();
    assert!(error.starts_with(&format!("what listens at {other} is not the admin door")), "{error}");
}
