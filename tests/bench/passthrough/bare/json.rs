//! What the guest `json-transform` does, natively: the fair baseline of what a sandbox makes of it.

use anyhow::{Context as _, ensure};
use indexmap::IndexMap;
use serde_json::Value;

/// Reads a JSON object, adds a field and writes it again.
///
/// The map is the one that the guest's `serde_json::Map` is, where fields keep their order; that feature is not switched on
/// here, since it would be for the router too. So an object inside the object is a `BTreeMap`, which costs a little less:
/// if anything, this baseline is too low.
pub(super) fn transform(value: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut value: IndexMap<String, Value> = serde_json::from_slice(value).context("a value is not a JSON object")?;
    let is_negative = value.get("amount").and_then(Value::as_f64).is_some_and(|amount| amount < 0.0);
    // The guest drops these; a workload that has none needs no such way here.
    ensure!(!is_negative, "a value has a negative amount, which the workload was not to have");
    value.insert("seen".into(), true.into());
    Ok(serde_json::to_vec(&value)?)
}
