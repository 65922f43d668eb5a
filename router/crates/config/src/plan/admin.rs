//! The plan of the admin door: where it is, and who may do what there.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use pointsman_core::condition::FieldPath;

use super::Secret;

/// `[admin]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdminPlan {
    /// Where it listens. Without tokens, it is an address of this machine that others can't reach. Port 0 lets the system
    /// choose one.
    pub listen: SocketAddr,
    /// Who may ask and tell. Without any, whoever gets there.
    pub tokens: Vec<TokenPlan>,
    /// What answers without a token, where there are tokens.
    pub open: Vec<Open>,
    /// Whether samples of records may be watched as they come to their fates, and what is shown of them. `None`: they may not.
    pub samples: Option<SamplesPlan>,
}

impl AdminPlan {
    /// A door without tokens.
    #[must_use]
    pub const fn at(listen: SocketAddr) -> Self {
        Self { listen, tokens: Vec::new(), open: Vec::new(), samples: None }
    }
}

/// `[admin.samples]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SamplesPlan {
    /// Whether headers and values are shown to operators.
    pub values: bool,
    /// What nobody is shown.
    pub redact: Vec<FieldPath>,
}

/// `[[admin.tokens]]`: somebody, and how they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPlan {
    /// Who it is, as the log names them. Unique.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// What they show.
    pub secret: TokenSecret,
}

/// A token, or what is known of it. Its `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSecret {
    /// The token: 16 to 512 bytes that can stand in a header.
    Token(Secret),
    /// Its SHA-256.
    Sha256([u8; 32]),
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(***)",
            Self::Sha256(_) => "Sha256(***)",
        })
    }
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything (`GET`), dead letters with their payloads included; but for headers and values of [samples](SamplesPlan).
    Reader,
    /// Everything.
    Operator,
}

/// What may answer without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// `/metrics`.
    Metrics,
    /// `/healthz` and `/readyz`.
    Health,
}
