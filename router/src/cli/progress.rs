//! Progress of long work, on standard error: a bar where that is a terminal, and elsewhere a line every ten seconds, so that the
//! log of a job shows life.
//!
//! There is none with `--json`, nor where it is not wanted, nor where a bar would run into records on the same terminal.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use clap::builder::FalseyValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::account::{Account, Share};
use super::complain;
use crate::progress::{Stand, Total};

mod account;
#[cfg(test)]
mod tests;

/// Work that is over sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often a bar is drawn anew.
const DRAW: Duration = Duration::from_millis(200);
/// How often a line is written where there is no bar.
const LINE: Duration = Duration::from_secs(10);

/// Whether progress is shown.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Show no progress of long work. So it is, too, where the variable is neither empty nor `false`, `no`, `off` or `0`.
    #[arg(long, global = true, env = "POINTSMAN_NO_PROGRESS", value_parser = FalseyValueParser::new())]
    no_progress: bool,
}

/// It is not wanted in this process.
static UNWANTED: OnceLock<()> = OnceLock::new();

/// The bar that is on the screen.
static SCREEN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Heeds the arguments for the rest of the process.
pub(crate) fn start(arguments: &Arguments) {
    if arguments.no_progress {
        let _ = UNWANTED.set(());
    }
}

/// Writes to standard error beside the bar, if there is one.
pub(crate) fn aside<T>(write: impl FnOnce() -> T) -> T {
    let bar = SCREEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Standard error, for who writes whole lines to it.
pub(crate) struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        aside(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What a command says on standard output while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Nothing: its answer is at the end.
    Nothing,
    /// Record by record, whatever there is.
    Records,
    /// What a program reads; who asks for that is told nothing else.
    Json,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Bar,
    Lines,
    Nothing,
}

/// What standard output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    File,
    Terminal,
    /// Whatever is at its other end may write to the terminal.
    Pipe,
}

impl Output {
    fn of_process() -> Self {
        let out = io::stdout();
        let is_file = || {
            let file = out.as_fd().try_clone_to_owned().map(File::from);
            file.and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.is_file())
        };
        match out.is_terminal() {
            true => Self::Terminal,
            false if is_file() => Self::File,
            false => Self::Pipe,
        }
    }
}

impl Manner {
    fn of(says: Says, output: Output, can_draw: bool, is_wanted: bool) -> Self {
        match (says, output) {
            _ if !is_wanted => Self::Nothing,
            (Says::Json, _) => Self::Nothing,
            _ if !can_draw => Self::Lines,
            (Says::Records, Output::Terminal | Output::Pipe) => Self::Nothing,
            _ => Self::Bar,
        }
    }
}

/// Whether standard error is a screen that can be drawn on.
fn can_draw() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The progress of a command. What is on the screen goes away with it.
pub(super) struct Shown {
    begun: Instant,
    show: RefCell<Show>,
}

impl Shown {
    /// For a command that says this on standard output meanwhile.
    pub(super) fn new(says: Says) -> Self {
        let manner = Manner::of(says, Output::of_process(), can_draw(), UNWANTED.get().is_none());
        Self { begun: Instant::now(), show: RefCell::new(Show::new(manner)) }
    }

    /// For a command that shows none now.
    pub(super) fn none() -> Self {
        Self { begun: Instant::now(), show: RefCell::new(Show::new(Manner::Nothing)) }
    }

    /// Shows how far it has come.
    pub(super) fn tell(&self, stand: &Stand<'_>) {
        if let Some(line) = self.show.borrow_mut().tell(self.begun.elapsed(), stand) {
            complain(&line);
        }
    }

    /// Takes it off the screen for good: the answer comes.
    pub(super) fn end(&self) {
        self.show.borrow_mut().end();
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.end();
    }
}

struct Show {
    manner: Manner,
    account: Account,
    /// When something was shown last; at first, when the work began.
    shown: Option<Duration>,
    bar: Option<ProgressBar>,
}

impl Show {
    fn new(manner: Manner) -> Self {
        Self { manner, account: Account::default(), shown: None, bar: None }
    }

    /// Shows it where it is time to; the answer is a line to be written.
    fn tell(&mut self, now: Duration, stand: &Stand<'_>) -> Option<String> {
        if self.manner == Manner::Nothing {
            return None;
        }
        self.account.take(now, stand);
        let pause = match (self.manner, &self.bar) {
            (Manner::Lines, _) => LINE,
            (_, None) => PATIENCE,
            (_, Some(_)) => DRAW,
        };
        if now.saturating_sub(*self.shown.get_or_insert(now)) < pause {
            return None;
        }
        self.shown = Some(now);
        if self.manner == Manner::Lines {
            return Some(format!("{}: {}", stand.what, self.account.figures(now, stand, Share::Told)));
        }
        let figures = self.account.figures(now, stand, Share::Drawn);
        draw(self.bar.get_or_insert_with(appear), stand, figures);
        None
    }

    fn end(&mut self) {
        self.manner = Manner::Nothing;
        if let Some(bar) = self.bar.take() {
            *SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = None;
            bar.finish_and_clear();
        }
    }
}

/// A bar on the screen.
fn appear() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    *SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
    bar
}

fn draw(bar: &ProgressBar, stand: &Stand<'_>, figures: String) {
    let has_end = !matches!(stand.total, Total::Unknown);
    if has_end != bar.length().is_some() || bar.prefix() != stand.what {
        // Two lines, so that names of topics leave room for the figures on a terminal of 80 columns.
        let template = if has_end { "{prefix}\n[{bar:14}] {wide_msg}" } else { "{prefix}: {wide_msg}" };
        // What is wrong with a template would show in the tests; the default is a bar, too.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(stand.what.to_owned());
    }
    // Each change is drawn.
    let length = stand.total.number().map(|total| total.max(stand.done));
    match length {
        same if same == bar.length() => {}
        Some(length) => bar.set_length(length),
        None => bar.unset_length(),
    }
    bar.set_position(stand.done);
    bar.set_message(figures);
}
