//! How the job does: for Prometheus as text, for the page as JSON.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use nekton_engine::histogram::{BOUNDS, Durations};
use nekton_engine::{Counted, Live, Time};
use serde_json::{Value, json};

use crate::hub::{Counts, now};

/// The figures of a frame.
pub(crate) fn json(live: &Live, counts: &Counts) -> Value {
    let (figures, now) = (live.figures(), now());
    let sizes: serde_json::Map<_, _> =
        live.views().iter().map(|view| (view.name().to_owned(), view.size().into())).collect();
    json!({
        "now": now,
        "before": figures.before,
        "behind": figures.oldest.map_or(0, |oldest| now.saturating_sub(oldest)),
        "events": figures.events,
        "messages": figures.messages,
        "dead_letters": figures.dead_letters,
        "epochs": figures.epochs,
        "in_flight": figures.in_flight,
        "checkpoints": figures.checkpoints,
        "committed": figures.committed,
        "checkpoint_took": figures.checkpoint_took,
        "checkpoint_bytes": figures.checkpoint_bytes,
        "ready": figures.ready,
        "clients": counts.clients.load(Ordering::Relaxed),
        "views": sizes,
    })
}

/// Prometheus' text format, version 0.0.4.
pub(crate) fn text(live: &Live, counts: &Counts) -> String {
    let (figures, now) = (live.figures(), now());
    let mut told = Told::default();
    let seconds = |since: Time| now.saturating_sub(since) as f64 / 1_000.;
    told.counter("events_total", "Events read by this process", figures.events);
    told.counter("dead_letters_total", "Records that could not be read", figures.dead_letters);
    told.counter("messages_total", "Messages handed to output topics", figures.messages);
    told.counter("epochs_total", "Epochs opened", figures.epochs);
    told.gauge("epochs_in_flight", "Epochs on their way from sources to sinks", figures.in_flight);
    told.durations(
        "epoch_seconds",
        "From when an epoch was begun until all of it had arrived at every root, sink and view",
        &figures.arriving,
    );
    told.durations(
        "publish_to_read_seconds",
        "From when a record was published until it was read, of one in each batch, where topics say when that was",
        &figures.reading,
    );
    let lag = figures.oldest.map_or(0., seconds);
    told.gauge("frontier_lag_seconds", "Age of the oldest epoch on its way; 0 if there is none", lag);
    if figures.before != 0 && figures.before != Time::MAX {
        let frontier = figures.before as f64 / 1_000.;
        told.gauge("frontier_seconds", "All before this time has arrived everywhere", frontier);
    }
    told.gauge(
        "output_bytes_queued",
        "Bytes of messages that connectors have and have not written yet",
        figures.unwritten,
    );
    told.counter("checkpoints_total", "Checkpoints committed since the start", figures.checkpoints);
    if figures.committed > 0 {
        let took = figures.checkpoint_took as f64 / 1_000.;
        told.gauge(
            "checkpoint_age_seconds",
            "Age of the newest checkpoint of this run",
            seconds(figures.committed),
        );
        told.gauge("checkpoint_duration_seconds", "From its time until it was committed", took);
        told.gauge("checkpoint_bytes", "Size of all objects that it refers to", figures.checkpoint_bytes);
    }
    let ready = u8::from(figures.ready);
    told.gauge("ready", "1 if the job runs and has caught up with its earlier run", ready);
    let by_name = live.by_name();
    let of =
        |wanted| by_name.iter().filter(move |(what, ..)| *what == wanted).map(|(_, name, n)| (&name[..], *n));
    told.family("agents", "gauge", "Agents of a root in this process", "root", of(Counted::Agents));
    told.family("topic_events_total", "counter", "Events read from a topic", "topic", of(Counted::Read));
    told.family(
        "topic_messages_total",
        "counter",
        "Messages handed to a topic",
        "topic",
        of(Counted::Written),
    );
    let views = live.views();
    let sizes = views.iter().map(|view| (view.name(), view.size() as u64));
    told.family("view_records", "gauge", "Different records of a view", "view", sizes);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    told.gauge("screens_clients", "Clients that watch views", count(&counts.clients));
    told.counter("screens_frames_total", "Frames given to clients", count(&counts.frames));
    told.counter("screens_bytes_total", "Bytes of these frames", count(&counts.bytes));
    told.counter("screens_skipped_total", "Frames that slow clients had no room for", count(&counts.skipped));
    told.0
}

/// What is told so far.
#[derive(Default)]
struct Told(String);

impl Told {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP nekton_{name} {help}\n# TYPE nekton_{name} {kind}\n");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        let _ = writeln!(self.0, "nekton_{name} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        let _ = writeln!(self.0, "nekton_{name} {value}");
    }

    fn family<'n>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'n str, u64)>,
    ) {
        let mut values = values.peekable();
        if values.peek().is_some() {
            self.head(name, kind, help);
        }
        for (of, value) in values {
            let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(self.0, "nekton_{name}{{{label}=\"{of}\"}} {value}");
        }
    }

    fn durations(&mut self, name: &str, help: &str, durations: &Durations) {
        self.head(name, "histogram", help);
        let mut all = 0;
        for (index, count) in durations.counts.iter().enumerate() {
            all += count;
            let _ = match BOUNDS.get(index) {
                Some(bound) => {
                    writeln!(self.0, "nekton_{name}_bucket{{le=\"{}\"}} {all}", *bound as f64 / 1e3)
                }
                None => writeln!(self.0, "nekton_{name}_bucket{{le=\"+Inf\"}} {all}"),
            };
        }
        let sum = durations.sum as f64 / 1e3;
        let _ = writeln!(self.0, "nekton_{name}_sum {sum}\nnekton_{name}_count {all}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_cumulative_and_labels_are_escaped() {
        let mut told = Told::default();
        let mut durations = Durations { sum: 20_010, ..Durations::default() };
        (durations.counts[0], durations.counts[2], durations.counts[13]) = (2, 1, 1);
        told.durations("x_seconds", "X", &durations);
        for line in [
            "nekton_x_seconds_bucket{le=\"0.001\"} 2",
            "nekton_x_seconds_bucket{le=\"0.005\"} 3",
            "nekton_x_seconds_bucket{le=\"10\"} 3",
            "nekton_x_seconds_bucket{le=\"+Inf\"} 4",
            "nekton_x_seconds_sum 20.01",
            "nekton_x_seconds_count 4",
        ] {
            assert!(told.0.lines().any(|other| other == line), "{line} in {}", told.0);
        }
        let mut told = Told::default();
        told.family("y", "gauge", "Y", "root", [("a\"b\\", 7)].into_iter());
        assert!(told.0.ends_with("nekton_y{root=\"a\\\"b\\\\\"} 7\n"), "{}", told.0);
        told.family("z", "gauge", "Z", "root", std::iter::empty());
        assert!(!told.0.contains("nekton_z"));
    }
}
