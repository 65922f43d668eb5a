//! What is measured: a process that reads topics, and where its records are to be in the end. A subject is data, so that
//! another one is another entry of [`catalogue`](crate::catalogue) and nothing else.

use std::borrow::Cow;

use crate::bare::Work;
use crate::workload::Workload;

/// A process that reads a source. It is started anew for every run.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) name: Cow<'static, str>,
    pub(crate) program: Program,
    /// The topics that it fills. Each is counted, in every run.
    pub(crate) ends: Vec<End>,
    /// The subject of its group whose work is the same but for the router, where that is not [`BARE`].
    pub(crate) baseline: Option<&'static str>,
    /// What waits in its retry topic when a run begins.
    pub(crate) backlog: Option<Backlog>,
    /// How a router delivers, where that is what is measured.
    pub(crate) delivery: Option<Delivery>,
}

/// How a router delivers. Both commit as often.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    AtLeastOnce,
    /// Its transactions leave markers between the records.
    ExactlyOnce,
}

impl Delivery {
    /// Lines of `[router]`.
    pub(crate) const fn keys(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "delivery = \"at-least-once\"\ncommit_interval = \"100ms\"\n",
            Self::ExactlyOnce => "delivery = \"exactly-once\"\ncommit_interval = \"100ms\"\n",
        }
    }
}

/// Records that are parked before a run, and not due while it lasts. The records of the source come when those are indexed.
#[derive(Clone)]
pub(crate) struct Backlog {
    pub(crate) records: u64,
    /// Of a router that parks all that it reads, as [`Program::Router::configuration`] is of the one that is measured.
    pub(crate) parking: Cow<'static, str>,
}

/// The name of the limit: what every other subject of a group is compared with.
pub(crate) const BARE: &str = "bare";

/// The limit once more.
pub(crate) const CONTROL: &str = "bare again (control)";

/// What is run.
#[derive(Clone)]
pub(crate) enum Program {
    /// The bare pass-through.
    Bare(Work),
    /// The router.
    Router {
        /// What its file says after `version`, `[router]` and `[broker]`. The names of topics begin with `${SOURCE}` and
        /// `${SINK}`, variables of its environment.
        configuration: Cow<'static, str>,
        /// What lies beside the file.
        components: Vec<Component>,
    },
}

/// A file with a component.
#[derive(Clone, Copy)]
pub(crate) struct Component {
    /// The plugin that it is built from.
    pub(crate) plugin: &'static str,
    /// Which copy of it, where there are several: each is a component of its own, with its own digest and compiled code.
    pub(crate) copy: Option<u32>,
}

impl Component {
    pub(crate) fn file_name(&self) -> String {
        let Self { plugin, copy } = self;
        copy.map_or_else(|| format!("{plugin}.wasm"), |copy| format!("{plugin}-{copy}.wasm"))
    }
}

/// A topic in which records end.
#[derive(Clone, Copy)]
pub(crate) struct End {
    /// What follows `${SINK}` in its name.
    pub(crate) suffix: &'static str,
    pub(crate) count: Count,
    /// Whether the router makes it itself, or finds it.
    pub(crate) is_own: bool,
}

/// Which records of the source end in a topic.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// All of them.
    All,
    /// Those whose number is divisible by this.
    Every(u64),
    /// Those whose number is not.
    AllBut(u64),
}

impl Count {
    pub(crate) fn of(self, workload: &Workload) -> u64 {
        let all = workload.records();
        match self {
            Self::All => all,
            // Numbers begin with 0.
            Self::Every(each) => all.div_ceil(each),
            Self::AllBut(each) => all - all.div_ceil(each),
        }
    }
}

impl Subject {
    /// The files that it needs.
    pub(crate) fn components(&self) -> &[Component] {
        match &self.program {
            Program::Bare(_) => &[],
            Program::Router { components, .. } => components,
        }
    }

    /// Where it has partitions to take, it says so in its log this many times.
    pub(crate) fn announcements(&self, workload: &Workload) -> usize {
        match self.program {
            Program::Bare(_) => 1,
            Program::Router { .. } => workload.lanes(),
        }
    }

    /// How many records are to be at its ends, in all.
    pub(crate) fn deliveries(&self, workload: &Workload) -> u64 {
        self.ends.iter().map(|end| end.count.of(workload)).sum()
    }
}
