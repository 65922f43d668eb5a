//! How the client library gets on with its brokers.

/// What is known of the connections to one broker, of all clients of one kind together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connections {
    /// What the clients do.
    pub role: ClientRole,
    /// The broker, as `host:port`.
    pub broker: String,
    /// Clients that have a connection now.
    pub connected: u64,
    /// Requests that wait to be sent, or to be answered.
    pub waiting: u64,
    /// How long answers took lately that took longer than all but one in a hundred, in seconds; the largest of the clients. `None`
    /// where there were none.
    pub rtt_seconds: Option<f64>,
    /// How long the broker has lately held requests back by its quotas, at the most, in seconds.
    pub throttled_seconds: f64,
    /// Requests that had no answer in time.
    pub timeouts: u64,
    /// Requests that could not be sent, and answers that could not be read.
    pub errors: u64,
    /// Requests that were made again.
    pub retries: u64,
    /// Connections that have ended.
    pub disconnects: u64,
}

/// What a client does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientRole {
    /// It is a member of a group.
    #[default]
    Consumer,
    /// It writes.
    Producer,
}

impl ClientRole {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Producer => "producer",
        }
    }
}
