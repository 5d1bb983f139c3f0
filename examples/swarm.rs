//! Very many things on a map: each says where it is now and then. Try it, and look at the map:
//!
//! ```text
//! cargo run --release --example swarm                                          # 150,000 of them
//! cargo run --release --example swarm -- --things 20000 --changes 5000
//! ```
//!
//! They are made up: around cities, each going its way. The topic `positions` has an event a change; the view `things` is
//! where they are, and `cities` how many are how fast around each.

#[path = "common/beside.rs"]
mod beside;
#[path = "common/random.rs"]
mod random;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use nekton::prelude::*;
use nekton::{Publisher, Result, say};

use crate::beside::{run_beside, run_number};
use crate::random::Random;

/// Where they are, by latitude and longitude, and how many there are in a hundred.
const CITIES: [(&str, f64, f64, u64); 24] = [
    ("Amsterdam", 52.4, 4.9, 3),
    ("Berlin", 52.5, 13.4, 4),
    ("Bogotá", 4.7, -74.1, 3),
    ("Cairo", 30.0, 31.2, 5),
    ("Chicago", 41.9, -87.6, 6),
    ("Delhi", 28.6, 77.2, 8),
    ("Istanbul", 41.0, 29.0, 5),
    ("Jakarta", -6.2, 106.8, 4),
    ("Johannesburg", -26.2, 28.0, 3),
    ("Lagos", 6.5, 3.4, 4),
    ("Lima", -12.0, -77.0, 2),
    ("London", 51.5, -0.1, 5),
    ("Los Angeles", 34.1, -118.2, 5),
    ("Madrid", 40.4, -3.7, 3),
    ("Mexico City", 19.4, -99.1, 4),
    ("Moscow", 55.8, 37.6, 4),
    ("Mumbai", 19.1, 72.9, 5),
    ("Nairobi", -1.3, 36.8, 2),
    ("New York", 40.7, -74.0, 6),
    ("São Paulo", -23.5, -46.6, 5),
    ("Shanghai", 31.2, 121.5, 5),
    ("Sydney", -33.9, 151.2, 2),
    ("Tehran", 35.7, 51.4, 3),
    ("Tokyo", 35.7, 139.7, 4),
];

/// Shows very many things that move, on a map
#[derive(Parser)]
#[command(name = "swarm", version)]
struct Options {
    /// How many there are
    #[arg(long, value_name = "N", default_value_t = 150_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000), help_heading = "Swarm")]
    things: u64,
    /// How many of them move in a second
    #[arg(long, value_name = "N", default_value_t = 15_000, help_heading = "Swarm")]
    changes: u64,
    /// For how many seconds; 0: until it is ended
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Swarm")]
    seconds: u64,
    #[command(flatten)]
    runner: Runner,
}

/// An event: where a thing is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    run: u64,
    thing: u64,
    city: String,
    at: Position,
    /// Metres a second.
    speed: u64,
}

/// A thing.
#[derive(Default, Serialize, Deserialize)]
struct Thing(Option<Place>);

/// What others see of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Place {
    city: String,
    #[serde(flatten)]
    at: Position,
    speed: u64,
}

impl Agent for Thing {
    type Key = u64;
    type Event = Told;
    type View = Place;
    type Emit = ();
    fn create(_thing: &u64) -> Self {
        Thing::default()
    }
    fn on_event(&mut self, told: &Told, _context: &mut Context<'_, Self>) {
        self.0 = Some(Place { city: told.city.clone(), at: told.at, speed: told.speed });
    }
    fn view(&self) -> Option<Place> {
        self.0.clone()
    }
}

fn main() {
    if let Err(error) = nekton::parse::<Options>().and_then(run) {
        say(format_args!("swarm: {error}"));
        std::process::exit(error.exit_code());
    }
}

fn run(options: Options) -> Result<()> {
    let Options { things, changes, seconds, runner } = options;
    let run = run_number();
    let publisher = Publisher::open(&runner, "positions", 1)?;
    let publish = |over: &AtomicBool| publish(things, changes, seconds, run, publisher, over);
    let (_, published) = run_beside(runner, "swarm", publish, move |flow| {
        let told = flow.events::<Told>("positions").filter(move |told| told.run == run);
        let things = told.agents::<Thing>("things", |told| told.thing);
        let speeds = things.map(|(_, place)| (place.city, place.speed as i64)).aggregate((Count, Sum));
        let cities = speeds.map(|(city, (count, sum))| {
            (city, Around { things: count as u64, metres_a_second: sum / (count as i64).max(1) })
        });
        flow.view("things", &things)
            .map(Map::at("lat", "lon").colour("speed"))
            .chart(Chart::histogram("speed").unit("m/s"))
            .chart(Chart::count().by("city").titled("Things around cities"));
        flow.view("cities", &cities).chart(Chart::bars("things")).chart(Chart::lines("metres_a_second"));
    })?;
    println!("{published} events of {things} things");
    Ok(())
}

/// What is around a city.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Around {
    things: u64,
    metres_a_second: i64,
}

/// One that moves, in degrees.
struct Mover {
    city: usize,
    latitude: f64,
    longitude: f64,
    heading: f64,
    speed: u64,
}

impl Mover {
    fn new(random: &mut Random) -> Self {
        let (mut lot, mut city) = (random.below(100), 0);
        while city + 1 < CITIES.len() && lot >= CITIES[city].3 {
            lot -= CITIES[city].3;
            city += 1;
        }
        let (_, latitude, longitude, _) = CITIES[city];
        // Around the middle, and the fewer the further away.
        let away = 6.0 * random.share() * random.share() * random.share();
        let turn = std::f64::consts::TAU * random.share();
        Mover {
            city,
            latitude: latitude + away * turn.sin(),
            longitude: longitude + 1.2 * away * turn.cos(),
            heading: std::f64::consts::TAU * random.share(),
            speed: random.below(40),
        }
    }

    /// Goes on, and stays about where it is at home.
    fn go(&mut self, random: &mut Random) {
        let (_, latitude, longitude, _) = CITIES[self.city];
        self.heading += random.share() - 0.5;
        if (self.latitude - latitude).hypot(self.longitude - longitude) > 7.0 {
            self.heading = (latitude - self.latitude).atan2(longitude - self.longitude);
        }
        self.speed = (self.speed + random.below(5)).saturating_sub(2).min(40);
        // Faster than they say, so that it can be seen from far away.
        let far = 0.004 * self.speed as f64;
        self.latitude += far * self.heading.sin();
        self.longitude += far * self.heading.cos();
    }
}

/// Says where all of them are, and then where some of them are, one after another.
fn publish(
    things: u64,
    changes: u64,
    seconds: u64,
    run: u64,
    mut publisher: Publisher,
    over: &AtomicBool,
) -> Result<u64> {
    let mut random = Random(1);
    let mut movers: Vec<_> = (0..things).map(|_| Mover::new(&mut random)).collect();
    let begun = Instant::now();
    let mut told = 0;
    while !over.load(Ordering::SeqCst) && (seconds == 0 || begun.elapsed() < Duration::from_secs(seconds)) {
        let due = things + (begun.elapsed().as_secs_f64() * changes as f64) as u64;
        while told < due {
            let thing = told % things;
            let mover = &mut movers[thing as usize];
            if told >= things {
                mover.go(&mut random);
            }
            let at = Position::new(mover.latitude.clamp(-85.0, 85.0), mover.longitude.clamp(-180.0, 180.0))?;
            let city = CITIES[mover.city].0.to_owned();
            publisher.publish(&thing, &Told { run, thing, city, at, speed: mover.speed })?;
            told += 1;
        }
        publisher.send()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    let published = publisher.published();
    publisher.close()?;
    Ok(published)
}
