//! Recon as JSON and back.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};

use super::{Item, Value};

/// Fields of an object are slots, those at its beginning whose names begin with `@` attributes.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Extant)
    }
    fn visit_bool<E>(self, is: bool) -> Result<Value, E> {
        Ok(Value::Bool(is))
    }
    fn visit_i64<E>(self, is: i64) -> Result<Value, E> {
        Ok(Value::Number(is.into()))
    }
    fn visit_u64<E>(self, is: u64) -> Result<Value, E> {
        Ok(Value::Number(is.into()))
    }
    fn visit_f64<E>(self, is: f64) -> Result<Value, E> {
        Ok(Number::from_f64(is).map_or(Value::Extant, Value::Number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(value) = values.next_element()? {
            items.push(Item::Value(value));
        }
        Ok(Value::Record(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let mut leading = true;
        while let Some((name, value)) = fields.next_entry::<String, Value>()? {
            let attr = name.strip_prefix('@').filter(|name| leading && !name.is_empty());
            leading = attr.is_some();
            items.push(match attr {
                Some(attr) => Item::Attr(attr.to_owned(), value),
                None => Item::Slot(Value::Text(name), value),
            });
        }
        Ok(Value::Record(items))
    }
}

impl Value {
    /// A record of values is an array; any other an object: attributes under `@name`, slots under their key, and
    /// values under `$` and their place.
    pub(crate) fn json(self) -> Json {
        match self {
            Value::Extant => Json::Null,
            Value::Bool(is) => Json::Bool(is),
            Value::Number(number) => Json::Number(number),
            Value::Text(text) | Value::Data(text) => Json::String(text),
            Value::Record(items) => {
                if !items.is_empty() && items.iter().all(|item| matches!(item, Item::Value(_))) {
                    return items
                        .into_iter()
                        .map(|item| match item {
                            Item::Value(value) | Item::Attr(_, value) | Item::Slot(_, value) => value.json(),
                        })
                        .collect();
                }
                let field = |(place, item)| match item {
                    Item::Attr(name, value) => (format!("@{name}"), value.json()),
                    Item::Slot(Value::Text(key), value) => (key, value.json()),
                    Item::Slot(key, value) => (key.json().to_string(), value.json()),
                    Item::Value(value) => (format!("${place}"), value.json()),
                };
                Json::Object(items.into_iter().enumerate().map(field).collect::<Map<_, _>>())
            }
        }
    }
}
