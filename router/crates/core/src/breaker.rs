//! Pill or outage: failures that are exceptional become dead letters, failures that are the rule pause their lane.
//!
//! Every dead letter is paid with a token. Successes earn tokens, and one comes by itself now and then. With none left the
//! breaker opens: the lane keeps its place and tries one record, the probe, at growing intervals, until one succeeds.
//!
//! A success earns when it is ruled, and not when it has arrived: so tokens are earned and paid in the order of the records, however many
//! are under way. What is refused on its way gives back what it has earned. While the breaker is open that is another matter: nothing
//! but a delivery shows that it is over.
//!
//! A probe that fails is not paid for on credit. But once a token has come by itself, it pays for that probe, and the next
//! record is probed at once. So a pill at the head of a lane that is out of tokens costs waiting and never the lane; and an
//! outage, however long, costs no more records than came tokens.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// What a breaker goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Tokens to begin with; more than `max_tokens` are not kept.
    pub tokens: u32,
    /// Most tokens that are kept.
    pub max_tokens: NonZeroU32,
    /// So many successes earn a token.
    pub successes_per_token: NonZeroU32,
    /// One token comes by itself each time that this has passed; more than zero.
    pub token_every: Duration,
    /// From the first probe to the second, ...
    pub probe_initial: Duration,
    /// ... doubled from one probe to the next, up to this.
    pub probe_max: Duration,
}

/// One lane's breaker. Times handed to it never go back.
#[derive(Clone, Debug)]
pub struct Breaker {
    terms: Terms,
    tokens: u32,
    /// Successes towards the next token.
    successes: u32,
    /// When the next token comes by itself.
    next_token: Instant,
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    since: Instant,
    probe_at: Instant,
    /// Between the last probe and the next.
    wait: Duration,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(terms: Terms, now: Instant) -> Self {
        let tokens = terms.tokens.min(terms.max_tokens.get());
        Self { tokens, successes: 0, next_token: now + terms.token_every, open: None, terms }
    }

    /// Pays for a dead letter. `false`: there is no token, and the record may not become one.
    ///
    /// While the breaker is open this is the probe, and the next one is due at once.
    #[must_use]
    pub fn pay(&mut self, now: Instant) -> bool {
        self.let_tokens_come(now);
        let paid = self.tokens > 0;
        if paid {
            self.tokens -= 1;
            if let Some(open) = &mut self.open {
                open.probe_at = now;
            }
        }
        paid
    }

    /// So many records came through the stages without a failure. While the breaker is open that earns nothing: see
    /// [`close`](Self::close).
    ///
    /// `owed` failures wait to be paid for, and are to be before anything else: what they take is earned beyond
    /// `max_tokens`.
    pub fn earn(&mut self, successes: u64, owed: usize) {
        if !self.is_open() {
            self.add(successes, owed);
        }
    }

    fn add(&mut self, successes: u64, owed: usize) {
        let per_token = u64::from(self.terms.successes_per_token.get());
        let successes = successes.saturating_add(self.successes.into());
        // The rest is less than a `u32`.
        self.successes = (successes % per_token) as u32;
        let earned = u32::try_from(successes / per_token).unwrap_or(u32::MAX);
        let most = u32::try_from(owed).unwrap_or(u32::MAX).saturating_add(self.terms.max_tokens.get());
        self.tokens = self.tokens.saturating_add(earned).min(most);
    }

    /// So many of those that have [earned](Self::earn) were refused on their way, and are failures.
    pub fn give_back(&mut self, failures: u64) {
        if self.is_open() {
            return;
        }
        let per_token = u64::from(self.terms.successes_per_token.get());
        let purse = u64::from(self.tokens) * per_token + u64::from(self.successes);
        let left = purse.saturating_sub(failures);
        // No more than there were, and less than a `u32`.
        (self.tokens, self.successes) = ((left / per_token) as u32, (left % per_token) as u32);
    }

    /// So many records were delivered, or dropped without a failure. If the breaker is open, they earn tokens, and one of them closes it:
    /// the answer is for how long it was open. `owed` is as for [`earn`](Self::earn).
    pub fn close(&mut self, successes: u64, owed: usize, now: Instant) -> Option<Duration> {
        if successes == 0 {
            return None;
        }
        let open = self.open.take()?;
        self.add(successes, owed);
        Some(now.saturating_duration_since(open.since))
    }

    /// How many dead letters can be paid for now.
    #[must_use]
    pub const fn tokens(&self) -> u32 {
        self.tokens
    }

    /// A record can't be paid for, and nothing is under way that could close it: opens. The first probe is due at once.
    pub fn open(&mut self, now: Instant) {
        self.open.get_or_insert(Open { since: now, probe_at: now, wait: Duration::ZERO });
    }

    /// Whether it is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When the next probe is due, while it is open.
    #[must_use]
    pub fn probe_at(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.probe_at)
    }

    /// A probe begins; if it fails, the next is due after `probe_initial`, and each after it twice as late.
    pub fn probe(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.wait = open.wait.saturating_mul(2).clamp(self.terms.probe_initial, self.terms.probe_max);
            open.probe_at = now + open.wait;
        }
    }

    /// The next probe is due at once, and what is between two of them grows anew: somebody may have mended something.
    pub fn hasten(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            (open.probe_at, open.wait) = (now, Duration::ZERO);
        }
    }

    fn let_tokens_come(&mut self, now: Instant) {
        while self.next_token <= now {
            if self.tokens >= self.terms.max_tokens.get() {
                // None is missing, and none is on its way.
                self.next_token = now + self.terms.token_every;
                return;
            }
            self.tokens += 1;
            self.next_token += self.terms.token_every;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(tokens: u32, max_tokens: u32, successes_per_token: u32) -> Terms {
        Terms {
            tokens,
            max_tokens: max_tokens.try_into().expect("not zero"),
            successes_per_token: successes_per_token.try_into().expect("not zero"),
            token_every: Duration::from_secs(60),
            probe_initial: Duration::from_secs(1),
            probe_max: Duration::from_secs(40),
        }
    }

    fn any_terms() -> impl Strategy<Value = Terms> {
        (0..20_u32, 1..30_u32, 1..5_u32).prop_map(|(tokens, max, successes)| terms(tokens, max, successes))
    }

    #[derive(Clone, Debug)]
    enum Act {
        Pay,
        Earn(u64),
        Close(u64),
        Open,
        Probe,
        Wait(Duration),
    }

    fn any_act() -> impl Strategy<Value = Act> {
        prop_oneof![
            8 => Just(Act::Pay),
            2 => (0..40_u64).prop_map(Act::Earn),
            2 => (0..40_u64).prop_map(Act::Close),
            1 => Just(Act::Open),
            2 => Just(Act::Probe),
            3 => (0..200_000_u64).prop_map(|ms| Act::Wait(Duration::from_millis(ms))),
        ]
    }

    proptest! {
        #[test]
        fn dead_letters_never_exceed_the_tokens(
            terms in any_terms(),
            acts in prop::collection::vec(any_act(), 0..300),
            window in 0..300_usize,
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut breaker = Breaker::new(terms.clone(), now);
            // From the start, and from some later act on, when there may be as many tokens as are kept.
            let (mut paid, mut earned) = ([0_u64; 2], [0_u64; 2]);
            let mut begun = start;
            for (index, act) in acts.into_iter().enumerate() {
                if index == window {
                    (paid[1], earned[1], begun) = (0, 0, now);
                }
                match act {
                    Act::Pay => {
                        let one = u64::from(breaker.pay(now));
                        paid.iter_mut().for_each(|sum| *sum += one);
                    }
                    Act::Earn(count) => {
                        breaker.earn(count, 0);
                        earned.iter_mut().filter(|_| !breaker.is_open()).for_each(|sum| *sum += count);
                    }
                    Act::Close(count) => {
                        let closed = breaker.close(count, 0, now).is_some();
                        earned.iter_mut().filter(|_| closed).for_each(|sum| *sum += count);
                    }
                    Act::Open => breaker.open(now),
                    Act::Probe => breaker.probe(now),
                    Act::Wait(time) => now += time,
                }
                let came = |since: Instant| (now - since).as_secs() / terms.token_every.as_secs();
                let per_token = u64::from(terms.successes_per_token.get());
                prop_assert!(paid[0] <= u64::from(terms.tokens) + earned[0] / per_token + came(start));
                // A success and some seconds may have been in hand when the window began.
                let most = u64::from(terms.max_tokens.get());
                prop_assert!(index < window || paid[1] <= most + earned[1] / per_token + came(begun) + 2);
            }
        }

        /// Where all that comes through the stages is refused on its way, that is an outage, too.
        #[test]
        fn what_is_refused_on_its_way_has_earned_nothing(
            terms in any_terms(),
            batches in prop::collection::vec(0..40_u64, 0..50),
        ) {
            let start = Instant::now();
            let mut breaker = Breaker::new(terms.clone(), start);
            let mut paid = 0;
            for batch in batches {
                breaker.earn(batch, 0);
                breaker.give_back(batch);
                paid += (0..batch).filter(|_| breaker.pay(start)).count();
            }
            prop_assert!(paid <= terms.tokens as usize);
        }

        /// A lane drives its breaker as the router does; `fails` says which run of the record at its head fails.
        #[test]
        fn whatever_the_outage_the_lane_goes_on_after_it(
            terms in any_terms(),
            outage in 0..20_000_u64,
            pills in 0..10_u32,
        ) {
            let start = Instant::now();
            let outage = Duration::from_secs(outage);
            let mut now = start;
            let mut breaker = Breaker::new(terms.clone(), now);
            let (mut dead, mut pills_left) = (0_u64, pills);
            let mut over_at = None;
            while over_at.is_none() {
                if let Some(at) = breaker.probe_at() {
                    now = now.max(at);
                    breaker.probe(now);
                }
                let out = now < start + outage;
                if !out && pills_left == 0 {
                    breaker.close(1, 0, now);
                    over_at = Some(now - start);
                } else if breaker.pay(now) {
                    dead += 1;
                    pills_left -= u32::from(!out);
                } else {
                    breaker.open(now);
                }
            }
            prop_assert!(!breaker.is_open());
            let over = over_at.unwrap_or_default();
            prop_assert!(dead <= u64::from(terms.tokens) + over.as_secs() / terms.token_every.as_secs());
            // Each pill waits for one token at most, and for the probe after that.
            let most = outage + terms.probe_max + (terms.token_every + terms.probe_max) * pills;
            prop_assert!(over <= most, "{over:?} is later than {most:?}");
        }
    }

    #[test]
    fn a_token_that_comes_by_itself_pays_for_the_pill_at_the_head_and_the_next_is_probed_at_once() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(terms(1, 100, 1), start);
        assert!(breaker.pay(start) && !breaker.pay(start));
        breaker.open(start);
        let mut probes = Vec::new();
        let paid_at = loop {
            let at = breaker.probe_at().expect("it is open");
            breaker.probe(at);
            probes.push((at - start).as_secs());
            if breaker.pay(at) {
                break at;
            }
        };
        assert_eq!(probes, [0, 1, 3, 7, 15, 31, 63]);
        assert_eq!((breaker.probe_at(), breaker.is_open()), (Some(paid_at), true));
        breaker.probe(paid_at);
        breaker.earn(1, 0);
        assert!(!breaker.pay(after(64)), "that it came through the stages is not all");
        assert_eq!(breaker.close(1, 0, after(64)), Some(Duration::from_secs(64)));
        assert!(breaker.pay(after(64)) && !breaker.pay(after(64)), "the success has earned one");
    }

    #[test]
    fn what_is_owed_is_earned_beyond_what_is_kept() {
        let start = Instant::now();
        let mut breaker = Breaker::new(terms(0, 3, 1), start);
        breaker.earn(6, 4);
        assert_eq!((0..10).filter(|_| breaker.pay(start)).count(), 6);
        breaker.earn(1000, 4);
        assert_eq!((0..10).filter(|_| breaker.pay(start)).count(), 7);
    }

    #[test]
    fn a_full_purse_stays_full_and_no_fuller() {
        let start = Instant::now();
        let mut breaker = Breaker::new(terms(2, 3, 2), start);
        breaker.earn(1, 0);
        breaker.earn(2, 0);
        breaker.earn(1000, 0);
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| breaker.pay(later)).count(), 3);
        // The next is on its way from the moment that one is missing.
        assert!(!breaker.pay(later + Duration::from_secs(59)) && breaker.pay(later + Duration::from_secs(60)));
    }
}
