//! The plugins of a case: verdicts by hand for some, components for the others.

use std::collections::{BTreeMap, VecDeque};

use pointsman_config::plan::Plan;
use pointsman_core::condition::EventView;
use pointsman_core::event::Event;
use pointsman_core::port::{CallError, PluginHost, PluginId};
use pointsman_core::verdict::Verdicts;
use pointsman_wasm::WorkerPlugins;

use super::case::{Case, HandVerdict, MeantFor, Says};
use super::{BY_HAND, Components, show};

/// Answers for all plugins of a case.
pub(super) struct CasePlugins<'a> {
    plan: &'a Plan,
    by_hand: BTreeMap<PluginId, Hand<'a>>,
    components: WorkerPlugins,
    numbers: &'a BTreeMap<PluginId, PluginId>,
    trouble: Option<String>,
}

impl<'a> CasePlugins<'a> {
    /// Every case has instances of its own: none sees what another left behind.
    pub(super) fn new(case: &'a Case, plan: &'a Plan, components: &'a Components) -> Self {
        let by_hand = case.verdicts.iter().map(|(plugin, verdicts)| (*plugin, Hand::new(verdicts))).collect();
        let (numbers, components) = (&components.numbers, components.plugins.worker());
        Self { plan, by_hand, components, numbers, trouble: None }
    }

    /// Why the case can't go on, if so. A lane would wait and ask again, for ever.
    pub(super) fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// The verdicts by hand that no event was given. One for every event stands for a plugin that may not be asked.
    pub(super) fn unused(&self) -> Vec<String> {
        let unused = self.by_hand.iter().flat_map(|(plugin, hand)| {
            let verdicts = hand.verdicts.iter().zip(&hand.used).enumerate();
            let verdicts =
                verdicts.filter(|(_, (verdict, used))| !**used && !matches!(verdict.meant_for, MeantFor::Always));
            verdicts.map(|(index, (verdict, _))| {
                let shown = show::verdict(&verdict.meant_for, &verdict.says);
                format!("verdict {} of plugin {} ({shown})", index + 1, self.plan.plugins[plugin.0 as usize].name)
            })
        });
        unused.collect()
    }
}

impl PluginHost for CasePlugins<'_> {
    fn call(&mut self, plugin: PluginId, events: &[Event<'_>], now_ms: i64) -> Result<Verdicts, CallError> {
        let name = &self.plan.plugins[plugin.0 as usize].name;
        let answer = match (self.by_hand.get_mut(&plugin), self.numbers.get(&plugin)) {
            (Some(hand), _) => hand.answer(name, events),
            (None, Some(number)) => self.components.call(*number, events, now_ms),
            (None, None) => Err(CallError::Unavailable { message: format!("plugin {name} was not loaded") }),
        };
        if let Err(CallError::Unavailable { message }) = &answer {
            self.trouble.get_or_insert_with(|| message.clone());
        }
        answer
    }

    /// No route test asks for counts.
    fn take_counts(&mut self, _: &mut dyn FnMut(PluginId, &str, u64)) {}
}

/// The verdicts by hand for one plugin.
struct Hand<'a> {
    verdicts: &'a [HandVerdict],
    used: Vec<bool>,
    /// What the events of a failed call were given. They come again, in parts and in order, until the culprit is alone
    /// ([`isolate`](pointsman_core::isolate)), and get the same.
    again: VecDeque<usize>,
}

impl<'a> Hand<'a> {
    fn new(verdicts: &'a [HandVerdict]) -> Self {
        Self { verdicts, used: vec![false; verdicts.len()], again: VecDeque::new() }
    }

    fn answer(&mut self, plugin: &str, events: &[Event<'_>]) -> Result<Verdicts, CallError> {
        let mut given = Vec::with_capacity(events.len());
        for event in events {
            let index = match self.again.pop_front() {
                Some(index) => index,
                None => self.choose(plugin, event).map_err(|message| CallError::Unavailable { message })?,
            };
            self.used[index] = true;
            given.push(index);
        }
        let verdicts = self.verdicts;
        let failure = given.iter().find_map(|index| match verdicts[*index].says {
            Says::Fails(class) => Some(class),
            Says::Verdict(_) => None,
        });
        if let Some(class) = failure {
            if events.len() > 1 {
                for index in given.into_iter().rev() {
                    self.again.push_front(index);
                }
            }
            let message = format!("plugin {plugin}: {class} by hand");
            return Err(CallError::Guest { class, code: BY_HAND.into(), message, suspect: None });
        }
        let spoken = given.into_iter().filter_map(|index| match &verdicts[index].says {
            Says::Verdict(verdict) => Some(verdict.clone()),
            Says::Fails(_) => None,
        });
        Ok(spoken.collect())
    }

    /// The verdict for an event that comes for the first time: one that is meant for it, else the next in order.
    fn choose(&self, plugin: &str, event: &Event<'_>) -> Result<usize, String> {
        let view = EventView::new(*event);
        let mut next = None;
        for (index, verdict) in self.verdicts.iter().enumerate() {
            let meant = match &verdict.meant_for {
                MeantFor::Always => true,
                MeantFor::When(condition) => view.holds(condition).map_err(|failure| {
                    let (condition, event) = (condition.text(), show::event(event));
                    format!(
                        "`when = '{condition}'` of a verdict of plugin {plugin} fails on the event {event}: {}",
                        failure.message
                    )
                })?,
                MeantFor::Once => {
                    if !self.used[index] {
                        next = next.or(Some(index));
                    }
                    false
                }
            };
            if meant {
                return Ok(index);
            }
        }
        next.ok_or_else(|| {
            format!(
                "plugin {plugin} is asked about the event {}, and no verdict by hand is left for it",
                show::event(event)
            )
        })
    }
}
