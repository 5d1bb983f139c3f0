//! How the job does: for Prometheus as text, for the page as JSON.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use nekton_engine::{Live, Time};
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
        "ready": figures.ready,
        "clients": counts.clients.load(Ordering::Relaxed),
        "views": sizes,
    })
}

/// Prometheus' text format, version 0.0.4.
pub(crate) fn text(live: &Live, counts: &Counts) -> String {
    let (figures, now) = (live.figures(), now());
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: &dyn std::fmt::Display| {
        let _ =
            write!(text, "# HELP nekton_{name} {help}\n# TYPE nekton_{name} {kind}\nnekton_{name} {value}\n");
    };
    let seconds = |since: Time| now.saturating_sub(since) as f64 / 1_000.;
    metric("events_total", "counter", "Events read by this process", &figures.events);
    metric("dead_letters_total", "counter", "Records that could not be read", &figures.dead_letters);
    metric("messages_total", "counter", "Messages handed to output topics", &figures.messages);
    metric("epochs_total", "counter", "Epochs opened", &figures.epochs);
    metric("epochs_in_flight", "gauge", "Epochs on their way from sources to sinks", &figures.in_flight);
    let lag = figures.oldest.map_or(0., seconds);
    metric("frontier_lag_seconds", "gauge", "Age of the oldest epoch on its way; 0 if there is none", &lag);
    if figures.before != 0 && figures.before != Time::MAX {
        let frontier = figures.before as f64 / 1_000.;
        metric("frontier_seconds", "gauge", "All before this time has arrived everywhere", &frontier);
    }
    metric("checkpoints_total", "counter", "Checkpoints committed since the start", &figures.checkpoints);
    if figures.committed > 0 {
        let age = seconds(figures.committed);
        metric("checkpoint_age_seconds", "gauge", "Age of the newest checkpoint of this run", &age);
    }
    metric(
        "ready",
        "gauge",
        "1 if the job runs and has caught up with its earlier run",
        &u8::from(figures.ready),
    );
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    metric("screens_clients", "gauge", "Clients that watch views", &count(&counts.clients));
    metric("screens_frames_total", "counter", "Frames given to clients", &count(&counts.frames));
    metric("screens_bytes_total", "counter", "Bytes of these frames", &count(&counts.bytes));
    metric(
        "screens_skipped_total",
        "counter",
        "Frames that slow clients had no room for",
        &count(&counts.skipped),
    );
    let views = live.views();
    if !views.is_empty() {
        text.push_str(
            "# HELP nekton_view_records Different records of a view\n# TYPE nekton_view_records gauge\n",
        );
    }
    for view in views {
        let name = view.name().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = writeln!(text, "nekton_view_records{{view=\"{name}\"}} {}", view.size());
    }
    text
}
