//! Writes the sample records of a plan's feeds, over and over, at their rates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pointsman_config::Plan;
use pointsman_core::delivery::TopicId;
use pointsman_core::port::{Log, LogError, ProduceError, Sink, SinkFailed, Token, Waker};
use pointsman_core::record::TopicPartition;
use thiserror::Error;

use crate::record_text::{LineError, RecordLine, parse_line};
use crate::topology::Topology;

/// What stands for the number of a record in a file of sample records.
const NUMBER: &str = "{{n}}";

/// How often a feeder writes.
const BEAT: Duration = Duration::from_millis(100);

/// Feeds that are ready to run.
#[derive(Debug)]
pub(crate) struct Feeders(Vec<Feed>);

#[derive(Debug)]
struct Feed {
    topic: Arc<str>,
    lines: Vec<String>,
    per_second: u32,
}

/// A feed can't be read.
#[derive(Debug, Error)]
pub(crate) enum FeedersError {
    #[error("can't read the sample records in {}: {cause}; correct the feed's `records`", .file.display())]
    Unreadable { file: PathBuf, cause: std::io::Error },
    #[error("the sample records in {}, line {line}: {cause}", .file.display())]
    BadLine { file: PathBuf, line: usize, cause: LineError },
    #[error("there are no sample records in {}: write some, or remove the feed", .file.display())]
    Empty { file: PathBuf },
}

/// Why a feeder ended before it was told to.
#[derive(Debug, Error)]
enum Stopped {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Sink(#[from] SinkFailed),
    #[error(transparent)]
    Produce(#[from] ProduceError),
    #[error(transparent)]
    Line(#[from] LineError),
}

impl Feeders {
    /// Reads the files of the plan's feeds, whose paths start at `directory`.
    pub(crate) fn read(plan: &Plan, directory: &Path) -> Result<Self, FeedersError> {
        let read = |feed: &pointsman_config::plan::FeedPlan| {
            let file = directory.join(&feed.records);
            let text = std::fs::read_to_string(&file)
                .map_err(|cause| FeedersError::Unreadable { file: file.clone(), cause })?;
            let mut lines = Vec::new();
            for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                number(line, 0).map_err(|cause| FeedersError::BadLine {
                    file: file.clone(),
                    line: index + 1,
                    cause,
                })?;
                lines.push(line.to_owned());
            }
            if lines.is_empty() {
                return Err(FeedersError::Empty { file });
            }
            Ok(Feed { topic: Arc::clone(&feed.topic), lines, per_second: feed.per_second.get() })
        };
        plan.feeds.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Starts the feeds. They end when the answer is dropped.
    pub(crate) fn start(self, topology: &Topology) -> Feeding {
        let mut threads = Vec::new();
        for feed in self.0 {
            let (stop, stopped) = channel::<()>();
            let log = Arc::clone(&topology.log);
            let thread = std::thread::spawn(move || {
                let topic = Arc::clone(&feed.topic);
                let pause = || stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout);
                if let Err(error) = feed.write(&*log, pause) {
                    tracing::error!(%topic, "no more sample records: {error}");
                }
            });
            threads.push((stop, thread));
        }
        Feeding(threads)
    }
}

/// Feeds at work.
pub(crate) struct Feeding(Vec<(Sender<()>, JoinHandle<()>)>);

impl Drop for Feeding {
    fn drop(&mut self) {
        for (stop, thread) in self.0.drain(..) {
            drop(stop);
            // What went wrong in it was logged.
            let _ = thread.join();
        }
    }
}

impl Feed {
    /// Writes until `pause`, which waits a beat, says that it is enough. Goes on with the numbers where the topic ends.
    fn write(&self, log: &dyn Log, pause: impl Fn() -> bool) -> Result<(), Stopped> {
        let mut next = self.count(log)?;
        let no_waker: Waker = Arc::new(|| {});
        let mut sink = log.sink(std::slice::from_ref(&self.topic), no_waker)?;
        let per_beat = f64::from(self.per_second) * BEAT.as_secs_f64();
        let mut owed = 0.0;
        let mut reports = Vec::new();
        while pause() {
            owed += per_beat;
            while owed >= 1.0 {
                let line = &self.lines[usize::try_from(next).unwrap_or(0) % self.lines.len()];
                match sink.produce(&number(line, next)?.delivery(TopicId(0)), Token(next)) {
                    Ok(_) => {}
                    // The log is behind: what is owed stays owed, up to a beat.
                    Err(ProduceError::Full) => break,
                    Err(error) => return Err(error.into()),
                }
                next += 1;
                owed -= 1.0;
            }
            owed = owed.min(per_beat.max(1.0));
            sink.hurry();
            serve(&mut *sink, &mut reports, &self.topic)?;
        }
        serve(&mut *sink, &mut reports, &self.topic)
    }

    /// How many records the topic has seen.
    fn count(&self, log: &dyn Log) -> Result<u64, LogError> {
        let mut count = 0;
        for topic in log.topics(Some(std::slice::from_ref(&self.topic)))? {
            for partition in 0..i32::try_from(topic.partitions).unwrap_or(0) {
                count += log.watermarks(&TopicPartition::new(Arc::clone(&self.topic), partition))?.1;
            }
        }
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

fn serve(sink: &mut dyn Sink, reports: &mut Vec<pointsman_core::port::Report>, topic: &str) -> Result<(), Stopped> {
    sink.serve(reports)?;
    for report in reports.drain(..) {
        if let Err(error) = report.result {
            tracing::warn!(topic, "a sample record was not written: {error}");
        }
    }
    Ok(())
}

/// The sample record of this number.
fn number(line: &str, n: u64) -> Result<RecordLine, LineError> {
    parse_line(&line.replace(NUMBER, &n.to_string()))
}
