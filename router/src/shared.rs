//! What all workers share, all of it immutable or atomic.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use pointsman_config::plan::Plan;
use pointsman_core::port::PluginId;

use crate::alone::Alone;
use crate::counters::Counters;
use crate::lane::Baggage;
use crate::parking::Reader;
use crate::samples::Samples;
use crate::traces::Tracer;

/// The plan, and what the workers count and share by it.
pub(crate) struct Shared {
    pub(crate) plan: Arc<Plan>,
    /// For each plugin, the digest of its component in hexadecimal.
    pub(crate) digests: Vec<Arc<str>>,
    pub(crate) limiters: Limiters,
    pub(crate) counters: Arc<Counters>,
    /// Who may run plugins.
    pub(crate) alone: Arc<Alone>,
    /// What lanes that were undone have left behind.
    pub(crate) baggage: Baggage,
    /// Reads parked records back.
    pub(crate) reader: Reader,
    /// Who watches records come to their fates.
    pub(crate) samples: Arc<Samples>,
    /// Where records are traced.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

/// One reading of the clocks, for a whole round of steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) unix_ms: i64,
}

impl Now {
    pub(crate) fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), unix_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) }
    }
}

/// The rate limits of routes and plugins, over all lanes of the process. They make lanes wait, and never drop.
pub(crate) struct Limiters {
    routes: Vec<Option<Limiter>>,
    plugins: Vec<Option<Limiter>>,
}

struct Limiter {
    per_second: NonZeroU32,
    bucket: DefaultDirectRateLimiter,
}

impl Limiter {
    fn new(per_second: NonZeroU32) -> Self {
        // A bucket of one second's worth: a lane that was idle may catch up by that much.
        Self { per_second, bucket: DefaultDirectRateLimiter::direct(Quota::per_second(per_second)) }
    }
}

impl Limiters {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            routes: plan.routes.iter().map(|route| route.rate_limit.map(Limiter::new)).collect(),
            plugins: plan.plugins.iter().map(|plugin| plugin.rate_limit.map(Limiter::new)).collect(),
        }
    }

    /// How many of `ready` records (at least one) may be judged now, or when to ask again. A record is counted once for
    /// each of its limits; `grant` remembers what was counted already while the lane waits for the rest.
    pub(crate) fn admit(
        &self,
        route: usize,
        plugins: impl Iterator<Item = PluginId>,
        ready: usize,
        grant: &mut Grant,
        now: Now,
    ) -> Result<usize, Instant> {
        let plugins = plugins.filter_map(|plugin| self.plugins.get(plugin.0 as usize)?.as_ref());
        let limiters: Vec<&Limiter> = self.routes[route].iter().chain(plugins).collect();
        if grant.passed == 0 {
            let most = limiters.iter().map(|limiter| limiter.per_second.get() as usize).min().unwrap_or(usize::MAX);
            grant.count = ready.min(most);
        }
        if let Some(cells) = u32::try_from(grant.count).ok().and_then(NonZeroU32::new) {
            for limiter in limiters.into_iter().skip(grant.passed) {
                // The outer error says that the bucket is smaller than the count, which `most` rules out.
                if let Ok(Err(until)) = limiter.bucket.check_n(cells) {
                    return Err(now.instant + until.wait_time_from(DefaultClock::default().now()));
                }
                grant.passed += 1;
            }
        }
        Ok(std::mem::take(grant).count.min(ready))
    }
}

/// How far a lane has come in asking the limits of its next records.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    count: usize,
    /// Limits that let them through.
    passed: usize,
}

impl Grant {
    /// For so many records that all limits have let through.
    pub(crate) fn of(count: usize) -> Self {
        Self { count, passed: if count == 0 { 0 } else { usize::MAX } }
    }
}
