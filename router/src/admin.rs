//! The admin door of a running router: HTTP with JSON, for the command line, for scripts and for whoever watches.
//!
//! | | |
//! | --- | --- |
//! | `server` | the listener, its thread, its bounds |
//! | `entry` | who gets in: tokens, roles, no browsers |
//! | `audit` | each thing that is done or refused, as a line of the log |
//! | `api` | all paths, and the document that describes them |
//! | `lanes`, `plugins`, `watch`, `control`, … | what the paths do |
//! | `answer`, `work` | refusals; what blocks |
//! | `client` | the other side |
//!
//! Nothing is decided here: [`lanes`](crate::lanes) and others do that. What is not done answers with a status from 400 on, and a
//! [`Complaint`].

use std::io;
use std::sync::Arc;

use pointsman_config::Plan;
use pointsman_config::plan::AdminPlan;
use pointsman_core::port::{Log, PluginId};
use tokio::sync::mpsc;

use crate::lanes::Lanes;
use crate::log_filter::{self, LogFilter};
use crate::running::Running;
use crate::samples::Samples;
use crate::telemetry::Telemetry;
use crate::topology::Topology;

mod answer;
mod api;
mod audit;
mod client;
mod control;
mod dead_letters;
mod entry;
mod lanes;
mod plugins;
mod retries;
mod samples;
mod server;
#[cfg(test)]
mod tests;
mod watch;
mod work;

pub use answer::Complaint;
pub use api::document;
pub use client::{Client, ClientError};
pub use control::{Draining, LogLevel};
pub use lanes::{Listing, Outcome, Wish};
pub use plugins::{BreakerListing, BreakerReport, LimitsReport, PausedLane, PluginListing, PluginReport, TermsReport};
pub use retries::{ParkedListing, RetryListing};
pub use server::{Door, DoorError, Serving};
pub use watch::{LagListing, RouteListing};

/// What the door answers from.
pub struct Office {
    plan: Arc<Plan>,
    lanes: Lanes,
    log: Arc<dyn Log>,
    /// Of the plugins, in the order of the plan.
    digests: Vec<String>,
    drain: mpsc::Sender<()>,
    log_filter: Option<&'static LogFilter>,
    telemetry: Telemetry,
    samples: Arc<Samples>,
    hands: work::Hands,
}

impl Office {
    /// Of a running router. `drain` is told when it is to stop.
    #[must_use]
    pub fn of(topology: &Topology, running: &Running, telemetry: Telemetry, drain: mpsc::Sender<()>) -> Self {
        let digest = |index| topology.plugins.get(PluginId(index)).map(|plugin| plugin.digest().to_string());
        Self {
            plan: Arc::clone(&topology.plan),
            lanes: running.lanes(),
            log: Arc::clone(&topology.log),
            digests: (0..).map_while(digest).collect(),
            drain,
            log_filter: log_filter::of_process(),
            telemetry,
            samples: running.samples(),
            hands: work::Hands::default(),
        }
    }
}

impl Door {
    /// Answers from this office whoever the plan lets in, on a thread of its own, until the answer to this is dropped.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn answer(self, admin: &AdminPlan, office: Office) -> io::Result<Serving> {
        let router = api::router(Arc::new(office), entry::Porter::new(admin), api::Within::default());
        self.serve(router, server::Bounds::default())
    }
}
