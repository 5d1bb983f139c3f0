//! The map of a city that does not exist: a grid, in which every fourth street is an arterial.

use nekton::hash::fixed_hash;

use crate::events::Road;

/// Metres a second: 43 kilometres an hour.
const DRIVES: u32 = 12;
/// Metres of a lane that a car takes while it waits.
const TAKES: u32 = 7;

/// A map.
#[derive(Clone, Copy)]
pub struct Streets {
    /// Intersections.
    pub count: u32,
    width: u32,
    seed: u64,
}

impl Streets {
    /// A grid as square as it can be.
    pub fn new(count: u32, seed: u64) -> Self {
        let width = f64::from(count).sqrt().ceil() as u32;
        Streets { count, width, seed }
    }

    /// Where an intersection is: column from the west, row from the north.
    pub fn place(&self, intersection: u32) -> (u32, u32) {
        (intersection % self.width, intersection / self.width)
    }

    /// What a leg leads to; nothing at the border.
    pub fn neighbour(&self, intersection: u32, leg: usize) -> Option<u32> {
        let column = intersection % self.width;
        let other = match leg {
            0 => intersection.checked_sub(self.width)?,
            1 if column + 1 < self.width => intersection + 1,
            2 => intersection + self.width,
            3 if column > 0 => intersection - 1,
            _ => return None,
        };
        (other < self.count).then_some(other)
    }

    /// Lanes of a leg in each direction: two on an arterial.
    pub fn lanes(&self, intersection: u32, leg: usize) -> u8 {
        let street =
            if leg.is_multiple_of(2) { intersection % self.width } else { intersection / self.width };
        if street % 4 == 1 { 2 } else { 1 }
    }

    /// The road on a leg, if it does not leave the city.
    pub fn road(&self, intersection: u32, leg: usize) -> Option<Road> {
        let to = self.neighbour(intersection, leg)?;
        let between = (intersection.min(to), intersection.max(to));
        let metres = 250 + (fixed_hash(&(self.seed, between)) % 250) as u32;
        Some(Road { to, leg: leg as u8, metres, lanes: self.lanes(intersection, leg), open: true })
    }
}

/// Seconds that a car is on its way.
pub fn seconds(metres: u32) -> u32 {
    metres / DRIVES
}

/// Cars for which a road has room, in one direction.
pub fn room(road: &Road) -> u16 {
    (u32::from(road.lanes) * road.metres / TAKES) as u16
}
