//! A record of a view as it is sent: its JSON, and where the key ends. Pure.

use std::sync::Arc;

use serde_json::value::RawValue;

/// A record and its count, or how many more or less of it there are.
///
/// One that is written as an array of two is a key and its value; any other is a key alone.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    text: Arc<str>,
    /// How many bytes of `[key,value]` are the key.
    key: Option<usize>,
    pub(crate) count: isize,
}

impl Record {
    /// Of what `serde_json` has written, without blanks.
    pub(crate) fn new(json: &[u8], count: isize) -> Self {
        let text: Arc<str> = String::from_utf8_lossy(json).into();
        let pair = text.starts_with('[').then(|| serde_json::from_str::<(&RawValue, &RawValue)>(&text));
        let key = pair.and_then(|pair| pair.ok().map(|(key, _)| key.get().len()));
        Record { text, key, count }
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub(crate) fn key(&self) -> &str {
        self.key.map_or(&self.text, |key| &self.text[1..=key])
    }

    pub(crate) fn value(&self) -> Option<&str> {
        self.key.map(|key| &self.text[key + 2..self.text.len() - 1])
    }

    /// Whether this is its key, as JSON or, of text, without quotes.
    pub(crate) fn is(&self, key: &str) -> bool {
        self.key() == key
            || self.key().starts_with('"')
                && serde_json::from_str::<String>(self.key()).is_ok_and(|text| text == key)
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn pairs_are_keys_and_values() {
        let parts = |json: &str| {
            let record = Record::new(json.as_bytes(), 1);
            (record.key().to_owned(), record.value().map(str::to_owned))
        };
        let pair = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        assert_eq!(parts(r#"["N1",{"a":[1,2]}]"#), pair(r#""N1""#, r#"{"a":[1,2]}"#));
        assert_eq!(parts(r#"[[1,"],["],null]"#), pair(r#"[1,"],["]"#, "null"));
        for single in ["7", r#""[1,2]""#, "[]", "[1]", "[1,2,3]", r#"{"a":1}"#] {
            assert_eq!(parts(single), (single.to_owned(), None));
        }
        let named = Record::new(br#"["a b",1]"#, 1);
        assert!(named.is("a b") && named.is(r#""a b""#) && !named.is("a"));
        assert!(Record::new(b"[7,1]", 1).is("7"));
    }
}
