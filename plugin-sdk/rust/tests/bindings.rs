//! The checked-in bindings belong to the WIT beside them.

use sha2::{Digest, Sha256};

#[test]
fn the_bindings_are_those_of_the_wit() {
    let wit = include_str!("../../../wit/pointsman.wit");
    let digest: String = Sha256::digest(wit).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        pointsman_sdk::bindings::WIT_SHA256,
        digest,
        "wit/pointsman.wit has changed: run `cargo run --manifest-path plugin-sdk/rust/bindings/Cargo.toml`"
    );
}
