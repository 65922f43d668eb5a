//! The Kafka backend.
