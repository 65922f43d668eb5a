//! The parts that copy topics.

use crate::catalogue::{
    bare, bare_divert, bare_json, behind, control, fan_out, faulty, header_filter, header_filter_half, identity,
    identity_by, identity_by_key, identity_delivered, identity_told, json_filter, json_transform, no_stage, plugins,
    routes,
};
use crate::figure::Bound;
use crate::part::{Goal, Group, Kind, Part, Picture};
use crate::subject::{BARE, Delivery, Subject};
use crate::workload::Workload;

/// What the command line says of the extent.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Records of 200 bytes, in place of a part's own number; of larger ones there are fewer.
    pub(crate) records: Option<u64>,
    pub(crate) repetitions: Option<u32>,
}

impl Extent {
    fn workload(self, records: u64) -> Workload {
        Workload::of(self.records.unwrap_or(records))
    }

    pub(crate) fn repetitions(self, repetitions: u32) -> u32 {
        self.repetitions.unwrap_or(repetitions)
    }
}

const SMALL: &str = "200 B";

pub(crate) fn short(extent: Extent) -> Part {
    let goal =
        |what, figure, of, against, bound| Goal { what, figure, of: (SMALL, of), against: (SMALL, against), bound };
    Part {
        name: "short",
        title: "What the router costs, in short",
        repetitions: extent.repetitions(11),
        groups: vec![Group {
            label: SMALL.into(),
            workload: extent.workload(1_000_000),
            // Next to what each is compared with.
            subjects: vec![identity(), bare(), header_filter(), control(), bare_json(), json_transform()],
            point: None,
        }],
        goals: vec![
            goal("header-filter: CPU, × bare", Kind::Cpu, "header-filter", BARE, Bound::AtMost(1.15)),
            goal("identity: CPU, × bare", Kind::Cpu, "identity", BARE, Bound::AtMost(1.2)),
            goal("json-transform: CPU, × bare-json", Kind::Cpu, "json-transform", "bare-json", Bound::AtMost(1.5)),
            goal("identity: throughput, × bare", Kind::Rate, "identity", BARE, Bound::AtLeast(0.85)),
        ],
        picture: Picture::CpuAndRate,
    }
}

pub(crate) fn subjects(extent: Extent) -> Part {
    // So many that a run takes about two seconds, whatever their size.
    let sizes = [(SMALL, 200, 1.0), ("1 KiB", 1 << 10, 0.5), ("10 KiB", 10 << 10, 0.08)];
    let group = |(label, value_bytes, share): (&str, usize, f64)| {
        let records = (extent.records.unwrap_or(1_500_000) as f64 * share) as u64;
        Group {
            label: label.into(),
            workload: Workload::of(records).sized(value_bytes),
            subjects: vec![
                bare(),
                control(),
                bare_json(),
                no_stage(),
                identity(),
                identity_by_key(),
                header_filter(),
                header_filter_half(),
                json_filter(),
                json_transform(),
                fan_out(),
            ],
            point: None,
        }
    };
    Part {
        name: "subjects",
        title: "What each kind of plugin costs, on records of three sizes",
        repetitions: extent.repetitions(5),
        groups: sizes.map(group).into(),
        goals: Vec::new(),
        picture: Picture::Cpu,
    }
}

pub(crate) fn batches(extent: Extent) -> Part {
    let sizes = [16, 64, 256, 1024, 4096];
    Part {
        name: "batches",
        title: "What the size of a batch makes of it",
        repetitions: extent.repetitions(5),
        groups: vec![Group {
            label: SMALL.into(),
            workload: extent.workload(1_000_000),
            subjects: [bare(), control()].into_iter().chain(sizes.map(identity_by)).collect(),
            point: None,
        }],
        goals: Vec::new(),
        picture: Picture::CpuAndRate,
    }
}

pub(crate) fn partitions(extent: Extent) -> Part {
    let group = |partitions: u32| point(extent.workload(1_000_000), PARTITIONS, partitions, vec![bare(), identity()]);
    Part {
        name: "partitions",
        title: "What the number of partitions makes of it",
        repetitions: extent.repetitions(5),
        groups: [1, 4, 32].map(group).into(),
        goals: Vec::new(),
        picture: Picture::CpuAndRate,
    }
}

pub(crate) fn failures(extent: Extent) -> Part {
    const NONE: &str = "no failures";
    const REJECTED: &str = "1 % rejected";
    const TRAPS: &str = "0.1 % trap";
    const DIVERTED: &str = "bare with 1 % to another topic";
    const LARGER: &str = "1 KiB";
    let beside = |subject: Subject| Subject { baseline: Some(NONE), ..subject };
    // Next to their baseline are those that a bar is about: what the machine does besides changes from minute to minute.
    let barred = || {
        let (rejected, traps) = (faulty(REJECTED, "reject", Some(100)), faulty(TRAPS, "trap", Some(1000)));
        [beside(rejected), faulty(NONE, "reject", None), beside(traps)]
    };
    let others = [
        beside(faulty("0.01 % rejected", "reject", Some(10_000))),
        beside(faulty("0.1 % rejected", "reject", Some(1000))),
        beside(faulty("0.01 % trap", "trap", Some(10_000))),
        beside(faulty("1 % trap", "trap", Some(100))),
        beside(faulty("0.001 % loop for 50 ms", "loop", Some(100_000))),
    ];
    let diverted = Subject { baseline: Some(BARE), ..bare_divert(DIVERTED) };
    let small = [bare(), diverted].into_iter().chain(barred()).chain(others).collect();
    let larger = [bare()].into_iter().chain(barred()).collect();
    let records = extent.records.unwrap_or(3_000_000);
    let (workload, fewer) = (Workload::of(records), Workload::of(records / 3).sized(1 << 10));
    let goal = |what, size, of, bound| {
        let (of, against) = ((size, of), (size, NONE));
        Goal { what, figure: Kind::Rate, of, against, bound: Bound::AtLeast(bound) }
    };
    Part {
        name: "failures",
        title: "What records that fail cost their neighbours",
        // A few in a hundred show after many short turns rather than few long ones.
        repetitions: extent.repetitions(15),
        groups: vec![
            Group { label: SMALL.into(), workload, subjects: small, point: None },
            Group { label: LARGER.into(), workload: fewer, subjects: larger, point: None },
        ],
        goals: vec![
            goal("200 B, 1 % rejected: throughput, × no failures", SMALL, REJECTED, 0.95),
            goal("200 B, 0.1 % trap: throughput, × no failures", SMALL, TRAPS, 0.85),
            goal("1 KiB, 1 % rejected: throughput, × no failures", LARGER, REJECTED, 0.95),
            goal("1 KiB, 0.1 % trap: throughput, × no failures", LARGER, TRAPS, 0.85),
        ],
        picture: Picture::CpuAndRate,
    }
}

pub(crate) fn delivery(extent: Extent) -> Part {
    const AT_LEAST: &str = "at least once";
    const EXACTLY: &str = "exactly once";
    let exactly = identity_delivered(EXACTLY, Delivery::ExactlyOnce);
    Part {
        name: "delivery",
        title: "What it costs to deliver exactly once, with a commit every 100 ms",
        repetitions: extent.repetitions(5),
        groups: vec![Group {
            label: SMALL.into(),
            workload: extent.workload(3_000_000),
            subjects: vec![
                bare(),
                identity_delivered(AT_LEAST, Delivery::AtLeastOnce),
                Subject { baseline: Some(AT_LEAST), ..exactly },
            ],
            point: None,
        }],
        goals: vec![Goal {
            what: "exactly once: throughput, × at least once",
            figure: Kind::Rate,
            of: (SMALL, EXACTLY),
            against: (SMALL, AT_LEAST),
            bound: Bound::AtLeast(0.85),
        }],
        picture: Picture::CpuAndRate,
    }
}

/// Metrics are sent far more often here than anybody wants them: a run takes some seconds.
pub(crate) fn telemetry(extent: Extent) -> Part {
    const UNTOLD: &str = "identity";
    const METRICS: &str = "metrics every second";
    const TRACED: &str = "metrics and 1 % traced";
    const ALL_TRACED: &str = "metrics and 10 % traced";
    let beside = |subject: Subject| Subject { baseline: Some(UNTOLD), ..subject };
    let traced = |name, sample: &str| {
        let traces = format!("traces = {{ sample = {sample}, records_per_second = 1000000 }}");
        beside(identity_told(name, &format!("metrics = {{ every = \"1s\" }}\n{traces}")))
    };
    let goal = |what, of| Goal {
        what,
        figure: Kind::Cpu,
        of: (SMALL, of),
        against: (SMALL, UNTOLD),
        bound: Bound::AtMost(1.03),
    };
    Part {
        name: "telemetry",
        title: "What it costs to be told of",
        // A few in a hundred show after many short turns rather than few long ones.
        repetitions: extent.repetitions(21),
        groups: vec![Group {
            label: SMALL.into(),
            workload: extent.workload(1_000_000),
            subjects: vec![
                bare(),
                identity(),
                Subject { name: "identity again (control)".into(), ..beside(identity()) },
                beside(identity_told(METRICS, "metrics = { every = \"1s\" }\ntraces = false")),
                traced(TRACED, "0.01"),
                traced(ALL_TRACED, "0.1"),
            ],
            point: None,
        }],
        goals: vec![
            goal("metrics every second: CPU, × identity", METRICS),
            goal("metrics and 1 % traced: CPU, × identity", TRACED),
        ],
        picture: Picture::CpuAndRate,
    }
}

pub(crate) fn backlog(extent: Extent) -> Part {
    const NONE: &str = "none parked";
    const MILLION: &str = "a million parked";
    Part {
        name: "backlog",
        title: "What records that wait for their retry cost the others",
        repetitions: extent.repetitions(5),
        groups: vec![Group {
            label: SMALL.into(),
            workload: extent.workload(1_000_000),
            subjects: vec![bare(), behind(NONE, 0), Subject { baseline: Some(NONE), ..behind(MILLION, 1_000_000) }],
            point: None,
        }],
        goals: vec![Goal {
            what: "a million parked: throughput, × none parked",
            figure: Kind::Rate,
            of: (SMALL, MILLION),
            against: (SMALL, NONE),
            bound: Bound::AtLeast(0.9),
        }],
        picture: Picture::CpuAndRate,
    }
}

const PARTITIONS: &str = "partitions";

pub(crate) fn scaling(extent: Extent) -> Part {
    let workload = extent.workload(1_000_000);
    let by_partitions = [1, 4, 32, 128, 512].map(|count| point(workload, PARTITIONS, count, vec![bare(), identity()]));
    let by_routes = [1, 10, 100].map(|count| point(workload, "routes", count, vec![routes(count)]));
    let by_plugins = [1, 10, 50].map(|count| point(workload, "plugins", count, vec![plugins(count)]));
    Part {
        name: "scaling",
        title: "What many partitions, routes and plugins cost each event",
        repetitions: extent.repetitions(5),
        groups: by_partitions.into_iter().chain(by_routes).chain(by_plugins).collect(),
        goals: vec![Goal {
            what: "identity: CPU with 512 partitions, × with 4",
            figure: Kind::Cpu,
            of: ("512 partitions", "identity"),
            against: ("4 partitions", "identity"),
            bound: Bound::AtMost(1.3),
        }],
        picture: Picture::Scale,
    }
}

/// A group at a point of a scale: so many partitions of one topic, or so many topics.
fn point(workload: Workload, of: &'static str, count: u32, subjects: Vec<Subject>) -> Group {
    let workload = match of {
        PARTITIONS => workload.partitioned(count.cast_signed()),
        _ => workload.shared_by(count),
    };
    let label = format!("{count} {}", if count == 1 { of.trim_end_matches('s') } else { of });
    Group { label, workload, subjects, point: Some((of, count)) }
}
