//! `pointsman run`: the router, until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use pointsman_core::port::SinkFailed;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::configuration::{self, Configuration};
use super::{Exit, complain_of};
use crate::admin::{Door, Office};
use crate::running::{self, Running};
use crate::telemetry::Telemetry;
use crate::topology::{self, StartError, Topology};

/// Run the router until SIGINT or SIGTERM.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    file: PathBuf,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let configuration = match configuration::load(&arguments.file) {
        Ok(configuration) => configuration,
        Err(exit) => return exit,
    };
    let bound =
        bind(configuration, |name, source_folder| Err(StartError::Unbuilt { name: Arc::clone(name), source_folder }));
    match bound.and_then(|topology| until_stopped(&topology, |_| {})) {
        Ok(exit) => exit,
        Err(error) => {
            complain_of(&error);
            Exit::NotStarted
        }
    }
}

/// Loads the plugins, opens the log, and sees to its topics. `build` makes components of plugins given as source.
pub(crate) fn bind(
    configuration: Configuration,
    build: impl FnMut(&Arc<str>, PathBuf) -> Result<PathBuf, StartError>,
) -> Result<Topology, StartError> {
    let Configuration { plan, directory } = configuration;
    let components = topology::components(&plan, &directory, build)?;
    // What has been built was built by others.
    crate::without_huge_pages();
    let plugins = topology::load_plugins(&plan, &components)?;
    let log = topology::open_log(&plan, &directory)?;
    topology::prepare_topics(&plan, &*log)?;
    Ok(Topology { plan: Arc::new(plan), log, plugins })
}

/// Runs the router until a signal or a fatal error, and stops it. `started` is called once it runs; what it gives
/// back is held until the router has stopped.
pub(crate) fn until_stopped<T>(topology: &Topology, started: impl FnOnce(&Running) -> T) -> Result<Exit, StartError> {
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    control.block_on(async {
        // A handful is enough: the first failure stops the router, and others are only logged.
        let (failed, mut failures) = mpsc::channel::<SinkFailed>(8);
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Before anything runs: a port that is taken is an error of the start.
        let door = match &topology.plan.admin {
            Some(admin) => Some((Door::open(admin.listen)?, admin)),
            None => None,
        };
        let running = running::start(topology, move |error| {
            tracing::error!(code = error.code, "fatal: {}", error.message);
            // A full channel has told the main thread already.
            let _ = failed.try_send(error);
        })?;
        tracing::info!(router = %topology.plan.router.name, "running");
        // Somebody at the door wants it stopped.
        let (drain, mut drained) = mpsc::channel(1);
        let plan = &topology.plan;
        // Somebody asks, or is told.
        let telemetry = match (&plan.admin, plan.telemetry.as_ref().and_then(|telemetry| telemetry.metrics)) {
            (None, None) => None,
            _ => Some(running.telemetry(topology)?),
        };
        let pushing = telemetry.as_ref().map(Telemetry::push).transpose()?.flatten();
        // It is open until the router has stopped, so that it tells what that waits for.
        let _serving = match (door, telemetry) {
            (Some((door, admin)), Some(telemetry)) => {
                tracing::info!(address = %door.address(), tokens = admin.tokens.len(), "the admin door is open");
                Some(door.answer(admin, Office::of(topology, &running, telemetry, drain.clone()))?)
            }
            _ => None,
        };
        let held = started(&running);
        let mut exit = tokio::select! {
            _ = interrupt.recv() => Exit::Fine,
            _ = terminate.recv() => Exit::Fine,
            Some(()) = drained.recv() => Exit::Fine,
            Some(_) = failures.recv() => Exit::Fatal,
        };
        tracing::info!("stopping");
        // Draining blocks; the runtime has nothing else to do but to notice a second signal, which ends the process.
        let drained = tokio::task::spawn_blocking(move || running.stop());
        tokio::select! {
            drained = drained => match drained {
                Ok(true) => tracing::info!("stopped"),
                _ => {
                    tracing::warn!("stopped before all was drained: what was not committed runs again");
                    exit = Exit::Fatal;
                }
            },
            _ = async { tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} } } => {
                tracing::warn!("stopped at once: what was not committed runs again");
                std::process::exit(Exit::Fatal as i32);
            }
        }
        drop((held, pushing));
        Ok(exit)
    })
}
