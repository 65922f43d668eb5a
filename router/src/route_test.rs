//! Route tests: given these records, expect these deliveries and fates. Without any broker.
//!
//! A test file names a configuration and has cases; `configs/quickstart.test.toml` says what can be written. [`read`]
//! makes [`Case`]s of it, or tells all that is wrong. [`run`](run::run) sends the records of a case down the real path,
//! [`Lane`](crate::lane::Lane) and all: over a [`SimulatedLog`](simulated_log::SimulatedLog), with a clock that stands
//! still unless it is told to jump, with verdicts by hand for some plugins and components for the others.
//! [`compare`](compare::compare) says what is not as expected.
//!
//! What is different from `pointsman run`: rate limits are off (they make records wait, and change no fate), every topic
//! has as many partitions as the file says, and the route is alone.

mod case;
mod compare;
mod hands;
mod json;
mod read;
mod run;
mod show;
pub(crate) mod simulated_log;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use pointsman_config::ConfigErrors;
use pointsman_config::document::read_document;
use pointsman_config::plan::{Plan, StagePlan};
use pointsman_core::port::PluginId;
use pointsman_wasm::Plugins;

pub(crate) use case::Case;
pub(crate) use compare::Mismatch;

/// What messages call such a file.
const WHAT: &str = "the test file";

/// Reads a test file. `load` is called once, with the path of the configuration as it is written and the variables that
/// the file sets; where it gives nothing, it has said why.
///
/// # Errors
/// [`ConfigErrors`]: all mistakes of the file.
pub(crate) fn read(
    text: &str,
    file_name: &str,
    load: impl FnOnce(&Path, BTreeMap<String, String>) -> Option<Plan>,
) -> Result<(Plan, Vec<Case>), ConfigErrors> {
    let no_variables = BTreeMap::new();
    read_document(text, file_name, WHAT, &no_variables, |top| read::document(top, load))
}

/// The plugins that `cases` call as components.
pub(crate) fn components_of(plan: &Plan, cases: &[Case]) -> BTreeSet<PluginId> {
    let stages = cases.iter().flat_map(|case| {
        plan.routes[case.route].stages.iter().filter_map(|stage| match stage {
            StagePlan::Plugin(plugin) if !case.verdicts.contains_key(plugin) => Some(*plugin),
            StagePlan::Plugin(_) | StagePlan::Filter(_) => None,
        })
    });
    stages.collect()
}

/// The components that were loaded. Each has its own number among them.
pub(crate) struct Components {
    pub(crate) plugins: Plugins,
    pub(crate) numbers: BTreeMap<PluginId, PluginId>,
}

impl Components {
    /// For each plugin of the plan the digest of its component, or a word in its place.
    fn digests(&self, plan: &Plan) -> Vec<Arc<str>> {
        let digest = |index: usize| {
            let plugin = PluginId(u32::try_from(index).ok()?);
            Some(self.plugins.get(*self.numbers.get(&plugin)?)?.digest().to_string())
        };
        (0..plan.plugins.len()).map(|index| digest(index).unwrap_or_else(|| BY_HAND.into()).into()).collect()
    }
}

/// What stands for the digest of a plugin, and for the code of a failure, that is given by hand.
const BY_HAND: &str = "by-hand";

/// Runs a case; the answer is all that is not as expected.
pub(crate) fn check(case: &Case, plan: &Arc<Plan>, components: &Components) -> Vec<Mismatch> {
    let outcome = run::run(case, plan, components);
    compare::compare(case, plan, &outcome)
}

#[cfg(test)]
mod tests;
