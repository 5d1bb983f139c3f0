//! The replay: publishes the events of flights to their topic, at the pace of the year 2013 or faster.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nekton::{Publisher, Result};
use serde::Serialize;

use crate::events::FlightEvent;
use crate::predict::log::Told;

/// How fast time passes in a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as in 2013.
    Times(f64),
    /// As fast as events can be written.
    Max,
}

impl FromStr for Speed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Speed::Max),
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
            _ => Err("write a number above 0, such as 3600 for an hour a second, or max".to_owned()),
        }
    }
}

/// The longest sleep, after which it is asked again whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// A moment to sleep for is at least this long: what is due earlier is published at once.
const SOON: Duration = Duration::from_millis(1);

/// What is published at its time.
pub trait Due: Serialize {
    /// When, in milliseconds since 1970.
    fn at(&self) -> u64;
    /// What of the same key stays in order.
    fn key(&self) -> &str;
}

impl Due for FlightEvent {
    fn at(&self) -> u64 {
        self.at
    }
    /// The plane, so that what happened to it stays in order.
    fn key(&self) -> &str {
        self.tail.as_deref().unwrap_or(&self.flight)
    }
}

impl Due for Told {
    fn at(&self) -> u64 {
        self.at
    }
    fn key(&self) -> &str {
        self.news.origin()
    }
}

/// Events to be published, and how many of them have been.
#[derive(Debug)]
pub struct Replay<E> {
    events: Vec<E>,
    speed: Speed,
    published: AtomicU64,
}

impl<E: Due> Replay<E> {
    /// A replay of events, which are in the order of their times.
    pub fn new(events: Vec<E>, speed: Speed) -> Self {
        Replay { events, speed, published: AtomicU64::new(0) }
    }

    /// How many events there are.
    pub fn events(&self) -> u64 {
        self.events.len() as u64
    }

    /// How many have been published so far.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Publishes all events, or as many as are due before `stopped` says so, and closes the topic.
    pub fn run(&self, mut publisher: Publisher, stopped: impl Fn() -> bool) -> Result<()> {
        let begun = Instant::now();
        let first = self.events.first().map_or(0, Due::at);
        for event in &self.events {
            if let Speed::Times(times) = self.speed {
                let due = Duration::from_secs_f64((event.at() - first) as f64 / 1_000.0 / times);
                while due.saturating_sub(begun.elapsed()) > SOON {
                    publisher.send()?;
                    if stopped() {
                        return publisher.close();
                    }
                    std::thread::sleep(due.saturating_sub(begun.elapsed()).min(NAP));
                }
            }
            let published = self.published.fetch_add(1, Ordering::Relaxed);
            if published.is_multiple_of(1_024) && stopped() {
                break;
            }
            publisher.publish(event.key(), event)?;
        }
        publisher.close()
    }
}
