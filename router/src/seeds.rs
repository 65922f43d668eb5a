//! Simulations, each by the seed of its random numbers.

/// Runs a simulation for each seed below `POINTSMAN_SEEDS`, or else below `usual`; or for `POINTSMAN_SEED` alone.
pub(crate) fn for_each(usual: u64, simulate: fn(u64)) {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let all = 0..number("POINTSMAN_SEEDS").unwrap_or(usual);
    for seed in number("POINTSMAN_SEED").map_or(all, |seed| seed..seed + 1) {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "failed; POINTSMAN_SEED={seed} runs only this one");
    }
}
