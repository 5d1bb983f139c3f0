//! Joins of events say at every time what a naive computation from all that came says.

mod streams;

use nekton_engine::{Agent, Context, Time};
use nekton_operators::{Bounds, Deduplicate, EventTime, InOrder};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use streams::{END, Mark, Out, Sent, Settings, cases, feed, job, marks, settings, stream, watermark_at};

type Reading = (u8, i64);
type Stream = Vec<Sent<Reading>>;
/// An event of a stream, and when it happened.
type Dated = (Reading, Time);

fn readings(most: usize) -> impl Strategy<Value = Stream> {
    stream((0..3_u8, 0..20_i64), most)
}

fn dated(sent: &Sent<Reading>) -> Dated {
    (sent.event, sent.at)
}

/// The watermark before each time, and at its end.
fn watermarks(left: &Stream, right: &Stream, of: [Settings; 2]) -> Vec<(Time, Time)> {
    let marks: Vec<Mark> = marks(0, left).into_iter().chain(marks(1, right)).collect();
    let ends: Vec<Time> = (0..=END).map(|time| watermark_at(&marks, &of, time)).collect();
    (0..ends.len()).map(|time| (if time == 0 { 0 } else { ends[time - 1] }, ends[time])).collect()
}

fn sorted<O: Ord>(found: impl Iterator<Item = O>) -> Vec<O> {
    let mut found: Vec<O> = found.collect();
    found.sort();
    found
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn interval_joins_find_each_pair_once(
        left in readings(25), right in readings(25), of in [settings(), settings()],
        from in -30..30_i64, width in 0..30_i64, late in 0..20_u64, batch in 1..6_usize,
    ) {
        let marks = watermarks(&left, &right, of);
        let in_time = |sent: &Sent<Reading>| sent.at + late >= marks[sent.time as usize].0;
        for workers in 1..=3 {
            let (pairs, lefts, rights) = (Out::<(Dated, Dated)>::default(), Out::<Dated>::default(), Out::<Dated>::default());
            let into = (pairs.clone(), lefts.clone(), rights.clone());
            let streams = (left.clone(), right.clone());
            job(workers, move |flow| {
                let left = feed(flow, "left", &streams.0, batch).event_time(|(_, at)| *at, of[0].watermark());
                let right = feed(flow, "right", &streams.1, batch).event_time(|(_, at)| *at, of[1].watermark());
                let bounds = Bounds::after(from, from + width).late(late);
                let joined = left.interval_join("joined", &right, bounds, |((key, _), _)| *key, |((key, _), _)| *key);
                into.0.events(&joined.pairs);
                into.1.events(&joined.late_left);
                into.2.events(&joined.late_right);
            });
            for time in 0..=END {
                let found = left.iter().filter(|sent| in_time(sent)).flat_map(|left| {
                    let fits = move |right: &&Sent<Reading>| {
                        let apart = right.at as i64 - left.at as i64;
                        left.event.0 == right.event.0
                            && (from..=from + width).contains(&apart)
                            && left.time.max(right.time) == time
                    };
                    right.iter().filter(|sent| in_time(sent)).filter(fits).map(|right| (dated(left), dated(right)))
                });
                assert_eq!(pairs.at(time), sorted(found), "pairs at {time} on {workers} workers");
                let late = |sent: &&Sent<Reading>| sent.time == time && !in_time(sent);
                assert_eq!(lefts.at(time), sorted(left.iter().filter(late).map(dated)), "late left at {time}");
                assert_eq!(rights.at(time), sorted(right.iter().filter(late).map(dated)), "late right at {time}");
            }
        }
    }

    #[test]
    fn events_get_the_value_as_of_their_time(
        left in readings(25), right in readings(25), of in [settings(), settings()], batch in 1..6_usize,
    ) {
        let marks = watermarks(&left, &right, of);
        // A row that says 0 deletes.
        let value = |sent: &Sent<Reading>| (sent.event.1 % 4 > 0).then_some(sent.event.1);
        for workers in 1..=3 {
            let (enriched, late) = (Out::<(Dated, Option<i64>)>::default(), Out::<Dated>::default());
            let into = (enriched.clone(), late.clone());
            let streams = (left.clone(), right.clone());
            job(workers, move |flow| {
                let left = feed(flow, "left", &streams.0, batch).event_time(|(_, at)| *at, of[0].watermark());
                let right = feed(flow, "right", &streams.1, batch).event_time(|(_, at)| *at, of[1].watermark());
                let rows = right.map(|((key, value), _)| (key, (value % 4 > 0).then_some(value)));
                let as_of = left.as_of("enriched", &rows, |((key, _), _)| *key);
                into.0.events(&as_of.enriched);
                into.1.events(&as_of.late);
            });
            for time in 0..=END {
                let (before, now) = marks[time as usize];
                let in_time = |sent: &&Sent<Reading>| sent.at >= marks[sent.time as usize].0;
                let answered = left.iter().filter(|sent| sent.time <= time).filter(in_time);
                let answered = answered.filter(|sent| before <= sent.at && sent.at < now);
                let answered = answered.map(|sent| {
                    let rows = right.iter().filter(|row| {
                        row.event.0 == sent.event.0 && row.time <= time && row.at <= sent.at
                    });
                    // The last of the latest; they are in the order in which they came.
                    let row = rows.max_by_key(|row| row.at);
                    (dated(sent), row.and_then(value))
                });
                assert_eq!(enriched.at(time), sorted(answered), "at {time} on {workers} workers");
                let too_late = left.iter().filter(|sent| sent.time == time && !in_time(sent)).map(dated);
                assert_eq!(late.at(time), sorted(too_late), "late at {time}");
            }
        }
    }

    #[test]
    fn events_that_went_two_ways_are_in_their_order_again(sent in readings(40), batch in 1..6_usize) {
        // Each event's second part is its number.
        let mut sent = sent;
        sent.iter_mut().zip(0..).for_each(|(sent, number)| sent.event.1 = number);
        for workers in 1..=3 {
            let heard = Out::<(u8, u64, i64)>::default();
            let (into, stream) = (heard.clone(), sent.clone());
            job(workers, move |flow| {
                let events = feed(flow, "readings", &stream, batch).map(|(reading, _)| reading);
                let around = events.filter(|(_, number)| number % 3 == 0);
                let around = around.agents::<Echo>("echoes", |(_, number)| *number).emitted();
                let both = events.filter(|(_, number)| number % 3 != 0).concat(&around);
                let in_order = both.in_order(|(key, _)| *key, |(_, number)| *number);
                into.events(&in_order.agents::<Listener>("listeners", |(key, _)| *key).emitted());
            });
            for time in 0..=END {
                let until = |key| move |sent: &&Sent<Reading>| sent.event.0 == key && sent.time <= time;
                let all = (0..3_u8).flat_map(|key| sent.iter().filter(until(key)).zip(0..));
                let now = all.filter(|(sent, _)| sent.time == time);
                let expected = sorted(now.map(|(sent, place)| (sent.event.0, place, sent.event.1)));
                assert_eq!(heard.at(time), expected, "at {time} on {workers} workers");
            }
        }
    }

    #[test]
    fn duplicates_within_the_horizon_go(sent in readings(40), horizon in 1..40_u64, batch in 1..6_usize) {
        for workers in 1..=3 {
            let once = Out::<Dated>::default();
            let (into, stream) = (once.clone(), sent.clone());
            job(workers, move |flow| {
                let events = feed(flow, "readings", &stream, batch);
                into.events(&events.deduplicate("once", horizon, |((key, value), _)| (*key, value % 4)));
            });
            let mut passed: Vec<&Sent<Reading>> = Vec::new();
            for came in &sent {
                let same = |other: &&&Sent<Reading>| {
                    (other.event.0, other.event.1 % 4) == (came.event.0, came.event.1 % 4)
                };
                if passed.iter().filter(same).all(|other| came.time >= other.time + horizon) {
                    passed.push(came);
                }
            }
            for time in 0..=END {
                let now = passed.iter().filter(|sent| sent.time == time).map(|sent| dated(sent));
                assert_eq!(once.at(time), sorted(now), "at {time} on {workers} workers");
            }
        }
    }
}

/// Says again what it hears.
#[derive(Serialize, Deserialize)]
struct Echo;

impl Agent for Echo {
    type Key = i64;
    type Event = Reading;
    type View = ();
    type Emit = Reading;
    fn create(_number: &i64) -> Self {
        Echo
    }
    fn on_event(&mut self, reading: &Reading, context: &mut Context<'_, Self>) {
        context.emit(*reading);
    }
    fn view(&self) -> Option<()> {
        None
    }
}

/// Says as the how manieth it heard what.
#[derive(Serialize, Deserialize)]
struct Listener(u64);

impl Agent for Listener {
    type Key = u8;
    type Event = Reading;
    type View = ();
    type Emit = (u8, u64, i64);
    fn create(_key: &u8) -> Self {
        Listener(0)
    }
    fn on_event(&mut self, (key, number): &Reading, context: &mut Context<'_, Self>) {
        context.emit((*key, self.0, *number));
        self.0 += 1;
    }
    fn view(&self) -> Option<()> {
        None
    }
}
