//! The fleet and its events. What is moved leaves one vehicle and reaches another in one event.

use nekton::hash::fixed_hash;
use serde::{Deserialize, Serialize};

/// Vehicles of a pod.
pub const POD: u32 = 20;
/// Pods of a cluster.
pub const CLUSTER: u32 = 50;
/// What a vehicle is filled with, in millilitres.
const FULL: i64 = 10_000;

/// An event of one run of this program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Telemetry {
    /// Which run: a topic may hold several.
    pub run: u64,
    #[serde(flatten)]
    pub event: Event,
}

/// What happens in a fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A vehicle is filled up with coolant.
    Filled { vehicle: u32, coolant_vol: i64 },
    /// What its sensors say, in degrees Celsius.
    Reading { vehicle: u32, engine_temp: i32, fan_temp: i32 },
    /// One vehicle gives another of its pod coolant, in millilitres.
    Moved { from: u32, to: u32, coolant_vol: i64 },
    /// One vehicle hands another of its pod the trailer: its engine cools down, the other's gets hot.
    Trailer { from: u32, to: u32 },
    /// Coolant runs out on the road.
    Leaked { vehicle: u32, coolant_vol: i64 },
}

impl Event {
    /// The pod that it happens in.
    pub fn pod(&self) -> u32 {
        let (Event::Filled { vehicle, .. }
        | Event::Reading { vehicle, .. }
        | Event::Leaked { vehicle, .. }
        | Event::Moved { from: vehicle, .. }
        | Event::Trailer { from: vehicle, .. }) = self;
        vehicle / POD
    }
}

/// A fleet, the events of which follow from a seed.
pub struct Fleet {
    vehicles: u32,
    seed: u64,
}

impl Fleet {
    /// So many vehicles.
    pub fn new(vehicles: u32, seed: u64) -> Self {
        Fleet { vehicles, seed }
    }

    /// Each vehicle is filled, the first of each pod gets the trailer, and then so many events happen: half of them move
    /// something between two vehicles.
    pub fn events(&self, count: usize) -> impl Iterator<Item = Event> {
        let Fleet { vehicles, seed } = *self;
        let filled = (0..vehicles).map(|vehicle| Event::Filled { vehicle, coolant_vol: FULL });
        let pods = vehicles.div_ceil(POD);
        let size = move |pod: u32| POD.min(vehicles - pod * POD);
        let mut trailers: Vec<u32> = (0..pods).map(|pod| pod * POD).collect();
        let mut coolant = vec![FULL; vehicles as usize];
        let given: Vec<_> = trailers.iter().map(|&to| Event::Trailer { from: to, to }).collect();
        let happens = (0..count as u64).map(move |number| {
            let chance = |what: u64, below: u64| fixed_hash(&(seed, number, what)) % below;
            let vehicle = chance(0, vehicles.into()) as u32;
            let pod = vehicle / POD;
            let to = pod * POD + chance(1, size(pod).into()) as u32;
            match chance(2, 1_000) {
                0..350 => {
                    let coolant_vol = (chance(3, 3_000) as i64).min(coolant[vehicle as usize]);
                    coolant[vehicle as usize] -= coolant_vol;
                    coolant[to as usize] += coolant_vol;
                    Event::Moved { from: vehicle, to, coolant_vol }
                }
                350..500 => {
                    let from = std::mem::replace(&mut trailers[pod as usize], to);
                    Event::Trailer { from, to }
                }
                500 => {
                    let coolant_vol = (chance(3, 20) as i64).min(coolant[vehicle as usize]);
                    coolant[vehicle as usize] -= coolant_vol;
                    Event::Leaked { vehicle, coolant_vol }
                }
                // Hot without a trailer: seldom.
                501..505 => Event::Reading { vehicle, engine_temp: 112, fan_temp: 60 },
                _ => Event::Reading {
                    vehicle,
                    engine_temp: 70 + chance(3, 15) as i32,
                    fan_temp: 30 + chance(4, 25) as i32,
                },
            }
        });
        filled.chain(given).chain(happens)
    }
}
