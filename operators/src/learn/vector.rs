//! A fixed number of numbers, which go into checkpoints with their length in their type.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many numbers, in the agent itself: 8 bytes each, nothing on the heap. Its length is a part of its shape, so a
/// checkpoint with another number of features is refused in words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vector<const N: usize>(pub [f64; N]);

impl<const N: usize> Vector<N> {
    pub(crate) const ZERO: Self = Vector([0.0; N]);

    /// The products of the elements, added from the first to the last: always in this order, so always to the same bit.
    #[inline]
    pub(crate) fn dot(&self, other: &[f64; N]) -> f64 {
        let mut sum = 0.0;
        for (a, b) in self.0.iter().zip(other) {
            sum += a * b;
        }
        sum
    }
}

impl<const N: usize> Default for Vector<N> {
    fn default() -> Self {
        Self::ZERO
    }
}

impl<const N: usize> From<[f64; N]> for Vector<N> {
    fn from(numbers: [f64; N]) -> Self {
        Vector(numbers)
    }
}

impl<const N: usize> Serialize for Vector<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        array::serialize(&self.0, serializer)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Vector<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        array::deserialize(deserializer).map(Vector)
    }
}

/// Arrays of any length, for `#[serde(with = "array")]`: serde itself ends at 32.
pub(crate) mod array {
    use super::{
        Deserialize, Deserializer, PhantomData, SeqAccess, Serialize, SerializeTuple, Serializer, Visitor,
        fmt,
    };
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer, T: Serialize, const N: usize>(
        array: &[T; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(N)?;
        for element in array {
            tuple.serialize_element(element)?;
        }
        tuple.end()
    }

    struct Elements<T, const N: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Copy + Default, const N: usize> Visitor<'de> for Elements<T, N> {
        type Value = [T; N];
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{N} numbers")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<[T; N], A::Error> {
            let mut array = [T::default(); N];
            for (at, place) in array.iter_mut().enumerate() {
                *place = elements.next_element()?.ok_or_else(|| A::Error::invalid_length(at, &self))?;
            }
            Ok(array)
        }
    }

    pub(crate) fn deserialize<
        'de,
        D: Deserializer<'de>,
        T: Deserialize<'de> + Copy + Default,
        const N: usize,
    >(
        deserializer: D,
    ) -> Result<[T; N], D::Error> {
        deserializer.deserialize_tuple(N, Elements(PhantomData))
    }
}

/// What a model takes: anything else would end as an infinity or a NaN in its state, and stay there.
const GREATEST: f64 = 1e50;

/// Whether a number can be learned from.
#[inline]
pub(crate) fn sound(number: f64) -> bool {
    number.abs() <= GREATEST
}

/// Whether an example can be learned from.
#[inline]
pub(crate) fn all_sound(numbers: &[f64]) -> bool {
    numbers.iter().all(|number| sound(*number))
}

/// A number between two bounds, from a program's constants.
pub(crate) fn within(name: &str, value: f64, from: f64, to: f64) -> f64 {
    assert!((from..=to).contains(&value), "{name} is {value}: it must be between {from} and {to}");
    value
}
