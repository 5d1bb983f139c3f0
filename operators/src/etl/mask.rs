//! Masking: what leaves of a secret value.
//!
//! | | keeps | use it for |
//! |---|---|---|
//! | [`Pseudonyms`] | which values are the same | cards, accounts, names: still keys of joins, counts and rings |
//! | [`keep_last`], [`keep_first`] | a few characters | what a person recognizes: `************1111`, `80**` |
//! | [`round_down`] | the magnitude | amounts, ages, times |
//! | a type without the field, or `None` | nothing | what nobody needs |
//!
//! All are functions for a `map`, and give the same whenever they are called with the same, so that a replay agrees with what was
//! written before.
//!
//! Mask where events are read, before anything remembers them: what an agent holds is in its checkpoints. A record that cannot be read
//! goes to the topic of dead letters *as it is*; where that must not be, decode with a closure that does not fail (it gives a
//! `Result` to [`try_map`](crate::Split::try_map)), as the example `payments` does.

use std::fmt;
use std::str::FromStr;

use nekton_engine::{Error, Result};
use ring::hmac;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Gives each value a pseudonym: HMAC-SHA256 (RFC 2104) of the field's name and the value under a secret key, cut to 128 bits.
///
/// The same value of the same field has the same pseudonym. Without the key nobody can tell which value it was, even of
/// the few that there are of card numbers; a plain hash would give those away within minutes. Two fields have different ones, so
/// that a card and an account of the same number cannot be linked.
///
/// Under another key all pseudonyms are others: keep the key as long as what was written under it, and begin a job with a new one
/// under a new name.
///
/// **Cost**: some 0.5 µs a value of 16 bytes. **Memory**: 16 bytes a pseudonym.
///
/// ```
/// use nekton_operators::mask::Pseudonyms;
///
/// let pseudonyms = Pseudonyms::new(b"0123456789abcdef0123456789abcdef")?; // from the environment: `nekton::pseudonyms`
/// let card = pseudonyms.of("card", "4111111111111111");
/// assert_eq!(card.to_string(), "ec33ae14cadeed4e9dff40f79d9782d7");
/// assert_eq!(card, pseudonyms.of("card", "4111111111111111"));
/// assert_ne!(card, pseudonyms.of("account", "4111111111111111"));
/// assert_eq!(format!("{pseudonyms:?}"), "Pseudonyms");
/// # Ok::<(), nekton_engine::Error>(())
/// ```
#[derive(Clone)]
pub struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    /// Those of a key of at least 16 bytes, which should be random.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn new(key: &[u8]) -> Result<Self> {
        if key.len() < 16 {
            return Err(Error::config(format!(
                "the key of pseudonyms has {} bytes: give at least 16, such as those of openssl rand -hex 32",
                key.len()
            )));
        }
        Ok(Pseudonyms(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// The pseudonym of a value of a field.
    pub fn of(&self, field: &str, value: impl AsRef<[u8]>) -> Pseudonym {
        let mut context = hmac::Context::with_key(&self.0);
        // With its length, so that no field and value look like another field and value.
        context.update(&(field.len() as u64).to_le_bytes());
        context.update(field.as_bytes());
        context.update(value.as_ref());
        let mut cut = [0; 16];
        cut.copy_from_slice(&context.sign().as_ref()[..16]);
        Pseudonym(u128::from_be_bytes(cut))
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms")
    }
}

/// What stands for a value. As text and in JSON, 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pseudonym(u128);

// Text for people and other programs, 16 bytes between workers and in checkpoints.
impl Serialize for Pseudonym {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            ((self.0 >> 64) as u64, self.0 as u64).serialize(serializer)
        }
    }
}
impl<'de> Deserialize<'de> for Pseudonym {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            let (high, low) = <(u64, u64)>::deserialize(deserializer)?;
            Ok(Pseudonym(u128::from(high) << 64 | u128::from(low)))
        }
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Pseudonym {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // What was no pseudonym may be a secret: it is not said.
        let no = || format!("a pseudonym has 32 hexadecimal digits, this has {} characters", text.len());
        if text.len() != 32 {
            return Err(no());
        }
        u128::from_str_radix(text, 16).map(Pseudonym).map_err(|_| no())
    }
}

/// Replaces all letters and digits but the last so many by `*`. A text that has no more of them is replaced as a whole.
///
/// ```
/// use nekton_operators::mask::keep_last;
///
/// assert_eq!(keep_last("4111-1111-1111-1234", 4), "****-****-****-1234");
/// assert_eq!(keep_last("1234", 4), "****");
/// ```
pub fn keep_last(text: &str, count: usize) -> String {
    let letters = text.chars().filter(|c| c.is_alphanumeric()).count();
    let hidden = if letters > count { letters - count } else { letters };
    hide(text, 0..hidden)
}

/// Replaces all letters and digits but the first so many by `*`. A text that has no more of them is replaced as a whole.
///
/// ```
/// use nekton_operators::mask::keep_first;
///
/// assert_eq!(keep_first("SW1A 1AA", 2), "SW** ***");
/// ```
pub fn keep_first(text: &str, count: usize) -> String {
    let letters = text.chars().filter(|c| c.is_alphanumeric()).count();
    hide(text, if letters > count { count } else { 0 }..letters)
}

/// Hides those of the letters and digits whose places among them are in a range.
fn hide(text: &str, places: std::ops::Range<usize>) -> String {
    let mut place = 0;
    let mut shown = |c: char| {
        if !c.is_alphanumeric() {
            return c;
        }
        place += 1;
        if places.contains(&(place - 1)) { '*' } else { c }
    };
    text.chars().map(&mut shown).collect()
}

/// The greatest multiple of `step` that is not greater: an amount in thousands, an age in decades, a time in days.
///
/// ```
/// use nekton_operators::mask::round_down;
///
/// assert_eq!(round_down(123_456, 10_000), 120_000);
/// assert_eq!(round_down(-1, 10), -10);
/// ```
///
/// # Panics
/// If `step` is not greater than 0.
pub fn round_down(value: i64, step: i64) -> i64 {
    assert!(step > 0, "steps of {step} lead nowhere");
    // The first multiple may be out of range.
    value.div_euclid(step).checked_mul(step).unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_hmac_sha256_of_the_length_and_name_of_the_field_and_the_value() {
        // From Python: hmac.new(b"k" * 16, (4).to_bytes(8, "little") + b"card" + b"4111", "sha256").hexdigest()[:32]
        let pseudonyms = Pseudonyms::new(&[b'k'; 16]).unwrap();
        assert_eq!(pseudonyms.of("card", "4111").to_string(), "828dcb9e7536ccce017b80ad3cfd5955");
    }

    #[test]
    fn fields_and_values_are_not_confused() {
        let pseudonyms = Pseudonyms::new(&[7; 32]).unwrap();
        assert_ne!(pseudonyms.of("ab", "c"), pseudonyms.of("a", "bc"));
        assert!(Pseudonyms::new(&[7; 15]).is_err());
    }

    #[test]
    fn a_pseudonym_is_read_as_it_is_written_and_an_error_does_not_tell_what_it_was() {
        let pseudonym = Pseudonyms::new(&[7; 32]).unwrap().of("a", "b");
        assert_eq!(
            serde_json::from_str::<Pseudonym>(&serde_json::to_string(&pseudonym).unwrap()).unwrap(),
            pseudonym
        );
        let error = serde_json::from_str::<Pseudonym>("\"4111111111111111\"").unwrap_err().to_string();
        assert!(!error.contains("4111"), "{error}");
    }

    #[test]
    fn what_is_too_short_is_hidden_as_a_whole() {
        assert_eq!((keep_last("", 4), keep_first("ab", 2)), (String::new(), "**".to_owned()));
        assert_eq!(keep_last("zürich", 2), "****ch");
        assert_eq!(round_down(i64::MIN, 10), i64::MIN);
    }
}
