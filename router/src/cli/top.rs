//! `pointsman top`: a running router, looked at again and again.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde::Serialize;

use super::door::{DoorArguments, DoorFailed};
use super::{Exit, complain, printable, say};
use crate::admin::{Client, ClientError};
use crate::lanes::LaneReport;
use crate::telemetry::{Fates, LaneLag, RouteReport};

mod draw;

/// Watch a running router: routes and lanes, how far they are behind, what becomes of their records, and what is not well.
///
/// The lanes that are not well come first. The router must have a door (`[admin] listen` in its configuration). Where standard output
/// is no terminal, there is one line of JSON for each look.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    /// How often to look.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print one line of JSON for each look, on a terminal, too.
    #[arg(long)]
    json: bool,
    /// Look so many times, and end.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    looks: Option<u64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| format!("{error}; write it with its unit, 1s"))?;
    let is_fit = (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval);
    if is_fit { Ok(interval) } else { Err("it is to be between 100ms and 1h".to_owned()) }
}

/// One look.
#[derive(Clone, Debug, Serialize)]
struct Board {
    routes: Vec<RouteReport>,
    /// Records of each route that came to each fate a second since the look before.
    rates: Vec<Option<Rates>>,
    lanes: Vec<LaneReport>,
    lag: Vec<LaneLag>,
    #[serde(skip)]
    at: Instant,
}

/// Records a second, by fate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Rates {
    delivered: f64,
    dropped: f64,
    parked: f64,
    dead_lettered: f64,
}

impl Rates {
    fn between(before: &Fates, now: &Fates, elapsed: Duration) -> Option<Self> {
        let seconds = elapsed.as_secs_f64();
        let rate = |before: u64, now: u64| now.checked_sub(before).map(|count| count as f64 / seconds);
        // One that has been started again counts anew.
        Some(Self {
            delivered: rate(before.delivered, now.delivered)?,
            dropped: rate(before.dropped, now.dropped)?,
            parked: rate(before.parked, now.parked)?,
            dead_lettered: rate(before.dead_lettered, now.dead_lettered)?,
        })
        .filter(|_| seconds > 0.0)
    }
}

impl Board {
    fn look(client: &Client, before: Option<&Self>) -> Result<Self, ClientError> {
        let (routes, lanes, lag, at) = (client.routes()?, client.lanes()?, client.lag()?, Instant::now());
        let rate = |route: &RouteReport| {
            let before = before?;
            let old = before.routes.iter().find(|old| old.route == route.route)?;
            Rates::between(&old.fates, &route.fates, at.saturating_duration_since(before.at))
        };
        let rates = routes.iter().map(rate).collect();
        Ok(Self { routes, rates, lanes, lag, at })
    }
}

/// What is on the screen.
#[derive(Default)]
struct View {
    board: Option<Board>,
    /// Why the last look has failed.
    trouble: Option<String>,
    /// Lanes that are scrolled out at the top.
    scrolled: usize,
    /// Lanes that are well are left out.
    unwell_only: bool,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let client = match arguments.door.open() {
        Ok((client, _)) => client,
        Err(failed) => return failed.told(),
    };
    // Before the screen is taken: what is wrong from the start is an error, and no picture.
    let first = match Board::look(&client, None) {
        Ok(board) => board,
        Err(error) => return DoorFailed::from(error).told(),
    };
    if arguments.json || !io::stdout().is_terminal() {
        return lines(arguments, &client, first);
    }
    let watched = ratatui::try_init().and_then(|terminal| {
        let watched = watch(terminal, arguments, &client, first);
        ratatui::try_restore().and(watched)
    });
    match watched {
        Ok(()) => Exit::Fine,
        Err(error) => {
            complain(&format!("error: can't draw on the terminal: {error}; --json prints lines"));
            Exit::Fatal
        }
    }
}

/// A line for each look.
fn lines(arguments: &Arguments, client: &Client, mut board: Board) -> Exit {
    let mut left = arguments.looks;
    loop {
        match serde_json::to_string(&board) {
            Ok(line) => say(&printable::json(&line)),
            Err(error) => {
                complain(&format!("error: can't write the answer as JSON: {error}"));
                return Exit::Fatal;
            }
        }
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) {
            return Exit::Fine;
        }
        std::thread::sleep(arguments.interval);
        board = match Board::look(client, Some(&board)) {
            Ok(board) => board,
            Err(error) => return DoorFailed::from(error).told(),
        };
    }
}

fn watch(mut terminal: DefaultTerminal, arguments: &Arguments, client: &Client, first: Board) -> io::Result<()> {
    let mut view = View { board: Some(first), ..View::default() };
    let mut left = arguments.looks.unwrap_or(u64::MAX);
    loop {
        terminal.draw(|frame| draw::draw(frame, &view))?;
        left -= 1;
        if left == 0 {
            return Ok(());
        }
        let next = Instant::now() + arguments.interval;
        while event::poll(next.saturating_duration_since(Instant::now()))? {
            if !view.hear(&event::read()?) {
                return Ok(());
            }
            terminal.draw(|frame| draw::draw(frame, &view))?;
        }
        match Board::look(client, view.board.as_ref()) {
            Ok(board) => (view.board, view.trouble) = (Some(board), None),
            // What was seen last stays, and it is tried again: routers are restarted.
            Err(error) => view.trouble = Some(error.to_string()),
        }
    }
}

impl View {
    /// Takes a key; whether to go on.
    fn hear(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else { return true };
        if key.kind == KeyEventKind::Release {
            return true;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char('u') => (self.unwell_only, self.scrolled) = (!self.unwell_only, 0),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_add(20),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(20),
            KeyCode::Home => self.scrolled = 0,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests;
