//! Routers between which and their broker all sorts of things go wrong.

use anyhow::ensure;
use fastrand::Rng;

use super::ordered::Run;
use super::pair::{self, Guarantee, Pair};
use crate::kafka::Kafka;
use crate::kafka::proxy::{
    ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, END_TXN, INIT_PRODUCER_ID, Lost, OFFSET_COMMIT, PRODUCE, Proxy,
    TXN_OFFSET_COMMIT,
};

/// Written anew for each trouble.
const PORTION: u64 = 3_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// The next requests of a kind, or the answers to them, are lost with their connections.
    Loses { kind: i16, what: Lost },
    /// A router is killed, and started again.
    Kill,
    /// The same, and what its writers of transactions ask for first is lost.
    KillAndLose { what: Lost },
    /// A router stands still for longer than its session.
    Pause,
    /// A request to end a transaction comes in when its writer is in the middle of the next.
    LateEnd,
}

/// Two routers share the work; request after request and answer after answer of those that matter are lost, a router is killed or
/// stands still, and ends of transactions come late. As in
/// [`killed_routers_keep_the_order_of_keys`](super::killed_routers_keep_the_order_of_keys), every record is where its fate is,
/// in the order of its key.
///
/// The order of the troubles and the rest of the random numbers follow from a seed that is printed; `POINTSMAN_TEST_SEED` sets it, and
/// `POINTSMAN_TEST_ROUNDS` how often all the troubles are gone through: once without it.
///
/// # Errors
/// When a record is lost, out of order, or there twice though that is not allowed; when a late request is taken for the end of another
/// transaction; when the routers get stuck.
pub fn whatever_goes_wrong(kafka: &Kafka, proxy: &Proxy, guarantee: Guarantee) -> anyhow::Result<()> {
    let seed = pair::seed("whatever_goes_wrong")?;
    let mut random = Rng::with_seed(seed);
    let mut troubles = Vec::new();
    for _ in 0..pair::number("POINTSMAN_TEST_ROUNDS")?.unwrap_or(1) {
        let mut round = kinds(guarantee);
        random.shuffle(&mut round);
        troubles.append(&mut round);
    }
    let run = Run::prepare(kafka, guarantee, seed, troubles.len() as u64 * PORTION)?;
    let tried = run.try_out(seed, |routers| {
        for (number, trouble) in (0..).zip(&troubles) {
            eprintln!("whatever_goes_wrong: {trouble:?}");
            meet(*trouble, number, &run, routers, proxy, &mut random)?;
        }
        proxy.lose_nothing();
        Ok(())
    });
    let (lost, late) = (proxy.lose_nothing(), proxy.hold_nothing());
    eprintln!("whatever_goes_wrong: {} troubles, {lost} losses; late ends were answered with {late:?}", troubles.len());
    tried?;
    ensure!(!late.contains(&0), "a late request has ended another transaction than its own");
    Ok(())
}

/// One of each.
fn kinds(guarantee: Guarantee) -> Vec<Trouble> {
    let requests: &[i16] = match guarantee {
        Guarantee::AtLeastOnce => &[PRODUCE, OFFSET_COMMIT],
        Guarantee::ExactlyOnce => &[PRODUCE, ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN, TXN_OFFSET_COMMIT, END_TXN],
    };
    let both = [Lost::Request, Lost::Answer];
    let mut kinds: Vec<Trouble> = requests
        .iter()
        .flat_map(|kind| both.map(|what| Trouble::Loses { kind: *kind, what }))
        .chain([Trouble::Kill, Trouble::Pause])
        .collect();
    if guarantee == Guarantee::ExactlyOnce {
        kinds.extend(both.map(|what| Trouble::KillAndLose { what }));
        kinds.extend([Trouble::LateEnd; 2]);
    }
    kinds
}

/// Writes a portion of records, and makes trouble while they are worked on.
fn meet(
    trouble: Trouble,
    number: u64,
    run: &Run<'_>,
    routers: &mut Pair<'_>,
    proxy: &Proxy,
    random: &mut Rng,
) -> anyhow::Result<()> {
    let numbers = number * PORTION..(number + 1) * PORTION;
    let goal = i64::try_from(numbers.start + random.u64(1..PORTION * 9 / 10))?;
    let (output, victim) = (format!("{}.out", run.name), random.usize(0..2));
    match trouble {
        Trouble::Loses { kind, what } => {
            proxy.lose(kind, what, random.u32(1..=3));
            run.feed(numbers)?;
            routers.wait_for(&output, goal)
        }
        Trouble::Kill => routers.kill_in_the_middle(victim, (&output, goal), || run.feed(numbers)),
        Trouble::KillAndLose { what } => {
            proxy.lose(INIT_PRODUCER_ID, what, random.u32(1..=3));
            routers.kill_in_the_middle(victim, (&output, goal), || run.feed(numbers))
        }
        Trouble::Pause => {
            run.feed(numbers)?;
            routers.pause(victim)
        }
        Trouble::LateEnd => {
            proxy.hold_ends(1);
            run.feed(numbers)?;
            routers.wait_for(&output, goal)
        }
    }
}
