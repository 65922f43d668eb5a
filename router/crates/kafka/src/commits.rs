//! The commits of a member, one request at a time.
//!
//! librdkafka makes a commit again by itself that gets no answer, or that finds no coordinator, and lets others pass it by
//! meanwhile. So of two that are under way the earlier may be the last to be carried out: what the group has committed goes
//! back, and stays there until something else is settled in that partition. Here the next request is sent when the one before is
//! answered; what is to be committed meanwhile waits, and of a partition only the newest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pointsman_core::port::{Commit, Receipt, Waker};
use pointsman_core::record::TopicPartition;

use crate::native::{Code, PartitionList, Queue};

/// What was committed, and is to be.
#[derive(Default)]
pub(crate) struct Commits(Mutex<Line>);

#[derive(Default)]
struct Line {
    waiting: BTreeMap<TopicPartition, Commit>,
    /// Who wants to know of those that wait.
    asking: Vec<Arc<Promise>>,
    /// Who wants to know of those that are under way, where there are any.
    under_way: Option<Vec<Arc<Promise>>>,
}

/// The answer to a commit, for whoever waits for it.
pub(crate) struct Promise {
    answer: Mutex<Option<Result<(), Code>>>,
    waker: Option<Waker>,
}

impl Promise {
    fn keep(&self, answer: Result<(), Code>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.waker.iter().for_each(|wake| wake());
    }

    /// The answer, once it is there.
    pub(crate) fn kept(&self) -> Option<Result<(), Code>> {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A promise, as the router knows it.
pub(crate) struct KafkaReceipt(pub(crate) Arc<Promise>);

impl Receipt for KafkaReceipt {
    fn answer(&mut self) -> Option<Result<(), String>> {
        self.0.kept().map(|answer| answer.map_err(Code::describe))
    }
}

impl Line {
    fn add(&mut self, commits: &[Commit]) {
        self.waiting.extend(commits.iter().map(|commit| (commit.partition.clone(), commit.clone())));
    }

    fn ask(&mut self, waker: Option<Waker>) -> Arc<Promise> {
        let promise = Arc::new(Promise { answer: Mutex::new(None), waker });
        self.asking.push(Arc::clone(&promise));
        promise
    }

    /// What is to be sent now.
    fn next(&mut self) -> Option<Vec<Commit>> {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.under_way = Some(std::mem::take(&mut self.asking));
        Some(std::mem::take(&mut self.waiting).into_values().collect())
    }

    /// What was sent is answered.
    fn answered(&mut self, answer: Result<(), Code>) {
        self.under_way.take().into_iter().flatten().for_each(|promise| promise.keep(answer));
    }
}

impl Commits {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these committed, by a request whose answer comes to `queue`. Whoever serves that calls [`answered`](Self::answered).
    ///
    /// # Errors
    /// librdkafka's, where it does not take the request.
    pub(crate) fn commit(&self, commits: &[Commit], queue: &Queue) -> Result<(), Code> {
        let mut line = self.line();
        line.add(commits);
        send(&mut line, queue)
    }

    /// [`commit`](Self::commit), with a promise that tells what becomes of it. `waker` is called when it may be kept.
    pub(crate) fn commit_surely(
        &self,
        commits: &[Commit],
        waker: Option<Waker>,
        queue: &Queue,
    ) -> (Arc<Promise>, Result<(), Code>) {
        let mut line = self.line();
        line.add(commits);
        let promise = line.ask(waker);
        let sent = send(&mut line, queue);
        (promise, sent)
    }

    /// The request that was under way is answered: sends the next, if there is anything to commit.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub(crate) fn answered(&self, answer: Result<(), Code>, queue: &Queue) -> Result<(), Code> {
        let mut line = self.line();
        line.answered(answer);
        send(&mut line, queue)
    }

    /// These partitions are somebody else's from now on: what waits to be committed of them is not to be.
    pub(crate) fn forget(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        let mut line = self.line();
        partitions.into_iter().for_each(|partition| drop(line.waiting.remove(&partition)));
    }
}

fn send(line: &mut Line, queue: &Queue) -> Result<(), Code> {
    let Some(commits) = line.next() else { return Ok(()) };
    queue.commit(&list(&commits)).inspect_err(|code| line.answered(Err(*code)))
}

/// Commits as librdkafka takes them.
pub(crate) fn list(commits: &[Commit]) -> PartitionList {
    let mut list = PartitionList::with_capacity(commits.len());
    for commit in commits {
        list.push(&commit.partition.topic, commit.partition.partition, commit.offset, &commit.metadata);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(partition: i32, offset: i64) -> Commit {
        Commit { partition: TopicPartition::new("t", partition), offset, metadata: offset.to_string() }
    }

    fn offsets(sent: Option<Vec<Commit>>) -> Vec<(i32, i64)> {
        sent.into_iter().flatten().map(|commit| (commit.partition.partition, commit.offset)).collect()
    }

    /// Commits come in any number between two answers, and some partitions go; what is sent is never overtaken.
    #[test]
    fn there_is_one_request_at_a_time_and_it_has_the_newest_of_each_partition() {
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut line = Line::default();
            let (mut under_way, mut sent, mut newest) = (false, [0; 4], [0; 4]);
            for _ in 0..random.usize(1..200) {
                match random.u8(..8) {
                    0..4 => {
                        let partition = random.usize(..4);
                        newest[partition] += random.i64(1..9);
                        line.add(&[commit(partition as i32, newest[partition])]);
                    }
                    4 if under_way => {
                        line.answered(Ok(()));
                        under_way = false;
                    }
                    5 => {
                        let partition = random.usize(..4);
                        line.waiting.remove(&TopicPartition::new("t", partition as i32));
                        newest[partition] = sent[partition];
                    }
                    _ => {
                        let next = offsets(line.next());
                        assert!(!under_way || next.is_empty(), "seed {seed}: another is under way");
                        under_way |= !next.is_empty();
                        for (partition, offset) in next {
                            assert!(offset > sent[partition as usize], "seed {seed}: it goes back");
                            assert_eq!(offset, newest[partition as usize], "seed {seed}: not the newest");
                            sent[partition as usize] = offset;
                        }
                    }
                }
            }
            line.answered(Ok(()));
            for (partition, offset) in offsets(line.next()) {
                sent[partition as usize] = offset;
            }
            assert_eq!(sent, newest, "seed {seed}: something was never sent");
        }
    }

    #[test]
    fn a_promise_is_kept_by_the_answer_to_the_request_that_it_is_about() {
        let mut line = Line::default();
        line.add(&[commit(0, 1)]);
        assert_eq!(offsets(line.next()), [(0, 1)]);
        line.add(&[commit(0, 2)]);
        let promise = line.ask(None);
        line.answered(Ok(()));
        assert_eq!(promise.kept(), None, "that was the answer to another");
        assert_eq!(offsets(line.next()), [(0, 2)]);
        line.answered(Err(Code(7)));
        assert_eq!(promise.kept(), Some(Err(Code(7))));
    }
}
