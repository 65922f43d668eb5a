#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::{Condition, DeadLetterCondition, DeadLetterView, EventView};
use crate::event::Event;
use crate::failure::FailureClass;
use crate::provenance::{Account, KnownOrigin, Writer};
use crate::record::{Header, Headers};

const HEADERS: [Header<'static>; 4] = [
    Header { name: b"tier", value: Some(b"bronze") },
    Header { name: b"tier", value: Some(b"gold") },
    Header { name: b"none", value: None },
    Header { name: b"raw", value: Some(b"\xff") },
];

fn event(value: Option<&'static [u8]>) -> Event<'static> {
    Event {
        topic: "orders.v1",
        partition: 3,
        offset: 42,
        timestamp_ms: 1_767_225_600_000,
        key: Some(b"k-1"),
        value,
        headers: Headers::Borrowed(&HEADERS),
        attempt: 2,
    }
}

const VALUE: &[u8] =
    br#"{"total": 120, "rate": 1.5, "big": 18446744073709551615, "name": "J\u00f6", "ok": true, "none": null,
    "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]}"#;

fn holds(text: &str, value: &'static [u8]) -> Result<bool, (String, String)> {
    let condition = Condition::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    EventView::new(event(Some(value))).holds(&condition).map_err(|failure| {
        assert_eq!(failure.class, FailureClass::Condition);
        (failure.code, failure.message)
    })
}

#[test]
fn conditions_see_every_part_of_an_event() {
    for text in [
        "true",
        "topic == 'orders.v1' && partition == 3 && offset == 42 && attempt == 2",
        "timestamp == timestamp('2026-01-01T00:00:00Z') && timestamp.getFullYear() == 2026",
        "timestamp < timestamp('2026-01-01T00:00:00Z') + duration('1s')",
        "key == 'k-1' && key.startsWith('k')",
        "headers.tier == 'gold' && headers['tier'] == 'gold' && 'tier' in headers && !('x' in headers)",
        "headers.none == null && headers.raw == b'\\xff' && size(headers) == 3",
        "has(headers.tier) && !has(headers.absent)",
        "value.total == 120 && value.total == 120.0 && value.rate > 1 && value.big == 18446744073709551615u",
        "value.name == 'Jö' && value.ok && value.none == null",
        "value.items.exists(item, item.sku == 'b' && item.n > 1) && value.items.all(i, i.n < 3)",
        "value.items.map(i, i.n).exists_one(n, n == 2) && size(value.items.filter(i, i.n == 1)) == 1",
        "has(value.total) && !has(value.absent) && double(value.total) * 1.5 == 180.0",
        "type(value.total) == int && value.name.matches('^J.$')",
        "value.absent == 1 || true",
        "false ? value : true",
    ] {
        assert_eq!(holds(text, VALUE), Ok(true), "{text}");
    }
}

#[test]
fn what_an_event_lacks_is_null() {
    let event = Event { key: None, value: None, timestamp_ms: -1, headers: Headers::NONE, ..event(None) };
    for text in ["value == null", "key == null", "timestamp == null", "size(headers) == 0"] {
        assert_eq!(EventView::new(event).holds(&Condition::compile(text).unwrap()), Ok(true), "{text}");
    }
    let not_text = Event { key: Some(b"\xff"), ..event };
    assert_eq!(EventView::new(not_text).holds(&Condition::compile("key == b'\\xff'").unwrap()), Ok(true));
}

#[test]
fn the_value_is_read_only_where_the_result_depends_on_it() {
    for text in ["topic == 'orders.v1'", "topic != 'x' || value.a == 1", "topic == 'x' && value.a == 1 ? true : true"] {
        let condition = Condition::compile(text).unwrap();
        let view = EventView::new(event(Some(b"not JSON")));
        assert_eq!(view.holds(&condition), Ok(true), "{text}");
        assert!(!view.has_read_value(), "{text}");
        assert_eq!(condition.reads_value(), text.contains("value"), "{text}");
    }
}

#[test]
fn a_failed_evaluation_names_its_cause_and_shows_no_data() {
    for (text, value, code, cause) in [
        ("value.total > 1", b"{secret" as &[u8], "not-json", "not JSON: it stops being JSON at line 1, column 2"),
        ("value.a", br#"{"a": "secret"}"#, "type", "its result is string, not bool"),
        ("value.absent == 1", br#"{"a": "secret"}"#, "no-such-key", "no `absent`"),
        ("value.a > 1", br#"{"a": "secret"}"#, "type", "_>_"),
        ("value.a + 1 == 2", br#"{"a": "secret"}"#, "type", ""),
        ("value.a[5] == 1", br#"{"a": ["secret"]}"#, "no-such-key", "list"),
        ("value.a / value.b == 1", br#"{"a": 77777, "b": 0}"#, "evaluation", "zero"),
        ("int(value.a) == 1", br#"{"a": "secret"}"#, "evaluation", "int"),
    ] {
        let (got, message) = holds(text, value).unwrap_err();
        assert_eq!(got, code, "{text}: {message}");
        assert!(message.contains(cause) && message.contains(text), "{message}");
        assert!(!message.contains("secret") && !message.contains("77777"), "{message}");
    }
}

#[test]
fn what_can_be_known_is_refused_with_its_place() {
    for (text, place, message, help) in [
        ("", "", "not CEL", ""),
        ("topic ==", "", "not CEL", ""),
        ("'ü' == topc", "topc", "no variable `topc`", "`topic`"),
        ("amount > 3", "amount", "no variable `amount`", "in `value`"),
        ("topic", "topic", "string, not bool", "compare"),
        ("topic > 3", ">", "`>` does not take string and int", ""),
        ("headers + 1 == 2", "+", "`+` does not take map and int", ""),
        ("partition == '3'", "==", "`==` does not take int and string", "never equal"),
        ("double(attempt) * 2 > 1.0", "*", "double and int", "convert"),
        ("attempt && true", "&&", "`&&` does not take int", ""),
        ("topic.startswith('a')", "", "no function `startswith`", "`startsWith`"),
        ("startsWith(topic, 'a')", "", "no function `startsWith` of this form", "x.startsWith"),
        ("topic.startsWith(3)", "", "`startsWith` does not take string and int", ""),
        ("math.abs(attempt) > 1", "math", "no function `math.abs`", ""),
        ("topic.name == 'a'", "", "string has no fields", ""),
        ("topic.exists(c, c == 'a')", "topic", "string can't be gone through", ""),
        ("value.exists(topic, topic == 1)", "", "event's own", "another name"),
        ("topic.matches('(')", "'('", "pattern of `matches` is not one", ""),
        ("topic.matches(value.p)", "", "must be written out", ""),
        ("value.a.all(a, a.all(b, b.all(c, c)))", "", "more than 2 macros", "plugin"),
        ("Foo{a: 1} == value", "", "message", ""),
        ("value.?a == 1", "", "not CEL", ""),
    ] {
        let error = Condition::compile(text).unwrap_err();
        let shown = error.span.as_ref().map_or("", |span| &text[span.clone()]);
        assert!(error.message.contains(message), "{text}: {error:?}");
        assert!(error.help.as_deref().unwrap_or_default().contains(help), "{text}: {error:?}");
        assert!(place.is_empty() || shown.contains(place), "{text}: {shown:?} {error:?}");
    }
}

/// Half of what a thread has by default.
const STACK_BYTES: usize = 1 << 20;

#[test]
fn deep_and_long_texts_are_refused_within_half_a_stack() {
    let check = || {
        for part in
            ["1+", "!", "-", "(", "[", "value.", "value[", "{1:", "true?", "true?1:", "a.all(a,", "a&&", "f(", "b||"]
        {
            for count in [20, 32, 64, 100, 200, 500, 1000, Condition::MAX_BYTES / part.len()] {
                let text = part.repeat(count.min(Condition::MAX_BYTES / part.len()));
                assert!(Condition::compile(&text).is_err(), "{part} {count}");
            }
        }
        let long = format!("1{} == 1", "+0".repeat(2000));
        assert!(Condition::compile(&long).unwrap_err().message.contains("nests deeper than 64"));
        let selected = format!("value{} == 1", ".a".repeat(2000));
        assert!(Condition::compile(&selected).unwrap_err().message.contains("nests deeper than 64"));
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(check).unwrap().join().unwrap();
    assert!(Condition::compile(&"1+".repeat(2049)).unwrap_err().message.contains("4096"));
    let names: Vec<_> = (0..300).map(|n| format!("'k{n}'")).collect();
    assert!(Condition::compile(&format!("key in [{}]", names.join(","))).is_ok());
}

proptest! {
    #[test]
    fn no_text_and_no_event_panics(
        text in prop_oneof![
            ".{0,60}",
            "((topic|value|key|headers|timestamp|x|1|2u|1\\.5|'a'|b'a'|null|true|\\[1\\]|\\{'a':1\\})( |\\.|\\+|-|<|==|&&|\\|\\||in|\\[|\\]|\\(|\\)|\\?|:|,|!|size|exists|all|map|has)){0,12}",
        ],
        value in prop_oneof![Just(&b"{\"a\":[1,2]}"[..]), Just(&b"[1]"[..]), Just(&b"3"[..]), Just(&b"x"[..])],
    ) {
        match Condition::compile(&text) {
            Ok(condition) => {
                let failed = EventView::new(event(Some(value))).holds(&condition).err();
                prop_assert!(failed.is_none_or(|failure| failure.class == FailureClass::Condition));
            }
            Err(error) => prop_assert!(error.span.is_none_or(|span| text.get(span).is_some())),
        }
    }
}

fn letter() -> Account {
    Account {
        writer: Writer::Pointsman { originals: 4 },
        origin: KnownOrigin {
            topic: Some("orders.v1".into()),
            partition: Some(3),
            offset: Some(42),
            timestamp_ms: Some(1_767_225_600_000),
        },
        route: Some("orders".into()),
        class: Some("reject".into()),
        code: Some("no-country".into()),
        attempts: Some(6),
        last_failed_ms: Some(1_767_225_600_000),
        replay_count: 1,
        ..Account::default()
    }
}

#[test]
fn conditions_see_a_dead_letter_and_what_failed_it() {
    let (known, unknown) = (letter(), Account::default());
    let holds = |account: &Account, text: &str| {
        let condition = DeadLetterCondition::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(condition.text(), text);
        DeadLetterView::new(account, Some(b"k"), Some(VALUE), Headers::Borrowed(&HEADERS)).holds(&condition)
    };
    for text in [
        "topic == 'orders.v1' && partition == 3 && offset == 42 && attempt == 6 && key == 'k'",
        "value.total == 120 && headers.tier == 'gold' && timestamp == last_failed",
        "writer == 'pointsman' && route == 'orders' && class == 'reject' && code.startsWith('no-')",
        "stage == null && message == null && first_failed == null && plugin_sha256 == null",
        "last_failed < timestamp('2027-01-01T00:00:00Z') && replays == 1 && !deferred && !truncated",
    ] {
        assert_eq!(holds(&known, text), Ok(true), "{text}");
    }
    let nothing = "topic == null && partition == null && offset == null && timestamp == null && attempt == null \
        && route == null && class == null && code == null && last_failed == null && replays == 0 && writer == 'unknown'";
    assert_eq!(holds(&unknown, nothing), Ok(true));
    assert_eq!(holds(&unknown, "code.startsWith('no-')").unwrap_err().class, FailureClass::Condition);
    let error = DeadLetterCondition::compile("rout == 'orders'").unwrap_err();
    assert_eq!(error.help.as_deref(), Some("did you mean `route`?"));
    assert!(Condition::compile("route == 'orders'").is_err(), "events know nothing of it");
}
