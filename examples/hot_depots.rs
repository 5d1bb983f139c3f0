//! Counts hot vehicles by depot. Try it:
//!
//! ```text
//! mkdir -p /tmp/topics/telemetry
//! echo '{"vehicle":1,"depot":"north","engine_temp":120}' >> /tmp/topics/telemetry/0.jsonl
//! cargo run --example hot_depots -- --topics file:/tmp/topics --until-end
//! cat /tmp/topics/hot-by-depot/0.jsonl
//! ```

use nekton::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    vehicle: u64,
    depot: String,
    engine_temp: i64,
}

#[derive(Default, Serialize, Deserialize)]
struct Vehicle {
    depot: String,
    engine_temp: i64,
}

impl Agent for Vehicle {
    type Key = u64;
    type Event = Reading;
    type View = (String, i64);
    type Emit = ();

    fn create(_vehicle: &u64) -> Self {
        Vehicle::default()
    }
    fn on_event(&mut self, reading: &Reading, _context: &mut Context<'_, Self>) {
        self.depot.clone_from(&reading.depot);
        self.engine_temp = reading.engine_temp;
    }
    fn view(&self) -> Option<(String, i64)> {
        Some((self.depot.clone(), self.engine_temp))
    }
}

fn main() -> nekton::Result<()> {
    nekton::run("fleet", |flow| {
        let telemetry = flow.events::<Reading>("telemetry");
        let vehicles = telemetry.agents::<Vehicle>("vehicles", |reading| reading.vehicle);
        let hot = vehicles.filter(|(_, (_, temp))| *temp > 110);
        let by_depot = hot.map(|(_, (depot, _))| depot).count();
        flow.sink("hot-by-depot", &by_depot);
        flow.view("vehicles", &vehicles);
    })
}
