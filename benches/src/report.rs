//! What a measurement says: a table for people, one JSON object for programs.

use serde::Serialize;

/// One figure, with its unit.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

/// An aim, and what this run got.
#[derive(Debug, Serialize)]
pub struct Aim {
    /// What is aimed at.
    pub name: String,
    /// At least this (or at most, as the name says).
    pub aim: f64,
    /// What it was.
    pub got: f64,
    /// Whether that is enough.
    pub met: bool,
}

/// All figures of a measurement.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The measurement's name.
    pub bench: &'static str,
    /// Its figures, in the order of measuring.
    pub figures: Vec<Figure>,
    /// Its aims.
    pub aims: Vec<Aim>,
}

impl Report {
    /// An empty report.
    pub fn new(bench: &'static str) -> Self {
        Report { bench, figures: Vec::new(), aims: Vec::new() }
    }
    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }
    /// Adds what a loop in one thread does, and beside it the engine on each number of workers: medians of rounds, in millions
    /// of events a second.
    pub fn beside_loop<'r>(
        &mut self,
        name: &str,
        loops: &mut [f64],
        engine: impl Iterator<Item = (&'r usize, &'r mut Vec<f64>)>,
    ) {
        let bare = median(loops);
        self.figure(format!("{name}: loop, one thread"), bare, "M events/s");
        for (workers, rates) in engine {
            let rate = median(rates);
            self.figure(format!("{name}: engine, {workers} worker(s)"), rate, "M events/s");
            self.figure(format!("{name}: engine / loop, {workers} worker(s)"), rate / bare, "");
        }
    }
    /// Adds an aim of at least `aim`.
    pub fn at_least(&mut self, name: impl Into<String>, aim: f64, got: f64) {
        self.aims.push(Aim { name: name.into(), aim, got, met: got >= aim });
    }
    /// Adds an aim of at most `aim`.
    pub fn at_most(&mut self, name: impl Into<String>, aim: f64, got: f64) {
        self.aims.push(Aim { name: name.into(), aim, got, met: got <= aim });
    }
    /// Prints the table and, if asked for, the JSON object.
    pub fn print(&self, json: bool) {
        println!("{}", self.bench);
        for Figure { name, value, unit } in &self.figures {
            println!("  {name:<44} {value:>12.3} {unit}");
        }
        for Aim { name, aim, got, met } in &self.aims {
            println!("  {name:<44} {got:>12.3} aim {aim}: {}", if *met { "met" } else { "NOT met" });
        }
        if json {
            println!("{}", serde_json::to_string(self).expect("a report is plain data"));
        }
    }
}

/// The middle one of some values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
