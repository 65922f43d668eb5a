//! Running plugins: one instance for each worker and plugin.

use std::sync::Arc;

use pointsman_core::event::Event;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{CallError, Cost, PluginHost, PluginId};
use pointsman_core::verdict::Verdicts;
use tracing::debug;
use wasmtime::Store;

use crate::crossing::budget;
use crate::door::{Door, Scratch, Uncrossed};
use crate::fault::{Fault, Panic};
use crate::guest::{Guest, HANDLES};
use crate::load::LoadedPlugin;
use crate::said::{Heard, printable};
use crate::usage::Metered;

/// Bytes kept of the text with which a plugin refuses its configuration.
const REFUSAL_BYTES: usize = 1024;

/// After so many calls an instance that has come to three quarters of its memory limit is not called any more: what grows and
/// grows, as runtimes of some languages do, makes room for the next before a call fails for it. What needs that much at once pays
/// for a start in so many calls.
const CALLS: u32 = 64;

/// The loaded plugins of a plan. Cheap to clone, and shared by the workers.
#[derive(Clone)]
pub struct Plugins(Arc<[LoadedPlugin]>);

impl Plugins {
    /// Puts plugins together. A [`PluginId`] is an index here.
    #[must_use]
    pub fn new(plugins: Vec<LoadedPlugin>) -> Self {
        Self(plugins.into())
    }

    /// The plugin with this id.
    #[must_use]
    pub fn get(&self, plugin: PluginId) -> Option<&LoadedPlugin> {
        self.0.get(usize::try_from(plugin.0).ok()?)
    }

    /// The plugins of one worker. They may be moved to its thread; instances are made there, at their first call.
    #[must_use]
    pub fn worker(&self) -> WorkerPlugins {
        let slots = self.0.iter().map(|_| Slot::default()).collect();
        WorkerPlugins { plugins: self.clone(), slots, scratch: Scratch::default(), cost: None }
    }
}

/// What one worker runs its plugins with.
///
/// An instance is made at a plugin's first call, and again after each call that did not return cleanly (I6), or when it has come near
/// its memory limit. It serves all
/// routes and partitions of its worker, one call at a time: what a plugin remembers of one it can mix into another.
pub struct WorkerPlugins {
    plugins: Plugins,
    slots: Vec<Slot>,
    scratch: Scratch,
    /// Of the last call.
    cost: Option<Cost>,
}

const _: () = {
    const fn assert_send<T: Send>() {}
    const fn assert_shared<T: Send + Sync>() {}
    assert_send::<WorkerPlugins>();
    assert_shared::<Plugins>();
};

#[derive(Default)]
struct Slot {
    instance: Option<Instance>,
    heard: Heard,
}

impl PluginHost for WorkerPlugins {
    fn call(&mut self, plugin: PluginId, events: &[Event<'_>], now_ms: i64) -> Result<Verdicts, CallError> {
        let Self { plugins, slots, scratch, cost } = self;
        let (plugin, slot) = known(plugins, slots, plugin)?;
        let cost = cost.insert(Cost::default());
        let lent = scratch.lent();
        let used = slot.instance.is_some();
        let ended = match slot.call(plugin, scratch, events, now_ms, cost) {
            Err(CallError::Guest { class, .. }) if events.len() == 1 && may_be_innocent(class, used) => {
                slot.call(plugin, scratch, events, now_ms, cost)
            }
            ended => ended,
        };
        cost.bytes_in = scratch.lent() - lent;
        ended
    }

    fn last_cost(&self) -> Option<Cost> {
        self.cost
    }

    /// Of one plugin there are at most 64 names, over its whole life.
    fn take_counts(&mut self, see: &mut dyn FnMut(PluginId, &str, u64)) {
        for (plugin, slot) in (0..).map(PluginId).zip(&mut self.slots) {
            slot.heard.counters.take().for_each(|(name, count)| see(plugin, name, count));
        }
    }
}

impl WorkerPlugins {
    /// Puts a new instance of the plugin in the place of the one that is there, if any, as the next call would after one
    /// that failed. For measuring.
    ///
    /// # Errors
    /// [`CallError::Unavailable`].
    pub fn renew(&mut self, plugin: PluginId, now_ms: i64) -> Result<(), CallError> {
        let (loaded, slot) = known(&self.plugins, &mut self.slots, plugin)?;
        slot.instance = None;
        slot.instance = Some(start(loaded, now_ms)?);
        Ok(())
    }

    /// Linear memory of the plugin's instance here, in bytes; 0 where there is none.
    #[must_use]
    pub fn memory_bytes(&self, plugin: PluginId) -> u64 {
        let slot = usize::try_from(plugin.0).ok().and_then(|index| self.slots.get(index));
        slot.and_then(|slot| slot.instance.as_ref()).map_or(0, |instance| instance.metered.memory_bytes())
    }
}

/// Whether an event that failed alone in its call, on an instance that was used before or not, is run once more. What other events left
/// behind on its instance may be to blame; and for the CPU time of a call, a machine whose host has stopped it for a while: it counts
/// as the thread's own there.
const fn may_be_innocent(class: FailureClass, used: bool) -> bool {
    match class {
        FailureClass::Undecodable => false,
        FailureClass::Deadline => true,
        _ => used,
    }
}

/// The plugin with this id, and what there is of it on this worker.
fn known<'a>(
    plugins: &'a Plugins,
    slots: &'a mut [Slot],
    plugin: PluginId,
) -> Result<(&'a LoadedPlugin, &'a mut Slot), CallError> {
    let slot = usize::try_from(plugin.0).ok().and_then(|index| slots.get_mut(index));
    plugins
        .get(plugin)
        .zip(slot)
        .ok_or_else(|| CallError::Unavailable { message: format!("there is no plugin number {}", plugin.0) })
}

impl Slot {
    /// Calls the plugin, on the instance that the last call left or on a new one.
    fn call(
        &mut self,
        plugin: &LoadedPlugin,
        scratch: &mut Scratch,
        events: &[Event<'_>],
        now_ms: i64,
        cost: &mut Cost,
    ) -> Result<Verdicts, CallError> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => start(plugin, now_ms)?,
        };
        let processed = instance.process(plugin, scratch, events, now_ms);
        cost.tries += 1;
        cost.cpu += instance.store.data().took();
        let (verdicts, bytes_out) = processed.inspect_err(|error| {
            if let CallError::Guest { class, .. } = error {
                plugin.meter().failed(*class);
            }
        })?;
        cost.bytes_out += bytes_out as u64;
        // Only here, after a clean return, is what the call said heard, and its instance kept.
        instance.hear(plugin, &mut self.heard, now_ms);
        let memory_bytes = instance.store.data().limiter.memory_bytes;
        instance.metered.has(memory_bytes);
        instance.calls += 1;
        if instance.calls < CALLS || memory_bytes <= plugin.limits().memory_bytes / 4 * 3 {
            self.instance = Some(instance);
        }
        Ok(verdicts)
    }
}

fn start(plugin: &LoadedPlugin, now_ms: i64) -> Result<Instance, CallError> {
    Instance::start(plugin, now_ms).map_err(|error| CallError::Unavailable { message: error.message(plugin) })
}

fn undecodable(plugin: &LoadedPlugin) -> CallError {
    CallError::Guest {
        class: FailureClass::Undecodable,
        code: "header-name".into(),
        message: format!("plugin {} can't be given a header whose name is not UTF-8", plugin.name()),
        suspect: None,
    }
}

/// Why there is no instance.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The host could not make one: its pool has no room, or the system no memory.
    NoRoom(String),
    /// Its start-up code failed, or it needs more from the start than its limits.
    Instantiate(Fault),
    /// It does not have the functions of the contract, or they have other types.
    Signature(String),
    /// `configure` did not return cleanly.
    Configure(Fault),
    /// `configure` said no.
    Refused(String),
}

impl StartError {
    fn message(&self, plugin: &LoadedPlugin) -> String {
        let name = plugin.name();
        match self {
            Self::NoRoom(reason) => format!("there is no room for an instance of plugin {name}: {reason}"),
            Self::Instantiate(fault) => format!("plugin {name} can't be instantiated: {fault}"),
            Self::Signature(reason) => format!("plugin {name} does not fit the plugin contract: {reason}"),
            Self::Configure(fault) => format!("plugin {name} failed in its configure function: {fault}"),
            Self::Refused(message) => format!("plugin {name} refuses its configuration: {message}"),
        }
    }
}

/// Starts, and once more if that ends by its deadline: the first time on a thread may have to wait for the system to read
/// code and memory in, which costs CPU time of ours, and says nothing of the plugin.
fn again_after_a_deadline<T>(mut start: impl FnMut() -> Result<T, StartError>) -> Result<T, StartError> {
    match start() {
        Err(StartError::Instantiate(fault) | StartError::Configure(fault)) if fault.class == FailureClass::Deadline => {
            start()
        }
        ended => ended,
    }
}

/// A running copy of a plugin.
pub(crate) struct Instance {
    store: Store<Guest>,
    door: Door,
    metered: Metered,
    /// That returned cleanly.
    calls: u32,
}

impl Instance {
    /// Makes an instance and hands it its configuration, all of it within one deadline. What it says meanwhile is not heard:
    /// [`Self::hear`].
    pub(crate) fn start(plugin: &LoadedPlugin, now_ms: i64) -> Result<Self, StartError> {
        again_after_a_deadline(|| Self::try_start(plugin, now_ms))
    }

    fn try_start(plugin: &LoadedPlugin, now_ms: i64) -> Result<Self, StartError> {
        let pre = plugin.door().instance_pre();
        let guest = Guest::new(plugin.limits(), Arc::clone(plugin.grants()), plugin.digest().0);
        let mut store = Store::new(pre.engine(), guest);
        store.limiter(|guest| &mut guest.limiter);
        store.epoch_deadline_callback(|store| store.data().tick());
        store.set_max_component_handles(HANDLES);
        begin(&mut store, plugin, 0, now_ms);
        let instance = pre.instantiate(&mut store).map_err(|error| match fault(&store, plugin, &error) {
            // Nothing has been returned yet that could be malformed: the error is not the guest's.
            Fault { class: FailureClass::BadOutput, .. } => StartError::NoRoom(format!("{error:#}")),
            fault => StartError::Instantiate(fault),
        })?;
        let opened = plugin.door().open(&mut store, &instance);
        let mut door = opened.map_err(|error| StartError::Signature(format!("{error:#}")))?;
        door.configure(&mut store, plugin.config())
            .map_err(|error| StartError::Configure(fault(&store, plugin, &error)))?
            .map_err(|message| StartError::Refused(printable(&message, REFUSAL_BYTES).into_owned()))?;
        let mut metered = Metered::new(Arc::clone(plugin.meter()));
        metered.has(store.data().limiter.memory_bytes);
        Ok(Self { store, door, metered, calls: 0 })
    }

    /// Has what was said in the last call logged and counted. Of a start this is done once, when the plugin is loaded: a
    /// plugin that traps again and again would repeat it, with each new instance. What was not heard by the next call is
    /// forgotten.
    pub(crate) fn hear(&mut self, plugin: &LoadedPlugin, heard: &mut Heard, now_ms: i64) {
        self.store.data_mut().said.settle(plugin.name(), heard, now_ms);
    }

    fn process(
        &mut self,
        plugin: &LoadedPlugin,
        scratch: &mut Scratch,
        events: &[Event<'_>],
        now_ms: i64,
    ) -> Result<(Verdicts, usize), CallError> {
        begin(&mut self.store, plugin, events.len(), now_ms);
        let answer = self.door.process(&mut self.store, scratch, events, plugin.limits());
        answer.map_err(|uncrossed| {
            let (fault, suspect) = match uncrossed {
                Uncrossed::NotText => return undecodable(plugin),
                Uncrossed::Failed(error) => (fault(&self.store, plugin, &error), suspect(&error)),
                Uncrossed::Refused(fault) => (fault, None),
            };
            CallError::Guest {
                class: fault.class,
                code: fault.code.into(),
                message: format!("plugin {}: {}", plugin.name(), fault.message),
                suspect,
            }
        })
    }
}

/// Before each call: its time, its deadline, and what the host will hold of its answer.
fn begin(store: &mut Store<Guest>, plugin: &LoadedPlugin, events: usize, now_ms: i64) {
    store.set_hostcall_fuel(budget(events, plugin.limits()));
    // The first tick reads the clock; from then on every tick does.
    store.set_epoch_deadline(1);
    store.data_mut().begin(now_ms);
}

/// The event that the guest says it was at.
fn suspect(error: &wasmtime::Error) -> Option<usize> {
    let panic: &Panic = error.downcast_ref()?;
    usize::try_from(panic.event).ok()
}

fn fault(store: &Store<Guest>, plugin: &LoadedPlugin, error: &wasmtime::Error) -> Fault {
    debug!(plugin = plugin.name(), ?error, "a plugin did not return cleanly");
    let guest = store.data();
    let mut fault = Fault::of(error, guest.limiter.refused, plugin.limits());
    // A trap alone says little: a bare `unreachable` is that of many a library, and why was logged just before.
    if fault.class == FailureClass::Trap
        && let Some(words) = guest.said.last_error()
    {
        fault.message.push_str("; it said: ");
        fault.message.push_str(words);
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(class: FailureClass) -> Fault {
        Fault { class, code: "code", message: String::new() }
    }

    #[test]
    fn a_start_that_ends_by_its_deadline_is_tried_once_more() {
        type Made = fn() -> StartError;
        let slow: [Made; 2] = [
            || StartError::Instantiate(fault(FailureClass::Deadline)),
            || StartError::Configure(fault(FailureClass::Deadline)),
        ];
        let final_ones: [Made; 3] = [
            || StartError::Instantiate(fault(FailureClass::Trap)),
            || StartError::Configure(fault(FailureClass::Memory)),
            || StartError::Refused(String::new()),
        ];
        let tries = |error: Made, failures: usize| {
            let mut tries = 0;
            let started = again_after_a_deadline(|| {
                tries += 1;
                if tries > failures { Ok(()) } else { Err(error()) }
            });
            (tries, started.is_ok())
        };
        for error in slow {
            assert_eq!((tries(error, 1), tries(error, 9)), ((2, true), (2, false)));
        }
        for error in final_ones {
            assert_eq!(tries(error, 1), (1, false));
        }
    }
}
