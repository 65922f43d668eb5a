//! A worker whose outputs and progress go together, in one transaction after the other.
//!
//! ```text
//!            full, its time is up, a lane waits for a commit, a lane is drained
//!   Open ──────────────────────────────────────────────────────► Closing ── all whole, all reported ──► Ending
//!    ▲  ▲                                                           │                                    │  │
//!    │  └──────────────────────────── committed ────────────────────┼────────────────────────────────────┘  │
//!    │                                                              ▼                                    undone
//!  Waiting ◄── lanes rewound ── aborted ◄── Doomed ◄── a delivery failed, a lane with records in it is lost ◄┘
//! ```
//!
//! While a transaction is closing, lanes produce what still belongs to a record that is in it already, and nothing else:
//! so it never holds half of a record. What is judged meanwhile waits. One that is undone has its lanes given up and taken over
//! anew from what is committed, as after a rebalance.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_config::plan::TransactionPlan;
use pointsman_core::delivery::{Delivery, Forward};
use pointsman_core::port::{
    Batch, Commit, DeliveryError, Ended, MemberProgress, ProduceError, Report, Sink, SinkFailed, Standing, Token,
    TransactionalSink,
};

use super::{COMMIT_ANYWAY, GroupCommitter, Release, Worker, respond};
use crate::lane::lane_of;
use crate::shared::Now;

/// After a transaction was undone, not before; twice as long each time until one is committed.
const PATIENCE: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(10);
/// Once a delivery has failed, the others are waited for so long: what is refused of them is to be known, too.
const LAST_REPORTS: Duration = Duration::from_secs(1);

/// A sink, and the transaction that is open there.
pub(super) struct Transacting {
    pub(super) sink: Box<dyn TransactionalSink>,
    plan: TransactionPlan,
    phase: Phase,
    ledger: Ledger,
    patience: Duration,
}

enum Phase {
    Open,
    Closing {
        until: Instant,
    },
    /// It can't be committed.
    Doomed(Doom),
    /// Given to the sink to be committed.
    Ending {
        /// With these commits.
        groups: Vec<(GroupCommitter, Vec<Commit>)>,
        /// The lanes that have something in it.
        lanes: BTreeSet<u32>,
        since: Instant,
    },
    Aborting {
        doom: Doom,
        lanes: BTreeSet<u32>,
    },
    Waiting {
        until: Instant,
    },
}

/// Why a transaction is to be aborted.
struct Doom {
    why: String,
    /// Deliveries are waited for until then.
    until: Instant,
    /// Whether the same would not happen again.
    is_mended: bool,
}

/// What was produced since the last transaction.
#[derive(Default)]
struct Ledger {
    records: usize,
    bytes: usize,
    /// Produced and not reported.
    unreported: usize,
    lanes: BTreeSet<u32>,
    /// The last delivery was of this record.
    last: Option<Token>,
    /// Deliveries that the sink has not taken.
    failed: Vec<Report>,
}

/// Whether the group takes commits at this moment.
fn can_commit(group: &GroupCommitter) -> bool {
    group.get().is_some_and(|committer| committer.standing().is_some())
}

/// Which deliveries are let through.
#[derive(Clone, Copy)]
enum Pass {
    /// All, until the transaction is full.
    All,
    /// Those of this record.
    Only(Option<Token>),
}

/// The sink, as lanes get it. A delivery that fails at once is reported like one that fails later: others of its record may be
/// in the transaction.
pub(super) struct Gate<'a> {
    sink: &'a mut dyn TransactionalSink,
    plan: &'a TransactionPlan,
    ledger: &'a mut Ledger,
    pass: Pass,
}

impl Gate<'_> {
    fn lets_through(&self, token: Token) -> bool {
        match self.pass {
            Pass::All => !self.ledger.is_full(&*self.sink, self.plan) || self.ledger.last == Some(token),
            Pass::Only(only) => only == Some(token),
        }
    }

    fn note(
        &mut self,
        token: Token,
        rough_bytes: usize,
        produced: Result<usize, ProduceError>,
    ) -> Result<usize, ProduceError> {
        let bytes = match produced {
            Ok(bytes) => bytes,
            Err(ProduceError::Full) => return Err(ProduceError::Full),
            Err(ProduceError::Delivery(error)) => {
                self.ledger.failed.push(Report { token, result: Err(Box::new(error.into())) });
                rough_bytes
            }
        };
        let ledger = &mut *self.ledger;
        ledger.records += 1;
        ledger.bytes += bytes;
        ledger.unreported += 1;
        let lane = lane_of(token);
        if ledger.last.is_none_or(|last| lane_of(last) != lane) {
            ledger.lanes.insert(lane);
        }
        ledger.last = Some(token);
        Ok(bytes)
    }
}

impl Sink for Gate<'_> {
    fn capacity_bytes(&self) -> usize {
        self.sink.capacity_bytes()
    }

    fn produce(&mut self, delivery: &Delivery<'_>, token: Token) -> Result<usize, ProduceError> {
        if !self.lets_through(token) {
            return Err(ProduceError::Full);
        }
        let produced = self.sink.produce(delivery, token);
        self.note(token, delivery.rough_bytes(), produced)
    }

    fn forward(
        &mut self,
        batch: &mut dyn Batch,
        index: usize,
        forward: &Forward<'_>,
        token: Token,
    ) -> Result<usize, ProduceError> {
        if !self.lets_through(token) {
            return Err(ProduceError::Full);
        }
        let rough_bytes = forward.of(batch.record(index)).rough_bytes();
        let produced = self.sink.forward(batch, index, forward, token);
        self.note(token, rough_bytes, produced)
    }

    fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        self.sink.serve(reports)
    }
}

impl Ledger {
    fn is_full(&self, sink: &dyn TransactionalSink, plan: &TransactionPlan) -> bool {
        self.records >= plan.records || self.bytes >= plan.bytes || sink.is_full()
    }
}

impl Transacting {
    pub(super) fn new(sink: Box<dyn TransactionalSink>, plan: TransactionPlan) -> Self {
        Self { sink, plan, phase: Phase::Open, ledger: Ledger::default(), patience: PATIENCE.start }
    }

    /// The sink for the next step of a lane that stands in the middle of this record. There is none while lanes are about to
    /// be rewound.
    pub(super) fn gate(&mut self, midway: Option<Token>) -> Option<Gate<'_>> {
        let pass = match self.phase {
            Phase::Open => Pass::All,
            Phase::Closing { .. } => Pass::Only(midway),
            Phase::Ending { .. } => Pass::Only(None),
            Phase::Doomed(_) | Phase::Aborting { .. } | Phase::Waiting { .. } => return None,
        };
        Some(Gate { sink: &mut *self.sink, plan: &self.plan, ledger: &mut self.ledger, pass })
    }

    /// Takes the reports that have come in.
    pub(super) fn serve(&mut self, reports: &mut Vec<Report>) -> Result<(), SinkFailed> {
        self.sink.serve(reports)?;
        reports.append(&mut self.ledger.failed);
        self.ledger.unreported = self.ledger.unreported.saturating_sub(reports.len());
        Ok(())
    }

    /// A delivery has failed.
    pub(super) fn failed(&mut self, error: &DeliveryError, now: Now) {
        self.doom(error.to_string(), matches!(error, DeliveryError::Refused { .. }), now);
    }

    /// A lane is given up whose records may be in the transaction.
    pub(super) fn lose(&mut self, lane: u32, now: Now) {
        if self.ledger.lanes.contains(&lane) {
            self.doom("a partition with records in it was lost".into(), true, now);
        }
    }

    /// The transaction that is open can't be committed. (While one is ending nothing is produced, so none is open then.)
    fn doom(&mut self, why: String, is_mended: bool, now: Now) {
        match &mut self.phase {
            Phase::Open | Phase::Closing { .. } => {
                self.phase = Phase::Doomed(Doom { why, until: now.instant + LAST_REPORTS, is_mended });
            }
            Phase::Doomed(doom) => doom.is_mended &= is_mended,
            Phase::Ending { .. } | Phase::Aborting { .. } | Phase::Waiting { .. } => {}
        }
    }

    /// When there is something to do, whatever else happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open | Phase::Ending { .. } | Phase::Aborting { .. } => None,
            Phase::Closing { until } | Phase::Waiting { until } | Phase::Doomed(Doom { until, .. }) => Some(*until),
        }
    }
}

impl Worker {
    /// Moves the transaction on. The answer is whether anything was done.
    pub(super) fn transact(&mut self, now: Now) -> bool {
        let Some(transacting) = self.outlet.together() else { return false };
        match &transacting.phase {
            Phase::Open => self.close(now),
            Phase::Closing { .. } => self.commit_together(now),
            Phase::Doomed(_) => self.abort(now),
            Phase::Ending { .. } | Phase::Aborting { .. } => match transacting.sink.ended() {
                Some(ended) => {
                    self.ended_together(ended, now);
                    true
                }
                None => false,
            },
            Phase::Waiting { until } => {
                let is_over = now.instant >= *until;
                if is_over {
                    transacting.phase = Phase::Open;
                }
                is_over
            }
        }
    }

    /// Has the transaction closed, where there is a reason.
    fn close(&mut self, now: Now) -> bool {
        let is_drained = |release: &Release| {
            !release.included
                && release.lanes.iter().filter_map(|id| self.lanes.get(id)).all(|tenant| tenant.lane.is_drained())
        };
        let mut awake = self.awake.iter().filter_map(|id| self.lanes.get(id));
        let asked = now.instant >= self.commit_at
            || awake.any(|tenant| tenant.lane.wants_vow(now) && can_commit(&tenant.committer))
            || self.releases.iter().any(is_drained);
        let Some(transacting) = self.outlet.together() else { return false };
        if !asked && !transacting.ledger.is_full(&*transacting.sink, &transacting.plan) {
            return false;
        }
        let until = now.instant + transacting.plan.timeout / 2;
        transacting.phase = Phase::Closing { until };
        transacting.sink.hurry();
        true
    }

    /// Has it committed, once it is whole.
    fn commit_together(&mut self, now: Now) -> bool {
        let Some(transacting) = self.outlet.together() else { return false };
        let Phase::Closing { until } = transacting.phase else { return false };
        let lanes = transacting.ledger.lanes.iter().filter_map(|id| self.lanes.get(id));
        if lanes.clone().any(|tenant| tenant.lane.is_torn()) {
            transacting.doom("a record that is in it does not come to its end".into(), false, now);
            return true;
        }
        if now.instant >= until {
            transacting.doom("its records are not acknowledged, or the group takes no commits".into(), false, now);
            return true;
        }
        if transacting.ledger.unreported > 0 || lanes.clone().any(|tenant| tenant.lane.midway().is_some()) {
            return false;
        }
        // First the standing, and then a look at what was revoked: then nothing is committed that may be another's by now.
        let standings = self.standings();
        self.take_orders();
        let Some(transacting) = self.outlet.together() else { return false };
        if self.ended || !matches!(transacting.phase, Phase::Closing { .. }) {
            return true;
        }
        let is_known = |committer: &GroupCommitter| standings.iter().any(|(group, _)| Arc::ptr_eq(group, committer));
        let in_it = transacting.ledger.lanes.iter().filter_map(|id| self.lanes.get(id));
        if in_it.clone().any(|tenant| !is_known(&tenant.committer)) {
            // The group is about to be joined, or in the middle of a rebalance.
            return false;
        }
        self.settle_up(standings, now);
        true
    }

    /// As whom the lanes' groups can commit.
    fn standings(&self) -> Vec<(GroupCommitter, Standing)> {
        let mut groups: Vec<&GroupCommitter> = Vec::new();
        for tenant in self.lanes.values() {
            if !groups.iter().any(|group| Arc::ptr_eq(group, &tenant.committer)) {
                groups.push(&tenant.committer);
            }
        }
        let standings = groups.into_iter().filter_map(|group| Some((Arc::clone(group), group.get()?.standing()?)));
        standings.collect()
    }

    /// Gives the sink the progress of all lanes, to be committed with what they have produced.
    fn settle_up(&mut self, standings: Vec<(GroupCommitter, Standing)>, now: Now) {
        self.commit_at = now.instant + self.shared.plan.router.commit_interval;
        self.shared.counters.add_plugin_counts(&mut *self.plugins);
        let all = now.instant >= self.commit_all_at;
        if all {
            self.commit_all_at = now.instant + COMMIT_ANYWAY;
        }
        let Some(transacting) = self.outlet.together() else { return };
        let mut lanes = std::mem::take(&mut transacting.ledger.lanes);
        let (mut progress, mut groups) = (Vec::new(), Vec::new());
        for (group, standing) in standings {
            let mut commits = Vec::new();
            for (id, tenant) in self.lanes.iter_mut().filter(|(_, tenant)| Arc::ptr_eq(&tenant.committer, &group)) {
                let before = commits.len();
                commits.extend(tenant.lane.settle_up(all, now));
                if commits.len() > before {
                    lanes.insert(*id);
                }
            }
            if !commits.is_empty() {
                progress.push(MemberProgress { standing, commits: commits.clone() });
                groups.push((group, commits));
            }
        }
        for release in &mut self.releases {
            let mut left = release.lanes.iter().filter_map(|id| self.lanes.get(id));
            release.included = left.all(|tenant| tenant.lane.is_drained());
        }
        let Some(transacting) = self.outlet.together() else { return };
        if progress.is_empty() && transacting.ledger.records == 0 {
            transacting.phase = Phase::Open;
            self.give_up_included();
            return;
        }
        transacting.ledger = Ledger::default();
        transacting.phase = Phase::Ending { groups, lanes, since: now.instant };
        transacting.sink.commit(progress);
    }

    fn abort(&mut self, now: Now) -> bool {
        let Some(transacting) = self.outlet.together() else { return false };
        let Phase::Doomed(doom) = &transacting.phase else { return false };
        let is_awaited = transacting.ledger.unreported > 0 && now.instant < doom.until;
        // Without a membership nothing can be taken over anew. It comes at once, or the router ends.
        let lanes = transacting.ledger.lanes.iter().filter_map(|id| self.lanes.get(id));
        if is_awaited || lanes.clone().any(|tenant| tenant.committer.get().is_none()) {
            return false;
        }
        let lanes = std::mem::take(&mut transacting.ledger).lanes;
        if let Phase::Doomed(doom) = std::mem::replace(&mut transacting.phase, Phase::Open) {
            transacting.phase = Phase::Aborting { doom, lanes };
            transacting.sink.abort();
        }
        true
    }

    fn ended_together(&mut self, ended: Ended, now: Now) {
        let Some(transacting) = self.outlet.together() else { return };
        let phase = std::mem::replace(&mut transacting.phase, Phase::Open);
        match (phase, ended) {
            (Phase::Ending { groups, lanes, since }, Ended::Committed) => {
                self.shared.counters.transactions.committed(now.instant.saturating_duration_since(since));
                transacting.patience = PATIENCE.start;
                for (group, commits) in &groups {
                    group.get().into_iter().for_each(|committer| committer.committed(commits));
                }
                for id in lanes {
                    self.lanes.get_mut(&id).into_iter().for_each(|tenant| tenant.lane.confirmed(Ok(()), now));
                }
                self.give_up_included();
            }
            (Phase::Ending { lanes, .. }, Ended::Undone { code, message }) => {
                self.undo(lanes, &format!("{message} ({code})"), false, now);
            }
            (Phase::Ending { lanes, .. }, Ended::Aborted) => self.undo(lanes, "it was aborted", false, now),
            (Phase::Aborting { doom, lanes }, Ended::Aborted | Ended::Committed | Ended::Undone { .. }) => {
                self.undo(lanes, &doom.why, doom.is_mended, now);
            }
            // Nothing was asked for, so nothing has ended.
            (phase @ (Phase::Open | Phase::Closing { .. } | Phase::Doomed(_) | Phase::Waiting { .. }), _) => {
                transacting.phase = phase;
            }
        }
    }

    /// Has the lanes taken over anew from what is committed. Those that are drained go anyway.
    fn undo(&mut self, lanes: BTreeSet<u32>, why: &str, is_mended: bool, now: Now) {
        self.shared.counters.transactions.undone();
        tracing::warn!(lanes = lanes.len(), "a transaction was undone, and its records run again: {why}");
        let mut rewinds: Vec<(GroupCommitter, Vec<_>)> = Vec::new();
        for id in lanes {
            let Some(tenant) = self.lanes.get_mut(&id) else { continue };
            if !tenant.lane.is_draining() {
                tenant.lane.leave_behind();
                let partition = tenant.lane.source_partition().clone();
                match rewinds.iter_mut().find(|(group, _)| Arc::ptr_eq(group, &tenant.committer)) {
                    Some((_, partitions)) => partitions.push(partition),
                    None => rewinds.push((Arc::clone(&tenant.committer), vec![partition])),
                }
            } else {
                tenant.lane.outlive();
            }
            self.give_up(id, "undone");
        }
        // Nothing is under way any more.
        self.reported = self.credit.taken();
        for (group, partitions) in rewinds {
            group.get().into_iter().for_each(|committer| committer.rewind(&partitions));
        }
        self.releases.iter_mut().for_each(|release| release.included = false);
        self.commit_at = now.instant + self.shared.plan.router.commit_interval;
        let Some(transacting) = self.outlet.together() else { return };
        if is_mended {
            transacting.phase = Phase::Open;
            return;
        }
        transacting.phase = Phase::Waiting { until: now.instant + transacting.patience };
        transacting.patience = (transacting.patience * 2).min(PATIENCE.end);
    }

    /// Gives up the lanes whose last progress is committed.
    fn give_up_included(&mut self) {
        let (included, left) = std::mem::take(&mut self.releases).into_iter().partition(|release| release.included);
        self.releases = left;
        let included: Vec<Release> = included;
        for Release { lanes, answer, .. } in included {
            lanes.into_iter().for_each(|id| self.give_up(id, "released"));
            // All is committed already.
            respond(&answer, Vec::new());
        }
    }

    /// Answers for the lanes that have no more time, or are gone already.
    pub(super) fn release_late(&mut self, now: Now) {
        for release in std::mem::take(&mut self.releases) {
            let are_gone = !release.lanes.iter().any(|id| self.lanes.contains_key(id));
            if !are_gone && now.instant < release.until {
                self.releases.push(release);
                continue;
            }
            if !are_gone {
                tracing::warn!(
                    "work in flight was given up at the deadline: it runs again, unless it is being committed"
                );
            }
            for id in &release.lanes {
                self.outlet.together().into_iter().for_each(|transacting| transacting.lose(*id, now));
                self.give_up(*id, "released");
            }
            respond(&release.answer, Vec::new());
        }
    }
}
