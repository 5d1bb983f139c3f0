//! What stands in the topics that the bridge's sensors and the weather station write.

use nekton::prelude::*;

/// Milliseconds of a minute, and of a day.
pub const MINUTE: Time = 60_000;
pub const DAY: Time = 1_440 * MINUTE;

/// An event of one run of this program: a topic may hold several.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent<E> {
    pub run: u64,
    #[serde(flatten)]
    pub event: E,
}

/// What a sensor says of one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    pub sensor: u32,
    pub at: Time,
    /// How much longer the steel is than it was when the gauge was zeroed, in micrometres a metre ("microstrain").
    pub strain: f64,
    /// Of the steel beside the gauge, in degrees Celsius.
    pub celsius: f64,
    /// How much it shakes, in millimetres a second squared: a lorry is on the span, or none.
    pub shaking: f64,
}

/// What the weather station says of one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Weather {
    pub at: Time,
    /// Of the air, in degrees Celsius.
    pub celsius: f64,
    /// In watts a square metre.
    pub sun: f64,
    /// In metres a second.
    pub wind: f64,
}
