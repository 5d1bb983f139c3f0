//! The shapes of a root's key and state, read off their Rust types: kept in manifests, so that a program that has
//! changed is noticed without reading all of the state.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_reflection::{Samples, Tracer, TracerConfig};

/// How many differences are named.
const NAMED: usize = 3;

/// The shapes of a root; one is null where a type does not show it (a `Deserialize` of its own).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    key: Value,
    state: Value,
}

impl Shape {
    pub(crate) fn of<K: DeserializeOwned, S: DeserializeOwned>() -> Self {
        Shape { key: traced::<K>(), state: traced::<S>() }
    }

    /// Whether what is stored in the shape `other` is certainly read as this one.
    pub(crate) fn is(&self, other: &Shape) -> bool {
        self == other && !self.key.is_null() && !self.state.is_null()
    }

    /// What has changed from `old` to this, in words; nothing where that cannot be said.
    pub(crate) fn changes_since(&self, old: &Shape) -> Vec<String> {
        let mut changes = Vec::new();
        if old.key != self.key && !old.key.is_null() && !self.key.is_null() {
            let change = match (&old.key[0], &self.key[0]) {
                (old, new) if old != new => format!("its key was {}, and is {} now", named(old), named(new)),
                _ => "the type of its key has changed".to_owned(),
            };
            changes.push(change);
        }
        let containers = |shape: &Shape| shape.state[1].as_object().cloned().unwrap_or_default();
        let (old, new) = (containers(old), containers(self));
        for (name, of) in &new {
            let Some(before) = old.get(name).filter(|before| *before != of) else { continue };
            let (Some(before), Some(after)) = (fields(before), fields(of)) else {
                changes.push(format!("{name} has changed"));
                continue;
            };
            for (field, kind) in &after {
                match before.iter().find(|(known, _)| known == field) {
                    None => changes.push(format!("{name}.{field} is new")),
                    Some((_, was)) if was != kind => {
                        changes.push(format!(
                            "{name}.{field} was {}, and is {} now",
                            named(was),
                            named(kind)
                        ));
                    }
                    Some(_) => {}
                }
            }
            for (field, _) in before.iter().filter(|(field, _)| after.iter().all(|(known, _)| known != field))
            {
                changes.push(format!("{name}.{field} is gone"));
            }
        }
        changes.truncate(NAMED);
        changes
    }
}

/// A type's format, and the formats of all types in it.
fn traced<T: DeserializeOwned>() -> Value {
    let mut tracer = Tracer::new(TracerConfig::default());
    let format = tracer.trace_type::<T>(&Samples::new()).ok().map(|(format, _)| format);
    let both = format.zip(tracer.registry().ok());
    both.and_then(|both| serde_json::to_value(both).ok()).unwrap_or_default()
}

/// The fields of a struct with their formats.
fn fields(container: &Value) -> Option<Vec<(String, Value)>> {
    let fields = container.get("STRUCT")?.as_array()?;
    fields
        .iter()
        .map(|field| field.as_object()?.iter().next().map(|(name, format)| (name.clone(), format.clone())))
        .collect()
}

/// A format as a person would say it.
fn named(format: &Value) -> String {
    match format {
        Value::String(name) if name == "STR" => "text".to_owned(),
        Value::String(name) => name.to_lowercase(),
        Value::Object(of) => match of.iter().next() {
            Some((kind, Value::String(name))) if kind == "TYPENAME" => name.clone(),
            Some((kind, inner)) if kind == "OPTION" => format!("an optional {}", named(inner)),
            Some((kind, inner)) if kind == "SEQ" => format!("a list of {}", named(inner)),
            Some((kind, _)) => format!("a {}", kind.to_lowercase()),
            None => "nothing".to_owned(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod before {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub(super) struct Sensor {
            depot: String,
            celsius: i64,
            count: u32,
        }
    }
    mod after {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub(super) struct Sensor {
            depot: u64,
            celsius: i64,
            last: Option<u64>,
        }
    }

    #[test]
    fn what_has_changed_is_said_field_by_field() {
        let before = Shape::of::<u64, before::Sensor>();
        let after = Shape::of::<String, after::Sensor>();
        assert!(before.is(&Shape::of::<u64, before::Sensor>()) && !after.is(&before));
        let kept: Shape = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        assert_eq!(
            after.changes_since(&kept),
            [
                "its key was u64, and is text now",
                "Sensor.depot was text, and is u64 now",
                "Sensor.last is new",
            ]
        );
        assert_eq!(
            Shape::of::<u64, before::Sensor>()
                .changes_since(&Shape::of::<u64, after::Sensor>())
                .last()
                .unwrap(),
            "Sensor.last is gone"
        );
    }
}
