//! Two routers that share the work of one group on Kafka, of which one is killed now and then.

use std::time::Duration;
use std::{env, thread};

use anyhow::{Context as _, anyhow};

use crate::backend::Backend;
use crate::kafka::Kafka;
use crate::places::Scratch;
use crate::router::Router;
use crate::wait;

/// Portions are held up by the session timeout of the router killed before.
const GO_ON_DEADLINE: Duration = Duration::from_secs(120);
const DRAIN_DEADLINE: Duration = Duration::from_secs(240);

/// What a router can't go on after, though nothing is wrong with it: a static member has joined anew after its session, and a commit that
/// it had sent before comes in under the name of its old self; several requests of an idempotent producer were lost, and librdkafka does
/// not find where to go on; and where brokers are away while one starts, it says so and ends.
const ENDS: [&str; 3] = ["\"FENCED_INSTANCE_ID\"", "rewound sequence number", "can't open the writer"];

/// The seed of a flow, which it prints: `POINTSMAN_TEST_SEED`, or any.
pub(super) fn seed(flow: &str) -> anyhow::Result<u64> {
    let seed = number("POINTSMAN_TEST_SEED")?.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{flow}: POINTSMAN_TEST_SEED={seed}");
    Ok(seed)
}

/// The number that is the value of a variable, if it is set.
pub(super) fn number(variable: &str) -> anyhow::Result<Option<u64>> {
    let value = env::var(variable).ok();
    value.map(|value| value.parse().with_context(|| format!("{variable} is not a number"))).transpose()
}

/// The routers. Their route is called `main`, and reads one topic that is called as the group is.
pub(super) struct Pair<'a> {
    kafka: &'a Kafka,
    folder: Scratch,
    name: String,
    configs: [String; 2],
    /// By their numbers; `None` only while one is killed and started again.
    routers: [Option<Router>; 2],
}

impl<'a> Pair<'a> {
    /// Starts the routers, each with its configuration.
    pub(super) fn start(kafka: &'a Kafka, name: &str, configs: [String; 2]) -> anyhow::Result<Self> {
        let folder = Scratch::new("pair-")?;
        let mut pair = Self { kafka, folder, name: name.to_owned(), configs, routers: [None, None] };
        pair.start_again(0)?;
        pair.start_again(1)?;
        Ok(pair)
    }

    fn start_again(&mut self, number: usize) -> anyhow::Result<()> {
        let name = format!("router-{number}");
        self.routers[number] = Some(Router::start(self.folder.path(), &name, &self.configs[number])?);
        Ok(())
    }

    /// Kills one of them, and starts it again at once.
    pub(super) fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        self.check()?;
        if let Some(router) = self.routers[number].take() {
            router.kill()?;
        }
        self.start_again(number)
    }

    /// Feeds the routers, kills one of them once the topic has so many records, and waits for the end of the feed.
    pub(super) fn kill_in_the_middle(
        &mut self,
        victim: usize,
        (topic, goal): (&str, i64),
        feed: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let feeder = scope.spawn(feed);
            self.wait_for(topic, goal)?;
            self.kill(victim)?;
            feeder.join().map_err(|_| anyhow!("the feeder has panicked"))?
        })
    }

    /// Kills both, does `work`, and starts them again.
    pub(super) fn stand_still(&mut self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.check()?;
        for router in &mut self.routers {
            router.take().map_or(Ok(()), Router::kill)?;
        }
        let done = work();
        (0..self.routers.len()).try_for_each(|number| self.start_again(number))?;
        done
    }

    /// Has one of them stand still (SIGSTOP), until the other has done all that there is of the source topic.
    pub(super) fn pause(&mut self, number: usize) -> anyhow::Result<()> {
        self.routers[number].as_ref().context("it is being started")?.pause()?;
        let done = wait::until_ok("the other router to do it all", GO_ON_DEADLINE, || {
            self.check()?;
            Ok(self.is_source_read().then_some(()))
        });
        self.routers[number].as_ref().context("it is being started")?.resume()?;
        done
    }

    /// Waits until the topic has so many records.
    pub(super) fn wait_for(&mut self, topic: &str, goal: i64) -> anyhow::Result<()> {
        wait::until_ok("the routers to go on", GO_ON_DEADLINE, || {
            self.check()?;
            // Brokers that have just been started may not know yet.
            Ok(self.kafka.count(topic).is_ok_and(|count| count >= goal).then_some(()))
        })
    }

    /// Waits until the group has committed all of the source topic and all of the retry topic, and is at rest. (Who stops in the middle
    /// of a rebalance may not come to its last commit in time, and says so.)
    pub(super) fn drain(&mut self) -> anyhow::Result<()> {
        let backend = Backend::Kafka(self.kafka);
        let log = backend.log()?;
        wait::until_ok("the group to have nothing left to do", DRAIN_DEADLINE, || {
            self.check()?;
            let retry = retry_topic(&self.name);
            let is_done = self.is_source_read() && backend.is_read(&*log, &self.name, &retry).unwrap_or(false);
            Ok(is_done.then_some(()))
        })?;
        self.until_both_have_partitions()
    }

    /// Waits until each has some of the partitions, so many, and no partition is with both, as one may be that a router has lost
    /// and does not know of.
    pub(super) fn until_shared(&mut self, all: i32) -> anyhow::Result<()> {
        wait::until_ok("the routers to share the partitions", GO_ON_DEADLINE, || {
            let [first, second] = self.partitions()?;
            Ok((first > 0 && second > 0 && first + second == all).then_some(()))
        })
    }

    /// Waits until each has partitions.
    pub(super) fn until_both_have_partitions(&mut self) -> anyhow::Result<()> {
        wait::until_ok("both routers to have partitions", GO_ON_DEADLINE, || {
            Ok(self.partitions()?.iter().all(|count| *count > 0).then_some(()))
        })
    }

    /// Waits until one has all partitions, so many, and does `work` again and again meanwhile. The answer is which one.
    pub(super) fn until_one_has(
        &mut self,
        all: i32,
        mut work: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        wait::until_ok("one router to have all partitions", GO_ON_DEADLINE, || {
            work()?;
            Ok(self.partitions()?.iter().position(|count| *count == all))
        })
    }

    /// How many partitions each has, by its log since it was started.
    fn partitions(&mut self) -> anyhow::Result<[i32; 2]> {
        self.check()?;
        Ok([0, 1].map(|number| {
            let messages = self.messages(number);
            let since = messages.iter().rposition(|message| message == "running").unwrap_or(0);
            let changes = messages[since..].iter().map(|message| match message.as_str() {
                "lane assigned" => 1,
                "lane released" | "lane lost" | "lane undone" => -1,
                _ => 0,
            });
            changes.sum()
        }))
    }

    /// How many transactions of one of them were undone, by its log.
    pub(super) fn undone(&self, number: usize) -> usize {
        let messages = self.messages(number).into_iter();
        messages.filter(|message| message.starts_with("a transaction was undone")).count()
    }

    /// What one of them has logged.
    fn messages(&self, number: usize) -> Vec<String> {
        let lines = self.routers[number].iter().flat_map(Router::log);
        lines.filter_map(|line| Some(line["message"].as_str()?.to_owned())).collect()
    }

    /// Whether the group is known to have committed all of the source topic.
    fn is_source_read(&self) -> bool {
        self.kafka.lag(&self.name, &self.name).is_ok_and(|lag| lag == 0)
    }

    /// Whether both run. One that has ended since it could not [go on](ENDS) is started again, as whoever looks after
    /// processes does.
    fn check(&mut self) -> anyhow::Result<()> {
        for number in 0..self.routers.len() {
            let Some(router) = &mut self.routers[number] else { continue };
            let Err(ended) = router.check() else { continue };
            let log = router.log_tail();
            let Some(why) = ENDS.iter().find(|why| log.contains(**why)) else { return Err(ended) };
            eprintln!("router {number} has ended ({why}), and is started again");
            self.start_again(number)?;
        }
        Ok(())
    }

    /// Records that the group has not committed, of the source topic and of the retry topic.
    fn lag(&self) -> anyhow::Result<(i64, i64)> {
        Ok((self.kafka.lag(&self.name, &self.name)?, self.kafka.lag(&self.name, &retry_topic(&self.name))?))
    }

    /// Where they are, for whoever wants to know why they are stuck.
    pub(super) fn whereabouts(&self) -> String {
        let tails = self.routers.iter().flatten().map(Router::log_tail);
        let open = self.lag().map_or_else(|error| error.to_string(), |(source, retry)| format!("{source} and {retry}"));
        format!(
            "{open} records of the source and the retry topic are not settled; the ends of the routers' logs:\n{}",
            tails.collect::<Vec<_>>().join("\n--\n")
        )
    }

    /// Stops both.
    pub(super) fn stop_well(self) -> anyhow::Result<()> {
        self.routers.into_iter().flatten().try_for_each(Router::stop_well)
    }
}

/// What a flow ends with. What is wrong with the records is the worse news, even where the routers got stuck; but what they had
/// not come to is not lost.
pub(super) fn verdict(
    accounted: anyhow::Result<()>,
    worked: anyhow::Result<()>,
    stopped: anyhow::Result<()>,
) -> anyhow::Result<()> {
    match (accounted, worked) {
        (Err(fault), Err(stuck)) => Err(stuck.context(format!("the routers were not done; so far, {fault:#}"))),
        (accounted, worked) => accounted.and(worked).and(stopped),
    }
}

/// How routers deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Every record once or more.
    AtLeastOnce,
    /// Every record once.
    ExactlyOnce,
}

impl Guarantee {
    /// The keys of the table `[router]` that ask for it.
    pub(super) const fn keys(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "delivery = \"at-least-once\"",
            // So that what a killed router has left open is over soon.
            Self::ExactlyOnce => "delivery = \"exactly-once\"\ntransaction = { timeout = \"6s\" }",
        }
    }

    /// Whether a record may be there so often.
    pub(super) const fn allows(self, copies: u32) -> bool {
        matches!(self, Self::AtLeastOnce) || copies <= 1
    }
}

/// The retry topic of a pair.
pub(super) fn retry_topic(name: &str) -> String {
    format!("{name}.main.{name}.retry")
}
