//! The engine: wasmtime's settings, and the thread that ticks its epochs.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use thiserror::Error;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy, WasmFeatures,
};

use crate::cache::Cache;

/// How often a running guest's CPU time is compared with its deadline: a call may exceed it by about this much.
pub const TICK: Duration = Duration::from_millis(5);

/// Native stack that a guest may use, in bytes. A worker thread needs this much beside what the host's own code uses.
pub const STACK_BYTES: usize = 512 << 10;

/// Most core instances, linear memories and tables of one component: runtimes of other languages bring several modules,
/// adapters among them.
const CORE_INSTANCES: u32 = 64;
const MEMORIES: u32 = 2;
const TABLES: u32 = 8;
/// Bytes of wasmtime's own bookkeeping for one instance: a module with tens of thousands of functions needs some.
const INSTANCE_BYTES: usize = 4 << 20;

/// So much of the memory of an instance that has ended is cleared by us and kept for the next one: to give it back to the
/// system interrupts all threads, and has the next one fault for each page.
const KEPT_BYTES: usize = 512 << 10;
/// Most frames of a guest's stack that are logged where it trapped.
const BACKTRACE_FRAMES: Option<NonZeroUsize> = NonZeroUsize::new(20);

/// Address space for one linear memory: with 4 GiB and a guard, a 32-bit access needs no bounds check.
const RESERVATION: u64 = 4 << 30;
/// Unmapped space after each linear memory.
const GUARD: u64 = 32 << 20;
/// Address space that the pool may take: a quarter of what a process on x86-64 has.
const ADDRESS_SPACE: u64 = 1 << 45;

/// What components may use of WebAssembly: what LLVM and its like emit. Whatever else there is, or comes with a later
/// wasmtime, is off (garbage collection, threads, exceptions, stack switching, custom page sizes, async components and so
/// on): each would be more to attack, and the guards above depend on some. Said as a list of what is on, since what
/// wasmtime has on by itself depends on its Cargo features, which any other crate of a build may switch on.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    // A pseudo feature of wasmparser: the types of garbage collection, `externref` among them.
    .difference(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::RELAXED_SIMD)
    // For the modules that wasmtime writes between components that call each other, which copy from one's memory to the
    // other's. The pool refuses a module that defines more than one (`max_memories_per_module`).
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::COMPONENT_MODEL);

/// What the sandbox is sized by.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// Plugins that will be loaded.
    pub plugins: usize,
    /// The largest memory limit of any plugin, in bytes.
    pub memory_bytes: usize,
    /// The largest table limit of any plugin, in elements.
    pub table_elements: usize,
    /// Directory of the precompiled components; `None` compiles at each start. It is made if it is missing, and used
    /// only if nobody but the effective user can write to it.
    pub cache: Option<PathBuf>,
}

/// The sandbox can't be set up.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// wasmtime refused, or the address space for its pool can't be had.
    #[error(
        "can't set up the sandbox for {instances} instances: {reason:#}; \
         fewer workers or plugins, smaller memory limits or a higher limit of address space (ulimit -v) would need less"
    )]
    Engine {
        /// Instances that the pool was to have.
        instances: u32,
        /// wasmtime's error.
        reason: wasmtime::Error,
    },
    /// The thread that interrupts guests can't be started.
    #[error("can't start the thread that watches the deadlines of plugins: {0}; is there a limit on threads?")]
    Ticker(#[source] std::io::Error),
}

/// Compiles plugins and holds what their instances share. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    pub(crate) engine: Engine,
    pub(crate) cache: Option<Cache>,
    pub(crate) memory_bytes: usize,
    pub(crate) table_elements: usize,
}

impl Sandbox {
    /// Sets up the engine, and starts its ticking thread, which ends when the last user of the engine is gone.
    ///
    /// # Errors
    /// [`SandboxError`]. A cache directory that can't be used is no error: it is logged, and nothing is cached.
    pub fn new(settings: &SandboxSettings) -> Result<Self, SandboxError> {
        // One running instance for each worker and plugin, and one more in case of a replacement.
        let instances = settings.workers.get().saturating_mul(settings.plugins.max(1)).saturating_mul(2);
        let instances = u32::try_from(instances).unwrap_or(u32::MAX);
        let engine =
            Engine::new(&config(settings, instances)).map_err(|reason| SandboxError::Engine { instances, reason })?;
        start_ticking(&engine).map_err(SandboxError::Ticker)?;
        let cache = settings.cache.as_deref().and_then(|directory| Cache::open(directory, &engine));
        let SlotSizes { memory_bytes, table_elements } = SlotSizes::of(settings);
        Ok(Self { engine, cache, memory_bytes, table_elements })
    }
}

/// What the pool's slots hold.
struct SlotSizes {
    memory_bytes: usize,
    table_elements: usize,
}

impl SlotSizes {
    fn of(settings: &SandboxSettings) -> Self {
        Self { memory_bytes: settings.memory_bytes.max(1 << 16), table_elements: settings.table_elements.max(1) }
    }
}

/// Every setting that we rely on.
fn config(settings: &SandboxSettings, instances: u32) -> Config {
    let mut config = Config::new();
    config.wasm_features(FEATURES.complement(), false).wasm_features(FEATURES, true);
    // No async functions, so nothing to prepare for them; and no memory that threads share.
    config.concurrency_support(false).shared_memory(false);
    // Machine code as fast as Cranelift makes it: a plugin is compiled once and called for months.
    config.strategy(Strategy::Cranelift).cranelift_opt_level(OptLevel::Speed).parallel_compilation(true);
    // The deadline: compiled code looks at the epoch in loops and calls. Fuel would cost twice as much.
    config.epoch_interruption(true).consume_fuel(false);
    // The same answer on every machine and on every retry.
    config.cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true);
    // Deep recursion is a trap, never an overflow of the worker's own stack.
    config.max_wasm_stack(STACK_BYTES);
    // A new instance is a mapping of the component's initial memory, copied page by page when written to.
    config.memory_init_cow(true);
    // Frames of the guest are of interest to its developer alone, and to find their names costs something at every trap.
    config.wasm_backtrace_max_frames(tracing::enabled!(tracing::Level::DEBUG).then_some(BACKTRACE_FRAMES).flatten());
    // A memory never moves, so that a guest's growth can't cost a copy.
    config.memory_may_move(false).memory_guard_size(GUARD);
    config.memory_reservation(reservation(settings, instances));
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings, instances)));
    config
}

/// 4 GiB for each memory where that fits; else what the largest limit needs, at the price of bounds checks.
fn reservation(settings: &SandboxSettings, instances: u32) -> u64 {
    let memories = u64::from(instances.saturating_mul(MEMORIES));
    let fits = memories.saturating_mul(RESERVATION + GUARD) <= ADDRESS_SPACE;
    if fits { RESERVATION } else { SlotSizes::of(settings).memory_bytes.next_multiple_of(1 << 16) as u64 }
}

/// Bounded totals: a guest that asks for more than its share is refused, and can't take another's.
fn pool(settings: &SandboxSettings, instances: u32) -> PoolingAllocationConfig {
    let sizes = SlotSizes::of(settings);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
        .total_memories(instances.saturating_mul(MEMORIES))
        .total_tables(instances.saturating_mul(TABLES))
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(1)
        .max_tables_per_module(TABLES)
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEPT_BYTES)
        .table_keep_resident(KEPT_BYTES)
        .max_memory_size(sizes.memory_bytes.next_multiple_of(1 << 16))
        .table_elements(sizes.table_elements);
    pool
}

/// Ticks as long as somebody uses the engine.
fn start_ticking(engine: &Engine) -> Result<(), std::io::Error> {
    let engine = engine.weak();
    thread::Builder::new().name("plugin-ticks".into()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            // Not held while asleep, so that the last user frees it.
            drop(engine);
            thread::sleep(TICK);
        }
    })?;
    Ok(())
}
