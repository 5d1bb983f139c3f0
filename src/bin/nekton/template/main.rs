//! How many sensors of each room are hot.

use nekton::prelude::*;

/// An event, as it is in the topic `readings`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    room: String,
    celsius: i64,
}

/// An agent's state: what is remembered of one sensor.
#[derive(Default, Serialize, Deserialize)]
struct Sensor {
    room: String,
    hot: bool,
}

/// What others see of it. Only when this changes, something leaves the agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Seen {
    room: String,
    hot: bool,
}

impl Agent for Sensor {
    type Key = String;
    type Event = Reading;
    type View = Seen;
    type Emit = ();

    fn create(_sensor: &String) -> Self {
        Sensor::default()
    }

    fn on_event(&mut self, reading: &Reading, _context: &mut Context<'_, Self>) {
        self.room.clone_from(&reading.room);
        self.hot = reading.celsius > 60;
    }

    fn view(&self) -> Option<Seen> {
        Some(Seen { room: self.room.clone(), hot: self.hot })
    }
}

fn main() -> nekton::Result<()> {
    nekton::run("{{name}}", |flow| {
        let readings = flow.events::<Reading>("readings");
        let sensors = readings.agents::<Sensor>("sensors", |reading| reading.sensor.clone());
        let hot_by_room = sensors.filter(|(_, seen)| seen.hot).map(|(_, seen)| seen.room).count();
        flow.sink("hot-by-room", &hot_by_room);
    })
}
