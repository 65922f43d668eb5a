//! The thread that sends traces to a collector.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use pointsman_config::Plan;
use prost::Message as _;

use super::spans::{Clocks, Spans};
use super::{Parcel, Tracer};
use crate::counters::Counters;
use crate::otlp::{Collector, SendError};

/// What lanes have handed over and nobody has looked at yet.
const PARCELS_MAX: usize = 256;
/// Spans are sent when there are so many, ...
const SPANS: u64 = 2048;
/// ... or after this.
const WAIT: Duration = Duration::from_secs(1);
/// Longest that one message is sent again and again. Meanwhile lanes have nobody to hand anything to.
const TRY_FOR: Duration = Duration::from_secs(30);
/// Pauses between two attempts, the first and the longest.
const PAUSES: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(10);
/// Trouble is told so often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// What is left at the end has so long.
const LAST: Duration = Duration::from_secs(2);

/// Sends traces until all who hold its [`Tracer`] are gone.
pub(crate) struct Exporting {
    /// Closed when the thread ends.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
    /// That there is nothing more to come.
    last: Arc<std::sync::atomic::AtomicBool>,
}

/// Begins, where traces are to be sent.
///
/// # Errors
/// The system's, if it gives no thread.
pub(crate) fn start(plan: &Arc<Plan>, counters: &Arc<Counters>) -> io::Result<Option<(Arc<Tracer>, Exporting)>> {
    let Some(telemetry) = &plan.telemetry else { return Ok(None) };
    let Some(traces) = &telemetry.traces else { return Ok(None) };
    let (parcels, received) = sync_channel(PARCELS_MAX);
    let (alive, ended) = sync_channel(0);
    let last = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let exporter = Exporter {
        plan: Arc::clone(plan),
        counters: Arc::clone(counters),
        collector: Collector::new(plan, telemetry, "traces"),
        last: Arc::clone(&last),
        message: Vec::new(),
        complained: None,
    };
    let thread = std::thread::Builder::new().name("traces".into()).spawn(move || {
        exporter.run(&received);
        drop(alive);
    })?;
    let tracer = Arc::new(Tracer::new(traces, parcels, Arc::clone(counters)));
    Ok(Some((tracer, Exporting { ended, thread, last })))
}

impl Exporting {
    /// Waits a while until what was handed over is sent. Whoever could hand over more is gone.
    pub(crate) fn finish(self) {
        self.last.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        if let Err(RecvTimeoutError::Disconnected) = self.ended.recv_timeout(LAST) {
            let _ = self.thread.join();
        }
    }
}

struct Exporter {
    plan: Arc<Plan>,
    counters: Arc<Counters>,
    collector: Collector,
    last: Arc<std::sync::atomic::AtomicBool>,
    /// The last that was sent: so that the next has its place.
    message: Vec<u8>,
    complained: Option<Instant>,
}

impl Exporter {
    fn run(mut self, parcels: &Receiver<Parcel>) {
        let mut spans = Spans::new(Arc::clone(&self.plan));
        let mut since = Instant::now();
        loop {
            let left = if spans.count() == 0 { Duration::MAX } else { WAIT.saturating_sub(since.elapsed()) };
            let received = match left {
                Duration::MAX => parcels.recv().map_err(|_| RecvTimeoutError::Disconnected),
                left => parcels.recv_timeout(left),
            };
            match received {
                Ok(parcel) => {
                    if spans.count() == 0 {
                        since = Instant::now();
                    }
                    spans.add(parcel, Clocks::read());
                    if spans.count() < SPANS {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.send(&mut spans);
                    return;
                }
            }
            self.send(&mut spans);
        }
    }

    fn send(&mut self, spans: &mut Spans) {
        if spans.count() == 0 {
            return;
        }
        let mut message = std::mem::take(&mut self.message);
        let count = spans.take_message(self.collector.resource(), &mut message);
        let lost = match self.deliver(&message) {
            Ok(refused) => refused.min(count),
            Err(why) => {
                self.complain(&format!("{count} spans are lost: {why}"));
                count
            }
        };
        self.message = message;
        self.counters.traces.sent.fetch_add(count - lost, Ordering::Relaxed);
        self.counters.traces.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// The answer is how many spans were not taken.
    fn deliver(&mut self, message: &[u8]) -> Result<u64, String> {
        let until = Instant::now() + TRY_FOR;
        let mut pause = PAUSES.start;
        loop {
            let (why, after) = match self.collector.send(message) {
                Ok(answer) => return Ok(self.refused(&answer)),
                Err(SendError::Never(why)) => return Err(why),
                Err(SendError::Later { why, after }) => (why, after),
            };
            // All at once, and a collector that comes back has all routers at its door.
            let wait = after.unwrap_or(pause).mul_f64(1.0 + fastrand::f64() / 2.0);
            if self.last.load(Ordering::Relaxed) || Instant::now() + wait > until {
                return Err(why);
            }
            self.complain(&format!("traces can't be sent now: {why}"));
            std::thread::park_timeout(wait);
            pause = (pause * 2).min(PAUSES.end);
        }
    }

    fn refused(&mut self, answer: &[u8]) -> u64 {
        let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
        let Some(partial) = partial else { return 0 };
        if partial.rejected_spans > 0 || !partial.error_message.is_empty() {
            let (spans, message) = (partial.rejected_spans, partial.error_message.escape_debug());
            self.complain(&format!("the collector has refused {spans} spans: {message}"));
        }
        u64::try_from(partial.rejected_spans).unwrap_or(0)
    }

    fn complain(&mut self, trouble: &str) {
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            tracing::warn!("{trouble}. Records are not held up by it");
        }
    }
}
