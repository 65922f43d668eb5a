//! The picture of a running router.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::super::printable;
use super::super::routes::span;
use super::{Board, Rates, View};
use crate::lanes::{LaneReport, State};
use crate::telemetry::LaneLag;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let routes = view.board.as_ref().map_or(0, |board| board.routes.len());
    // More routes than a third of the screen has lines for are cut off: the lanes tell of what is not well.
    let routes = u16::try_from(routes).unwrap_or(u16::MAX).saturating_add(1).min(frame.area().height / 3 + 1);
    let parts = [1, routes, 1].map(Constraint::Length);
    let [head, top, _, lanes, foot] =
        Layout::vertical([parts[0], parts[1], parts[2], Constraint::Min(2), Constraint::Length(1)]).areas(frame.area());
    let keys = "q quit   ↑ ↓ scroll   u those that are not well";
    match &view.trouble {
        Some(trouble) => {
            let line = format!("no answer, and this is what was seen last: {}", printable::line(trouble));
            frame.render_widget(Line::styled(line, Color::Red), foot);
        }
        None => frame.render_widget(Line::styled(keys, Modifier::DIM), foot),
    }
    let Some(board) = &view.board else { return };
    frame.render_widget(summary(board), head);
    frame.render_widget(route_table(board), top);
    lane_table(frame, board, view, lanes);
}

fn summary(board: &Board) -> Paragraph<'static> {
    let sum = |rate: fn(&Rates) -> f64| board.rates.iter().flatten().map(rate).sum::<f64>();
    let unwell = board.lanes.iter().filter(|lane| is_unwell(lane, lag_of(board, lane))).count();
    let oldest = board.lag.iter().filter_map(|lag| lag.seconds).reduce(f64::max);
    let text = format!(
        "{:.0} records/s   {:.1} dead letters/s   behind by {}, {} records   {} lanes, {unwell} not well",
        sum(|rates| rates.delivered + rates.dropped),
        sum(|rates| rates.dead_lettered),
        oldest.map_or_else(|| "?".to_owned(), span),
        board.lag.iter().map(|lag| lag.records).sum::<u64>(),
        board.lanes.len(),
    );
    Paragraph::new(text).style(if unwell == 0 { Style::new() } else { Style::new().fg(Color::Yellow) })
}

fn route_table(board: &Board) -> Table<'static> {
    let header = ["ROUTE", "LANES", "LAG", "OLDEST", "STATUS", "OK/S", "PARKED/S", "DEAD/S", "WAITING", "DEAD"];
    let rows = board.routes.iter().zip(&board.rates).map(|(route, rates)| {
        let rate = |of: fn(&Rates) -> f64| rates.as_ref().map_or_else(|| "?".to_owned(), |rates| number(of(rates)));
        let cells = [
            printable::line(&route.route),
            route.lanes.to_string(),
            route.lag_records.to_string(),
            route.lag_seconds.map_or_else(|| "?".to_owned(), span),
            route.status.clone(),
            rate(|rates| rates.delivered + rates.dropped),
            rate(|rates| rates.parked),
            rate(|rates| rates.dead_lettered),
            route.parked.to_string(),
            route.fates.dead_lettered.to_string(),
        ];
        Row::new(cells).style(tone(&route.status, route.lanes_not_running > 0))
    });
    let widths = [20, 6, 10, 8, 15, 9, 9, 8, 9, 8].map(Constraint::Length);
    Table::new(rows, widths).header(Row::new(header).style(Modifier::BOLD))
}

fn lane_table(frame: &mut Frame<'_>, board: &Board, view: &View, area: Rect) {
    let mut lanes: Vec<(&LaneReport, Option<&LaneLag>)> =
        board.lanes.iter().map(|lane| (lane, lag_of(board, lane))).collect();
    if view.unwell_only {
        lanes.retain(|(lane, lag)| is_unwell(lane, *lag));
    }
    // The worst first, and of those the furthest behind.
    let badness = |(lane, lag): &(&LaneReport, Option<&LaneLag>)| {
        let seconds = lag.and_then(|lag| lag.seconds).unwrap_or(0.0);
        (rank(lane, *lag), (seconds * 1000.0) as u64)
    };
    lanes.sort_by_key(|lane| std::cmp::Reverse(badness(lane)));
    // The last lines stay on the screen.
    let visible = usize::from(area.height.saturating_sub(1));
    let scrolled = view.scrolled.min(lanes.len().saturating_sub(visible));
    let rows = lanes.iter().skip(scrolled).map(|(lane, lag)| {
        let lag_text = |text: fn(&LaneLag) -> String| lag.map_or_else(|| "?".to_owned(), text);
        let status = lag.map_or("?", |lag| &lag.status);
        let cells = [
            format!(
                "{} {}/{}",
                printable::line(&lane.lane.route),
                printable::line(&lane.lane.topic),
                lane.lane.partition
            ),
            lag_text(|lag| lag.records.to_string()),
            lag_text(|lag| lag.seconds.map_or_else(|| "?".to_owned(), span)),
            status.to_owned(),
            lag_text(|lag| lag.settled_per_second.map_or_else(|| "?".to_owned(), number)),
            lag_text(|lag| lag.drain_seconds.map_or_else(|| "never".to_owned(), span)),
            lane.position
                .as_ref()
                .and_then(|at| at.retry.as_ref())
                .map_or_else(String::new, |retry| retry.parked.to_string()),
            lane.state.to_string(),
            lane.reason.as_deref().map(printable::line).unwrap_or_default(),
        ];
        Row::new(cells.map(Cell::from)).style(tone(status, lane.state != State::Running))
    });
    let header = ["LANE", "LAG", "OLDEST", "STATUS", "A SECOND", "DRAINED IN", "WAITING", "STATE", "WHY"];
    let widths = [
        Constraint::Length(34),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(15),
        Constraint::Length(9),
        Constraint::Length(11),
        Constraint::Length(8),
        Constraint::Length(22),
        Constraint::Fill(1),
    ];
    frame.render_widget(Table::new(rows, widths).header(Row::new(header).style(Modifier::BOLD)), area);
}

fn lag_of<'a>(board: &'a Board, lane: &LaneReport) -> Option<&'a LaneLag> {
    board.lag.iter().find(|lag| lag.lane == lane.lane)
}

fn is_unwell(lane: &LaneReport, lag: Option<&LaneLag>) -> bool {
    !matches!(lane.state, State::Running) || lag.is_some_and(|lag| !matches!(lag.status.as_str(), "ok" | "unknown"))
}

/// How soon somebody is needed: the greater, the sooner.
fn rank(lane: &LaneReport, lag: Option<&LaneLag>) -> u8 {
    let stands_still = lag.is_some_and(|lag| matches!(lag.status.as_str(), "stalled" | "stopped"));
    match lane.state {
        State::Halted | State::Silent => 3,
        _ if stands_still => 2,
        _ => is_unwell(lane, lag).into(),
    }
}

fn tone(status: &str, is_unwell: bool) -> Style {
    match status {
        "stalled" | "stopped" => Style::new().fg(Color::Red),
        "falling-behind" | "rewinding" => Style::new().fg(Color::Yellow),
        _ if is_unwell => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

fn number(rate: f64) -> String {
    if rate >= 10.0 || rate == 0.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}
