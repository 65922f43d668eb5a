//! Routers that are taken for dead, and live.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::port::Sink as _;

use super::broker::TroubledSink;
use super::plugin::ScriptedPlugin;
use super::world::{QUEUE_BYTES, World, process};
use crate::alone::Alone;
use crate::credit::Credit;
use crate::lane::{Lane, Tools};

/// A router that goes on with a partition which is another's by now: what it writes is written, and it commits nothing.
pub(super) struct Zombie {
    lane: Lane,
    pub(super) sink: TroubledSink,
    plugin: ScriptedPlugin,
    credit: Credit,
}

impl World {
    /// The router of this lane was only taken for dead.
    pub(super) fn zombie_of(&mut self, mut lane: Lane, sink: TroubledSink) -> Zombie {
        let alone: Arc<Alone> = Arc::default();
        lane.end_waiting();
        lane.shared = process(self.seed, Arc::clone(&self.shared.plan), &self.log, Arc::clone(&alone));
        let plugin = ScriptedPlugin {
            random: self.random.fork(),
            alone,
            due: HashMap::new(),
            judged: HashSet::new(),
            over: HashSet::new(),
            is_zombie: true,
            ..self.plugin
        };
        Zombie { lane, sink, plugin, credit: Credit::new(QUEUE_BYTES) }
    }

    /// It has its turn, and comes to its end some day.
    pub(super) fn zombie_round(&mut self) {
        let Some(Zombie { lane, sink, plugin, credit }) = &mut self.zombie else { return };
        let mut tools = Tools {
            sink,
            credit,
            plugins: plugin,
            random: &mut self.random,
            now: self.now,
            elapsed: &|| Duration::ZERO,
            look_anyway: false,
        };
        lane.turn(&mut tools);
        let mut reports = Vec::new();
        sink.serve(&mut reports).expect("never fails");
        lane.reported(reports.into_iter(), credit, self.now);
        if plugin.killed || self.calm || self.random.u8(..) < 4 {
            self.zombie = None;
        }
    }
}
