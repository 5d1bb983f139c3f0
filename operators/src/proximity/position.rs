//! Places on the earth, and how far it is from one to another.

use nekton_engine::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// The earth's mean radius in metres (IUGG, R1).
pub const EARTH_RADIUS: f64 = 6_371_008.8;

const PER_DEGREE: f64 = 1e7;

/// A place on the earth, to the ten-millionth of a degree (11 mm or less). Has an order, can be a key. As JSON:
/// `{"lat":..,"lon":..}` in degrees.
///
/// ```
/// use nekton_operators::Position;
///
/// let new_york = Position::new(40.6413, -73.7781)?;
/// let london = Position::new(51.4700, -0.4543)?;
/// assert_eq!(new_york.metres_to(london).round(), 5_540_019.0);
/// assert!(Position::new(91.0, 0.0).unwrap_err().to_string().contains("latitude"));
/// # Ok::<(), nekton_engine::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "Degrees", try_from = "Degrees")]
pub struct Position {
    latitude: i32,
    longitude: i32,
}

#[derive(Serialize, Deserialize)]
struct Degrees {
    lat: f64,
    lon: f64,
}

impl From<Position> for Degrees {
    fn from(position: Position) -> Degrees {
        Degrees { lat: position.latitude(), lon: position.longitude() }
    }
}
impl TryFrom<Degrees> for Position {
    type Error = Error;
    fn try_from(degrees: Degrees) -> Result<Position> {
        Position::new(degrees.lat, degrees.lon)
    }
}

impl Position {
    /// A place at so many degrees north of the equator and east of Greenwich. The antimeridian is -180 degrees; 180
    /// is the same.
    ///
    /// # Errors
    /// If the latitude is not between -90 and 90, or the longitude not between -180 and 180.
    pub fn new(latitude: f64, longitude: f64) -> Result<Position> {
        let within = |name: &str, value: f64, limit: f64| match (-limit..=limit).contains(&value) {
            true => Ok((value * PER_DEGREE).round() as i32),
            false => Err(Error::new(
                Kind::BadInput,
                format!("a {name} of {value} degrees: it must be between -{limit} and {limit}"),
            )),
        };
        let latitude = within("latitude", latitude, 90.0)?;
        let mut longitude = within("longitude", longitude, 180.0)?;
        if longitude == 1_800_000_000 {
            longitude = -longitude;
        }
        Ok(Position { latitude, longitude })
    }
    /// Degrees north of the equator.
    pub fn latitude(self) -> f64 {
        f64::from(self.latitude) / PER_DEGREE
    }
    /// Degrees east of Greenwich.
    pub fn longitude(self) -> f64 {
        f64::from(self.longitude) / PER_DEGREE
    }
    /// How far it is to the other place on a great circle of a sphere, in metres: the haversine formula (Sinnott, "Virtues
    /// of the haversine", 1984). The real earth differs by up to half a percent. Computed without the machine's own
    /// sine, so that it is the same to the bit on every machine. 50 to 100 ns.
    pub fn metres_to(self, other: Position) -> f64 {
        let (one, two) = (self.latitude().to_radians(), other.latitude().to_radians());
        // Whole numbers, so that the way there and the way back are the same.
        let up = f64::from(self.latitude - other.latitude) / PER_DEGREE;
        let along = (f64::from(self.longitude) - f64::from(other.longitude)) / PER_DEGREE;
        let half = |degrees: f64| libm::sin(degrees.to_radians() / 2.0).powi(2);
        let haversine = half(up) + libm::cos(one) * libm::cos(two) * half(along);
        2.0 * EARTH_RADIUS * libm::asin(haversine.sqrt().min(1.0))
    }
}
