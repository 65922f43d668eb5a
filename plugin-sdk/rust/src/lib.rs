//! Write Pointsman plugins in Rust.
//!
//! A plugin judges events, one [`Verdict`] each: it lets them pass, drops them, emits others in their place, asks for a
//! retry, or rejects them. It is a type that implements [`Plugin`], and one line that makes a component of it:
//!
//! ```
//! use pointsman_sdk::{Config, Event, Output, Plugin, Verdict};
//!
//! struct Europe;
//!
//! impl Plugin for Europe {
//!     fn configure(_: Config) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn process(&mut self, event: &Event) -> Verdict {
//!         match event.header_text("country") {
//!             Some("DE" | "FR") => Verdict::emit([Output::to_port("eu")]),
//!             Some(_) => Verdict::pass(),
//!             None => Verdict::reject("no-country", "the header `country` is missing"),
//!         }
//!     }
//! }
//!
//! pointsman_sdk::export!(Europe);
//!
//! // In a test: no router and no WebAssembly needed.
//! let mut plugin = Europe;
//! assert_eq!(plugin.process(&Event::of("{}").with_header("country", "US")), Verdict::pass());
//! ```
//!
//! The crate is a `cdylib`, built for `wasm32-unknown-unknown` with `wasm-component-ld` as the linker; `pointsman plugin
//! build` does it. The component imports nothing but the router's log and counters: no clock, no randomness, no files.
//! A panic is a trap: the record that caused it ends as a poison pill, and the instance is thrown away.
//!
//! Feature `json`: [`Event::json`](crate::Event::json), `Output::json` and `Config::parse`.
//!
//! Feature `allocator`, on by default: the component has an allocator that is made for many small blocks, and a plugin
//! that reads and writes JSON takes a sixth less time by it. Leave it out where a plugin has a global allocator of its own.

#[cfg(all(feature = "allocator", any(test, all(target_arch = "wasm32", not(target_feature = "atomics")))))]
mod allocator;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::allow_attributes_without_reason,
    clippy::panic,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated code"
)]
#[rustfmt::skip]
pub mod bindings;
mod batch;
#[doc(hidden)]
pub mod component;
mod config;
mod event;
mod host;
#[cfg(feature = "json")]
mod json;
mod verdict;

pub use batch::{Events, Verdicts};
pub use bindings::exports::pointsman::plugin::columns::Fields;
pub use bindings::pointsman::plugin::host::Level;
pub use config::Config;
pub use event::Event;
pub use host::{count, log};
#[cfg(feature = "json")]
pub use json::JsonError;
pub use verdict::{Header, Output, Patch, Rejection, Retry, Verdict};

/// A plugin: one instance of it lives in one sandbox.
///
/// Nothing is promised about state between calls: instances are discarded, multiplied, and shared by partitions, and a
/// batch that failed is run again in smaller parts. Keep what makes the next call cheaper, never what a verdict depends on.
pub trait Plugin: Sized + 'static {
    /// The fields of events that the plugin looks at. What it does not ask for is not copied to it, which makes a plugin
    /// that goes by headers alone cheaper by all values: `const FIELDS: Fields = Fields::HEADERS;`. Several are
    /// `Fields::KEY.union(Fields::VALUE)`, none is `Fields::empty()`. Looking at any other is a panic, in production as under
    /// `testing::judge`.
    const FIELDS: Fields = Fields::all();

    /// Makes the plugin from its configuration, once for each instance, before any event.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the configuration. The router then does not start, and shows it.
    fn configure(config: Config) -> Result<Self, String>;

    /// Judges one event.
    fn process(&mut self, event: &Event) -> Verdict;

    /// Judges a batch: exactly one verdict for each event, in order. All events come from one partition.
    ///
    /// Implement it where a batch is cheaper than its events one by one; an answer with another number of verdicts is
    /// refused as malformed.
    fn process_batch(&mut self, events: Events<'_>, verdicts: &mut Verdicts) {
        for event in events {
            let verdict = self.process(&event);
            verdicts.push(verdict);
        }
    }
}

/// Makes a component of a [`Plugin`]: `pointsman_sdk::export!(MyPlugin);`, once in a crate.
///
/// On other targets than `wasm32` it exports nothing, so that the crate's tests run natively.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        const _: () = {
            ::std::thread_local! {
                static SLOT: $crate::component::Slot<$plugin> = const { $crate::component::Slot::empty() };
            }

            struct Component;

            impl $crate::bindings::exports::pointsman::plugin::columns::Guest for Component {
                fn configure(
                    config: ::std::string::String,
                ) -> ::std::result::Result<$crate::Fields, ::std::string::String> {
                    SLOT.with(|slot| slot.configure(config))
                }

                fn process(
                    events: $crate::bindings::exports::pointsman::plugin::columns::Batch,
                ) -> $crate::bindings::exports::pointsman::plugin::columns::Verdicts {
                    SLOT.with(|slot| slot.process(&events))
                }
            }

            #[cfg(target_arch = "wasm32")]
    $crate::bindings::export_component!(Component with_types_in $crate::bindings);

            // Nothing is exported here, and yet the plugin is in use: no warning of dead code is due.
            #[cfg(not(target_arch = "wasm32"))]
            #[used]
            static USED: $crate::component::Exports = $crate::component::exports::<Component>();
        };
    };
}
