//! Who is near is what comparing all with all says, at every time.

mod common;

use common::{Bag, Change, NONE, changes, check, each, once};
use nekton_operators::{Nearest, OrderedFloat, Position, Proximity};
use proptest::prelude::*;

type Placed = (u8, Position);

const METRES: f64 = 1_000.0;

/// Agents that move about near a pole, across the antimeridian, and in between.
fn positions(agents: u8) -> impl Strategy<Value = Vec<Change<Placed>>> {
    let step = || -14..=14_i32;
    let around = prop_oneof![Just((89.999, 20.0)), Just((-90.0, 0.0)), Just((52.0, 180.0)), Just((0.0, 0.0))];
    around.prop_flat_map(move |(latitude, longitude)| {
        let position = (step(), step()).prop_map(move |(up, along)| {
            // Steps of some 110 m; near the poles, once round.
            let near_pole = f64::abs(latitude) > 89.0;
            let latitude = f64::clamp(latitude + f64::from(up) * 1e-3, -90.0, 90.0);
            let longitude = longitude + f64::from(along) * if near_pole { 12.8 } else { 1e-3 };
            Position::new(latitude, (longitude + 540.0).rem_euclid(360.0) - 180.0).unwrap()
        });
        changes((0..agents, position), 24)
    })
}

fn nearest(agents: &Bag<Placed>, places: &Bag<Placed>, count: usize, others: bool) -> Bag<(u8, Nearest<u8>)> {
    let names: std::collections::BTreeSet<u8> = agents.keys().map(|(agent, _)| *agent).collect();
    let of = |agent: u8| {
        let here = each(agents).filter(move |(of, _)| *of == agent);
        let pairs =
            here.flat_map(|(_, here)| each(places).map(move |(place, there)| (here.metres_to(there), place)));
        let near = pairs.filter(|(metres, place)| *metres <= METRES && !(others && *place == agent));
        let mut near: Nearest<u8> = near.map(|(metres, place)| (OrderedFloat(metres), place)).collect();
        near.sort();
        near.truncate(count);
        near
    };
    once(names.into_iter().map(|agent| (agent, of(agent))).filter(|(_, near)| !near.is_empty()))
}

proptest! {
    #![proptest_config(common::cases(24))]

    #[test]
    fn near_are_those_whose_distance_says_so(agents in positions(8), batch in 1..20_usize) {
        check(&agents, NONE, batch, |agents, _| agents.near(METRES), |agents, _| {
            let mut near = Bag::new();
            let agents: Vec<Placed> = each(agents).collect();
            for (one, here) in &agents {
                for (other, there) in &agents {
                    if one < other && here.metres_to(*there) <= METRES {
                        *near.entry((*one, *other)).or_default() += 1;
                    }
                }
            }
            near
        });
    }

    #[test]
    fn places_and_the_nearest_ones_are_found(agents in positions(6), places in positions(6), batch in 1..20_usize) {
        check(&agents, &places, batch, |agents, places| agents.near_places(places, METRES), |agents, places| {
            let mut near = Bag::new();
            for (agent, here) in each(agents) {
                for (place, _) in each(places).filter(|(_, there)| here.metres_to(*there) <= METRES) {
                    *near.entry((agent, place)).or_default() += 1;
                }
            }
            near
        });
        check(&agents, &places, batch, |agents, places| agents.nearest(places, 2, METRES), |agents, places| {
            nearest(agents, places, 2, false)
        });
        check(&agents, NONE, batch, |agents, _| agents.nearest_others(2, METRES), |agents, _| {
            nearest(agents, agents, 2, true)
        });
    }
}
