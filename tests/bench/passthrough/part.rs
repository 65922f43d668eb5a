//! A part of the benchmark that copies topics: which subjects run on which records, and how the figures come about.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;

use crate::figure::{Bar, Bound, Figure};
use crate::run::{self, Measured};
use crate::setting::Bench;
use crate::subject::{BARE, CONTROL, Subject};
use crate::workload::{Source, Workload};

/// What is run, and what of it is of interest.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// What it tells.
    pub(crate) title: &'static str,
    pub(crate) repetitions: u32,
    pub(crate) groups: Vec<Group>,
    pub(crate) goals: Vec<Goal>,
    pub(crate) picture: Picture,
}

/// Subjects that read the same topics.
pub(crate) struct Group {
    pub(crate) label: String,
    pub(crate) workload: Workload,
    pub(crate) subjects: Vec<Subject>,
    /// Its place on a scale, where the part has one: of what (`partitions`), and how many.
    pub(crate) point: Option<(&'static str, u32)>,
}

/// A bar to be met: how much one subject has of something beside another. Each is named by its group and its name.
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    pub(crate) figure: Kind,
    pub(crate) of: (&'static str, &'static str),
    pub(crate) against: (&'static str, &'static str),
    pub(crate) bound: Bound,
}

/// What is measured of every subject.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Microseconds of CPU for each record of the source.
    Cpu,
    /// Thousand records of the source a second.
    Rate,
}

/// How a part is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Picture {
    /// The CPU of each subject.
    Cpu,
    /// That, and its throughput.
    CpuAndRate,
    /// The CPU of each subject along the scale that the groups are points of.
    Scale,
}

/// In the first run of two million records with dead letters a broker took 4.4 s of CPU, then 3.0, 2.4, 1.8, and no less: its
/// compiler's part.
const WARM_UPS: u32 = 3;

impl Part {
    /// Leaves the groups of these labels, or all where there is none.
    pub(crate) fn keep_groups(&mut self, labels: &[String]) {
        self.groups.retain(|group| labels.is_empty() || labels.contains(&group.label));
    }

    /// Leaves the subjects of these names, and what they are compared with.
    pub(crate) fn keep_only(&mut self, names: &[String]) {
        let is_named = |subject: &Subject| names.iter().any(|name| subject.name == name.as_str());
        self.groups.retain(|group| names.is_empty() || group.subjects.iter().any(is_named));
        for group in self.groups.iter_mut().filter(|_| !names.is_empty()) {
            let named = group.subjects.iter().filter(|subject| is_named(subject));
            let baselines: Vec<&str> = named.filter_map(|subject| subject.baseline).chain([BARE, CONTROL]).collect();
            group.subjects.retain(|subject| is_named(subject) || baselines.contains(&&*subject.name));
        }
    }

    /// Runs all of it. The subjects take turns, all of them in each repetition, forwards and backwards: what the machine
    /// does besides meets all alike.
    pub(crate) fn run(&self, bench: &Bench) -> anyhow::Result<Results<'_>> {
        let sources: Vec<Source> = self
            .groups
            .iter()
            .map(|group| {
                println!("  filling {}", group.workload);
                Source::filled(&bench.kafka, group.workload)
            })
            .collect::<Result<_, _>>()?;
        let mut cases: Vec<(usize, usize)> = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            cases.extend((0..group.subjects.len()).map(|subject| (at, subject)));
        }
        let empties: Vec<Source> =
            self.groups.iter().map(|group| Source::empty(&bench.kafka, group.workload)).collect::<Result<_, _>>()?;
        let run = |(at, index): (usize, usize)| {
            let group: &Group = &self.groups[at];
            let subject = &group.subjects[index];
            let measured =
                run::once(bench, subject, &sources[at], &empties[at]).with_context(|| group.label.clone())?;
            println!("  {}, {}: {measured}", group.label, subject.name);
            anyhow::Ok(measured)
        };
        println!("  not counted, for the broker's compiler warms up");
        for _ in 0..self.repetitions.min(WARM_UPS) {
            for case in &cases {
                run(*case)?;
            }
        }
        let starts = self.starts(bench, &empties)?;
        let mut runs: Vec<Vec<Vec<Measured>>> =
            self.groups.iter().map(|group| vec![Vec::new(); group.subjects.len()]).collect();
        for _ in 0..self.repetitions {
            for case in &cases {
                runs[case.0][case.1].push(run(*case)?);
            }
            cases.reverse();
        }
        for source in sources.iter().chain(&empties) {
            source.delete(&bench.kafka)?;
        }
        Ok(Results { part: self, starts, runs })
    }

    /// What it costs to start each subject, on topics as its own, but without records: the least of two starts. A plugin
    /// that is new is compiled in one that is not counted.
    fn starts(&self, bench: &Bench, empties: &[Source]) -> anyhow::Result<Vec<Vec<Duration>>> {
        let mut compiled = BTreeSet::new();
        let mut starts = Vec::new();
        for (group, empty) in self.groups.iter().zip(empties) {
            let mut of_group = Vec::new();
            for subject in &group.subjects {
                let start = || run::start(bench, subject, empty);
                let new = subject.components().iter().filter(|component| compiled.insert(component.file_name()));
                if new.count() > 0 {
                    start()?;
                }
                let least = start()?.min(start()?);
                println!("  {}, {}: {least:.2?} of CPU to start", group.label, subject.name);
                of_group.push(least);
            }
            starts.push(of_group);
        }
        Ok(starts)
    }
}

/// What a part has come to.
pub(crate) struct Results<'a> {
    pub(crate) part: &'a Part,
    /// Of each group, of each of its subjects.
    starts: Vec<Vec<Duration>>,
    /// Of each group, of each of its subjects, of each repetition.
    runs: Vec<Vec<Vec<Measured>>>,
}

/// A subject in its group.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) group: usize,
    pub(crate) subject: usize,
}

impl Results<'_> {
    /// All of them, group by group.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        let groups = self.runs.iter().enumerate();
        groups.flat_map(|(group, runs)| (0..runs.len()).map(move |subject| Place { group, subject }))
    }

    pub(crate) fn group(&self, place: Place) -> &Group {
        &self.part.groups[place.group]
    }

    pub(crate) fn subject(&self, place: Place) -> &Subject {
        &self.group(place).subjects[place.subject]
    }

    pub(crate) fn runs(&self, place: Place) -> &[Measured] {
        &self.runs[place.group][place.subject]
    }

    /// The subject of this name in the same group.
    pub(crate) fn beside(&self, place: Place, name: &str) -> Option<Place> {
        let subject = self.group(place).subjects.iter().position(|subject| subject.name == name)?;
        Some(Place { subject, ..place })
    }

    pub(crate) fn figure(&self, kind: Kind, place: Place) -> Figure {
        match kind {
            Kind::Cpu => Figure::least_of(self.values(kind, place)),
            Kind::Rate => Figure::most_of(self.values(kind, place)),
        }
    }

    /// How many times the other's it is.
    pub(crate) fn ratio(&self, kind: Kind, own: Place, other: Place) -> Figure {
        let pairs = self.values(kind, own).zip(self.values(kind, other));
        Figure::ratio(self.figure(kind, own), self.figure(kind, other), pairs)
    }

    /// The goals whose subjects have run, and for long enough.
    pub(crate) fn bars(&self) -> Vec<Bar> {
        let find = |(group, name): (&str, &str)| {
            self.places().find(|place| self.group(*place).label == group && self.subject(*place).name == name)
        };
        let bars = self.part.goals.iter().filter_map(|goal| {
            let ratio = self.ratio(goal.figure, find(goal.of)?, find(goal.against)?);
            let bar = Bar { what: goal.what.to_owned(), best: ratio.best, median: ratio.median, bound: goal.bound };
            bar.best.is_finite().then_some(bar)
        });
        bars.collect()
    }

    fn values(&self, kind: Kind, place: Place) -> impl Iterator<Item = f64> {
        let records = self.group(place).workload.records() as f64;
        let start = self.start_cpu(place);
        self.runs(place).iter().map(move |run| match kind {
            Kind::Cpu => run.cpu.saturating_sub(run.start.unwrap_or(start)).as_secs_f64() * 1e6 / records,
            Kind::Rate => run.rate / 1e3,
        })
    }

    /// The CPU that it takes to start. It is taken off every run, unless the records of that came when its start was over: to look
    /// for the moment at which a start is over would be to look late now and then, with records on their way already, and to find
    /// a run cheap that was not.
    pub(crate) fn start_cpu(&self, place: Place) -> Duration {
        let least = self.runs(place).iter().filter_map(|run| run.start).min();
        least.unwrap_or(self.starts[place.group][place.subject])
    }
}
