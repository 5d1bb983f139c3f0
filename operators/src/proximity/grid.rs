//! A grid over the whole earth whose cells are keys for joins.

use super::position::{EARTH_RADIUS, Position};

/// A cell: its row from the south, and its place in the row from the antimeridian.
pub(crate) type Cell = (u32, u32);

/// What rounding may add, in degrees: a centimetre.
const SLACK: f64 = 1e-7;

/// Rows of equal height, each divided into cells of about that width: fewer towards the poles. Cells are twice as
/// wide as the distance that is looked for, so that what is near lies in four cells on the average.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// How far is near: metres, and degrees of latitude.
    metres: f64,
    degrees: f64,
    rows: u32,
    /// In degrees.
    height: f64,
}

impl Grid {
    /// For places within so many metres, a centimetre at least.
    pub(crate) fn new(metres: f64) -> Grid {
        // `max` takes what is not a number for a centimetre too.
        let metres = metres.max(0.01);
        let degrees = (metres / EARTH_RADIUS).to_degrees();
        let rows = (180.0 / (2.0 * degrees)).floor().max(1.0);
        Grid { metres, degrees: degrees + SLACK, rows: rows as u32, height: 180.0 / rows }
    }

    fn row(&self, latitude: f64) -> u32 {
        // Casting clamps what lies south of the pole.
        (((latitude + 90.0) / self.height) as u32).min(self.rows - 1)
    }

    /// How many cells a row has.
    fn columns(&self, row: u32) -> f64 {
        let (south, north) = (f64::from(row) * self.height - 90.0, f64::from(row + 1) * self.height - 90.0);
        let widest = if south <= 0.0 && north >= 0.0 { 0.0 } else { south.abs().min(north.abs()) };
        (360.0 * libm::cos(widest.to_radians()) / self.height).floor().max(1.0)
    }

    fn column(&self, row: u32, longitude: f64) -> i64 {
        ((longitude + 180.0) / 360.0 * self.columns(row)).floor() as i64
    }

    /// The cell that a position lies in.
    pub(crate) fn cell(&self, position: Position) -> Cell {
        let row = self.row(position.latitude());
        let last = self.columns(row) as i64 - 1;
        (row, self.column(row, position.longitude()).clamp(0, last) as u32)
    }

    /// All cells in which something near a position may lie, each once.
    pub(crate) fn around(&self, position: Position) -> impl Iterator<Item = Cell> + use<> {
        let (grid, latitude, longitude) = (*self, position.latitude(), position.longitude());
        // Of all places as near as that, the one farthest east lies so far east. Where the pole is as near,
        // everything is.
        let reach = if latitude.abs() + self.degrees >= 90.0 {
            f64::INFINITY
        } else {
            let sine = libm::sin(self.degrees.to_radians()) / libm::cos(latitude.to_radians());
            libm::asin(sine.min(1.0)).to_degrees() + SLACK
        };
        let rows = self.row(latitude - self.degrees)..=self.row(latitude + self.degrees);
        rows.flat_map(move |row| {
            let columns = grid.columns(row) as i64;
            let (from, to) = if reach.is_finite() {
                (grid.column(row, longitude - reach), grid.column(row, longitude + reach))
            } else {
                (0, columns)
            };
            let (from, to) = if to - from + 1 >= columns { (0, columns - 1) } else { (from, to) };
            (from..=to).map(move |column| (row, column.rem_euclid(columns) as u32))
        })
    }

    /// How far it is, if that is near.
    pub(crate) fn near(&self, one: Position, other: Position) -> Option<f64> {
        if (one.latitude() - other.latitude()).abs() > self.degrees {
            return None;
        }
        let metres = one.metres_to(other);
        (metres <= self.metres).then_some(metres)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where things go wrong: poles, the antimeridian, and anywhere.
    fn places() -> impl Strategy<Value = (f64, f64)> {
        let latitude =
            prop_oneof![Just(90.0), Just(-90.0), 89.99..90.0_f64, -90.0..-89.9, -1.0..1.0, -90.0..90.0];
        let longitude =
            prop_oneof![Just(180.0), Just(-180.0), 179.9..180.0_f64, -180.0..-179.9, -180.0..180.0];
        (latitude, longitude)
    }

    proptest! {
        #[test]
        fn what_is_near_lies_in_a_cell_around(
            (latitude, longitude) in places(),
            metres in prop_oneof![0.5..1e3_f64, 1e3..1e6, 1e6..2.1e7],
            (bearing, share) in (0.0..360.0_f64, prop_oneof![0.0..1.0_f64, 0.999..1.0]),
        ) {
            let grid = Grid::new(metres);
            let here = Position::new(latitude, longitude).unwrap();
            // Where one comes to on a great circle.
            let (up, along) = (latitude.to_radians(), longitude.to_radians());
            let way: f64 = metres * share / EARTH_RADIUS;
            let bearing: f64 = bearing.to_radians();
            let sine = up.sin() * way.cos() + up.cos() * way.sin() * bearing.cos();
            let east = (bearing.sin() * way.sin() * up.cos()).atan2(way.cos() - up.sin() * sine);
            let longitude = ((along + east).to_degrees() + 540.0).rem_euclid(360.0) - 180.0;
            let there = Position::new(sine.clamp(-1.0, 1.0).asin().to_degrees(), longitude).unwrap();
            if grid.near(here, there).is_some() {
                let around: Vec<Cell> = grid.around(here).collect();
                prop_assert!(around.contains(&grid.cell(there)), "{here:?} {there:?} {around:?} {:?}", grid.cell(there));
                let mut once = around.clone();
                once.sort();
                once.dedup();
                prop_assert_eq!(once.len(), around.len());
            }
        }
    }

    #[test]
    fn few_cells_are_around_most_places() {
        let grid = Grid::new(500.0);
        let mut cells = 0;
        for step in 0..10_000 {
            let place = Position::new(f64::from(step % 100) * 0.61, f64::from(step) * 0.0137).unwrap();
            cells += grid.around(place).count();
        }
        assert!((35_000..50_000).contains(&cells), "{cells}");
    }
}
