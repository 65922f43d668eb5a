//! Where a running router is, for commands that ask it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use pointsman_config::Plan;
use thiserror::Error;

use super::token::{self, TokenError};
use super::{Exit, complain, configuration};
use crate::admin::{Client, ClientError};

/// Where the router is.
#[derive(Debug, Args)]
pub(super) struct DoorArguments {
    /// The configuration file of the router, whose `[admin] listen` says where its door is.
    #[arg(required_unless_present = "at", conflicts_with = "at")]
    pub(super) file: Option<PathBuf>,
    /// The door, such as 127.0.0.1:7090, in place of the file.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) at: Option<SocketAddr>,
    /// A file with the token that the door asks for. Without it, the token is that of the variable POINTSMAN_TOKEN, or one of those in
    /// the configuration file.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

/// There is no answer, or it is no.
#[derive(Debug, Error)]
pub(super) enum DoorFailed {
    /// The configuration can't be used; that was said.
    #[error("the configuration is wrong")]
    Configuration(Exit),
    #[error(
        "{file} has no [admin] with a `listen`, so its router can't be asked: add one and restart the router, or name a door with --at"
    )]
    NoDoor { file: String },
    #[error(
        "the system chose the port of the door, since `[admin] listen` says 0: name the address that the router has logged, with --at"
    )]
    AnyPort,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl DoorFailed {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Configuration(exit) => *exit,
            Self::NoDoor { .. } | Self::AnyPort | Self::Token(_) => Exit::Configuration,
            Self::Client(ClientError::Refused(_)) => Exit::No,
            Self::Client(ClientError::Unreachable { .. } | ClientError::NoDoor { .. }) => Exit::NotStarted,
        }
    }

    /// Says it, where that is not done yet; the answer is how the command ends.
    pub(super) fn told(&self) -> Exit {
        if !matches!(self, Self::Configuration(_)) {
            complain(&format!("error: {self}"));
        }
        self.exit()
    }
}

impl DoorArguments {
    /// Somebody to ask, and the plan, where a file is named.
    pub(super) fn open(&self) -> Result<(Client, Option<Plan>), DoorFailed> {
        let mut token = token::given(self.token_file.as_deref(), std::env::var_os("POINTSMAN_TOKEN"))?;
        let (file, at) = (self.file.as_ref(), self.at);
        let Some(file) = file else {
            // clap has asked for one of them.
            let at = at.ok_or_else(|| DoorFailed::NoDoor { file: "the command line".to_owned() })?;
            return Ok((Client::new(at, token), None));
        };
        let plan = configuration::load(file).map_err(DoorFailed::Configuration)?.plan;
        let file = file.display().to_string();
        let admin = plan.admin.as_ref().ok_or_else(|| DoorFailed::NoDoor { file: file.clone() })?;
        if admin.listen.port() == 0 {
            return Err(DoorFailed::AnyPort);
        }
        if token.is_none() {
            token = token::of_file(admin, &file)?;
        }
        Ok((Client::new(token::reachable(admin.listen), token), Some(plan)))
    }
}
