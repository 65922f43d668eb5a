//! Every record survives the way to text and back; every mistake is named.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use pointsman_core::record::{OwnedHeader, OwnedRecord, TopicPartition};
use proptest::prelude::*;

use super::{RecordLine, Values, append_line, parse_line, parse_time};

fn value(line: &str) -> Option<Vec<u8>> {
    parse_line(line).unwrap_or_else(|error| panic!("{line}: {error}")).value
}

fn text(value: &str) -> Option<Vec<u8>> {
    Some(value.into())
}

#[test]
fn bytes_have_four_forms() {
    for (json, bytes) in [
        ("null", None),
        (r#""""#, text("")),
        (r#""null""#, text("null")),
        (r#""a\u00fc\n\u0000""#, text("a\u{fc}\n\0")),
        (r#"{"base64": "/wA="}"#, Some(vec![0xff, 0])),
        (r#"{"base64": ""}"#, text("")),
        (r#"{ "b" : [ 1 , 2.50, -0, 1e999, "a \" b" ], "a":{ } }"#, text(r#"{"b":[1,2.50,-0,1e999,"a \" b"],"a":{}}"#)),
        (r#"{"base64": "/wA=", "x": 1}"#, text(r#"{"base64":"/wA=","x":1}"#)),
        (r#"{"base64":"/wA=","base64":"/wA="}"#, text(r#"{"base64":"/wA=","base64":"/wA="}"#)),
        (r#"[{"base64":"/wA="}]"#, text(r#"[{"base64":"/wA="}]"#)),
        ("12345678901234567890123", text("12345678901234567890123")),
        (" true ", text("true")),
        (r#"["\\", "\\\"", " "]"#, text(r#"["\\","\\\""," "]"#)),
    ] {
        assert_eq!(value(&format!(r#"{{"value":{json}}}"#)), bytes, "{json}");
        let line = format!(r#"{{"key":{json},"headers":[["h",{json}]],"value":null}}"#);
        let record = parse_line(&line).unwrap();
        assert_eq!(record.key, bytes, "{json}");
        assert_eq!(record.headers[0].value.as_deref(), bytes.as_deref(), "{json}");
    }
}

#[test]
fn a_line_with_everything() {
    let line = r#"{"topic":"t","partition":2,"offset":7,"timestamp":"2026-01-31T12:00:00.5+01:00","key":null,"value":"",
        "headers":[["a",null],["a",""],[{"base64":"/w=="},1]]}"#;
    let headers = [(&b"a"[..], None), (b"a", Some(&b""[..])), (b"\xff", Some(b"1"))];
    let expected = RecordLine {
        topic: Some("t".into()),
        partition: Some(2),
        offset: Some(7),
        timestamp_ms: Some(1_769_857_200_500),
        key: None,
        value: Some(vec![]),
        headers: headers.map(|(name, value)| OwnedHeader { name: name.into(), value: value.map(Into::into) }).to_vec(),
    };
    assert_eq!(parse_line(line).unwrap(), expected);
    assert_eq!(
        expected.to_line(),
        r#"{"topic":"t","partition":2,"offset":7,"timestamp":1769857200500,"key":null,"value":"","headers":[["a",null],["a",""],[{"base64":"/w=="},"1"]]}"#
    );
    let least = parse_line(r#"{"value":null}"#).unwrap();
    assert_eq!(least, RecordLine::default());
    assert_eq!(least.to_line(), r#"{"key":null,"value":null}"#);
}

#[test]
fn headers_may_be_an_object() {
    let record = parse_line(r#"{"value":1,"headers":{"b":"x","a":null,"n":{"k": 1}}}"#).unwrap();
    let expected = [("b", Some("x")), ("a", None), ("n", Some(r#"{"k":1}"#))];
    let found: Vec<_> = record
        .headers
        .iter()
        .map(|header| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(&header.name), header.value.as_deref().map(text))
        })
        .collect();
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))));
}

#[test]
fn mistakes_are_named() {
    let cases = [
        ("", "it is not a JSON object"),
        ("[1]", "it is not a JSON object"),
        (r#""text""#, "it is not a JSON object"),
        (r#"{"value":1"#, "not JSON: EOF while parsing an object at column 10"),
        (r#"{"value":1} x"#, "not JSON: trailing characters at column 13"),
        (r#"{"value":nul}"#, "not JSON: expected ident at column 13"),
        (r#"{"key":"a"}"#, "`value`: it is missing; write null for a tombstone"),
        (r#"{"vlaue":"a"}"#, "`vlaue`: there is no such field; did you mean `value`?"),
        (r#"{"payload":"a"}"#, "`payload`: there is no such field; a record has topic, partition"),
        (r#"{"value":1,"value":1}"#, "`value`: it is there twice"),
        (
            r#"{"value":1,"partition":-1}"#,
            "`partition`: it is no such number; write a whole number from 0 up to 2^31 - 1",
        ),
        (r#"{"value":1,"partition":2147483648}"#, "`partition`: it is no such number"),
        (r#"{"value":1,"partition":"1"}"#, "`partition`: it is no such number"),
        (r#"{"value":1,"partition":null}"#, "`partition`: it is no such number"),
        (r#"{"value":1,"offset":1.0}"#, "`offset`: it is no such number; write a whole number from 0 up to 2^63 - 1"),
        (r#"{"value":1,"topic":1}"#, "`topic`: it is not a string"),
        (r#"{"value":1,"timestamp":-1}"#, "`timestamp`: it is before 1970"),
        (
            r#"{"value":1,"timestamp":1.5}"#,
            "`timestamp`: it is no point in time, or one too far away; write milliseconds",
        ),
        (r#"{"value":1,"timestamp":"1"}"#, "`timestamp`: it is a number in quotes; leave the quotes out"),
        (r#"{"value":1,"timestamp":"2026-01-31 12:00"}"#, "`timestamp`: it is no point in time"),
        (r#"{"value":{"base64":"?"}}"#, "`value`: what `base64` holds can't be decoded; write the bytes in base64"),
        (r#"{"value":{"base64":"/w"}}"#, "`value`: what `base64` holds can't be decoded"),
        (r#"{"value":{"base64":1}}"#, "`value`: `base64` is not a string"),
        (r#"{"value":"\ud800"}"#, "`value`: an escape in it stands for no character"),
        (r#"{"value":1,"headers":1}"#, "`headers`: it is neither a list nor an object"),
        (r#"{"value":1,"headers":[["a","b"],["a"]]}"#, "`headers[1]`: it is no pair; write [name, value]"),
        (r#"{"value":1,"headers":[["a","b","c"]]}"#, "`headers[0]`: it is no pair"),
        (r#"{"value":1,"headers":[[null,"b"]]}"#, "`headers[0][0]`: it is no name"),
        (r#"{"value":1,"headers":[[1,"b"]]}"#, "`headers[0][0]`: it is no name"),
        (r#"{"value":1,"headers":[["a",{"base64":1}]]}"#, "`headers[0][1]`: `base64` is not a string"),
        (r#"{"value":1,"headers":{"a":{"base64":1}}}"#, "`headers.a`: `base64` is not a string"),
    ];
    for (line, expected) in cases {
        let error = parse_line(line).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{line}\n  says {error}\n  not  {expected}");
        assert!(error.contains("; "), "{line} has no remedy: {error}");
    }
}

#[test]
fn times_are_milliseconds_or_rfc_3339() {
    assert_eq!(parse_time("0"), Ok(0));
    assert_eq!(parse_time("1970-01-01T00:00:01Z"), Ok(1000));
    assert_eq!(parse_time("1970-01-01T01:00:01+01:00"), Ok(1000));
    for wrong in ["", "yesterday", "1970-01-01T00:00:01", "1969-12-31T00:00:00Z", "-5"] {
        assert!(parse_time(wrong).is_err(), "{wrong}");
    }
}

/// What JSON there is stands as JSON, where that loses nothing.
#[test]
fn values_are_written_as_json_where_that_reads_back() {
    for (bytes, json) in [
        (r#"{"a":1}"#, true),
        ("[]", true),
        ("1.50", true),
        ("false", true),
        (r#"{"base64":"x","y":1}"#, true),
        (r#"{"a": 1}"#, false),
        (" 1", false),
        ("1 ", false),
        ("null", false),
        (r#""a""#, false),
        (r#"{"base64":"x"}"#, false),
        (r#"{"base64":1}"#, false),
        ("{\"a\":\"\n\"}", false),
        ("{", false),
        ("01", false),
    ] {
        let mut line = String::new();
        let record = OwnedRecord { value: text(bytes), ..blank() };
        append_line(&mut line, &TopicPartition::new("t", 0), record.as_record(), Values::Json);
        assert_eq!(line.contains(&format!("\"value\":{bytes}}}")), json, "{line}");
        assert_eq!(value(&line), text(bytes), "{line}");
    }
}

fn blank() -> OwnedRecord {
    OwnedRecord { offset: 0, timestamp_ms: -1, key: None, value: None, headers: vec![] }
}

/// Bytes of every kind: none, any, text, and what looks like one of the forms.
fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    let looks =
        r#"[ \n]?(null|-?[0-9]{1,3}|"[a\\" {]{0,3}"|\{ ?"(base64|a)" ?: ?("[aA=/]{0,4}"|1)\}|\[(1, ?2)?\]|true)[ ]?"#;
    proptest::option::of(prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        any::<String>().prop_map(String::into_bytes),
        looks.prop_map(String::into_bytes),
        json().prop_map(String::into_bytes),
    ])
}

/// JSON documents, nested, without space.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|leaf| leaf.to_string()),
        any::<f64>().prop_filter("JSON has no others", |leaf| leaf.is_finite()).prop_map(|leaf| format!("{leaf:e}")),
        any::<String>().prop_map(|leaf| serde_json::to_string(&leaf).unwrap()),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        let name = prop_oneof![Just("base64".to_owned()), any::<String>()];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((name, inner), 0..4).prop_map(|members| {
                let member =
                    |(name, value): &(String, String)| format!("{}:{value}", serde_json::to_string(name).unwrap());
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let header = (proptest::collection::vec(any::<u8>(), 0..4), any_bytes())
        .prop_map(|(name, value)| OwnedHeader { name: name.into(), value: value.map(Into::into) });
    (0..i64::MAX, -1..i64::MAX, any_bytes(), any_bytes(), proptest::collection::vec(header, 0..4)).prop_map(
        |(offset, timestamp_ms, key, value, headers)| OwnedRecord { offset, timestamp_ms, key, value, headers },
    )
}

proptest! {
    #[test]
    fn every_record_reads_back_to_the_same_bytes(record in any_record(), number in 0..i32::MAX, as_json: bool) {
        let partition = TopicPartition::new("orders.v1", number);
        let values = if as_json { Values::Json } else { Values::Text };
        let mut line = String::new();
        append_line(&mut line, &partition, record.as_record(), values);
        prop_assert!(!line.contains(['\n', '\r']), "{}", line);
        let read = parse_line(&line).unwrap();
        prop_assert_eq!(&read, &RecordLine::from_record(&partition, record.as_record()));
        prop_assert_eq!(&parse_line(&read.to_line()).unwrap(), &read);
    }

    #[test]
    fn json_in_a_line_stands_for_its_own_text(json in json()) {
        // Null and strings have forms of their own, and so has an object that only has `base64`.
        prop_assume!(!json.starts_with(['n', '"']));
        if let Ok(record) = parse_line(&format!("{{\"value\": {json} }}"))
            && !json.starts_with("{\"base64\":\"")
        {
            prop_assert_eq!(record.value, Some(json.into_bytes()));
        }
    }

    #[test]
    fn no_line_makes_the_parser_panic(line in "(\\{\"(value|key|headers|timestamp)\":)?[\\[\\]{}\",:a0-9\\\\u]{0,12}\\}?") {
        if let Ok(record) = parse_line(&line) {
            prop_assert_eq!(&parse_line(&record.to_line()).unwrap(), &record);
        }
    }
}
