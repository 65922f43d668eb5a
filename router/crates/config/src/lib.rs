//! From TOML text to a [`Plan`] in which everything is resolved, defaulted and bounded; or to every mistake of the text
//! at once, each with its line, its cause and a remedy.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! let text = r#"
//!     version = 1
//!     [router]
//!     name = "demo"
//!     [broker]
//!     embedded = "./data"
//!     [[routes]]
//!     name = "copy"
//!     from = ["orders"]
//!     [[routes.outputs]]
//!     topic = "orders.copy"
//! "#;
//! let (plan, warnings) = pointsman_config::compile(text, "demo.toml", &BTreeMap::new())?;
//! assert_eq!(plan.routes.len(), 1);
//! assert!(warnings.is_empty());
//! # Ok::<(), pointsman_config::ConfigErrors>(())
//! ```
//!
//! No IO: files, folders and brokers that the text names are not looked at, and variables come from the caller.
//!
//! The way of a text: [`toml`] parses it with places, `read` turns tables into typed values and notes what is wrong with
//! each, `compile` resolves names and checks what values say together. Nobody stops at the first mistake.

pub mod acls;
mod compile;
pub mod dead_letters;
pub mod document;
mod findings;
mod names;
pub mod plan;
mod raw;
mod read;
mod secrets;
#[cfg(test)]
mod tests;
mod units;
mod variables;

pub use compile::compile;
pub use findings::{ConfigErrors, Finding, Warning};
pub use plan::Plan;
pub use read::refused_properties;
pub use variables::Variables;

/// The reference: a configuration that names every key, with its default, its unit and its range. It compiles.
pub const REFERENCE: &str = include_str!("../../../../configs/reference.toml");
