//! A feed that found nothing is woken when there is something, whoever wrote it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use pointsman_core::port::{Feed, Log, Waker};
use pointsman_core::record::TopicPartition;

use crate::harness::*;

fn bell() -> (Waker, Receiver<()>) {
    let (ring, rung) = channel();
    // Nobody listens once the test is over.
    (Arc::new(move || ring.send(()).unwrap_or_default()), rung)
}

/// Reads until `count` records are there, and waits for the bell whenever there are none.
fn read_woken(feed: &mut dyn Feed, rung: &Receiver<()>, count: usize) -> Vec<String> {
    let mut records = Vec::new();
    loop {
        records.extend(drain(feed));
        if records.len() >= count {
            return values(&records);
        }
        rung.recv_timeout(PATIENCE).expect("the feed is woken");
    }
}

#[test]
fn a_feed_hears_of_what_its_own_process_and_others_write() {
    let place = Place::new();
    let (log, other) = (log_with(&place, &[("t", 2)]), place.open());
    let partition = TopicPartition::new("t", 1);
    let mut feed = log.read(&partition, 0).unwrap();
    let (waker, rung) = bell();
    feed.wake_with(waker);
    assert!(feed.fetch(1, 1).unwrap().is_none());
    for (number, writer) in [&log, &other, &other, &log, &other].into_iter().enumerate() {
        write(writer, &partition, &[record(&number.to_string())]);
        assert_eq!(read_woken(&mut *feed, &rung, 1), [number.to_string()]);
    }
}

/// The thread that watches may be the first to look.
#[test]
fn a_feed_knows_that_it_is_at_the_end_whoever_found_that_out() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    let mut feed = log.read(&TopicPartition::new("t", 0), 0).unwrap();
    let (waker, rung) = bell();
    feed.wake_with(waker);
    rung.recv_timeout(PATIENCE).expect("the watch has seen where the partition ends");
    assert!(feed.fetch(1, 1).unwrap().is_none() && feed.reached_end());
}

#[test]
fn nothing_is_missed_between_a_fetch_that_found_nothing_and_the_waker() {
    let place = Place::new();
    let (log, other) = (log_with(&place, &[("t", 1)]), place.open());
    let partition = TopicPartition::new("t", 0);
    // Twice each: the first time, everything is new to the watching thread.
    for writer in [&log, &log, &other, &other] {
        let (_, end) = log.watermarks(&partition).unwrap();
        let mut feed = log.read(&partition, end).unwrap();
        assert!(feed.fetch(1, 1).unwrap().is_none());
        write(writer, &partition, &[record("between")]);
        let (waker, rung) = bell();
        feed.wake_with(waker);
        rung.recv_timeout(PATIENCE).expect("the feed is woken");
        assert_eq!(values(&drain(&mut *feed)), ["between"]);
    }
}

#[test]
fn two_feeds_of_one_partition_are_both_woken() {
    let place = Place::new();
    let (log, other) = (log_with(&place, &[("t", 1)]), place.open());
    let partition = TopicPartition::new("t", 0);
    let mut feeds: Vec<_> = (0..2)
        .map(|_| {
            let mut feed = log.read(&partition, 0).unwrap();
            let (waker, rung) = bell();
            feed.wake_with(waker);
            assert!(feed.fetch(1, 1).unwrap().is_none());
            (feed, rung)
        })
        .collect();
    write(&other, &partition, &[record("v")]);
    for (feed, rung) in &mut feeds {
        assert_eq!(read_woken(&mut **feed, rung, 1), ["v"]);
    }
}

#[test]
fn a_feed_outlives_its_log() {
    let place = Place::new();
    let log = log_with(&place, &[("t", 1)]);
    let partition = TopicPartition::new("t", 0);
    let mut feed = log.read(&partition, 0).unwrap();
    let (waker, rung) = bell();
    feed.wake_with(waker);
    drop(log);
    write(&place.open(), &partition, &[record("v")]);
    assert_eq!(read_woken(&mut *feed, &rung, 1), ["v"]);
}
