//! The rights of a route, as data and as commands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use pointsman_config::acls::{acls, render};
use pointsman_config::compile;

#[test]
fn a_route_gets_the_rights_it_needs_and_no_more() {
    let text = include_str!("../../../../tests/config/valid/two-routes.toml");
    let (plan, _) = compile(text, "two-routes.toml", &BTreeMap::new()).unwrap();
    insta::assert_snapshot!(render(&acls(&plan), "kafka:9092", "User:pointsman"));
}

#[test]
fn with_exactly_once_delivery_a_router_writes_transactions() {
    let text = "version = 1\n[router]\nname = \"demo\"\ndelivery = \"exactly-once\"\n[broker]\nbootstrap = \"kafka:9092\"\n\
                [[routes]]\nname = \"copy\"\nfrom = [\"a\"]\nretry = false\n[[routes.outputs]]\ntopic = \"b\"\n";
    let (plan, _) = compile(text, "exactly-once.toml", &BTreeMap::new()).unwrap();
    insta::assert_snapshot!(render(&acls(&plan), "kafka:9092", "User:pointsman"));
}

#[test]
fn the_embedded_log_has_no_rights_to_give() {
    let text = include_str!("../../../../tests/config/valid/minimal.toml");
    let (plan, _) = compile(text, "minimal.toml", &BTreeMap::new()).unwrap();
    assert_eq!(acls(&plan), []);
}
