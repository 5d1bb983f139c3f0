//! The job: vehicles as agents, pods and clusters over them, and an eye on every answer about a pod.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use nekton::differential_dataflow::VecCollection;
use nekton::prelude::*;

use crate::fleet::{CLUSTER, Event, POD, Telemetry};

/// A vehicle with an engine hotter than this, in degrees Celsius, is hot.
const HOT: i32 = 110;
/// By how much a trailer heats the engine.
const TRAILER: i32 = 35;

/// What an event is to one of the vehicles that it is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Part {
    /// Coolant comes, and is counted as filled or not.
    Coolant { vol: i64, filled: i64 },
    /// What sensors say.
    Temps { engine: i32, fan: i32 },
    /// The trailer comes or goes.
    Trailer(bool),
}

/// The parts of an event, by vehicle.
pub fn parts(event: &Event) -> Vec<(u32, Part)> {
    let coolant = |vol, filled| Part::Coolant { vol, filled };
    match *event {
        Event::Filled { vehicle, coolant_vol } => vec![(vehicle, coolant(coolant_vol, coolant_vol))],
        Event::Reading { vehicle, engine_temp, fan_temp } => {
            vec![(vehicle, Part::Temps { engine: engine_temp, fan: fan_temp })]
        }
        Event::Moved { from, to, coolant_vol } => {
            vec![(from, coolant(-coolant_vol, 0)), (to, coolant(coolant_vol, 0))]
        }
        Event::Trailer { from, to } => vec![(from, Part::Trailer(false)), (to, Part::Trailer(true))],
        Event::Leaked { vehicle, coolant_vol } => vec![(vehicle, coolant(-coolant_vol, 0))],
    }
}

/// A vehicle.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vehicle {
    /// In millilitres.
    pub coolant_vol: i64,
    /// All that it was filled with.
    pub filled: i64,
    /// In degrees Celsius, with the trailer's share.
    pub engine_temp: i32,
    /// In degrees Celsius.
    pub fan_temp: i32,
    /// Whether it has the trailer.
    pub trailer: bool,
}

impl Vehicle {
    /// What a part of an event does.
    pub fn apply(&mut self, part: &Part) {
        match *part {
            Part::Coolant { vol, filled } => {
                self.coolant_vol += vol;
                self.filled += filled;
            }
            Part::Temps { engine, fan } => (self.engine_temp, self.fan_temp) = (engine, fan),
            Part::Trailer(trailer) => self.trailer = trailer,
        }
    }

    fn hot(&self) -> bool {
        self.engine_temp + if self.trailer { TRAILER } else { 0 } > HOT
    }

    /// What the pod adds up of it.
    pub fn share(&self) -> Pod {
        Pod {
            coolant_vol: self.coolant_vol,
            missing: self.filled - self.coolant_vol,
            hot: self.hot().into(),
            trailers: self.trailer.into(),
        }
    }
}

impl Agent for Vehicle {
    type Key = u32;
    type Event = (u32, Part);
    type View = Vehicle;
    type Emit = ();
    fn create(_vehicle: &u32) -> Self {
        Vehicle::default()
    }
    fn on_event(&mut self, (_, part): &(u32, Part), _context: &mut Context<'_, Self>) {
        self.apply(part);
    }
    fn view(&self) -> Option<Vehicle> {
        Some(self.clone())
    }
}

/// What is known of a pod: sums over its vehicles, each of which is right of no vehicle alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pod {
    /// In millilitres.
    pub coolant_vol: i64,
    /// Coolant that was filled in and is not there any more, in millilitres.
    pub missing: i64,
    /// Hot vehicles. Two at once are dangerous.
    pub hot: i64,
    /// Trailers: always one.
    pub trailers: i64,
}

impl Pod {
    /// Adds a share, or takes it away.
    pub fn add(&mut self, share: &Pod, times: i64) {
        self.coolant_vol += times * share.coolant_vol;
        self.missing += times * share.missing;
        self.hot += times * share.hot;
        self.trailers += times * share.trailers;
    }
}

/// A node of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Node {
    Vehicle(u32),
    Pod(u32),
    Cluster(u32),
}

/// Builds the job; `told` hears every answer about a pod.
pub fn build(flow: &mut Flow<'_>, run: u64, told: &Told) {
    let telemetry = flow.events::<Telemetry>("telemetry").filter(move |telemetry| telemetry.run == run);
    let vehicles =
        telemetry.flat_map(|telemetry| parts(&telemetry.event)).agents::<Vehicle>("vehicles", |part| part.0);

    // Pods: sums over agents that something moves between.
    let shares = vehicles.map(|(vehicle, state)| (vehicle / POD, state.share()));
    let sums = (
        of(|share: &Pod| share.coolant_vol, Sum),
        of(|share: &Pod| share.missing, Sum),
        of(|share: &Pod| share.hot, Sum),
        of(|share: &Pod| share.trailers, Sum),
    );
    let pods = shares.aggregate(sums).map(|(pod, (coolant_vol, missing, hot, trailers))| {
        (pod, Pod { coolant_vol, missing, hot, trailers })
    });
    flow.sink("pods", upsert(&pods));
    flow.sink(
        "alerts",
        upsert(&pods.clone().filter(|(_, pod)| pod.missing > 0 || pod.hot > 1 || pod.trailers != 1)),
    );
    told.listen(flow, &pods);

    // Clusters: the same along the chain of links, and the hottest engine.
    let links = vehicles.flat_map(|(vehicle, _)| {
        let pod = vehicle / POD;
        [(Node::Vehicle(vehicle), Node::Pod(pod)), (Node::Pod(pod), Node::Cluster(pod / CLUSTER))]
    });
    let coolant = vehicles.map(|(vehicle, state)| (Node::Vehicle(vehicle), state.coolant_vol));
    let coolant = links.distinct().roll_up(coolant, Sum);
    flow.sink("clusters", upsert(&coolant.filter(|(node, _)| matches!(node, Node::Cluster(_)))));
    flow.view("pods", &pods);
}

/// How many answers about a pod there were, and how many of them were never so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub answers: u64,
    /// Those that are of no moment: not after the pod's first event, nor its second, nor any other.
    pub wrong: u64,
    /// Of these, such as say that coolant is missing which is not.
    pub false_leaks: u64,
    /// Of these, such as say that vehicles are hot together which never were.
    pub false_pairs: u64,
}

/// Compares answers with what was so.
#[derive(Clone)]
pub struct Told {
    /// By pod: what it was after each of its events.
    truth: Arc<HashMap<u32, HashSet<Pod>>>,
    found: Arc<Mutex<Found>>,
}

impl Told {
    /// Works out what each pod was after each of its events, in a plain pass.
    pub fn new(telemetry: &[Telemetry]) -> Self {
        let mut vehicles: HashMap<u32, Vehicle> = HashMap::new();
        let mut pods: HashMap<u32, Pod> = HashMap::new();
        let mut truth: HashMap<u32, HashSet<Pod>> = HashMap::new();
        for Telemetry { event, .. } in telemetry {
            let pod = pods.entry(event.pod()).or_default();
            for (vehicle, part) in parts(event) {
                let state = vehicles.entry(vehicle).or_default();
                pod.add(&state.share(), -1);
                state.apply(&part);
                pod.add(&state.share(), 1);
            }
            truth.entry(event.pod()).or_default().insert(pod.clone());
        }
        Told { truth: Arc::new(truth), found: Arc::default() }
    }

    /// Hears every answer of a job, at every closed time.
    fn listen<'s>(&self, flow: &mut Flow<'s>, pods: &VecCollection<'s, Time, (u32, Pod), isize>) {
        let told = self.clone();
        flow.each_time(pods, move |_time, changes| {
            let mut found = told.found.lock().unwrap_or_else(PoisonError::into_inner);
            for ((pod, is), _) in changes.iter().filter(|(_, diff)| *diff > 0) {
                told.hear(*pod, is, &mut found);
            }
        });
    }

    /// Hears one answer.
    pub fn hear(&self, pod: u32, is: &Pod, found: &mut Found) {
        found.answers += 1;
        let of_pod = &self.truth[&pod];
        if !of_pod.contains(is) {
            found.wrong += 1;
            found.false_leaks += u64::from(of_pod.iter().all(|was| was.missing != is.missing));
            found.false_pairs += u64::from(is.hot > 1 && of_pod.iter().all(|was| was.hot < is.hot));
        }
    }

    /// What was found so far.
    pub fn found(&self) -> Found {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
