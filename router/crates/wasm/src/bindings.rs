//! What the WIT package says, in Rust: made from `wit/` at build time, so that the two can't differ.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated: the WIT text is the documentation"
)]

wasmtime::component::bindgen!({
    path: "../../../wit",
    world: "plugin",
    // Events are lowered straight from the client library's buffers.
    ownership: Borrowing { duplicate_if_necessary: true },
});

/// The world of the second door. Both have the same imports.
pub mod columnar {
    wasmtime::component::bindgen!({
        path: "../../../wit",
        world: "columnar-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "pointsman:plugin/host@0.1.0": crate::bindings::pointsman::plugin::host,
        },
    });
}
