//! Which records somebody wants to see: words, and conditions on fields. Pure.

use serde_json::Value;

use crate::record::Record;

/// The most bytes and conditions of a filter.
const LENGTH: usize = 500;
const TERMS: usize = 16;

/// Conditions, all of which a record must meet.
///
/// ```text
/// boston               the word is somewhere in the record, in small letters or large ones
/// "new york"           the same with a blank
/// key=N12345           the key is that
/// carrier=UA           the field of the value is that; a.b is the field b of the field a; value is the value itself
/// delay>15  delay<=60  numbers by size, text by the alphabet; !=  for all others
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Filter(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Term {
    Word(String),
    Field { path: Vec<String>, is: Is, than: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Is {
    Equal,
    Other,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The longer ones first.
const SIGNS: [(&str, Is); 6] = [
    ("!=", Is::Other),
    ("<=", Is::LessOrEqual),
    (">=", Is::GreaterOrEqual),
    ("=", Is::Equal),
    ("<", Is::Less),
    (">", Is::Greater),
];

impl Filter {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH {
            return Err(format!("a filter has at most {LENGTH} bytes"));
        }
        let words = words(text);
        if words.len() > TERMS {
            return Err(format!("a filter has at most {TERMS} conditions"));
        }
        Ok(Filter(words.into_iter().filter_map(|(word, quoted)| term(word, quoted)).collect()))
    }

    /// Whether a record meets all of it. Parses the value only where a field is asked for.
    pub(crate) fn passes(&self, record: &Record) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let mut parsed = None;
        self.0.iter().all(|term| match term {
            Term::Word(word) => contains(record.text(), word),
            Term::Field { path, is, than } if path[0] == "key" => {
                let key = serde_json::from_str(record.key()).unwrap_or(Value::Null);
                holds(field(&key, &path[1..]), *is, than)
            }
            Term::Field { path, is, than } => {
                let value = parsed.get_or_insert_with(|| {
                    serde_json::from_str(record.value().unwrap_or(record.key())).unwrap_or(Value::Null)
                });
                holds(within(value, path), *is, than)
            }
        })
    }
}

/// Words at blanks, with quotes around those that have some; whether they begin with a quote.
fn words(text: &str) -> Vec<(String, bool)> {
    let mut words: Vec<(String, bool)> = Vec::new();
    let (mut quoted, mut within) = (false, false);
    for letter in text.chars() {
        match letter {
            '"' => {
                if !within {
                    words.push((String::new(), true));
                    within = true;
                }
                quoted = !quoted;
            }
            letter if letter.is_whitespace() && !quoted => within = false,
            letter => {
                if !within {
                    words.push((String::new(), false));
                    within = true;
                }
                if let Some((word, _)) = words.last_mut() {
                    word.push(letter);
                }
            }
        }
    }
    words
}

fn term(word: String, quoted: bool) -> Option<Term> {
    let sign = |at: usize| SIGNS.iter().find(|(sign, _)| word[at..].starts_with(sign));
    let found = word.char_indices().filter(|_| !quoted).find_map(|(at, _)| Some((at, sign(at)?)));
    match found {
        Some((at, (sign, is))) if at > 0 => {
            let path = word[..at].split('.').map(str::to_owned).collect();
            Some(Term::Field { path, is: *is, than: word[at + sign.len()..].to_owned() })
        }
        _ if word.is_empty() => None,
        _ => Some(Term::Word(word.to_lowercase())),
    }
}

fn contains(text: &str, small: &str) -> bool {
    if text.is_ascii() && small.is_ascii() {
        let (text, small) = (text.as_bytes(), small.as_bytes());
        return text.windows(small.len()).any(|window| window.eq_ignore_ascii_case(small));
    }
    text.to_lowercase().contains(small)
}

/// A field of a record's value, which `value` is itself; but a field may be called that.
fn within<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    match path {
        [first, rest @ ..] if first == "value" && value.get("value").is_none() => field(value, rest),
        path => field(value, path),
    }
}

/// Calls `each` with every one of these fields of a record, as filters name them, in their order.
pub(crate) fn fields(record: &Record, paths: &[Vec<String>], mut each: impl FnMut(Option<&Value>)) {
    let parse = |text| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let value = parse(record.value().unwrap_or(record.key()));
    let mut key = None;
    for path in paths {
        match &path[..] {
            [first, rest @ ..] if first == "key" && value.get("key").is_none() => {
                each(field(key.get_or_insert_with(|| parse(record.key())), rest));
            }
            path => each(within(&value, path)),
        }
    }
}

fn field<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| match value {
        Value::Array(values) => values.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    })
}

fn holds(value: Option<&Value>, is: Is, than: &str) -> bool {
    let Some(value) = value else { return is == Is::Other };
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let numbers = value.as_f64().zip(than.parse::<f64>().ok());
    let order = match numbers {
        Some((value, than)) => value.partial_cmp(&than),
        None => Some(text.as_str().cmp(than)),
    };
    let Some(order) = order else { return is == Is::Other };
    match is {
        Is::Equal => order.is_eq(),
        Is::Other => order.is_ne(),
        Is::Less => order.is_lt(),
        Is::LessOrEqual => order.is_le(),
        Is::Greater => order.is_gt(),
        Is::GreaterOrEqual => order.is_ge(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(filter: &str, record: &str) -> bool {
        Filter::parse(filter).unwrap().passes(&Record::new(record.as_bytes(), 1))
    }

    #[test]
    fn all_conditions_must_hold() {
        let plane = r#"["N123",{"carrier":"UA","delay":17,"leg":{"to":"New York"},"late":true}]"#;
        for filter in [
            "",
            "n123",
            "ua new",
            "\"new york\"",
            "key=N123",
            "carrier=UA delay>15",
            "delay>=17 delay<18",
            "leg.to!=Boston",
            "leg.to=\"New York\"",
            "late=true",
            "altitude!=3",
            "value.carrier=UA",
            "delay!=1",
        ] {
            assert!(passes(filter, plane), "{filter}");
        }
        for filter in
            ["n124", "\"york new\"", "carrier=AA", "delay>17", "altitude=3", "carrier=UA delay>20", "key=UA"]
        {
            assert!(!passes(filter, plane), "{filter}");
        }
        assert!(passes("value>3", r#"["a",4]"#) && !passes("value>3", r#"["a",3]"#));
        assert!(passes("key.1=b", r#"[["a","b"],4]"#) && passes("color=red", r#"{"color":"red"}"#));
    }

    #[test]
    fn what_is_too_long_or_odd_is_no_trouble() {
        assert!(Filter::parse(&"a".repeat(501)).is_err() && Filter::parse(&"a ".repeat(17)).is_err());
        for odd in ["=", "a=", "\"", "\"\"", "..=", "<>", "é=ü", ">=3"] {
            passes(odd, r#"["N123",{"é":"ü"}]"#);
        }
        assert!(passes("é=ü", r#"["N123",{"é":"ü"}]"#) && passes("Ü", r#"["N123",{"é":"ü"}]"#));
    }
}
