//! Who runs plugins in this process: all lanes at once, or one that is to be alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the lanes that judge records at this moment, and keeps others from it while one is to be alone. Asked once for each
/// batch.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    /// How many judge, and [`CLAIMED`].
    state: AtomicU32,
}

const CLAIMED: u32 = 1 << 31;

impl Alone {
    /// A lane is about to judge, until it drops the answer; `None` while another is to be alone.
    pub(crate) fn enter(&self) -> Option<Judging<'_>> {
        let more = |state: u32| (state & CLAIMED == 0).then_some(state + 1);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Judging(self))
    }

    /// Keeps all others from judging anew, until the answer is dropped; `None` where somebody else does that already.
    pub(crate) fn claim(self: &Arc<Self>) -> Option<Claim> {
        let before = self.state.fetch_or(CLAIMED, Ordering::AcqRel);
        (before & CLAIMED == 0).then(|| Claim(Arc::clone(self)))
    }
}

/// A lane judges.
pub(crate) struct Judging<'a>(&'a Alone);

impl Drop for Judging<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A lane is to be alone.
#[derive(Debug)]
pub(crate) struct Claim(Arc<Alone>);

impl Claim {
    /// Whether no other lane judges any more.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == CLAIMED
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.state.fetch_and(!CLAIMED, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use super::Alone;

    #[test]
    fn who_claims_it_is_alone_when_the_others_are_done() {
        let alone = Arc::new(Alone::default());
        let others = (alone.enter().unwrap(), alone.enter().unwrap());
        let claim = alone.claim().unwrap();
        assert!(alone.claim().is_none() && alone.enter().is_none() && !claim.is_alone());
        drop(others);
        assert!(claim.is_alone());
        drop(claim);
        assert!(alone.enter().is_some() && alone.claim().is_some());
    }
}
