//! What the controllers of a city tell: a line of the topic `city` each.

use nekton::prelude::*;

/// Legs of an intersection: 0 to the north, 1 to the east, 2 to the south, 3 to the west.
pub const LEGS: usize = 4;
/// Controllers report their counts so often, in milliseconds.
pub const REPORT: Time = 10_000;
/// When the clocks of a city begin: 2026-01-05, 07:00 in UTC.
pub const BEGIN: Time = 1_767_596_400_000;

/// The other side.
pub fn opposite(leg: usize) -> usize {
    (leg + 2) % LEGS
}

/// Who may go: those from north and south, or those from east and west.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Ns,
    Ew,
}

impl Phase {
    /// The one in which cars of a leg may go.
    pub fn of(leg: usize) -> Self {
        if leg.is_multiple_of(2) { Phase::Ns } else { Phase::Ew }
    }
    pub fn other(self) -> Self {
        match self {
            Phase::Ns => Phase::Ew,
            Phase::Ew => Phase::Ns,
        }
    }
    pub fn legs(self) -> [usize; 2] {
        match self {
            Phase::Ns => [0, 2],
            Phase::Ew => [1, 3],
        }
    }
}

/// What a signal shows to those of a phase; to the others, red.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Light {
    Green(Phase),
    /// No longer green: yellow, and then red for all until those who are on the intersection have left it.
    Yellow(Phase),
}

/// A road from the intersection that tells of it to another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Road {
    pub to: u32,
    /// The leg on which it leaves the one that tells; it comes to the other one on the opposite leg.
    pub leg: u8,
    pub metres: u32,
    /// In each direction.
    pub lanes: u8,
    /// Whether cars may turn into it.
    pub open: bool,
}

/// What loops in the road counted since the last report, by leg.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Cars that came to the end of the queue.
    pub came: [u16; LEGS],
    /// Cars that passed the stop line.
    pub left: [u16; LEGS],
    /// Cars that drove away from the intersection, on this leg.
    pub sent: [u16; LEGS],
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum News {
    Road(Road),
    Light(Light),
    /// Somebody wants to walk while those of a phase have green.
    Button(Phase),
    Counts(Counts),
}

/// A line of the topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which run of this program: a topic may hold several.
    pub run: u64,
    /// When, by the clock of the city, in milliseconds since 1970.
    pub at: Time,
    pub intersection: u32,
    pub news: News,
}
