//! Recon, the notation of SwimOS, within bounds, and what it is as JSON. Pure.
//!
//! The grammar is that of `swim-recon` (Java, JavaScript) without expressions: records `{a:1,b}`, attributes `@a(1)`, text with
//! and without quotes, numbers, data `%AAAA`, markup `[text @em[more]]`, comments. What is written is the part of it that
//! every client reads: no markup, no exponents, quotes around whatever is no plain word, and no `\"`.

mod json;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use read::read;
pub(crate) use write::{body, value as write};

/// What Recon calls a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Something that is there and says nothing.
    Extant,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    /// Bytes, as the base64 that they came in.
    Data(String),
    Record(Vec<Item>),
}

/// What a record consists of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// `@name(value)`
    Attr(String, Value),
    /// `key:value`
    Slot(Value, Value),
    Value(Value),
}

impl Value {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What is in a slot of this name.
    pub(crate) fn slot(&self, name: &str) -> Option<&Value> {
        let Value::Record(items) = self else { return None };
        items.iter().find_map(|item| match item {
            Item::Slot(key, value) if key.text() == Some(name) => Some(value),
            _ => None,
        })
    }
}

/// Of items that stand one after another, where one alone stands for itself.
pub(crate) fn gathered(mut items: Vec<Item>) -> Value {
    match items.pop() {
        None => Value::Extant,
        Some(Item::Value(value)) if items.is_empty() => value,
        Some(last) => {
            items.push(last);
            Value::Record(items)
        }
    }
}
