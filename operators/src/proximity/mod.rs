//! Links between what is near: agents with a position, and places.
//!
//! ```text
//!   +-------+-------+     A cell of the grid is the key of a join: each agent is at home in one cell, and looks
//!   |   b   |       |     into those that its circle touches, four on the average. Who meets there is linked
//!   |     .-|-.     |     if the exact distance says so: a looks into four cells, meets b, c and d, and is
//!   +----(--a--)----+     linked with c.
//!   |     `-|c'  d  |
//!   +-------+-------+     Rows get fewer cells towards the poles; the antimeridian is no border.
//! ```

mod grid;
mod position;

use differential_dataflow::VecCollection;
use nekton_engine::Time;
use nekton_engine::agents::Key;
use ordered_float::OrderedFloat;

pub use position::{EARTH_RADIUS, Position};

use crate::aggregate::{AggregateKeys, BottomK};
use crate::links::LinkCollection;
use grid::{Cell, Grid};

/// Agents with their positions, or places.
pub type Positions<'s, N> = VecCollection<'s, Time, (N, Position), isize>;

/// The nearest ones and how many metres away they are, the nearest first.
pub type Nearest<N> = Vec<(OrderedFloat<f64>, N)>;

/// Who is near whom.
pub trait Proximity<'s, N: Key> {
    /// Links between all who are within so many metres of one another. Each pair once, the smaller one first; nothing
    /// leaves while two move and stay near.
    ///
    /// **Cost**: a move takes some microseconds, and a distance (some 100 ns) for each other agent in the cells
    /// around: those in some 16 times the square of the distance. **Memory**: an agent has some 3.5 records.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let at = |lat, lon| Some(Position::new(lat, lon).unwrap());
    /// # let ships = table(flow, "ships", [
    /// #     (1, vec![("anna", at(-17.0, 179.99)), ("bora", at(-17.0, -179.99)), ("cora", at(-16.0, 179.99))]), (2, vec![("anna", at(-17.0, 179.8))]),
    /// # ]);
    /// // anna at 17° S 179.99° E, bora at 17° S 179.99° W, cora farther north; at 2, anna is at 179.8° E
    /// flow.sink("close", diffs(&ships.near(5_000.0)));
    /// # });
    /// assert_eq!(topics.lines("close"), [
    ///     r#"{"data":["anna","bora"],"time":1,"diff":1}"#,
    ///     r#"{"data":["anna","bora"],"time":2,"diff":-1}"#,
    /// ]);
    /// ```
    fn near(self, metres: f64) -> LinkCollection<'s, N>;

    /// Each with each place that is within so many metres.
    ///
    /// **Cost**: a move takes some microseconds and a distance for each place in the cells around; a place that
    /// comes, one for each agent there. **Memory**: an agent has some 8 records, a place 2.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let at = |lat, lon| Some(Position::new(lat, lon).unwrap());
    /// # let bikes = table(flow, "bikes", [(1, vec![(1_u64, at(40.7590, -73.9845))]), (2, vec![(1, at(40.7484, -73.9857))])]);
    /// # let places = table(flow, "places", [(1, vec![("times square", at(40.7580, -73.9855))])]);
    /// // bike 1 is 140 m from Times Square, and at 2 a kilometre
    /// flow.sink("at", diffs(&bikes.near_places(places, 200.0)));
    /// # });
    /// assert_eq!(topics.lines("at"), [
    ///     r#"{"data":[1,"times square"],"time":1,"diff":1}"#,
    ///     r#"{"data":[1,"times square"],"time":2,"diff":-1}"#,
    /// ]);
    /// ```
    fn near_places<P: Key>(
        self,
        places: Positions<'s, P>,
        metres: f64,
    ) -> VecCollection<'s, Time, (N, P), isize>;

    /// For each, the `count` nearest places of those within so many metres; fewer where there are fewer, and no record
    /// where there are none. Of several as near, the smaller ones.
    ///
    /// **Cost** and **memory** as of [`near_places`](Proximity::near_places), and a record for each pair that is near: let
    /// `metres` be no more than it must.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let at = |lat, lon| Some(Position::new(lat, lon).unwrap());
    /// # let cars = table(flow, "cars", [(1, vec![("car", at(0.0, 0.0))])]);
    /// # let chargers = table(flow, "chargers", [(1, vec![("a", at(0.0, 0.02)), ("b", at(0.01, 0.0)), ("c", at(0.03, 0.0))])]);
    /// // chargers a, b and c, some 2.2, 1.1 and 3.3 km from the car
    /// let nearest = cars.nearest(chargers, 2, 10_000.0);
    /// flow.sink("nearest", upsert(&nearest.map(|(car, chargers)| (car, chargers.into_iter().map(|(_, name)| name).collect::<Vec<_>>()))));
    /// # });
    /// assert_eq!(topics.lines("nearest"), [r#"{"key":"car","value":["b","a"],"time":1}"#]);
    /// ```
    fn nearest<P: Key>(
        self,
        places: Positions<'s, P>,
        count: usize,
        metres: f64,
    ) -> VecCollection<'s, Time, (N, Nearest<P>), isize>;

    /// For each, the `count` nearest others within so many metres, as [`nearest`](Proximity::nearest).
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let at = |lat, lon| Some(Position::new(lat, lon).unwrap());
    /// # let cars = table(flow, "cars", [(1, vec![(1, at(0.0, 0.0)), (2, at(0.0, 0.01)), (3, at(0.0, 0.03))])]);
    /// // three cars on the equator, at 0°, 0.01° and 0.03° E
    /// flow.sink("next", upsert(&cars.nearest_others(1, 10_000.0).map(|(car, others)| (car, others[0].1))));
    /// # });
    /// assert_eq!(topics.lines("next"), [
    ///     r#"{"key":1,"value":2,"time":1}"#,
    ///     r#"{"key":2,"value":1,"time":1}"#,
    ///     r#"{"key":3,"value":2,"time":1}"#,
    /// ]);
    /// ```
    fn nearest_others(self, count: usize, metres: f64) -> VecCollection<'s, Time, (N, Nearest<N>), isize>;
}

impl<'s, N: Key> Proximity<'s, N> for Positions<'s, N> {
    fn near(self, metres: f64) -> LinkCollection<'s, N> {
        let grid = Grid::new(metres);
        // Of two who are near, the one in the lesser cell looks into that of the other; in one cell, both do.
        let looking = self.clone().flat_map(move |(agent, position)| {
            let home = grid.cell(position);
            let cells = grid.around(position).filter(move |cell| *cell >= home);
            cells.map(move |cell| (cell, (agent.clone(), position, cell == home)))
        });
        let homes = at_home(self, grid).arrange_by_key();
        looking.arrange_by_key().join_core(homes, move |_cell, (one, here, own), (other, there)| {
            if one == other || (*own && one > other) || grid.near(*here, *there).is_none() {
                return None;
            }
            Some(if one < other { (one.clone(), other.clone()) } else { (other.clone(), one.clone()) })
        })
    }

    fn near_places<P: Key>(
        self,
        places: Positions<'s, P>,
        metres: f64,
    ) -> VecCollection<'s, Time, (N, P), isize> {
        let grid = Grid::new(metres);
        let homes = at_home(places, grid).arrange_by_key();
        looking(self, grid).arrange_by_key().join_core(homes, move |_cell, (agent, here), (place, there)| {
            grid.near(*here, *there).map(|_| (agent.clone(), place.clone()))
        })
    }

    fn nearest<P: Key>(
        self,
        places: Positions<'s, P>,
        count: usize,
        metres: f64,
    ) -> VecCollection<'s, Time, (N, Nearest<P>), isize> {
        let grid = Grid::new(metres);
        let homes = at_home(places, grid).arrange_by_key();
        let near = looking(self, grid).arrange_by_key().join_core(
            homes,
            move |_cell, (agent, here), (place, there)| {
                grid.near(*here, *there).map(|metres| (agent.clone(), (OrderedFloat(metres), place.clone())))
            },
        );
        near.aggregate(BottomK(count))
    }

    fn nearest_others(self, count: usize, metres: f64) -> VecCollection<'s, Time, (N, Nearest<N>), isize> {
        let grid = Grid::new(metres);
        let homes = at_home(self.clone(), grid).arrange_by_key();
        let near = looking(self, grid).arrange_by_key().join_core(
            homes,
            move |_cell, (agent, here), (other, there)| {
                let metres = if agent == other { None } else { grid.near(*here, *there) };
                metres.map(|metres| (agent.clone(), (OrderedFloat(metres), other.clone())))
            },
        );
        near.aggregate(BottomK(count))
    }
}

/// A cell, and who is there or looks into it.
type InCell<'s, N> = VecCollection<'s, Time, (Cell, (N, Position)), isize>;

fn at_home<'s, N: Key>(positions: Positions<'s, N>, grid: Grid) -> InCell<'s, N> {
    positions.map(move |(agent, position)| (grid.cell(position), (agent, position)))
}

fn looking<'s, N: Key>(positions: Positions<'s, N>, grid: Grid) -> InCell<'s, N> {
    positions.flat_map(move |(agent, position)| {
        grid.around(position).map(move |cell| (cell, (agent.clone(), position)))
    })
}
