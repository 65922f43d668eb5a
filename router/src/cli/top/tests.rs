#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyEvent;

use super::*;
use crate::lanes::{LaneName, State};

fn lane(partition: i32, state: State, reason: Option<&str>) -> LaneReport {
    let lane = LaneName { route: "orders".into(), topic: "orders.v1".into(), partition };
    let reason = reason.map(str::to_owned);
    LaneReport { lane, state, reason, since: None, stands_at: None, position: None }
}

fn lag(partition: i32, records: u64, seconds: Option<f64>, status: &str) -> LaneLag {
    LaneLag {
        lane: LaneName { route: "orders".into(), topic: "orders.v1".into(), partition },
        records,
        seconds,
        status: status.into(),
        written_per_second: Some(900.0),
        settled_per_second: Some(1000.4),
        drain_seconds: seconds,
        retention_seconds: None,
    }
}

fn board() -> Board {
    let route = super::super::routes::tests::route();
    Board {
        routes: vec![route],
        rates: vec![Some(Rates { delivered: 3000.2, dropped: 1.0, parked: 0.0, dead_lettered: 0.25 })],
        lanes: vec![
            lane(0, State::Running, None),
            lane(1, State::Running, None),
            lane(2, State::Halted, Some("no country\u{1b}[2J (reject: no-country)")),
            lane(3, State::Running, None),
        ],
        lag: vec![
            lag(0, 0, Some(0.0), "ok"),
            lag(1, 17, Some(1.4), "ok"),
            lag(2, 4000, None, "stalled"),
            lag(3, 90, Some(75.0), "falling-behind"),
        ],
        at: Instant::now(),
    }
}

fn screen(view: &View) -> String {
    let mut terminal = Terminal::new(TestBackend::new(150, 12)).unwrap();
    terminal.draw(|frame| draw::draw(frame, view)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn what_is_not_well_comes_first() {
    insta::assert_snapshot!(screen(&View { board: Some(board()), ..View::default() }));
}

#[test]
fn without_an_answer_what_was_seen_last_stays() {
    let trouble = Some("nobody answers at 127.0.0.1:7090".to_owned());
    insta::assert_snapshot!(screen(&View { board: Some(board()), trouble, unwell_only: true, ..View::default() }));
}

#[test]
fn keys_scroll_choose_and_end() {
    let mut view = View { board: Some(board()), ..View::default() };
    let mut press = |code| view.hear(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    assert!(press(KeyCode::Down) && press(KeyCode::PageDown) && press(KeyCode::Char('x')));
    assert!(!press(KeyCode::Char('q')) && !press(KeyCode::Esc));
    assert_eq!(view.scrolled, 21);
    // However far: the last lanes stay on the screen.
    assert!(screen(&view).contains("orders.v1/0"));
    view.hear(&Event::Key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::NONE)));
    assert_eq!((view.unwell_only, view.scrolled), (true, 0));
    assert!(!screen(&view).contains("orders.v1/0"));
}

#[test]
fn a_router_that_was_started_again_has_no_rates_at_first() {
    let counts = |delivered| Fates { delivered, ..Fates::default() };
    let rates = |before, now| Rates::between(&counts(before), &counts(now), Duration::from_secs(2));
    assert_eq!(rates(10, 30).unwrap().delivered, 10.0);
    assert_eq!(rates(10, 3), None);
    assert_eq!(Rates::between(&counts(1), &counts(2), Duration::ZERO), None);
}
