//! Stand-ins for WASI 0.2: what the runtimes of other languages import, and may not have.
//!
//! The clock stands at the batch's time, random is a fixed stream per plugin, the environment is empty, and what is
//! written to the standard output is discarded, unless the plugin is granted the real thing. Files, sockets and HTTP are
//! denied: their functions exist, so that a component links, and trap. Nothing here waits, grants or not: every pollable
//! is ready at once, so that a guest can't hold its worker in a wait, which costs no CPU time and so has no deadline.
//!
//! Of a stand-in two numbers outlive a call, for as long as their instance lives: the position in the random stream, and
//! the monotonic clock, which runtimes want never to go back. There is nothing that a guest could make grow.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use wasmtime::component::LinkerInstance;
use wasmtime::component::{
    ComponentType, Lower, Resource, ResourceType, WasmList, types::ComponentInstance, types::ComponentItem,
};
use wasmtime::{Engine, StoreContextMut};

use crate::fault::Denial;
use crate::guest::Guest;
use crate::said::{Level, head};
use crate::spec::Grants;

/// Most random bytes that a guest may ask for at once. Runtimes ask for a few dozen, to seed their own generators.
pub(crate) const RANDOM_MAX_BYTES: u64 = 64 << 10;

/// What an output stream takes at once, in bytes.
const WRITE_BYTES: u64 = 4096;

/// Bytes told of the name of a denied function, which is the plugin's own invention: it goes with each record that failed.
const NAME_BYTES: usize = 128;

/// How an imported interface is provided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provision {
    /// By the router: it is part of the plugin contract.
    Host,
    /// By a stand-in.
    StandIn {
        /// The grant that gives the real thing in its place, where there is one; `env:NAME` for the environment.
        grant: Option<&'static str>,
        /// What a plugin finds there without the grant, as a noun.
        is: &'static str,
    },
    /// By functions that trap.
    Denied,
}

impl Provision {
    /// The grant that would put the real thing in place of a stand-in, where there is one and it is not among `grants`.
    #[must_use]
    pub fn lacks(self, grants: &[String]) -> Option<&'static str> {
        let Self::StandIn { grant: Some(grant), .. } = self else { return None };
        let granted = |given: &String| match grant.split_once(':') {
            Some((kind, _)) => given.split_once(':').is_some_and(|(given, _)| given == kind),
            None => given == grant,
        };
        (!grants.iter().any(granted)).then_some(grant)
    }
}

/// How `import` is provided; `None` where it isn't, and the component can't be loaded.
pub(crate) fn provision(import: &str) -> Option<Provision> {
    let stand_in = |grant, is| Some(Provision::StandIn { grant, is });
    match import.split_once('@') {
        Some((interface, "0.1.0")) if interface.starts_with("pointsman:plugin/") => match interface {
            "pointsman:plugin/host" | "pointsman:plugin/types" => Some(Provision::Host),
            _ => None,
        },
        Some((interface, version)) if version.starts_with("0.2.") => match interface.split_once('/')? {
            ("wasi:clocks", "monotonic-clock") => {
                stand_in(Some("clock"), "a clock that goes on by a microsecond with each reading")
            }
            ("wasi:clocks", _) => stand_in(Some("clock"), "a clock that stands at the time of the batch"),
            ("wasi:random", _) => stand_in(Some("random"), "a fixed stream of bytes, the same for every instance"),
            ("wasi:cli", "environment") => stand_in(Some("env:NAME"), "an empty environment"),
            ("wasi:cli", "stdout" | "stderr") => stand_in(Some("stdout"), "an output that is discarded"),
            ("wasi:cli", "stdin") => stand_in(None, "an input without a byte"),
            ("wasi:cli", "exit") => stand_in(None, "an end of the call, as a trap"),
            ("wasi:cli", _) => stand_in(None, "no terminal"),
            ("wasi:io", _) => stand_in(None, "streams and waits that never take any time"),
            ("wasi:filesystem", "preopens") => stand_in(None, "no folder"),
            ("wasi:filesystem" | "wasi:sockets" | "wasi:http", _) => Some(Provision::Denied),
            _ => None,
        },
        _ => None,
    }
}

/// The state of an instance's stand-ins.
pub(crate) struct StandIns {
    grants: Arc<Grants>,
    now_ms: i64,
    monotonic_ns: u64,
    random: FixedStream,
}

impl StandIns {
    pub(crate) fn new(grants: Arc<Grants>, seed: [u8; 32]) -> Self {
        Self { grants, now_ms: 0, monotonic_ns: 0, random: FixedStream { seed, block: 0 } }
    }

    /// Sets the clock to the time of a batch, in milliseconds since 1970-01-01 UTC.
    pub(crate) fn set_time(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    fn wall(&self) -> Duration {
        if self.grants.clock {
            // A clock before 1970 is shown as 1970: the interface has no sign.
            return SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        }
        Duration::from_millis(u64::try_from(self.now_ms).unwrap_or(0))
    }

    /// The stand-in of the monotonic clock goes on by a microsecond at each reading: a guest that spins on it gets done.
    fn monotonic(&mut self) -> u64 {
        if self.grants.clock {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let time = Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0));
            return u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        }
        self.monotonic_ns += 1000;
        self.monotonic_ns
    }

    fn random(&mut self, bytes: u64) -> wasmtime::Result<Vec<u8>> {
        if bytes > RANDOM_MAX_BYTES {
            return Err(Denial::Random(bytes).into());
        }
        let mut random = vec![0; usize::try_from(bytes)?];
        if self.grants.random {
            let mut filled = 0;
            while filled < random.len() {
                filled += rustix::rand::getrandom(&mut random[filled..], rustix::rand::GetRandomFlags::empty())
                    .map_err(Denial::NoRandom)?;
            }
        } else {
            self.random.fill(&mut random);
        }
        Ok(random)
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        let bytes = self.random(8)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// SHA-256 of a seed and a counter: the same stream for every instance of a plugin.
struct FixedStream {
    seed: [u8; 32],
    block: u64,
}

impl FixedStream {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let block: [u8; 32] =
                Sha256::new().chain_update(self.seed).chain_update(self.block.to_le_bytes()).finalize().into();
            self.block = self.block.wrapping_add(1);
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

/// Kinds of handles. Their numbers say nothing, except of an output stream: whether it is the standard error.
enum Pollable {}
enum InputStream {}
enum OutputStream {}
enum IoError {}
enum Descriptor {}
enum TerminalInput {}
enum TerminalOutput {}
/// Every kind of handle of a denied interface: none is ever made.
enum Denied {}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[expect(dead_code, reason = "part of the interface; no stand-in fails this way")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

type Stream<T> = Result<T, StreamError>;
type Instance<'a> = LinkerInstance<'a, Guest>;
type Store<'a> = StoreContextMut<'a, Guest>;

/// Provides one interface of WASI 0.2, as the component declares it. `import` is its full name.
pub(crate) fn link(
    engine: &Engine,
    linker: &mut Instance<'_>,
    import: &str,
    declared: &ComponentInstance,
) -> wasmtime::Result<()> {
    let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
    for (name, item) in declared.exports(engine) {
        match item.ty {
            ComponentItem::Resource(_) => linker.resource(name, resource(name), |_, _| Ok(()))?,
            ComponentItem::ComponentFunc(_) => {
                let linked = match interface.split_once('/') {
                    Some(("wasi:cli", interface)) => cli(linker, interface, name)?,
                    Some(("wasi:clocks", interface)) => clocks(linker, interface, name)?,
                    Some(("wasi:random", interface)) => random(linker, interface, name)?,
                    Some(("wasi:io", "poll")) => poll(linker, name)?,
                    Some(("wasi:io", "streams")) => input(linker, name)? || output(linker, name)?,
                    Some(("wasi:filesystem", "preopens")) => preopens(linker, name)?,
                    _ => false,
                };
                if !linked {
                    let denied = head(&format!("{interface}.{name}"), NAME_BYTES).to_owned();
                    linker.func_new(name, move |_, _, _, _| Err(Denial::Import(denied.clone()).into()))?;
                }
            }
            // Types need nothing from the host.
            _ => {}
        }
    }
    Ok(())
}

/// The kind of a handle. Names of resources are unique in WASI 0.2, and an interface that uses another's gets the same
/// kind.
fn resource(name: &str) -> ResourceType {
    match name {
        "pollable" => ResourceType::host::<Pollable>(),
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "error" => ResourceType::host::<IoError>(),
        "descriptor" => ResourceType::host::<Descriptor>(),
        "terminal-input" => ResourceType::host::<TerminalInput>(),
        "terminal-output" => ResourceType::host::<TerminalOutput>(),
        _ => ResourceType::host::<Denied>(),
    }
}

fn cli(linker: &mut Instance<'_>, interface: &str, name: &str) -> wasmtime::Result<bool> {
    match (interface, name) {
        ("environment", "get-environment") => {
            linker.func_wrap(name, |store: Store<'_>, ()| Ok((store.data().stand_ins.grants.environment.clone(),)))?
        }
        ("environment", "get-arguments") => linker.func_wrap(name, |_: Store<'_>, ()| Ok((Vec::<String>::new(),)))?,
        ("environment", "initial-cwd") => linker.func_wrap(name, |_: Store<'_>, ()| Ok((None::<String>,)))?,
        ("exit", "exit") => {
            linker.func_wrap(name, |_: Store<'_>, (_,): (Result<(), ()>,)| Err::<(), _>(Denial::Exit.into()))?
        }
        ("stdin", "get-stdin") => {
            linker.func_wrap(name, |_: Store<'_>, ()| Ok((Resource::<InputStream>::new_own(0),)))?;
        }
        ("stdout", "get-stdout") => {
            linker.func_wrap(name, |_: Store<'_>, ()| Ok((Resource::<OutputStream>::new_own(0),)))?;
        }
        ("stderr", "get-stderr") => {
            linker.func_wrap(name, |_: Store<'_>, ()| Ok((Resource::<OutputStream>::new_own(1),)))?;
        }
        ("terminal-stdin", "get-terminal-stdin") => {
            linker.func_wrap(name, |_: Store<'_>, ()| Ok((None::<Resource<TerminalInput>>,)))?;
        }
        ("terminal-stdout", "get-terminal-stdout") | ("terminal-stderr", "get-terminal-stderr") => {
            linker.func_wrap(name, |_: Store<'_>, ()| Ok((None::<Resource<TerminalOutput>>,)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn clocks(linker: &mut Instance<'_>, interface: &str, name: &str) -> wasmtime::Result<bool> {
    match (interface, name) {
        ("wall-clock", "now") => linker.func_wrap(name, |store: Store<'_>, ()| {
            let now = store.data().stand_ins.wall();
            Ok((Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() },))
        })?,
        ("wall-clock", "resolution") => {
            linker.func_wrap(name, |_: Store<'_>, ()| Ok((Datetime { seconds: 0, nanoseconds: 1_000_000 },)))?;
        }
        ("monotonic-clock", "now") => {
            linker.func_wrap(name, |mut store: Store<'_>, ()| Ok((store.data_mut().stand_ins.monotonic(),)))?;
        }
        ("monotonic-clock", "resolution") => linker.func_wrap(name, |_: Store<'_>, ()| Ok((1000_u64,)))?,
        ("monotonic-clock", "subscribe-instant" | "subscribe-duration") => {
            linker.func_wrap(name, |_: Store<'_>, (_,): (u64,)| Ok((Resource::<Pollable>::new_own(0),)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn random(linker: &mut Instance<'_>, interface: &str, name: &str) -> wasmtime::Result<bool> {
    match (interface, name) {
        ("random", "get-random-bytes") | ("insecure", "get-insecure-random-bytes") => linker
            .func_wrap(name, |mut store: Store<'_>, (bytes,): (u64,)| {
                Ok((store.data_mut().stand_ins.random(bytes)?,))
            })?,
        ("random", "get-random-u64") | ("insecure", "get-insecure-random-u64") => {
            linker.func_wrap(name, |mut store: Store<'_>, ()| Ok((store.data_mut().stand_ins.random_u64()?,)))?;
        }
        ("insecure-seed", "insecure-seed") => linker.func_wrap(name, |mut store: Store<'_>, ()| {
            let stand_ins = &mut store.data_mut().stand_ins;
            Ok(((stand_ins.random_u64()?, stand_ins.random_u64()?),))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Everything is ready, always.
fn poll(linker: &mut Instance<'_>, name: &str) -> wasmtime::Result<bool> {
    match name {
        "[method]pollable.ready" => {
            linker.func_wrap(name, |_: Store<'_>, (_,): (Resource<Pollable>,)| Ok((true,)))?;
        }
        "[method]pollable.block" => linker.func_wrap(name, |_: Store<'_>, (_,): (Resource<Pollable>,)| Ok(()))?,
        "poll" => linker.func_wrap(name, |_: Store<'_>, (pollables,): (WasmList<Resource<Pollable>>,)| {
            Ok(((0..u32::try_from(pollables.len())?).collect::<Vec<_>>(),))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The standard input is at its end.
fn input(linker: &mut Instance<'_>, name: &str) -> wasmtime::Result<bool> {
    type This = Resource<InputStream>;
    match name {
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => linker
            .func_wrap(name, |_: Store<'_>, (_, _): (This, u64)| Ok((Stream::<Vec<u8>>::Err(StreamError::Closed),)))?,
        "[method]input-stream.skip" | "[method]input-stream.blocking-skip" => linker
            .func_wrap(name, |_: Store<'_>, (_, _): (This, u64)| Ok((Stream::<u64>::Err(StreamError::Closed),)))?,
        "[method]input-stream.subscribe" => {
            linker.func_wrap(name, |_: Store<'_>, (_,): (This,)| Ok((Resource::<Pollable>::new_own(0),)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The standard output and error take everything; with the grant it becomes log lines.
fn output(linker: &mut Instance<'_>, name: &str) -> wasmtime::Result<bool> {
    type This = Resource<OutputStream>;
    match name {
        "[method]output-stream.check-write" => {
            linker.func_wrap(name, |_: Store<'_>, (_,): (This,)| Ok((Stream::<u64>::Ok(WRITE_BYTES),)))?;
        }
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => {
            linker.func_wrap(name, |mut store: Store<'_>, (stream, bytes): (This, WasmList<u8>)| {
                if store.data().stand_ins.grants.stdout {
                    let level = if stream.rep() == 0 { Level::Info } else { Level::Warn };
                    let taken = usize::try_from(WRITE_BYTES)?.min(bytes.len());
                    let text = String::from_utf8_lossy(&bytes.as_le_slice(&store)[..taken]).into_owned();
                    text.lines().for_each(|line| store.data_mut().said.line(level, line));
                }
                Ok((Stream::<()>::Ok(()),))
            })?;
        }
        "[method]output-stream.write-zeroes" | "[method]output-stream.blocking-write-zeroes-and-flush" => {
            linker.func_wrap(name, |_: Store<'_>, (_, _): (This, u64)| Ok((Stream::<()>::Ok(()),)))?;
        }
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => {
            linker.func_wrap(name, |_: Store<'_>, (_,): (This,)| Ok((Stream::<()>::Ok(()),)))?;
        }
        "[method]output-stream.subscribe" => {
            linker.func_wrap(name, |_: Store<'_>, (_,): (This,)| Ok((Resource::<Pollable>::new_own(0),)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// No folder is open.
fn preopens(linker: &mut Instance<'_>, name: &str) -> wasmtime::Result<bool> {
    if name == "get-directories" {
        linker.func_wrap(name, |_: Store<'_>, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),)))?;
        return Ok(true);
    }
    Ok(false)
}
