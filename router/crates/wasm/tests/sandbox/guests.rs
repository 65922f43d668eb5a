//! Components made from WebAssembly text, so that a test can do what no compiler would.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::event::Event;
use pointsman_core::port::{CallError, PluginHost, PluginId};
use pointsman_core::record::Headers;
use pointsman_core::verdict::{Verdict, Verdicts};
use pointsman_wasm::{
    Limits, LoadError, LoadErrorReason, LoadedPlugin, PluginSpec, Plugins, Sandbox, SandboxSettings, WorkerPlugins,
};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract.
pub const WIT: &str = include_str!("../../../../../wit/pointsman.wit");

/// The plugin that every test has.
pub const PLUGIN: PluginId = PluginId(0);

/// A guest, as text. Fields are WebAssembly text for their places in [`Guest::module`].
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Further imports.
    pub imports: &'a str,
    /// Further globals, functions, tables and data.
    pub items: &'a str,
    /// Body of `configure`: `$config` and `$length` are its text. Leaves a pointer to the result.
    pub configure: &'a str,
    /// Body of `process`: `$events` and `$count` are its list. Leaves a pointer to the answer.
    pub process: &'a str,
}

/// A guest that passes everything.
pub const PASS: Guest<'static> =
    Guest { imports: "", items: "", configure: "(i32.const 2048)", process: "(call $pass (local.get $count))" };

impl Guest<'_> {
    /// The core module. Its memory: 1024 the answer's list, 2048 the result of `configure` (a zero is "accepted"), from
    /// 4096 the verdicts of 32 bytes each (a zero is "pass"), 60000 scratch, from 65536 what the host puts there.
    fn module(&self) -> String {
        let Self { imports, items, configure, process } = self;
        format!(
            r#"(module
  (import "pointsman:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "pointsman:plugin/host@0.1.0" "count" (func $count (param i32 i32 i64)))
  {imports}
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  {items}
  (func $answer (param $list i32) (param $length i32) (result i32)
    (i32.store (i32.const 1024) (local.get $list))
    (i32.store (i32.const 1028) (local.get $length))
    (i32.const 1024))
  (func $pass (param $count i32) (result i32) (call $answer (i32.const 4096) (local.get $count)))
  (func $realloc (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $room
      (loop $grow
        (br_if $room (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
      (unreachable))
    (local.get $at))
  (func (export "pointsman:plugin/processor@0.1.0#configure") (param $config i32) (param $length i32) (result i32)
    {configure})
  (func (export "pointsman:plugin/processor@0.1.0#process") (param $events i32) (param $count i32) (result i32)
    {process})
  (func (export "cabi_post_pointsman:plugin/processor@0.1.0#process") (param i32)
    (global.set $free (i32.const 65536))))"#
        )
    }

    /// The core module, as a compiler leaves it.
    pub fn core(&self) -> Vec<u8> {
        wat::parse_str(self.module()).unwrap()
    }

    /// The component of the plugin world.
    pub fn component(&self) -> Vec<u8> {
        componentize(&self.module(), &[WIT], "plugin")
    }

    /// The component of a world that is told in WIT text, beside the contract.
    pub fn component_of(&self, wit: &str) -> Vec<u8> {
        componentize(&self.module(), &[WIT, wit], "plugin")
    }
}

/// A component of the world that the last of the WIT texts has; with the usual adapter, if the module imports preview 1 of
/// WASI as most toolchains' do.
pub fn componentize(text: &str, wit: &[&str], world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = wit.iter().map(|text| resolve.push_str("test.wit", text).unwrap()).last().unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(text).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true);
    if text.contains(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME) {
        encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER).unwrap();
    }
    encoder.module(&module).unwrap().encode().unwrap()
}

/// Limits that the tests can reach quickly.
pub fn limits() -> Limits {
    Limits {
        memory_bytes: 8 << 20,
        deadline: Duration::from_secs(10),
        output_bytes: 1 << 20,
        output_events: 100,
        table_elements: 1000,
    }
}

/// What the sandbox of the tests is sized by.
pub fn settings() -> SandboxSettings {
    SandboxSettings {
        workers: NonZeroUsize::new(2).unwrap(),
        plugins: 2,
        memory_bytes: 64 << 20,
        table_elements: 10_000,
        cache: None,
    }
}

/// A sandbox with one plugin file.
pub struct Bench {
    /// Holds the file; removed with this.
    _folder: TempDir,
    /// The plugin as it is loaded; tests change it.
    pub spec: PluginSpec,
    /// The sandbox.
    pub sandbox: Sandbox,
}

impl Bench {
    pub fn new(component: &[u8]) -> Self {
        Self::with(component, &settings())
    }

    pub fn with(component: &[u8], settings: &SandboxSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "plugin.wasm", component);
        let spec = PluginSpec {
            name: Arc::from("judge"),
            component: path,
            sha256: None,
            config: "{}".into(),
            limits: limits(),
            grants: Vec::new(),
        };
        Self { _folder: folder, spec, sandbox: Sandbox::new(settings).unwrap() }
    }

    pub fn load(&self) -> Result<LoadedPlugin, LoadError> {
        self.sandbox.load(&self.spec)
    }

    pub fn refusal(&self) -> LoadErrorReason {
        self.load().err().expect("the plugin must not load").reason
    }

    /// A worker with this plugin.
    pub fn worker(&self) -> WorkerPlugins {
        Plugins::new(vec![self.load().unwrap()]).worker()
    }
}

pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A worker with this guest, within [`limits`].
pub fn worker(guest: Guest<'_>) -> WorkerPlugins {
    Bench::new(&guest.component()).worker()
}

/// An event at an offset, with this value.
pub fn event(offset: i64, value: &[u8]) -> Event<'_> {
    Event {
        topic: "orders",
        partition: 3,
        offset,
        timestamp_ms: 1_790_000_000_000,
        key: Some(b"key"),
        value: Some(value),
        headers: Headers::NONE,
        attempt: 1,
    }
}

/// Calls the plugin with three events.
pub fn call(worker: &mut WorkerPlugins) -> Result<Vec<Verdict>, CallError> {
    worker.call(PLUGIN, &[event(0, b"a"), event(1, b"b"), event(2, b"c")], 0).map(Verdicts::into_vec)
}

/// Calls the plugin with one event at this offset.
pub fn call_at(worker: &mut WorkerPlugins, offset: i64) -> Result<Vec<Verdict>, CallError> {
    worker.call(PLUGIN, &[event(offset, b"a")], 0).map(Verdicts::into_vec)
}

/// CPU time that this thread has used.
pub fn thread_cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// Class and code of a failed call.
pub fn fault<T: Debug>(answer: Result<T, CallError>) -> (&'static str, String) {
    match answer {
        Err(CallError::Guest { class, code, .. }) => (class.name(), code),
        other => panic!("the guest must fail: {other:?}"),
    }
}
