//! Dead letters, as clients of the door see and handle them.

use serde_json::{Value, json};

use super::{Answer, Open, ask, open};

fn get(open: &Open, query: &str) -> Answer {
    ask(open.address, "GET", &format!("/v1/dead-letters{query}"), &[], None)
}

fn post(open: &Open, verb: &str, order: &Value) -> Answer {
    ask(open.address, "POST", &format!("/v1/dead-letters/{verb}"), &[], Some(&order.to_string()))
}

fn places(answer: &Answer) -> Vec<&str> {
    let letters = answer.body["letters"].as_array().unwrap();
    letters.iter().map(|letter| letter["place"].as_str().unwrap()).collect()
}

#[test]
fn letters_are_listed_counted_and_shown() {
    let open = open();
    let all = get(&open, "?topic=dead");
    assert_eq!((all.status, all.body["read"].as_u64()), (200, Some(7)), "{}", all.body);
    assert_eq!(places(&all).len(), 7);
    let newest = get(&open, "?topic=dead&limit=1");
    assert_eq!(places(&newest), places(&all)[6..]);
    let rejected = get(&open, "?topic=dead&class=reject&code=no-country&where=replays%20%3E%3D%200");
    assert!(rejected.status == 200 && places(&rejected).contains(&"dead/0/0"), "{}", rejected.body);
    // The topic of the only route is not there.
    let none = get(&open, "");
    assert!(
        none.body["notes"][0].as_str().unwrap().starts_with("topic r.route.dead-letter is not there"),
        "{}",
        none.body
    );

    let counted = get(&open, "/stats?topic=dead");
    let causes = counted.body["causes"].as_array().unwrap().iter();
    assert_eq!(causes.map(|cause| cause["count"].as_u64().unwrap()).sum::<u64>(), 7, "{}", counted.body);
    let shown = get(&open, "/show?letter=dead/0/0");
    assert_eq!((&shown.body["letter"]["code"], &shown.body["payload"]), (&json!("no-country"), &json!("here")));
    assert_eq!(get(&open, "/show?letter=0/0&topic=dead").body, shown.body);
}

#[test]
fn what_is_not_there_or_not_understood_is_named() {
    let open = open();
    for (query, error, words) in [
        ("?topic=daed", (404, "no-such-name"), "is it dead?"),
        ("?route=rout", (404, "no-such-name"), "is it route?"),
        ("?clas=reject", (422, "malformed"), "unknown field `clas`"),
        ("?class=reject&class=trap", (422, "malformed"), "`class` is there twice"),
        ("?since=soon", (422, "malformed"), "a span before now such as 2h"),
        ("?where=rout%20%3D%3D%201", (422, "malformed"), "did you mean `route`?"),
        ("?limit=1001", (422, "malformed"), "from 1 to 1000"),
        ("?limit=x", (422, "malformed"), "invalid type"),
        ("/stats?limit=1", (422, "malformed"), "unknown field `limit`"),
        ("/show?letter=dead/0/99", (404, "no-letter"), "dead/0 has no offset 99"),
        ("/show?letter=dead/7/0", (404, "no-such-name"), "no partition 7"),
        ("/show?letter=x", (422, "malformed"), "does not say which topic it is in"),
        ("/show", (400, "malformed"), "missing field `letter`"),
    ] {
        let answer = get(&open, query);
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(answer.error() == error && message.contains(words), "{query}: {} {}", answer.status, answer.body);
    }
    for (verb, order, error, words) in [
        ("discard", json!({}), (422, "malformed"), "nothing says which letters are meant"),
        ("discard", json!({ "which": { "topic": "dead" } }), (422, "malformed"), "nothing says which"),
        ("discard", json!({ "which": { "clas": "x" } }), (422, "malformed"), "unknown field `clas`"),
        ("discard", json!({ "dryrun": false, "all": true }), (422, "malformed"), "unknown field `dryrun`"),
        (
            "replay",
            json!({ "all": true, "edits": ["country=DE"] }),
            (422, "malformed"),
            "\"country=DE\": it says no change",
        ),
        ("replay", json!({ "all": true, "max_replays": 0 }), (422, "malformed"), "nonzero"),
        (
            "replay",
            json!({ "all": true, "which": { "topic": "dead" }, "to_topic": "dead" }),
            (422, "malformed"),
            "it is the one they are in",
        ),
    ] {
        let answer = post(&open, verb, &order);
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(answer.error() == error && message.contains(words), "{order}: {} {}", answer.status, answer.body);
    }
}

#[test]
fn letters_are_handled_where_it_is_said_and_only_told_of_otherwise() {
    let open = open();
    let order = |dry_run: Option<bool>| {
        let mut order = json!({ "which": { "topic": "dead", "class": "reject", "code": "no-country" } });
        if let Some(dry_run) = dry_run {
            order["dry_run"] = dry_run.into();
        }
        order
    };
    let left = || get(&open, "?topic=dead").body["selected"].as_u64().unwrap();
    for dry_run in [None, Some(true)] {
        let told = post(&open, "replay", &order(dry_run));
        assert_eq!((told.status, &told.body["summary"]["dry_run"]), (200, &json!(true)), "{}", told.body);
        assert_eq!((&told.body["summary"]["replayed"], left()), (&json!(2), 7), "{}", told.body);
        assert_eq!(told.body["letters"][0]["record"]["topic"], "orders.v1", "{}", told.body);
    }
    let few = json!({ "which": { "topic": "dead" }, "all": true, "limit": 1 });
    let few = post(&open, "discard", &few).body;
    assert_eq!((few["letters"].as_array().unwrap().len(), &few["all_told"]), (1, &json!(false)), "{few}");

    let done = post(&open, "replay", &order(Some(false)));
    assert_eq!((&done.body["summary"]["dry_run"], &done.body["summary"]["replayed"]), (&json!(false), &json!(2)));
    assert_eq!(left(), 5);
    let again = post(&open, "replay", &order(Some(false)));
    assert_eq!((&again.body["summary"]["replayed"], &again.body["summary"]["handled_before"]), (&json!(0), &json!(2)));
    let shown = get(&open, "/show?letter=dead/0/0").body;
    assert_eq!((&shown["handled"][0]["by"], &shown["handled"][0]["action"]), (&json!("loopback"), &json!("replayed")));
    let discarded = post(&open, "discard", &json!({ "which": { "topic": "dead" }, "all": true, "dry_run": false }));
    assert_eq!((&discarded.body["summary"]["discarded"], left()), (&json!(5), 0), "{}", discarded.body);
}
