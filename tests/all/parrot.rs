//! A guest whose answer is whatever bytes it is told: what a hostile plugin may return, without a toolchain for each.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::event::Event;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{CallError, PluginHost as _, PluginId};
use pointsman_core::record::Headers;
use pointsman_core::verdict::{Patch, Verdict, Verdicts};
use pointsman_wasm::{Limits, PluginSpec, Plugins, Sandbox, SandboxSettings, WorkerPlugins};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Where the answer lies in the guest's memory: for pointers that are to hit something.
pub(crate) const ANSWER_AT: u32 = 65536;

/// Most bytes of an answer; what is beyond is left out.
pub(crate) const ANSWER_MAX: u32 = 65536;

/// Within them a hostile answer shows its worst quickly.
const LIMITS: Limits = Limits {
    memory_bytes: 8 << 20,
    deadline: Duration::from_secs(10),
    output_bytes: 1 << 16,
    output_events: 100,
    table_elements: 100,
};

/// Memory: from 1024 the answer to `configure`, from 65536 that to `process`, from 131072 what the host puts there.
/// `{interface}` is that of the door, `{answer}` copies from what lies at `$events`.
const MODULE: &str = r#"(module
  (import "pointsman:plugin/host@0.1.0" "log" (func (param i32 i32 i32)))
  (import "pointsman:plugin/host@0.1.0" "count" (func (param i32 i32 i64)))
  (memory (export "memory") 16)
  (data (i32.const 1024) "\00\00\00\00\07")
  (global $free (mut i32) (i32.const 131072))
  (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (local.get $at))
  (func (export "{interface}#configure") (param i32 i32) (result i32) (i32.const 1024))
  (func (export "{interface}#process") (param $events i32) {more} (result i32)
    (memory.fill (i32.const 65536) (i32.const 0) (i32.const 65536))
    (memory.copy (i32.const 65536) {answer})
    (i32.const 65536))
  (func (export "cabi_post_{interface}#process") (param i32)
    (global.set $free (i32.const 131072))))"#;

/// By which door the guest answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Door {
    /// An answer is pointer and length of a list.
    Records,
    /// An answer is pointer and length of each of five lists.
    Columns,
}

impl Door {
    const fn world(self) -> &'static str {
        match self {
            Self::Records => "plugin",
            Self::Columns => "columnar-plugin",
        }
    }

    fn module(self) -> String {
        let (interface, more, answer) = match self {
            // Of an event, pointer and length of its value are at 48 and 52.
            Self::Records => (
                "pointsman:plugin/processor@0.1.0",
                "(param i32)",
                "(i32.load offset=48 (local.get $events)) (i32.load offset=52 (local.get $events))",
            ),
            // Of a batch, the pointer to the lengths of values is at 44, that to the bytes at 68.
            Self::Columns => (
                "pointsman:plugin/columns@0.1.0",
                "",
                "(i32.load offset=68 (local.get $events)) (i32.load (i32.load offset=44 (local.get $events)))",
            ),
        };
        MODULE.replace("{interface}", interface).replace("{more}", more).replace("{answer}", answer)
    }

    /// The answer that one event passes: a list with one element, whose first byte is 0.
    fn pass(self) -> Vec<u8> {
        match self {
            Self::Records => words(&[ANSWER_AT + 8, 1]),
            Self::Columns => words(&[ANSWER_AT + 40, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        }
    }
}

/// A worker with such a guest.
pub(crate) struct Parrot {
    door: Door,
    worker: WorkerPlugins,
}

impl Parrot {
    /// Makes the component and loads it.
    pub(crate) fn new(door: Door) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let component = folder.path().join("parrot.wasm");
        fs::write(&component, make_component(door)?)?;
        let sandbox = Sandbox::new(&SandboxSettings {
            workers: NonZeroUsize::MIN,
            plugins: 1,
            memory_bytes: LIMITS.memory_bytes,
            table_elements: LIMITS.table_elements,
            cache: None,
        })?;
        let spec = PluginSpec {
            name: Arc::from("parrot"),
            component,
            sha256: None,
            config: "{}".into(),
            limits: LIMITS,
            grants: Vec::new(),
        };
        Ok(Self { door, worker: Plugins::new(vec![sandbox.load(&spec)?]).worker() })
    }

    /// Has the guest answer with `bytes` to `events` events.
    pub(crate) fn answer(&mut self, events: usize, bytes: &[u8]) -> Result<Vec<Verdict>, CallError> {
        let event = |offset: i64, value| Event {
            topic: "orders",
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some(value),
            headers: Headers::NONE,
            attempt: 1,
        };
        let bytes = &bytes[..bytes.len().min(ANSWER_MAX as usize)];
        let rest = (1..events).map(|offset| event(offset as i64, &b"-"[..]));
        let batch: Vec<Event<'_>> = std::iter::once(event(0, bytes)).chain(rest).collect();
        self.worker.call(PluginId(0), &batch, 0).map(Verdicts::into_vec)
    }

    /// Whatever the bytes: an answer within the limits, or a failure that blames the guest; and the next call is served.
    ///
    /// # Panics
    /// When that does not hold.
    pub(crate) fn survive(&mut self, events: usize, bytes: &[u8]) {
        match self.answer(events, bytes) {
            Ok(verdicts) => {
                assert_eq!(verdicts.len(), events, "one verdict for each event");
                let emitted: usize = verdicts.iter().map(emitted).sum();
                assert!(emitted <= LIMITS.output_events, "{emitted} events are emitted");
                let held: usize = verdicts.iter().map(held).sum();
                assert!(held <= LIMITS.output_bytes, "{held} bytes are held");
            }
            Err(CallError::Guest { class, message, .. }) => {
                let ours = [FailureClass::Trap, FailureClass::Memory, FailureClass::BadOutput];
                assert!(ours.contains(&class), "an answer can't be a failure of class {class}: {message}");
                assert!(message.contains("parrot"), "the message names the plugin: {message}");
            }
            Err(CallError::Unavailable { message }) => panic!("the host is not to blame: {message}"),
        }
        assert_eq!(self.answer(1, &self.door.pass()), Ok(vec![Verdict::Pass]), "the next call finds a clean instance");
    }
}

/// Little-endian words, as WebAssembly's memory has them.
pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn emitted(verdict: &Verdict) -> usize {
    if let Verdict::Emit(outputs) = verdict { outputs.len() } else { 0 }
}

/// Bytes that the host holds of a verdict.
fn held(verdict: &Verdict) -> usize {
    let patch = |patch: &Patch| if let Patch::Set(bytes) = patch { bytes.len() } else { 0 };
    match verdict {
        Verdict::Pass => 0,
        Verdict::Drop { reason } | Verdict::Retry { reason, .. } => reason.len(),
        Verdict::Reject { code, message } => code.len() + message.len(),
        Verdict::Emit(outputs) => outputs.iter().map(|output| patch(&output.key) + patch(&output.value)).sum(),
    }
}

fn make_component(door: Door) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("pointsman.wit", include_str!("../../wit/pointsman.wit"))?;
    let world = resolve.select_world(&[package], Some(door.world()))?;
    let mut module = wat::parse_str(door.module())?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}
