//! The two doors by which a plugin can be called: which of them it has, and calls through either.

use pointsman_core::event::Event;
use pointsman_core::verdict::Verdicts;
use wasmtime::component::{Component, Instance, InstancePre};
use wasmtime::{Engine, Store};

use crate::bindings::columnar::exports::pointsman::plugin::columns::Fields;
use crate::bindings::columnar::{ColumnarPlugin, ColumnarPluginPre};
use crate::bindings::{Plugin, PluginPre};
use crate::crossing::{NotText, columns, records};
use crate::fault::Fault;
use crate::guest::Guest;
use crate::spec::Limits;

/// Names of the interfaces.
pub(crate) const PROCESSOR: &str = "pointsman:plugin/processor@0.1.0";
pub(crate) const COLUMNS: &str = "pointsman:plugin/columns@0.1.0";

/// The name under which the component exports some version of the contract; this router's, if it has that.
pub(crate) fn exported(engine: &Engine, component: &Component) -> Option<String> {
    let interface = |name: &str| name.split('@').next().map(str::to_owned);
    let ours = [interface(PROCESSOR), interface(COLUMNS)];
    let ty = component.component_type();
    let found = ty.exports(engine).map(|(name, _)| name).filter(|name| ours.contains(&interface(name)));
    found.max_by_key(|name| is_callable(name)).map(Into::into)
}

/// Whether this router can call what is exported under this name.
pub(crate) fn is_callable(name: &str) -> bool {
    name == PROCESSOR || name == COLUMNS
}

/// The door of a component, whose functions were found.
pub(crate) enum DoorPre {
    Records(PluginPre<Guest>),
    Columns(ColumnarPluginPre<Guest>),
}

impl DoorPre {
    /// Looks for the door that is exported under this name.
    pub(crate) fn of(name: &str, pre: InstancePre<Guest>) -> wasmtime::Result<Self> {
        if name == COLUMNS {
            ColumnarPluginPre::new(pre).map(Self::Columns)
        } else {
            PluginPre::new(pre).map(Self::Records)
        }
    }

    pub(crate) fn instance_pre(&self) -> &InstancePre<Guest> {
        match self {
            Self::Records(pre) => pre.instance_pre(),
            Self::Columns(pre) => pre.instance_pre(),
        }
    }

    /// The door of an instance.
    pub(crate) fn open(&self, store: &mut Store<Guest>, instance: &Instance) -> wasmtime::Result<Door> {
        Ok(match self {
            Self::Records(_) => Door::Records(Plugin::new(store, instance)?),
            Self::Columns(_) => Door::Columns(ColumnarPlugin::new(store, instance)?, Fields::all()),
        })
    }
}

/// The door of an instance.
pub(crate) enum Door {
    Records(Plugin),
    /// With the fields that it looks at.
    Columns(ColumnarPlugin, Fields),
}

/// Why a call gave no verdicts.
pub(crate) enum Uncrossed {
    /// It was not made.
    NotText,
    /// It did not return.
    Failed(wasmtime::Error),
    /// It returned what it may not.
    Refused(Fault),
}

impl From<NotText> for Uncrossed {
    fn from(NotText: NotText) -> Self {
        Self::NotText
    }
}

impl From<wasmtime::Error> for Uncrossed {
    fn from(error: wasmtime::Error) -> Self {
        Self::Failed(error)
    }
}

/// Memory for the events of a call, kept from one call to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    records: records::Scratch,
    columns: columns::Scratch,
}

impl Scratch {
    /// Bytes of keys, values and headers that were lent so far.
    pub(crate) fn lent(&self) -> u64 {
        self.records.lent + self.columns.lent
    }
}

impl Door {
    pub(crate) fn configure(&mut self, store: &mut Store<Guest>, config: &str) -> wasmtime::Result<Result<(), String>> {
        match self {
            Self::Records(plugin) => plugin.pointsman_plugin_processor().call_configure(store, config),
            Self::Columns(plugin, fields) => {
                let accepted = plugin.pointsman_plugin_columns().call_configure(store, config)?;
                Ok(accepted.map(|asked| *fields = asked))
            }
        }
    }

    /// Hands the events to the plugin. Gives its verdicts, and the bytes of its answer.
    pub(crate) fn process(
        &self,
        store: &mut Store<Guest>,
        scratch: &mut Scratch,
        events: &[Event<'_>],
        limits: &Limits,
    ) -> Result<(Verdicts, usize), Uncrossed> {
        match self {
            Self::Records(plugin) => {
                let processor = plugin.pointsman_plugin_processor();
                let answer = scratch.records.lend(events, |events| processor.call_process(store, events))??;
                records::accept(answer, events.len(), limits).map_err(Uncrossed::Refused)
            }
            Self::Columns(plugin, fields) => {
                let columns = plugin.pointsman_plugin_columns();
                let (mut verdicts, mut bytes) = (Verdicts::default(), 0);
                // A lane's records are of one partition, but for strangers in its retry partition.
                for events in events.chunk_by(|a, b| (a.partition, a.topic) == (b.partition, b.topic)) {
                    let answer =
                        scratch.columns.lend(events, *fields, |batch| columns.call_process(&mut *store, batch))??;
                    bytes +=
                        columns::accept(answer, events.len(), limits, &mut verdicts).map_err(Uncrossed::Refused)?;
                }
                Ok((verdicts, bytes))
            }
        }
    }
}
