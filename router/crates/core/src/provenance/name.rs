//! The names of our headers.

/// What all of them begin with.
pub const PREFIX: &str = "pointsman.";
/// Version of the block, `1`. Always its first header.
pub const VERSION: &str = "pointsman.version";
/// Topic the record came from.
pub const ORIGIN_TOPIC: &str = "pointsman.origin.topic";
/// Partition the record came from.
pub const ORIGIN_PARTITION: &str = "pointsman.origin.partition";
/// Offset the record had there.
pub const ORIGIN_OFFSET: &str = "pointsman.origin.offset";
/// Timestamp the record had there.
pub const ORIGIN_TIMESTAMP: &str = "pointsman.origin.timestamp";
/// The route it failed on.
pub const ROUTE: &str = "pointsman.route";
/// The stage it failed in, by name; absent where it failed outside the stages.
pub const STAGE: &str = "pointsman.stage";
/// SHA-256 of the component of that stage.
pub const PLUGIN_DIGEST: &str = "pointsman.plugin.sha256";
/// Class of the failure.
pub const CLASS: &str = "pointsman.class";
/// Code of the failure.
pub const CODE: &str = "pointsman.code";
/// Message of the failure, cut to [`Failure::MESSAGE_MAX_BYTES`](crate::failure::Failure::MESSAGE_MAX_BYTES).
pub const MESSAGE: &str = "pointsman.message";
/// How often the record was run.
pub const ATTEMPTS: &str = "pointsman.attempts";
/// Time of the first failure.
pub const FIRST_FAILED_AT: &str = "pointsman.first_failed_at";
/// Time of the last failure.
pub const LAST_FAILED_AT: &str = "pointsman.last_failed_at";
/// Parked records: not to be run before.
pub const DUE_AT: &str = "pointsman.due_at";
/// How often the record was replayed from dead letters before it failed this time; absent, never.
pub const REPLAY_COUNT: &str = "pointsman.replay_count";
/// `true`: the record did not fail itself, but waits behind another of its key that did, which the message names. Absent,
/// it failed itself.
pub const DEFERRED: &str = "pointsman.deferred";
/// In retry partitions: `hold` or `release`, a note about the key. Absent, it is a parked record.
pub const MARKER: &str = "pointsman.marker";
/// Dead letters that would have been too large: `true`; key, value and headers are to be fetched from the origin.
pub const TRUNCATED: &str = "pointsman.truncated";
