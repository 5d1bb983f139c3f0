//! Records as a terminal shows them: values in a line, what differs between two of them, times. Pure.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

/// Text without quotes where it is one word, everything else as JSON.
pub(crate) fn brief(value: &Value) -> String {
    match value {
        Value::String(text)
            if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"') =>
        {
            text.clone()
        }
        other => other.to_string(),
    }
}

/// What differs between two values: by fields where both have some.
pub(crate) fn difference(before: Option<&Value>, after: Option<&Value>) -> String {
    let (before, after) = match (before, after) {
        (Some(before), Some(after)) => (before, after),
        (None, Some(after)) => return format!("+ {}", brief(after)),
        (Some(before), None) => return format!("- {}", brief(before)),
        (None, None) => return String::new(),
    };
    let (Value::Object(was), Value::Object(is)) = (before, after) else {
        return format!("{} -> {}", brief(before), brief(after));
    };
    let mut fields = Vec::new();
    for (name, now) in is {
        match was.get(name) {
            Some(then) if then == now => {}
            Some(then) => fields.push(format!("{name} {} -> {}", brief(then), brief(now))),
            None => fields.push(format!("+ {name} {}", brief(now))),
        }
    }
    let gone = was.iter().filter(|(name, _)| !is.contains_key(*name));
    fields.extend(gone.map(|(name, then)| format!("- {name} {}", brief(then))));
    fields.join(", ")
}

/// When times cannot be written any more, in milliseconds since 1970.
const YEAR_10000: u64 = 253_402_300_800_000;

/// A time of day, in UTC.
pub(crate) fn clock(time: &Value) -> String {
    let Some(millis) = time.as_u64() else { return "the end".to_owned() };
    if millis >= YEAR_10000 {
        return "?".to_owned();
    }
    let text = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).to_string();
    text.split('T').nth(1).unwrap_or("?").to_owned()
}

/// A number as people read it at a glance.
pub(crate) fn short(number: f64) -> String {
    match number {
        n if n >= 9_999_500. => format!("{:.0}M", n / 1e6),
        n if n >= 999_500. => format!("{:.1}M", n / 1e6),
        n if n >= 9_999.5 => format!("{:.0}k", n / 1e3),
        n if n >= 999.5 => format!("{:.1}k", n / 1e3),
        n if n > 0. && n < 9.95 => format!("{n:.1}").trim_end_matches(".0").to_owned(),
        n => format!("{n:.0}"),
    }
}

/// How long, as people read it at a glance.
pub(crate) fn span(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..10_000 => format!("{:.1} s", millis as f64 / 1e3),
        10_000..120_000 => format!("{} s", millis / 1_000),
        120_000..7_200_000 => format!("{} min", millis / 60_000),
        7_200_000..172_800_000 => format!("{} h", millis / 3_600_000),
        _ => format!("{} d", millis / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_is_said_field_by_field() {
        let told = |before: Value, after: Value| difference(Some(&before), Some(&after));
        assert_eq!(told(json!({"t": 1, "u": "a"}), json!({"t": 2, "u": "a"})), "t 1 -> 2");
        assert_eq!(told(json!({"t": 1}), json!({"u": "a b"})), "+ u \"a b\", - t 1");
        assert_eq!(told(json!([1, "a"]), json!(7)), "[1,\"a\"] -> 7");
        assert_eq!(difference(None, Some(&json!({"t": 1}))), "+ {\"t\":1}");
        assert_eq!(difference(Some(&json!("gone")), None), "- gone");
    }

    #[test]
    fn numbers_and_times_are_short() {
        let shorts = [(0., "0"), (0.4, "0.4"), (3., "3"), (999., "999"), (1_234., "1.2k"), (45_678., "46k")];
        let shorts = shorts.iter().chain(&[(1_234_567., "1.2M"), (45_000_000., "45M"), (999_999., "1.0M")]);
        for (number, text) in shorts {
            assert_eq!(short(*number), *text);
        }
        assert_eq!([span(7), span(1_234), span(59_000), span(600_000)], ["7 ms", "1.2 s", "59 s", "10 min"]);
        assert_eq!(clock(&json!(1_769_863_200_123_u64)), "12:40:00.123Z");
        assert_eq!((clock(&Value::Null), clock(&json!(u64::MAX))), ("the end".into(), "?".into()));
    }
}
