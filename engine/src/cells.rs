//! Reading records whose values have no types of their own, as CSV has none: the type that is read decides.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::value::CowStrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Error;
use serde_json::value::RawValue;

use crate::connect::RawRecord;
use crate::fields::{Fields, Name};

/// Reads a JSON object as `T`, each of its values as what `T` wants there: `17` and `"17"` are both a number for a
/// number and text for a text (`00501` and `1.50` to the letter), `null` is nothing for an option and the empty
/// text for a text. What is nested in a value is read as JSON.
pub(crate) fn cells<T: DeserializeOwned>(record: &RawRecord) -> Result<T, String> {
    let fields = serde_json::from_slice::<Fields<'_>>(&record.payload).map_err(|error| error.to_string())?;
    T::deserialize(fields).map_err(|error| error.to_string())
}

/// Reads one JSON value as what `T` wants there; text that is no such value, as the JSON that it is.
pub(crate) fn cell<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    T::deserialize(Cell(json)).or_else(|error| {
        let nested = serde_json::from_str::<Name<'_>>(json).ok();
        nested.and_then(|Name(text)| serde_json::from_str(&text).ok()).ok_or(error.to_string())
    })
}

impl<'a> Deserializer<'a> for Fields<'a> {
    type Error = Error;
    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Cells { pairs: self.0.into_iter(), next: None })
    }
    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }
    forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Cells<'a> {
    pairs: std::vec::IntoIter<(Cow<'a, str>, &'a RawValue)>,
    next: Option<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> MapAccess<'a> for Cells<'a> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.pairs.next();
        let Some((name, _)) = &self.next else { return Ok(None) };
        seed.deserialize(CowStrDeserializer::new(name.clone())).map(Some)
    }
    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((name, value)) = self.next.take() else {
            return Err(Error::custom("a value was asked for before its name"));
        };
        seed.deserialize(Cell(value.get()))
            .map_err(|error| Error::custom(format!("column {name:?}: {error}")))
    }
}

/// One value, as JSON text.
#[derive(Clone, Copy)]
struct Cell<'a>(&'a str);

impl<'a> Cell<'a> {
    fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// A value that is not nested, as text.
    fn text(self) -> Result<Cow<'a, str>, Error> {
        match self.0.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<Name<'_>>(self.0).map(|Name(text)| text),
            Some(b'{' | b'[') => Err(Error::custom(format!("{} is not one value", self.0))),
            _ if self.is_null() => Ok(Cow::Borrowed("")),
            _ => Ok(Cow::Borrowed(self.0)),
        }
    }

    fn parse<T: FromStr>(self, wanted: &str) -> Result<T, Error> {
        let text = self.text()?;
        text.trim().parse().map_err(|_| match &*text {
            "" => Error::custom(format!("expected {wanted}, and there is nothing")),
            text => Error::custom(format!("expected {wanted}, not {text:?}")),
        })
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $wanted:literal;)*) => {$(
        fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.parse($wanted)?)
        }
    )*};
}

impl<'a> Deserializer<'a> for Cell<'a> {
    type Error = Error;
    parsed! {
        deserialize_bool visit_bool "true or false";
        deserialize_i8 visit_i8 "a whole number";
        deserialize_i16 visit_i16 "a whole number";
        deserialize_i32 visit_i32 "a whole number";
        deserialize_i64 visit_i64 "a whole number";
        deserialize_i128 visit_i128 "a whole number";
        deserialize_u8 visit_u8 "a whole number from 0";
        deserialize_u16 visit_u16 "a whole number from 0";
        deserialize_u32 visit_u32 "a whole number from 0";
        deserialize_u64 visit_u64 "a whole number from 0";
        deserialize_u128 visit_u128 "a whole number from 0";
        deserialize_f32 visit_f32 "a number";
        deserialize_f64 visit_f64 "a number";
    }
    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }
    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }
    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }
    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }
    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        // A raw value asks for itself in this way.
        if name.starts_with('$') {
            return serde_json::Deserializer::from_str(self.0).deserialize_newtype_struct(name, visitor);
        }
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'a>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.0.starts_with('{') {
            return serde_json::Deserializer::from_str(self.0).deserialize_enum(name, variants, visitor);
        }
        CowStrDeserializer::new(self.text()?).deserialize_enum(name, variants, visitor)
    }
    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        serde_json::Deserializer::from_str(self.0).deserialize_any(visitor)
    }
    forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use serde::Deserialize;

    use super::*;
    use crate::connect::Position;

    fn read<T: DeserializeOwned>(json: &str) -> Result<T, String> {
        let payload = Bytes::copy_from_slice(json.as_bytes());
        cells(&RawRecord { position: Position::default(), key: None, payload, published: 0, defect: None })
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Class {
        Heavy,
        #[serde(rename = "7")]
        Seven,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Id(u32);

    #[derive(Debug, PartialEq, Deserialize)]
    struct Flight {
        id: Id,
        tail: String,
        zip: String,
        delay: Option<i64>,
        miles: f64,
        late: bool,
        class: Class,
        #[serde(default)]
        note: Option<String>,
    }

    #[test]
    fn a_value_is_read_as_what_the_type_wants() {
        let flight = Flight {
            id: Id(17),
            tail: "1545".to_owned(),
            zip: "1.50".to_owned(),
            delay: Some(-3),
            miles: 2.0,
            late: true,
            class: Class::Seven,
            note: None,
        };
        let rows = [
            r#"{"id":17,"tail":1545,"zip":1.50,"delay":-3,"miles":2,"late":true,"class":7,"more":1}"#,
            r#"{"id":"17","tail":"1545","zip":"1.50","delay":" -3","miles":"2.0","late":"true","class":"7","note":null}"#,
        ];
        for row in rows {
            assert_eq!(read::<Flight>(row).unwrap(), flight);
        }
        let nothing =
            r#"{"id":1,"tail":null,"zip":"","delay":null,"miles":1e3,"late":false,"class":"heavy","note":5}"#;
        let read: Flight = read(nothing).unwrap();
        assert_eq!((read.tail, read.delay, read.class), (String::new(), None, Class::Heavy));
        assert_eq!(read.note.as_deref(), Some("5"));
    }

    #[test]
    fn an_error_names_the_column() {
        let error = read::<BTreeMap<String, u64>>(r#"{"a":1,"b":"x"}"#).unwrap_err();
        assert_eq!(error, r#"column "b": expected a whole number from 0, not "x""#);
        let error = read::<BTreeMap<String, u64>>(r#"{"a":null}"#).unwrap_err();
        assert_eq!(error, r#"column "a": expected a whole number from 0, and there is nothing"#);
        assert!(read::<Flight>(r#"{"id":1}"#).unwrap_err().contains("missing field `tail`"));
    }

    #[test]
    fn where_nobody_says_what_he_wants_a_value_is_what_it_looks_like() {
        let value: serde_json::Value = read(r#"{"a":1,"b":"1","c":[1,"x"]}"#).unwrap();
        assert_eq!(value, serde_json::json!({"a": 1, "b": "1", "c": [1, "x"]}));
        let nested: BTreeMap<String, Vec<u8>> = read(r#"{"a":[1,2]}"#).unwrap();
        assert_eq!(nested["a"], [1, 2]);
    }
}
