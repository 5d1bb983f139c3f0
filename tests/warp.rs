//! SwimOS's own clients see a job's views as lanes, and tell its agents something.

mod common;

use nekton::prelude::*;

#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    vehicle: u64,
    engine_temp: i64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
struct Shown {
    engine_temp: i64,
    note: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Vehicle {
    engine_temp: i64,
    note: String,
}

#[derive(Clone, Serialize, Deserialize)]
enum Heard {
    Reading(Reading),
    Note(u64, String),
}

impl Agent for Vehicle {
    type Key = u64;
    type Event = Heard;
    type View = Shown;
    type Emit = ();
    fn create(_vehicle: &u64) -> Self {
        Vehicle::default()
    }
    fn on_event(&mut self, heard: &Heard, _context: &mut Context<'_, Self>) {
        match heard {
            Heard::Reading(reading) => self.engine_temp = reading.engine_temp,
            Heard::Note(_, note) => self.note.clone_from(note),
        }
    }
    fn view(&self) -> Option<Shown> {
        Some(Shown { engine_temp: self.engine_temp, note: self.note.clone() })
    }
}

/// The job, in a process of its own.
#[test]
#[ignore = "started by the others"]
fn program() {
    common::program::run("fleet", |flow| {
        let telemetry = flow.events::<Reading>("telemetry").map(Heard::Reading);
        let commands = flow.commands::<u64, String>("commands");
        let notes = commands.filter(|command| command.lane == "note");
        let notes = notes.map(|command| Heard::Note(command.key, command.body));
        let vehicles = telemetry.concat(&notes).agents::<Vehicle>("vehicles", |heard| match heard {
            Heard::Reading(reading) => reading.vehicle,
            Heard::Note(vehicle, _) => *vehicle,
        });
        flow.view("vehicles", &vehicles);
    });
}
