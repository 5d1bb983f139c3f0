//! Writes Recon.

use std::fmt::Write;

use serde_json::Number;

use super::{Item, Value};

/// Writes a value where one may stand: behind a colon, in parentheses, between commas.
pub(crate) fn value(value: &Value, into: &mut String) {
    match value {
        Value::Extant => {}
        Value::Bool(is) => into.push_str(if *is { "true" } else { "false" }),
        Value::Number(is) => number(is, into),
        Value::Text(is) => text(is, into),
        Value::Data(base64) => {
            into.push('%');
            into.push_str(base64);
        }
        Value::Record(items) => {
            let attrs = items.iter().take_while(|item| matches!(item, Item::Attr(..))).count();
            for item in &items[..attrs] {
                attr(item, into);
            }
            match &items[attrs..] {
                [] if attrs > 0 => {}
                [Item::Value(single)] if attrs > 0 && !matches!(single, Value::Record(_) | Value::Extant) => {
                    into.push(' ');
                    self::value(single, into);
                }
                items => block(items, into),
            }
        }
    }
}

/// Writes a value behind the attribute of an envelope, so that it is its body.
pub(crate) fn body(body: &Value, into: &mut String) {
    match body {
        // One alone would be the body itself.
        Value::Record(items) if matches!(&items[..], [Item::Value(_)]) => {
            into.push('{');
            value(body, into);
            into.push('}');
        }
        body => value(body, into),
    }
}

fn block(items: &[Item], into: &mut String) {
    into.push('{');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            into.push(',');
        }
        match item {
            Item::Attr(..) => attr(item, into),
            Item::Slot(key, of) => {
                value(key, into);
                into.push(':');
                value(of, into);
            }
            // What is not there ends with a comma.
            Item::Value(Value::Extant) if index + 1 == items.len() => into.push(','),
            Item::Value(of) => value(of, into),
        }
    }
    into.push('}');
}

fn attr(item: &Item, into: &mut String) {
    let Item::Attr(name, of) = item else { return };
    into.push('@');
    text(name, into);
    match of {
        Value::Extant => {}
        Value::Record(items)
            if items.len() > 1 && !matches!(items[0], Item::Attr(..))
                || matches!(&items[..], [Item::Slot(..)]) =>
        {
            let begin = into.len();
            block(items, into);
            // As they stand in parentheses.
            into.replace_range(begin..=begin, "(");
            into.pop();
            into.push(')');
        }
        of => {
            into.push('(');
            value(of, into);
            into.push(')');
        }
    }
}

/// Without an exponent: the Python client reads none.
fn number(is: &Number, into: &mut String) {
    let written = is.to_string();
    match is.as_f64().filter(|_| written.contains(['e', 'E'])) {
        Some(float) => drop(write!(into, "{float}")),
        None => into.push_str(&written),
    }
}

fn text(is: &str, into: &mut String) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let word =
        is.bytes().next().is_some_and(begins) && is.bytes().all(plain) && !matches!(is, "true" | "false");
    if word {
        into.push_str(is);
        return;
    }
    into.push('"');
    for letter in is.chars() {
        match letter {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            // Not \", at which the Python client sees the end of the text.
            '"' | '\0'..='\x1f' | '\x7f' => drop(write!(into, "\\u{:04x}", letter as u32)),
            letter => into.push(letter),
        }
    }
    into.push('"');
}
