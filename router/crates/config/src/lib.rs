//! TOML text to plan.
