//! The shape of messages, read off their Rust type: an Avro record schema in JSON, which is what a
//! Pulsar topic with a JSON schema registers.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_reflection::{ContainerFormat, Format, Named, Registry, Tracer, TracerConfig, VariantFormat};

/// The Avro schema of a type, if it is a struct of numbers, text, booleans, lists, maps, options and such
/// structs. Types that JSON writes in another shape than Avro knows have none.
pub(super) fn of<T: DeserializeOwned>() -> Option<String> {
    let (format, registry) = trace::<T>()?;
    let schema = Avro { registry: &registry, named: Vec::new() }.schema(&format)?;
    // A topic's schema is a record.
    (schema.get("type").and_then(Value::as_str) == Some("record")).then(|| schema.to_string())
}

/// The Avro schema of the changes envelope.
pub(super) fn changes<K: DeserializeOwned, V: DeserializeOwned>() -> Option<String> {
    let (key, key_registry) = trace::<K>()?;
    let (value, value_registry) = trace::<V>()?;
    let key = Avro { registry: &key_registry, named: Vec::new() }.schema(&key)?;
    let mut avro = Avro { registry: &value_registry, named: Vec::new() };
    let before = avro.schema(&value)?;
    let after = avro.schema(&value)?;
    let schema = json!({"type": "record", "name": "Change", "fields": [
        {"name": "key", "type": key},
        {"name": "before", "type": ["null", before], "default": null},
        {"name": "after", "type": ["null", after], "default": null},
        {"name": "time", "type": "long"},
    ]});
    Some(schema.to_string())
}

/// The Avro schema of the diffs envelope.
pub(super) fn diffs<D: DeserializeOwned>() -> Option<String> {
    let (data, registry) = trace::<D>()?;
    let data = Avro { registry: &registry, named: Vec::new() }.schema(&data)?;
    let schema = json!({"type": "record", "name": "Diff", "fields": [
        {"name": "data", "type": data},
        {"name": "time", "type": "long"},
        {"name": "diff", "type": "long"},
    ]});
    Some(schema.to_string())
}

fn trace<T: DeserializeOwned>() -> Option<(Format, Registry)> {
    let mut tracer = Tracer::new(TracerConfig::default());
    let (format, _) = tracer.trace_type::<T>(&serde_reflection::Samples::new()).ok()?;
    Some((format, tracer.registry().ok()?))
}

struct Avro<'a> {
    registry: &'a Registry,
    /// Records already spelled out: Avro names them the second time.
    named: Vec<String>,
}

impl Avro<'_> {
    fn schema(&mut self, format: &Format) -> Option<Value> {
        Some(match format {
            Format::Unit => json!("null"),
            Format::Bool => json!("boolean"),
            Format::I8 | Format::I16 | Format::I32 | Format::U8 | Format::U16 => json!("int"),
            Format::I64 | Format::U32 | Format::U64 => json!("long"),
            Format::F32 => json!("float"),
            Format::F64 => json!("double"),
            Format::Char | Format::Str => json!("string"),
            Format::Option(inner) => json!(["null", self.schema(inner)?]),
            Format::Seq(items) => json!({"type": "array", "items": self.schema(items)?}),
            Format::TupleArray { content, .. } => json!({"type": "array", "items": self.schema(content)?}),
            Format::Map { key, value } if matches!(**key, Format::Str) => {
                json!({"type": "map", "values": self.schema(value)?})
            }
            Format::TypeName(name) => self.container(name)?,
            _ => return None,
        })
    }

    fn container(&mut self, name: &str) -> Option<Value> {
        if self.named.iter().any(|known| known == name) {
            return Some(json!(name));
        }
        match self.registry.get(name)? {
            ContainerFormat::NewTypeStruct(inner) => self.schema(inner),
            ContainerFormat::Struct(fields) => {
                self.named.push(name.to_owned());
                let fields = fields.iter().map(|field| self.field(field)).collect::<Option<Vec<_>>>()?;
                Some(json!({"type": "record", "name": name, "fields": fields}))
            }
            ContainerFormat::Enum(variants)
                if variants.values().all(|variant| matches!(variant.value, VariantFormat::Unit)) =>
            {
                self.named.push(name.to_owned());
                let symbols: Vec<_> = variants.values().map(|variant| variant.name.clone()).collect();
                Some(json!({"type": "enum", "name": name, "symbols": symbols}))
            }
            _ => None,
        }
    }

    fn field(&mut self, field: &Named<Format>) -> Option<Value> {
        let schema = self.schema(&field.value)?;
        Some(match field.value {
            Format::Option(_) => json!({"name": field.name, "type": schema, "default": null}),
            _ => json!({"name": field.name, "type": schema}),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Depot {
        name: String,
        vehicles: u64,
        load: Option<f64>,
    }

    #[test]
    fn a_struct_is_an_avro_record() {
        let schema: Value = serde_json::from_str(&of::<Depot>().unwrap()).unwrap();
        assert_eq!(
            schema,
            json!({"type": "record", "name": "Depot", "fields": [
                {"name": "name", "type": "string"},
                {"name": "vehicles", "type": "long"},
                {"name": "load", "type": ["null", "double"], "default": null},
            ]})
        );
    }

    #[test]
    fn what_is_no_record_has_no_schema() {
        assert_eq!(of::<u64>(), None);
        assert_eq!(of::<(u64, String)>(), None);
    }

    #[test]
    fn a_change_names_its_record_once() {
        let schema: Value = serde_json::from_str(&changes::<String, Depot>().unwrap()).unwrap();
        assert_eq!(schema["fields"][1]["type"][1]["name"], "Depot");
        assert_eq!(schema["fields"][2]["type"], json!(["null", "Depot"]));
    }
}
