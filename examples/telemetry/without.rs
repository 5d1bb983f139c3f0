//! The same without times, as systems of agents do it: every agent works on its own thread's share, and tells its pod
//! whenever it has changed. Nothing is lost, nothing comes twice, and each sender's messages come in order.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::fleet::{POD, Telemetry};
use crate::job::{Found, Part, Pod, Told, Vehicle, parts};

/// Threads that have agents.
const THREADS: usize = 2;
/// How many messages may be on their way to each thread: no thread is far behind another.
const ON_THEIR_WAY: usize = 16;

/// An agent's share before and after it changed.
type Change = (u32, Pod, Pod);

/// Runs the events through; what the pods said.
pub fn run(telemetry: &[Telemetry], told: &Told) -> Found {
    std::thread::scope(|scope| {
        let (tell, changes) = sync_channel::<Change>(ON_THEIR_WAY);
        let agents: Vec<SyncSender<(u32, Part)>> = (0..THREADS)
            .map(|_| {
                let (send, events) = sync_channel(ON_THEIR_WAY);
                let tell = tell.clone();
                scope.spawn(move || work(&events, &tell));
                send
            })
            .collect();
        drop(tell);
        let pods = scope.spawn(move || {
            let (mut pods, mut found) = (HashMap::<u32, Pod>::new(), Found::default());
            for (number, before, after) in changes {
                let pod = pods.entry(number).or_default();
                pod.add(&before, -1);
                pod.add(&after, 1);
                told.hear(number, pod, &mut found);
            }
            found
        });
        for Telemetry { event, .. } in telemetry {
            for (vehicle, part) in parts(event) {
                // A thread that has ended shows when it is joined.
                let _ = agents[vehicle as usize % THREADS].send((vehicle, part));
            }
        }
        drop(agents);
        pods.join().unwrap_or_default()
    })
}

/// The agents of one thread.
fn work(events: &Receiver<(u32, Part)>, tell: &SyncSender<Change>) {
    let mut vehicles: HashMap<u32, Vehicle> = HashMap::new();
    for (vehicle, part) in events {
        let state = vehicles.entry(vehicle).or_default();
        let before = state.share();
        state.apply(&part);
        let after = state.share();
        if before != after {
            let _ = tell.send((vehicle / POD, before, after));
        }
    }
}
