//! From a file to a plugin that can be called, with every reason why not.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::bindings::pointsman::plugin::types;
use crate::digest::Digest;
use crate::door::{self, DoorPre, PROCESSOR};
use crate::engine::Sandbox;
use crate::fault::Fault;
use crate::guest::{Guest, link_host};
use crate::inspect::Inspection;
use crate::nesting;
use crate::said::Heard;
use crate::spec::{GrantError, Grants, Limits, PluginSpec};
use crate::stand_in::{self, Provision};
use crate::usage::{Meter, Usage};
use crate::worker::{Instance, StartError};

/// Largest component file, in bytes. Python's and JavaScript's are near 20 MiB.
pub const COMPONENT_MAX_BYTES: u64 = 64 << 20;

/// What it may call.
const HOST: &str = "pointsman:plugin/host@0.1.0";

/// A plugin that has been compiled, linked, and has accepted its configuration once.
pub struct LoadedPlugin {
    name: Arc<str>,
    digest: Digest,
    config: String,
    limits: Limits,
    grants: Arc<Grants>,
    door: DoorPre,
    meter: Arc<Meter>,
}

impl LoadedPlugin {
    /// Its name in the plan.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of its file.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What its instances and calls may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    pub(crate) fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    pub(crate) fn door(&self) -> &DoorPre {
        &self.door
    }

    /// What its instances use.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.meter.usage()
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

/// A plugin can't be loaded.
#[derive(Debug, Error)]
#[error("plugin {plugin} ({}): {reason}", path.display())]
pub struct LoadError {
    /// Name of the plugin.
    pub plugin: Arc<str>,
    /// Its file.
    pub path: PathBuf,
    /// Cause and remedy.
    pub reason: LoadErrorReason,
}

/// Why a plugin can't be loaded. Every text names the cause and the remedy.
#[derive(Debug, Error)]
pub enum LoadErrorReason {
    /// The file can't be read.
    #[error("the file can't be read: {0}; build the plugin, or correct its path")]
    Read(#[source] io::Error),
    /// The file is too large.
    #[error("the file is larger than {COMPONENT_MAX_BYTES} bytes, the limit for a component; strip debug information")]
    TooLarge,
    /// The file is not the one that was pinned.
    #[error(
        "the file has SHA-256 {actual}, but {pinned} is pinned; find out who changed it, then correct the file or sha256"
    )]
    Pin {
        /// What the plan pins.
        pinned: Digest,
        /// What the file has.
        actual: Digest,
    },
    /// A core module.
    #[error("the file is a core WebAssembly module, not a component; build it with `pointsman plugin build`")]
    CoreModule,
    /// Something else.
    #[error("the file is not WebAssembly: it does not begin as such files do; name a component")]
    NotWasm,
    /// Damaged, or of another kind of WebAssembly than ours.
    #[error("the file is not a component that the sandbox takes: {0}; build it again")]
    Malformed(String),
    /// Its nested components would become too much.
    #[error("its nested components are refused: {0}; build it again, of fewer parts")]
    Nesting(String),
    /// The export of the contract is missing.
    #[error("it does not export {PROCESSOR}{}; build it for the world pointsman:plugin/plugin@0.1.0", other_version(.found.as_deref()))]
    World {
        /// Another version of the same interface that it exports.
        found: Option<String>,
    },
    /// A function of the contract is missing or has another type.
    #[error("its {interface} is not the one of this router: {reason}; build it again with this router's WIT package")]
    Signature {
        /// The interface.
        interface: String,
        /// What does not fit.
        reason: String,
    },
    /// An import that nobody provides.
    #[error(
        "it imports {0}, which a plugin can't have; build it without, or for WASI 0.2 if it comes from a newer WASI"
    )]
    Import(String),
    /// An import with another type than the one that is provided.
    #[error("its imports do not fit: {0}; build it again with this router's WIT package")]
    ImportType(String),
    /// There is no such grant.
    #[error("there is no grant {0:?}; there are clock, random, stdout, and env:NAME")]
    Grant(String),
    /// A granted variable is not set.
    #[error("it is granted the environment variable {0}, which is not set, or not UTF-8; set it, or remove the grant")]
    Environment(String),
    /// A limit is larger than what the sandbox was set up for.
    #[error("its {limit} limit of {asked} is larger than the {most} that the sandbox was set up for")]
    Limit {
        /// `memory` or `table`.
        limit: &'static str,
        /// What the plugin has.
        asked: usize,
        /// What there is.
        most: usize,
    },
    /// Its memory is larger than its limit before it has run.
    #[error("it has {has} bytes of linear memory from the start, and its memory limit is {limit}; raise limits.memory")]
    Memory {
        /// Bytes that it has.
        has: u64,
        /// Its limit, in bytes.
        limit: usize,
    },
    /// The host can't make an instance.
    #[error("there is no room for an instance: {0}; fewer workers or plugins, or smaller limits, would need less")]
    NoRoom(String),
    /// Its start-up code failed, or it needs more from the start than its limits.
    #[error("it can't be instantiated: {0}; correct the plugin, or raise its limits")]
    Instantiate(Fault),
    /// `configure` did not return cleanly.
    #[error("its configure function failed: {0}; correct the plugin, its config, or its limits")]
    Configure(Fault),
    /// `configure` said no.
    #[error("it refuses its configuration: {0}; correct its config")]
    Refused(String),
}

fn other_version(found: Option<&str>) -> String {
    found.map(|found| format!(", but {found}")).unwrap_or_default()
}

impl From<StartError> for LoadErrorReason {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NoRoom(reason) => Self::NoRoom(reason),
            StartError::Instantiate(fault) => Self::Instantiate(fault),
            StartError::Signature(reason) => Self::Signature { interface: "interface".into(), reason },
            StartError::Configure(fault) => Self::Configure(fault),
            StartError::Refused(message) => Self::Refused(message),
        }
    }
}

impl From<GrantError> for LoadErrorReason {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::Unknown(grant) => Self::Grant(grant),
            GrantError::Unset(name) => Self::Environment(name),
        }
    }
}

impl Sandbox {
    /// Reads, checks, compiles and links a plugin, and makes one instance of it on trial, which must accept its
    /// configuration. What the trial's instance logs is logged; what it counts is not kept.
    ///
    /// Takes seconds for a large component that is not in the cache, and as long as its author wants for a hostile one:
    /// compiling is not bounded, in time or memory, but by the size of the file, and can take minutes. Compile a plugin
    /// that you do not trust at all somewhere else first.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, spec: &PluginSpec) -> Result<LoadedPlugin, LoadError> {
        self.try_load(spec).map_err(|reason| LoadError {
            plugin: Arc::clone(&spec.name),
            path: spec.component.clone(),
            reason,
        })
    }

    fn try_load(&self, spec: &PluginSpec) -> Result<LoadedPlugin, LoadErrorReason> {
        self.check_limits(&spec.limits)?;
        let grants = Grants::resolve(&spec.grants, |name| std::env::var(name).ok())?;
        let (bytes, digest) = read_pinned(&spec.component, spec.sha256)?;
        let component = self.compile(&bytes, digest)?;
        let plugin = LoadedPlugin {
            name: Arc::clone(&spec.name),
            digest,
            config: spec.config.clone(),
            limits: spec.limits.clone(),
            grants: Arc::new(grants),
            door: self.link(&component)?,
            meter: Arc::default(),
        };
        // The trial's instance is not kept: which thread will need one first is not known yet.
        Instance::start(&plugin, 0)?.hear(&plugin, &mut Heard::default(), 0);
        Ok(plugin)
    }

    /// Looks at a plugin as [`load`](Self::load) does, but makes no instance, and does not ask the environment for what is
    /// granted: so it says of a component what another machine would, too.
    ///
    /// # Errors
    /// [`LoadError`], of all that can be known without running it. Memory that it has from the start counts against its
    /// limit.
    pub fn examine(&self, spec: &PluginSpec) -> Result<Inspection, LoadError> {
        self.try_examine(spec).map_err(|reason| LoadError {
            plugin: Arc::clone(&spec.name),
            path: spec.component.clone(),
            reason,
        })
    }

    fn try_examine(&self, spec: &PluginSpec) -> Result<Inspection, LoadErrorReason> {
        let (bytes, digest) = read_pinned(&spec.component, spec.sha256)?;
        let component = self.compile(&bytes, digest)?;
        self.link(&component)?;
        let inspection = self.describe(&bytes, digest, &component)?;
        if inspection.memory_bytes > spec.limits.memory_bytes as u64 {
            return Err(LoadErrorReason::Memory { has: inspection.memory_bytes, limit: spec.limits.memory_bytes });
        }
        Ok(inspection)
    }

    fn check_limits(&self, limits: &Limits) -> Result<(), LoadErrorReason> {
        let checks =
            [("memory", limits.memory_bytes, self.memory_bytes), ("table", limits.table_elements, self.table_elements)];
        match checks.into_iter().find(|(_, asked, most)| asked > most) {
            Some((limit, asked, most)) => Err(LoadErrorReason::Limit { limit, asked, most }),
            None => Ok(()),
        }
    }

    /// Compiles, or takes from the cache.
    pub(crate) fn compile(&self, bytes: &[u8], digest: Digest) -> Result<Component, LoadErrorReason> {
        if !bytes.starts_with(MAGIC) {
            return Err(LoadErrorReason::NotWasm);
        }
        if bytes[MAGIC.len()..].starts_with(CORE_MODULE) {
            return Err(LoadErrorReason::CoreModule);
        }
        if let Some(component) = self.cache.as_ref().and_then(|cache| cache.get(&self.engine, digest)) {
            return Ok(component);
        }
        nesting::check(bytes)?;
        let component = Component::from_binary(&self.engine, bytes)
            .map_err(|error| LoadErrorReason::Malformed(format!("{error:#}")))?;
        if let Some(cache) = &self.cache {
            cache.put(digest, &component);
        }
        Ok(component)
    }

    fn link(&self, component: &Component) -> Result<DoorPre, LoadErrorReason> {
        let exported = door::exported(&self.engine, component);
        if let Some(found) = exported.as_ref().filter(|found| !door::is_callable(found)) {
            return Err(LoadErrorReason::World { found: Some(found.clone()) });
        }
        let mut linker = Linker::new(&self.engine);
        self.link_imports(&mut linker, component)?;
        let pre =
            linker.instantiate_pre(component).map_err(|error| LoadErrorReason::ImportType(format!("{error:#}")))?;
        // What it imports is told first.
        let name = exported.ok_or(LoadErrorReason::World { found: None })?;
        DoorPre::of(&name, pre)
            .map_err(|error| LoadErrorReason::Signature { interface: name, reason: format!("{error:#}") })
    }

    /// Provides what the component imports, and nothing else.
    fn link_imports(&self, linker: &mut Linker<Guest>, component: &Component) -> Result<(), LoadErrorReason> {
        let misfit = |error: wasmtime::Error| LoadErrorReason::ImportType(format!("{error:#}"));
        let ty = component.component_type();
        for (name, import) in ty.imports(&self.engine) {
            match (stand_in::provision(name), import.ty) {
                (Some(Provision::Host), _) => {}
                (Some(_), ComponentItem::ComponentInstance(declared)) => {
                    let mut instance = linker.instance(name).map_err(misfit)?;
                    stand_in::link(&self.engine, &mut instance, name, &declared).map_err(misfit)?;
                }
                _ => return Err(LoadErrorReason::Import(name.into())),
            }
        }
        types::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest).map_err(misfit)?;
        linker.instance(HOST).and_then(|mut host| link_host(&mut host)).map_err(misfit)
    }
}

/// Reads a component file, up to the limit.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadErrorReason> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| {
            // Room at once, where the size is known: what grows is copied.
            let size = file.metadata()?.len().min(COMPONENT_MAX_BYTES);
            bytes.reserve_exact(usize::try_from(size).unwrap_or(0).saturating_add(1));
            file.take(COMPONENT_MAX_BYTES + 1).read_to_end(&mut bytes)
        })
        .map_err(LoadErrorReason::Read)?;
    if bytes.len() as u64 > COMPONENT_MAX_BYTES {
        return Err(LoadErrorReason::TooLarge);
    }
    Ok(bytes)
}

/// Reads a component file that must have this digest, if any.
fn read_pinned(path: &Path, sha256: Option<Digest>) -> Result<(Vec<u8>, Digest), LoadErrorReason> {
    let bytes = read(path)?;
    let actual = Digest::of(&bytes);
    match sha256.filter(|pinned| *pinned != actual) {
        Some(pinned) => Err(LoadErrorReason::Pin { pinned, actual }),
        None => Ok((bytes, actual)),
    }
}

/// What every file of WebAssembly begins with.
const MAGIC: &[u8] = b"\0asm";

/// What follows in a core module. In a component, the layer, in the last two bytes, is 1.
const CORE_MODULE: &[u8] = b"\x01\0\0\0";
