//! Windows say at every time what a naive computation from all that came says, whatever came late.

mod streams;

use std::collections::BTreeMap;

use nekton_engine::{Flow, Time};
use nekton_operators::{
    Count, EventTime, Retain, Retention, Sessions, Sum, Timed, Window, Windowed, Windows,
};
use proptest::prelude::*;
use streams::{END, LAST, Out, Sent, Settings, cases, feed, job, marks, settings, stream, watermark_at};

type Reading = (u8, i64);
type Stream = Vec<Sent<Reading>>;
type Totals = ((u8, Window), (isize, i64));
type Totalled<'s> = Windowed<'s, u8, (Reading, Time), (isize, i64)>;

fn readings() -> impl Strategy<Value = Stream> {
    stream((0..3_u8, -5..20_i64), 40)
}

/// What came out of a run.
#[derive(Clone, Default)]
struct Outs {
    results: Out<(Totals, isize)>,
    closed: Out<Totals>,
    late: Out<(Reading, Time)>,
}

impl Outs {
    fn of<'s>(&self, flow: &mut Flow<'s>, windowed: &Totalled<'s>) {
        self.results.changes(flow, &windowed.results);
        self.closed.events(&windowed.closed);
        self.late.events(&windowed.late);
    }
}

/// What must come out at a time.
#[derive(Default)]
struct Expected {
    results: BTreeMap<Totals, isize>,
    closed: Vec<Totals>,
    late: Vec<(Reading, Time)>,
}

fn check(outs: &Outs, time: Time, mut expected: Expected, what: &str) {
    assert_eq!(outs.results.there(time), expected.results, "results at {time} {what}");
    expected.closed.sort();
    expected.late.sort();
    assert_eq!(outs.closed.at(time), expected.closed, "closed at {time} {what}");
    assert_eq!(outs.late.at(time), expected.late, "late at {time} {what}");
}

/// The watermark before each time and at its end.
fn watermarks(sent: &Stream, of: Settings) -> Vec<(Time, Time)> {
    let marks = marks(0, sent);
    let ends: Vec<Time> = (0..=END).map(|time| watermark_at(&marks, &[of], time)).collect();
    (0..ends.len()).map(|time| (if time == 0 { 0 } else { ends[time - 1] }, ends[time])).collect()
}

fn totals(readings: &[&Sent<Reading>]) -> (isize, i64) {
    (readings.len() as isize, readings.iter().map(|sent| sent.event.1).sum())
}

/// An event is in all windows that have not closed when it comes.
#[derive(Clone, Copy, Debug)]
struct Fixed {
    size: Time,
    every: Time,
    late: Time,
    keep: Option<Time>,
}

impl Fixed {
    fn expected(&self, sent: &Stream, marks: &[(Time, Time)], time: Time) -> Expected {
        let mut windows: BTreeMap<(u8, Window), Vec<&Sent<Reading>>> = BTreeMap::new();
        let mut expected = Expected::default();
        let (before, now) = marks[time as usize];
        for came in sent.iter().filter(|sent| sent.time <= time) {
            let mut in_time = false;
            for number in 0..=END / self.every {
                let window = Window { start: number * self.every, end: number * self.every + self.size };
                if window.start <= came.at
                    && came.at < window.end
                    && marks[came.time as usize].0 < window.end + self.late
                {
                    windows.entry((came.event.0, window)).or_default().push(came);
                    in_time = true;
                }
            }
            if !in_time && came.time == time {
                expected.late.push((came.event, came.at));
            }
        }
        for (key, readings) in windows {
            let closes = key.1.end + self.late;
            // A key may first come when the watermark is already there: never.
            if before < closes && closes <= now {
                expected.closed.push((key, totals(&readings)));
            }
            if self.keep.is_none_or(|keep| now < closes + keep) {
                expected.results.insert((key, totals(&readings)), 1);
            }
        }
        expected
    }
}

fn fixed() -> impl Strategy<Value = Fixed> {
    (5..40_u64, 1..4_u64, 0..30_u64, prop::option::of(0..30_u64))
        .prop_map(|(size, overlap, late, keep)| Fixed { size, every: (size / overlap).max(1), late, keep })
}

/// Chains of events of a key that were in time, each less than a gap from the next.
#[derive(Clone, Copy, Debug)]
struct Gaps {
    gap: Time,
    late: Time,
    keep: Option<Time>,
}

impl Gaps {
    fn expected(&self, sent: &Stream, marks: &[(Time, Time)], time: Time) -> Expected {
        let mut expected = Expected::default();
        let (before, now) = marks[time as usize];
        let mut keys: BTreeMap<u8, Vec<&Sent<Reading>>> = BTreeMap::new();
        for came in sent.iter().filter(|sent| sent.time <= time) {
            if came.at + self.late >= marks[came.time as usize].0 {
                keys.entry(came.event.0).or_default().push(came);
            } else if came.time == time {
                expected.late.push((came.event, came.at));
            }
        }
        for (key, mut readings) in keys {
            readings.sort_by_key(|sent| sent.at);
            for session in readings.chunk_by(|a, b| b.at - a.at < self.gap) {
                let end = session[session.len() - 1].at + self.gap;
                let of = ((key, Window { start: session[0].at, end }), totals(session));
                let closes = end + self.late;
                if before < closes && closes <= now {
                    expected.closed.push(of);
                }
                if self.keep.is_none_or(|keep| now < closes + keep) {
                    expected.results.insert(of, 1);
                }
            }
        }
        expected
    }
}

fn gaps() -> impl Strategy<Value = Gaps> {
    (1..15_u64, 0..30_u64, prop::option::of(0..30_u64)).prop_map(|(gap, late, keep)| Gaps { gap, late, keep })
}

fn pair(((key, value), _): &(Reading, Time)) -> (u8, i64) {
    (*key, *value)
}

/// Checks what `windowed` makes of the readings against what is expected, given the watermarks, at every time.
fn right_at_every_time(
    sent: &Stream,
    of: Settings,
    batch: usize,
    expected: impl Fn(&[(Time, Time)], Time) -> Expected,
    windowed: impl for<'s> Fn(Timed<'s, (Reading, Time)>) -> Totalled<'s> + Clone + Send + Sync + 'static,
) {
    let marks = watermarks(sent, of);
    for workers in 1..=3 {
        let outs = Outs::default();
        let (into, stream, windowed) = (outs.clone(), sent.clone(), windowed.clone());
        job(workers, move |flow| {
            let events = feed(flow, "readings", &stream, batch).event_time(|(_, at)| *at, of.watermark());
            into.of(flow, &windowed(events));
        });
        for time in 0..=END {
            check(&outs, time, expected(&marks, time), &format!("on {workers} workers"));
        }
    }
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn fixed_windows_are_right_at_every_time(sent in readings(), of in settings(), fixed in fixed(), batch in 1..6_usize) {
        right_at_every_time(&sent, of, batch, |marks, time| fixed.expected(&sent, marks, time), move |events| {
            let windows = Windows::hopping(fixed.size, fixed.every).late(fixed.late);
            let windows = fixed.keep.map_or(windows, |keep| windows.keep(keep));
            events.windows("windows", windows, pair, (Count, Sum))
        });
    }

    #[test]
    fn sessions_are_right_at_every_time(sent in readings(), of in settings(), gaps in gaps(), batch in 1..6_usize) {
        right_at_every_time(&sent, of, batch, |marks, time| gaps.expected(&sent, marks, time), move |events| {
            let sessions = Sessions::gap(gaps.gap).late(gaps.late);
            let sessions = gaps.keep.map_or(sessions, |keep| sessions.keep(keep));
            events.sessions("sessions", sessions, pair, (Count, Sum))
        });
    }

    #[test]
    fn retention_is_right_at_every_time(
        sent in readings(), last in prop::option::of(1..4_usize), age in 1..30_u64, batch in 1..6_usize,
    ) {
        // Others at the end, on all workers: behind the end of what a worker gets, not all timers are due.
        let others = (100..164).map(|key| Sent { time: LAST + 1, partition: 0, at: 0, event: (key, 0) });
        let sent: Stream = sent.into_iter().chain(others).collect();
        for workers in 1..=3 {
            let out: Out<((u8, (Reading, Time)), isize)> = Out::default();
            let (into, stream) = (out.clone(), sent.clone());
            job(workers, move |flow| {
                let events = feed(flow, "readings", &stream, batch);
                let retention = Retention::within(age);
                let retention = last.map_or(retention, |last| retention.and_last(last));
                let retained = events.retain("retained", retention, |((key, _), _)| *key);
                into.changes(flow, &retained);
            });
            for time in 0..=LAST {
                let mut expected: BTreeMap<(u8, (Reading, Time)), isize> = BTreeMap::new();
                for key in 0..3 {
                    let came: Vec<_> = sent.iter().filter(|sent| sent.event.0 == key && sent.time <= time).collect();
                    let from = came.len() - last.unwrap_or(came.len()).min(came.len());
                    for sent in came[from..].iter().filter(|sent| time < sent.time + age) {
                        *expected.entry((key, (sent.event, sent.at))).or_default() += 1;
                    }
                }
                assert_eq!(out.there(time), expected, "at {time} on {workers} workers");
            }
        }
    }
}
