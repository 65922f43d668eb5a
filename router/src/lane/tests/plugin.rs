//! A plugin with a script.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pointsman_core::event::Event;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{CallError, Cost, PluginHost, PluginId};
use pointsman_core::verdict::{Output, Patch, Verdict, Verdicts};

use crate::alone::Alone;

/// What the plugin says of a record on a run: the same whenever it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Pass,
    Drop,
    /// Once to each output.
    Both,
    Reject,
    Retry,
    Trap,
    NoSuchPort,
    /// The process dies of it.
    Kill,
}

/// A script with a bit of everything.
pub(super) fn mixed(seed: u64, offset: i64, attempt: u32) -> Script {
    // Seeds that differ by little begin alike; a second generator's do not.
    let mut random = fastrand::Rng::with_seed(seed ^ (offset.cast_unsigned() << 8) ^ u64::from(attempt)).fork().fork();
    match random.u8(0..100) {
        0..8 => Script::Drop,
        8..20 => Script::Both,
        20..26 => Script::Reject,
        26..46 => Script::Retry,
        46..50 => Script::Trap,
        50..53 => Script::NoSuchPort,
        _ => Script::Pass,
    }
}

/// One for a plugin that has nothing to say against any record.
pub(super) fn passing(_: u64, _: i64, _: u32) -> Script {
    Script::Pass
}

/// How a plugin fails that fails for every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    Reject,
    Retry,
    Trap,
}

/// What it says then.
pub(super) const OUTAGE: &str = "outage";

pub(super) struct ScriptedPlugin {
    pub(super) seed: u64,
    pub(super) random: fastrand::Rng,
    pub(super) script: fn(u64, i64, u32) -> Script,
    pub(super) calm: bool,
    /// Who may judge in its process.
    pub(super) alone: Arc<Alone>,
    /// The process has died.
    pub(super) killed: bool,
    pub(super) outage: Option<Outage>,
    /// How long calls for one event take.
    pub(super) took: Duration,
    /// Events it was asked about.
    pub(super) asked: usize,
    /// The latest time that the clock has shown. What was due by then may be on its way, wherever the clock is set to since.
    pub(super) latest_ms: i64,
    /// When each parked record is due, by offset and the attempt that is due.
    pub(super) due: HashMap<(i64, u32), i64>,
    /// Offsets and attempts that verdicts were given for.
    pub(super) judged: HashSet<(i64, u32)>,
    pub(super) has_retry_topic: bool,
    /// Runs that are over by what was committed.
    pub(super) over: HashSet<(i64, u32)>,
    /// That of a router that knows no better than to go on.
    pub(super) is_zombie: bool,
}

impl PluginHost for ScriptedPlugin {
    fn call(&mut self, _: PluginId, events: &[Event<'_>], now_ms: i64) -> Result<Verdicts, CallError> {
        if !self.calm && self.random.u8(..) < 8 {
            return Err(CallError::Unavailable { message: "simulated: no instance".into() });
        }
        self.asked += events.len();
        assert!(events.iter().all(|event| event.headers.len() == 1), "a plugin sees the headers that a record had");
        let scripts: Vec<Script> =
            events.iter().map(|event| (self.script)(self.seed, event.offset, event.attempt)).collect();
        for event in events {
            let run = (event.offset, event.attempt);
            assert!(!self.over.contains(&run), "{run:?} was settled and committed, and runs again");
        }
        for event in events.iter().filter(|event| event.attempt > 1 && self.has_retry_topic && !self.is_zombie) {
            let due = self.due[&(event.offset, event.attempt)];
            let latest_ms = self.latest_ms.max(now_ms);
            assert!(due <= latest_ms, "I8: {} was run {} ms early", event.offset, due - latest_ms);
        }
        // Of one of these, or of what another lane runs at the moment.
        self.killed |= scripts.contains(&Script::Kill);
        self.killed |= !self.calm && self.random.u8(..) < 2 && self.alone.enter().is_some();
        if self.killed {
            return Err(CallError::Unavailable { message: "nobody gets to hear this".into() });
        }
        if let Some(outage) = self.outage {
            return outage.answer(events.len());
        }
        // A flaky trap now and then is nobody's fault.
        if scripts.contains(&Script::Trap) || (!self.calm && events.len() > 1 && self.random.u8(..) < 8) {
            let (code, message) = ("t".into(), "trapped".into());
            return Err(CallError::Guest { class: FailureClass::Trap, code, message, suspect: self.hint(&scripts) });
        }
        self.judged.extend(events.iter().map(|event| (event.offset, event.attempt)));
        let unchanged = |port: Option<&str>| Output {
            port: port.map(Into::into),
            key: Patch::Keep,
            value: Patch::Keep,
            headers: None,
            timestamp_ms: None,
        };
        Ok(scripts
            .into_iter()
            .map(|script| match script {
                Script::Pass | Script::Trap | Script::Kill => Verdict::Pass,
                Script::Drop => Verdict::Drop { reason: "scripted".into() },
                Script::Both => Verdict::Emit(vec![unchanged(Some("side")), unchanged(None)]),
                Script::Reject => Verdict::Reject { code: "r".into(), message: "rejected".into() },
                Script::Retry => Verdict::Retry { reason: "later".into(), delay_ms: None },
                Script::NoSuchPort => Verdict::Emit(vec![unchanged(None), unchanged(Some("nowhere"))]),
            })
            .collect())
    }

    fn last_cost(&self) -> Option<Cost> {
        Some(Cost { cpu: self.took, tries: 1, ..Cost::default() })
    }

    fn take_counts(&mut self, _: &mut dyn FnMut(PluginId, &str, u64)) {}
}

impl ScriptedPlugin {
    /// What it says of the event that trapped: nothing, the truth, or anything.
    fn hint(&self, scripts: &[Script]) -> Option<usize> {
        let mut random = fastrand::Rng::with_seed(self.seed ^ self.asked as u64);
        match random.u8(..3) {
            0 => None,
            1 => scripts.iter().position(|script| *script == Script::Trap),
            _ => Some(random.usize(..=scripts.len())),
        }
    }
}

impl Outage {
    fn answer(self, events: usize) -> Result<Verdicts, CallError> {
        let verdict = match self {
            Self::Reject => Verdict::Reject { code: "sim".into(), message: OUTAGE.into() },
            Self::Retry => Verdict::Retry { reason: OUTAGE.into(), delay_ms: None },
            Self::Trap => {
                let (code, message) = ("sim".into(), OUTAGE.into());
                return Err(CallError::Guest { class: FailureClass::Trap, code, message, suspect: None });
            }
        };
        Ok(std::iter::repeat_n(verdict, events).collect())
    }
}
