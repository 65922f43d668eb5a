//! What a part has to say: on the screen, and kept in files beside the benchmark.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::thread;

use anyhow::Context as _;
use pointsman_tests::places;

use crate::chart::{Chart, Marks, Panel};
use crate::figure::Bar;
use crate::part::{Kind, Picture, Results};
use crate::table;

/// The outcome of a part.
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// What was run, in sentences.
    pub(crate) about: String,
    pub(crate) table: String,
    pub(crate) bars: Vec<Bar>,
    pub(crate) chart: Chart,
}

impl Report {
    /// Of a part that copies topics.
    pub(crate) fn of(results: &Results<'_>) -> Self {
        let part = results.part;
        let mut about = format!("Repetitions of each: {}. {}\n", part.repetitions, table::LEGEND);
        for group in &part.groups {
            let _ = write!(about, "\n- {}: {}", group.label, group.workload);
        }
        Self {
            name: part.name,
            title: part.title.into(),
            about,
            table: table::of(results),
            bars: results.bars(),
            chart: Chart { title: part.title.into(), panels: panels(results) },
        }
    }

    /// All of it but the chart, in Markdown.
    pub(crate) fn text(&self) -> String {
        let Self { title, about, table, bars, .. } = self;
        let mut text = format!("# {title}\n\n{about}\n\n{table}");
        if !bars.is_empty() {
            text.push_str("\n| bar | by the best | by the median | wanted | |\n| --- | --- | --- | --- | --- |\n");
            for bar in bars {
                let _ = writeln!(text, "{bar}");
            }
        }
        text
    }

    /// Writes `NAME.md` and `NAME.svg` to the folder of results.
    pub(crate) fn save(&self, circumstances: &str) -> anyhow::Result<()> {
        let folder = places::workspace().join("tests/bench/results");
        fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        let Self { name, title, .. } = self;
        let text = format!("{}\n{circumstances}\n\n![{title}]({name}.svg)\n", self.text());
        for (file, text) in [(format!("{name}.md"), text), (format!("{name}.svg"), self.chart.svg()?)] {
            let file = folder.join(file);
            fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
        }
        Ok(())
    }
}

const UNITS: [(Kind, &str); 2] =
    [(Kind::Cpu, "CPU, µs for each record of the source"), (Kind::Rate, "thousand records of the source a second")];

fn panels(results: &Results<'_>) -> Vec<Panel> {
    match results.part.picture {
        Picture::Cpu => strips(results, &UNITS[..1]),
        Picture::CpuAndRate => strips(results, &UNITS),
        Picture::Scale => scales(results),
    }
}

/// A panel for each group and unit.
fn strips(results: &Results<'_>, units: &[(Kind, &str)]) -> Vec<Panel> {
    let mut panels = Vec::new();
    for (kind, unit) in units {
        for (at, group) in results.part.groups.iter().enumerate() {
            let of_group = results.places().filter(|place| place.group == at);
            let strips = of_group.map(|place| (results.subject(place).name.to_string(), results.figure(*kind, place)));
            panels.push(Panel { title: format!("{}: {unit}", group.label), marks: Marks::Strips(strips.collect()) });
        }
    }
    panels
}

/// A panel for each scale, with a line for each subject.
fn scales(results: &Results<'_>) -> Vec<Panel> {
    let mut scales: Vec<(&str, Vec<u32>, Vec<&str>)> = Vec::new();
    for place in results.places() {
        let Some((of, count)) = results.group(place).point else { continue };
        let name = &*results.subject(place).name;
        match scales.iter_mut().find(|(scale, ..)| *scale == of) {
            None => scales.push((of, vec![count], vec![name])),
            Some((_, counts, names)) => {
                if !counts.contains(&count) {
                    counts.push(count);
                }
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    let panel = |(of, counts, names): (&str, Vec<u32>, Vec<&str>)| {
        let figure = |name: &str, count| {
            let mut places = results.places();
            let place = places.find(|place| {
                results.group(*place).point == Some((of, count)) && results.subject(*place).name == name
            })?;
            Some(results.figure(Kind::Cpu, place))
        };
        let lines = names.iter().map(|name| {
            let figures = counts.iter().map(|count| figure(name, *count)).collect();
            ((*name).to_owned(), figures)
        });
        Panel {
            title: format!("{}, by the number of {of}", UNITS[0].1),
            marks: Marks::Lines { lines: lines.collect(), scale: counts.iter().map(u32::to_string).collect() },
        }
    };
    scales.into_iter().map(panel).collect()
}

/// What the figures were measured on, when, of what, and by which command line.
pub(crate) fn circumstances() -> String {
    let processors = thread::available_parallelism().map_or(0, usize::from);
    let line_of = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| Some(line.strip_prefix(name)?.split_once(':')?.1.trim().to_owned()));
        line.unwrap_or_else(|| "unknown".into())
    };
    let model = line_of("/proc/cpuinfo", "model name");
    let memory = line_of("/proc/meminfo", "MemTotal");
    let system = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    format!(
        "- {processors} processors ({model}), {memory} of memory, Linux {}; others had a load of {load} on it at the start\n\
         - {}, version {}\n\
         - `cargo bench -p pointsman-tests --bench passthrough -- {}`",
        system.trim(),
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        revision().unwrap_or_else(|| env!("CARGO_PKG_VERSION").into()),
        arguments.join(" ")
    )
}

/// What git calls the sources, if it is there.
fn revision() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(places::workspace());
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
