//! From the plan to what it needs: plugins loaded, the log opened, topics there.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_config::plan::{BrokerPlan, ComponentPlan, Plan, PluginLimits, PluginPlan, Secret};
use pointsman_core::port::{Log, LogError};
use pointsman_embedded::{EmbeddedLog, OpenError, Options};
use pointsman_kafka::{KafkaLog, KafkaSettings};
use pointsman_wasm::{
    Digest, Limits, LoadError, LoadedPlugin, PluginSpec, Plugins, Sandbox, SandboxError, SandboxSettings,
};
use thiserror::Error;

use crate::admin::DoorError;
use crate::plugin_build::BuildError;
use crate::toolchain::ToolchainError;

pub(crate) mod topics;

pub use topics::prepare_topics;

/// Everything that the workers will use.
pub struct Topology {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The plugins, in the order of the plan.
    pub plugins: Plugins,
}

/// The router can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A plugin.
    #[error(transparent)]
    Plugin(#[from] LoadError),
    /// A plugin that is to be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The toolchain to build a plugin with.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// A plugin that is given as source, where nothing is built.
    #[error(
        "plugin {name:?} is given as the source {}, and `run` builds nothing: build it with `pointsman plugin build`, and name the file as `component`",
        .source_folder.display()
    )]
    Unbuilt {
        /// The plugin.
        name: Arc<str>,
        /// Its folder.
        source_folder: PathBuf,
    },
    /// The embedded log.
    #[error(transparent)]
    Embedded(#[from] OpenError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Topics that are the operator's to make.
    #[error("these topics don't exist: {}; create them, or correct their names in the configuration", .0.join(", "))]
    MissingTopics(Vec<String>),
    /// Topics that would lose records, or can't take them.
    #[error("these topics can't be used as they are:\n  {}", .0.join("\n  "))]
    UnfitTopics(Vec<String>),
    /// The admin door.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// A thread.
    #[error("can't start a thread: {0}; is there a limit on threads?")]
    Thread(#[from] std::io::Error),
}

/// Finds the components of the plan's plugins. `directory` is that of the configuration file; `build` makes a component
/// from a folder, or says why it does not.
///
/// # Errors
/// What `build` says.
pub fn components(
    plan: &Plan,
    directory: &Path,
    mut build: impl FnMut(&Arc<str>, PathBuf) -> Result<PathBuf, StartError>,
) -> Result<Vec<PathBuf>, StartError> {
    plan.plugins.iter().map(|plugin| component(plugin, directory, &mut build)).collect()
}

/// Finds the component of one plugin, as [`components`] does.
///
/// # Errors
/// What `build` says.
pub fn component(
    plugin: &PluginPlan,
    directory: &Path,
    build: &mut impl FnMut(&Arc<str>, PathBuf) -> Result<PathBuf, StartError>,
) -> Result<PathBuf, StartError> {
    match &plugin.component {
        ComponentPlan::File(file) => Ok(directory.join(file)),
        ComponentPlan::Source(folder) => build(&plugin.name, directory.join(folder)),
    }
}

/// How many workers the plan has on this machine.
pub(crate) fn workers(plan: &Plan) -> NonZeroUsize {
    plan.workers_on(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}

/// Loads the plan's plugins from `components`.
///
/// # Errors
/// [`StartError::Sandbox`], [`StartError::Plugin`].
pub fn load_plugins(plan: &Plan, components: &[PathBuf]) -> Result<Plugins, StartError> {
    load_chosen(plan, &plan.plugins.iter().zip(components).collect::<Vec<_>>())
}

/// Loads some of the plan's plugins, each from its component. They are numbered anew, in this order.
///
/// # Errors
/// [`StartError::Sandbox`], [`StartError::Plugin`].
pub fn load_chosen(plan: &Plan, chosen: &[(&PluginPlan, &PathBuf)]) -> Result<Plugins, StartError> {
    let limits = || chosen.iter().map(|(plugin, _)| &plugin.limits);
    let sandbox = Sandbox::new(&SandboxSettings {
        workers: workers(plan),
        plugins: chosen.len(),
        memory_bytes: limits().map(|limits| limits.memory_bytes).max().unwrap_or(0),
        table_elements: limits().map(|limits| limits.table_elements).max().unwrap_or(0),
        cache: cache_directory(),
    })?;
    let load = |(plugin, component): &(&PluginPlan, &PathBuf)| Ok(sandbox.load(&spec(plugin, component))?);
    let loaded: Result<Vec<LoadedPlugin>, StartError> = chosen.iter().map(load).collect();
    Ok(Plugins::new(loaded?))
}

/// What the plan says of a plugin, in the words of the sandbox.
pub(crate) fn spec(plugin: &PluginPlan, component: &Path) -> PluginSpec {
    PluginSpec {
        name: Arc::clone(&plugin.name),
        component: component.into(),
        sha256: plugin.sha256.map(Digest),
        config: plugin.config.clone(),
        limits: limits(&plugin.limits),
        grants: plugin.grants.clone(),
    }
}

/// The limits of the plan, in the words of the sandbox.
pub(crate) fn limits(limits: &PluginLimits) -> Limits {
    Limits {
        memory_bytes: limits.memory_bytes,
        deadline: limits.deadline,
        output_bytes: limits.output_bytes,
        output_events: limits.output_events,
        table_elements: limits.table_elements,
    }
}

/// A sandbox to look at components in, which runs none: any that a configuration could make room for fits in.
///
/// # Errors
/// [`StartError::Sandbox`].
pub(crate) fn sandbox_to_look() -> Result<Sandbox, StartError> {
    Ok(Sandbox::new(&SandboxSettings {
        workers: NonZeroUsize::MIN,
        plugins: 1,
        memory_bytes: 4 << 30,
        table_elements: 10_000_000,
        cache: cache_directory(),
    })?)
}

/// Where precompiled components are kept between starts; nowhere if the user has no home.
pub(crate) fn cache_directory() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("pointsman").join("components"))
}

/// Opens the plan's log. `directory` is that of the configuration file.
///
/// # Errors
/// [`StartError::Embedded`], [`StartError::Log`].
pub fn open_log(plan: &Plan, directory: &Path) -> Result<Arc<dyn Log>, StartError> {
    Ok(match &plan.broker {
        BrokerPlan::Embedded { directory: log, max_bytes, .. } => {
            Arc::new(EmbeddedLog::open(&directory.join(log), embedded_options(plan, *max_bytes))?)
        }
        BrokerPlan::Kafka { bootstrap, fetch_ahead_bytes, librdkafka } => {
            let settings = kafka_settings(plan, bootstrap, librdkafka);
            // Of each retry partition, and of what is read besides. How many there will be is not known yet.
            let read_ahead_bytes = (fetch_ahead_bytes / 128).clamp(64 << 10, settings.read_ahead_bytes);
            Arc::new(KafkaLog::new(KafkaSettings { read_ahead_bytes, ..settings })?)
        }
    })
}

/// Opens the plan's log for looking at many of its partitions, a few records of each: little is fetched ahead of them.
///
/// # Errors
/// As [`open_log`].
pub fn open_log_to_look(plan: &Plan, directory: &Path) -> Result<Arc<dyn Log>, StartError> {
    const AHEAD_BYTES: usize = 64 << 10;
    match &plan.broker {
        BrokerPlan::Embedded { .. } => open_log(plan, directory),
        BrokerPlan::Kafka { bootstrap, librdkafka, .. } => {
            let settings = kafka_settings(plan, bootstrap, librdkafka);
            Ok(Arc::new(KafkaLog::new(KafkaSettings { read_ahead_bytes: AHEAD_BYTES, ..settings })?))
        }
    }
}

/// How the plan's embedded log is opened.
pub(crate) fn embedded_options(plan: &Plan, max_bytes: u64) -> Options {
    Options { max_record_bytes: plan.router.max_record_bytes, max_file_bytes: max_bytes, ..Options::default() }
}

/// How the plan's cluster is reached.
pub(crate) fn kafka_settings(plan: &Plan, bootstrap: &str, librdkafka: &BTreeMap<String, Secret>) -> KafkaSettings {
    KafkaSettings {
        properties: librdkafka.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect(),
        client_id: plan.router.name.to_string(),
        max_record_bytes: plan.router.max_record_bytes,
        ..KafkaSettings::new(bootstrap)
    }
}

#[cfg(test)]
mod tests {
    /// What the Kafka backend would refuse at the start is a mistake that `check` tells.
    #[test]
    fn the_configuration_refuses_every_property_that_the_kafka_backend_owns() {
        for (name, _) in pointsman_kafka::OWNED {
            assert!(pointsman_config::refused_properties().any(|refused| refused == *name), "{name}");
        }
    }
}
