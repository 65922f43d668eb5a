//! Partitions that no member has.
//!
//! With cooperative rebalances (KIP-429) whoever gives partitions up joins the group anew, and that begins the rebalance which hands
//! them on. A static member (KIP-345) that dies in between leaves them to nobody: whoever is started under its name joins without a
//! rebalance, gets what is left to it, and does not know that one was due. The group would stay so until a member comes or goes. So a
//! static member looks, once it has joined, and where partitions are nobody's, another member comes and goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use pointsman_core::port::{GroupPlan, LogError};

use crate::admin;
use crate::error::client_error;
use crate::membership;
use crate::native::{Client, EventKind, PartitionList};
use crate::settings::{Ahead, KafkaSettings};

/// How long it takes a member to join anew, once it has given partitions up.
const REJOIN: Duration = Duration::from_secs(5);
/// How long a rebalance is waited for; the others may have to give up partitions in it.
const REBALANCE: Duration = Duration::from_secs(60);
/// How long the other member's events are waited for.
const TICK: Duration = Duration::from_millis(100);

/// Looks until every partition of the sources has an owner, or until `ended` is dropped.
pub(crate) fn watch(settings: &KafkaSettings, plan: &GroupPlan, asking: &Arc<Client>, ended: &Receiver<()>) {
    // By then those that give partitions up have done so.
    let patience = plan.revoke_deadline + REJOIN;
    while ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        let done = match unowned(settings, plan, asking) {
            Ok(Some(0)) => return,
            Ok(Some(count)) => {
                tracing::warn!(
                    group = %plan.group,
                    "{count} partitions are nobody's, since a member died in a rebalance: another is begun"
                );
                have_shared_out(settings, plan, ended)
            }
            // It is sharing them out.
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(group = %plan.group, again_in = ?patience, "can't see to it that every partition has an owner: {error}");
        }
    }
}

/// How many partitions of the sources no member has; `None` while the group is in the middle of a rebalance.
fn unowned(settings: &KafkaSettings, plan: &GroupPlan, asking: &Arc<Client>) -> Result<Option<u32>, LogError> {
    let timeout = settings.request_timeout;
    let names: Vec<_> = plan.sources.iter().map(|source| Arc::clone(&source.topic)).collect();
    let there: BTreeMap<_, _> =
        admin::topics(asking, Some(&names), timeout)?.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    let what = format!("can't ask for the members of the group {}", plan.group);
    let shares = asking.shares(&plan.group, timeout).map_err(|code| client_error(what, code, asking))?;
    Ok(shares.map(|shares| {
        let missing =
            |(topic, count): (&Arc<str>, &u32)| count.saturating_sub(shares.get(&**topic).copied().unwrap_or(0));
        there.iter().map(missing).sum()
    }))
}

/// Joins the group as a member without a name, and leaves it: with each, the group shares out its partitions. What this one is given
/// nobody reads meanwhile.
fn have_shared_out(settings: &KafkaSettings, plan: &GroupPlan, ended: &Receiver<()>) -> Result<(), LogError> {
    let what = format!("can't join the group {}", plan.group);
    let plan = GroupPlan { instance_id: None, ..plan.clone() };
    // Nothing is fetched by it.
    let (client, queue) = membership::client(settings, &plan, Ahead::of_each(&plan, u32::MAX))?;
    membership::subscribe(&client, &plan)?;
    let mut until = Instant::now() + REBALANCE;
    let mut leaving = false;
    while !client.closed() && Instant::now() < until {
        let event = queue.poll(TICK);
        let is_rebalance = event.is_some_and(|event| event.kind() == EventKind::Rebalance);
        if is_rebalance {
            // It takes nothing, and so has nothing to give up.
            let nothing = PartitionList::with_capacity(0);
            let answered = if leaving { client.unassign(&nothing) } else { client.assign(&nothing) };
            answered.map_err(|code| client_error(what.as_str(), code, &client))?;
        }
        let is_over = is_rebalance || ended.try_recv() == Err(TryRecvError::Disconnected);
        if is_over && !leaving {
            queue.close_consumer().map_err(|code| client_error(what.as_str(), code, &client))?;
            leaving = true;
            until = Instant::now() + settings.request_timeout;
        }
    }
    Ok(())
}
