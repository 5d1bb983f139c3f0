//! Numbers that can be summed exactly: whole ones, and those with a fixed number of decimal places.

use std::fmt;

use nekton_engine::agents::Record;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number that is a whole number of units.
pub trait Exact: Record {
    /// How much a unit is: 1 for whole numbers.
    const UNIT: f64;
    /// How many units it is.
    fn units(&self) -> i128;
    /// The number of so many units; where the type ends, its last one.
    fn of_units(units: i128) -> Self;
}

macro_rules! whole {
    ($($number:ty)*) => {
        $(impl Exact for $number {
            const UNIT: f64 = 1.0;
            #[inline]
            fn units(&self) -> i128 { i128::from(*self) }
            #[inline]
            fn of_units(units: i128) -> Self {
                units.clamp(i128::from(<$number>::MIN), i128::from(<$number>::MAX)) as $number
            }
        })*
    };
}
whole!(i8 i16 i32 i64 i128 u8 u16 u32 u64);

/// A number with `PLACES` places after the decimal point, between ±9.2 × 10^(18 - `PLACES`): a temperature, an
/// amount of money. Unlike `f64`, it has an order, can be a key, and its sums are exact.
///
/// ```
/// use nekton_operators::Decimal;
///
/// let celsius = Decimal::<2>::new(21.499).expect("a number of that size");
/// assert_eq!(celsius.to_string(), "21.50");
/// assert_eq!(celsius.to_f64(), 21.5);
/// assert_eq!(Decimal::<2>::new(f64::NAN), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal<const PLACES: u32>(i64);

impl<const PLACES: u32> Decimal<PLACES> {
    /// The nearest number with so many places (of two that are as near, the one farther from zero); `None` if it is
    /// out of range or not a number.
    pub fn new(value: f64) -> Option<Self> {
        let units = (value * Self::scale()).round();
        // 2^63 itself is one too many.
        (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
            .contains(&units)
            .then_some(Decimal(units as i64))
    }
    /// So many units of its last place: `Decimal::<2>::from_units(150)` is 1.50.
    pub const fn from_units(units: i64) -> Self {
        Decimal(units)
    }
    /// How many units of its last place it is.
    pub const fn to_units(self) -> i64 {
        self.0
    }
    /// The nearest `f64`.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / Self::scale()
    }
    fn scale() -> f64 {
        // Exact up to 10^22.
        10_i128.pow(PLACES) as f64
    }
}

impl<const PLACES: u32> Exact for Decimal<PLACES> {
    const UNIT: f64 = {
        let mut scale = 1.0;
        let mut place = 0;
        while place < PLACES {
            scale *= 10.0;
            place += 1;
        }
        1.0 / scale
    };
    #[inline]
    fn units(&self) -> i128 {
        i128::from(self.0)
    }
    #[inline]
    fn of_units(units: i128) -> Self {
        Decimal(i64::of_units(units))
    }
}

impl<const PLACES: u32> fmt::Display for Decimal<PLACES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10_u128.pow(PLACES);
        let units = u128::from(self.0.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if PLACES == 0 {
            return write!(f, "{sign}{units}");
        }
        write!(f, "{sign}{}.{:0places$}", units / scale, units % scale, places = PLACES as usize)
    }
}

/// A number for people (JSON, CSV), its units otherwise.
impl<const PLACES: u32> Serialize for Decimal<PLACES> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_f64(self.to_f64())
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de, const PLACES: u32> Deserialize<'de> for Decimal<PLACES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let value = f64::deserialize(deserializer)?;
            let error = || D::Error::custom(format!("{value} is out of range with {PLACES} decimal places"));
            Decimal::new(value).ok_or_else(error)
        } else {
            i64::deserialize(deserializer).map(Decimal)
        }
    }
}
