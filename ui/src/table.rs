//! Records as comma-separated values (RFC 4180). Pure.

use serde_json::{Map, Value};

use crate::record::Record;

/// A line for each record: the key, the fields of the value, and the count. Fields of objects have columns of their own,
/// those of a record by the alphabet; what is nested is JSON.
pub(crate) fn csv(records: &[Record]) -> String {
    let parsed: Vec<(Value, Map<String, Value>)> = records.iter().map(parts).collect();
    let mut columns: Vec<&str> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for name in parsed.iter().flat_map(|(_, fields)| fields.keys()) {
        if known.insert(name.as_str()) {
            columns.push(name);
        }
    }
    let mut text = String::new();
    let heads = std::iter::once("key").chain(columns.iter().copied()).chain(["count"]);
    line(&mut text, heads.map(str::to_owned));
    for ((key, fields), record) in parsed.iter().zip(records) {
        let values = columns.iter().map(|name| fields.get(*name).map_or_else(String::new, cell));
        let count = record.count.to_string();
        line(&mut text, std::iter::once(cell(key)).chain(values).chain([count]));
    }
    text
}

fn parts(record: &Record) -> (Value, Map<String, Value>) {
    let parse = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let fields = match record.value().map(parse) {
        Some(Value::Object(fields)) => fields,
        Some(Value::Null) | None => Map::new(),
        Some(value) => std::iter::once(("value".to_owned(), value)).collect(),
    };
    (parse(record.key()), fields)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn line(into: &mut String, cells: impl Iterator<Item = String>) {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            into.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            into.push('"');
            into.push_str(&cell.replace('"', "\"\""));
            into.push('"');
        } else {
            into.push_str(&cell);
        }
    }
    into.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_columns() {
        let records = [r#"["a, b",{"x":1,"y":"say \"hi\""}]"#, r#"["c",{"y":null,"z":[1,2]}]"#, r#"[7,5]"#];
        let records: Vec<_> = records.iter().map(|json| Record::new(json.as_bytes(), 1)).collect();
        assert_eq!(
            csv(&records),
            "key,x,y,z,value,count\r\n\"a, b\",1,\"say \"\"hi\"\"\",,,1\r\nc,,,\"[1,2]\",,1\r\n7,,,,5,1\r\n"
        );
    }
}
