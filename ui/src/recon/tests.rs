use proptest::prelude::*;

use super::{Item, Value, body, read, write};

fn written(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// What a text says, as JSON.
fn json(text: &str) -> String {
    read(text).map_or_else(|trouble| format!("! {trouble}"), |value| value.json().to_string())
}

fn of_json(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

/// What `@swim/recon` 4.0.0 says of the same texts (`Recon.parse(text).toLike()`).
#[test]
fn texts_say_what_they_say_to_swim() {
    for (text, expected) in [
        ("", "null"),
        ("  # nothing\n", "null"),
        ("a:1,b:2", r#"{"a":1,"b":2}"#),
        ("{a:1}", r#"{"a":1}"#),
        ("@foo", r#"{"@foo":null}"#),
        ("@foo(1)", r#"{"@foo":1}"#),
        ("@foo(1,2)", r#"{"@foo":[1,2]}"#),
        ("@foo(a:1){b:2}", r#"{"@foo":{"a":1},"b":2}"#),
        ("@foo bar", r#"{"$1":"bar","@foo":null}"#),
        ("5 @x", r#"{"$0":5,"@x":null}"#),
        ("@a @b c", r#"{"$2":"c","@a":null,"@b":null}"#),
        ("{a:,b:1}", r#"{"a":null,"b":1}"#),
        ("{,}", "[null]"),
        ("{a;b\nc}", r#"["a","b","c"]"#),
        ("[hi @em[x] y]", r#"["hi ",{"$1":"x","@em":null}," y"]"#),
        ("{[a{1}],{b}}", r#"[["a",1],["b"]]"#),
        (r#""\u0041""#, r#""A""#),
        ("'x y'", r#""x y""#),
        ("%AAAA", r#""AAAA""#),
        ("1e3", "1000.0"),
        ("-0.5e-2", "-0.005"),
        ("0x1f", "31"),
        ("@update(key:7)5", r#"{"$1":5,"@update":{"key":7}}"#),
        (r#"{"a":1}"#, r#"{"a":1}"#),
        ("{@x:1}", r#"{"{\"@x\":null}":1}"#),
        ("{a:{}}", r#"{"a":{}}"#),
    ] {
        assert_eq!(json(text), expected, "{text}");
    }
    for text in
        ["a b", "{a b}", "1 2", "01", "-", "\"abc", "{a:1", "@", "@1", "\u{2028}a", "$a", "a:b:1", "%A", "\\"]
    {
        assert!(json(text).starts_with('!'), "{text} is refused: {}", json(text));
    }
}

/// With all numbers in one form.
fn plain(json: serde_json::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match json {
        Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
        Json::Array(values) => values.into_iter().map(plain).collect(),
        Json::Object(fields) => fields.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        other => other,
    }
}

/// 150 random values as `@swim/recon` 4.0.0 writes them, and as JSON what it reads there itself.
#[test]
fn what_swim_writes_is_read_as_swim_reads_it() {
    for line in include_str!("corpus.jsonl").lines() {
        let (text, expected): (String, serde_json::Value) = serde_json::from_str(line).unwrap();
        let read = read(&text).unwrap_or_else(|trouble| panic!("{text}: {trouble}"));
        assert_eq!(plain(read.clone().json()), plain(expected.clone()), "{text}");
        // And so is what is written of it here.
        assert_eq!(
            plain(super::read(&written(&read)).unwrap().json()),
            plain(expected),
            "{}",
            written(&read)
        );
    }
}

#[test]
fn what_is_too_much_is_refused() {
    assert_eq!(json(&"{".repeat(100_000)), "! it is nested too deep at byte 32");
    assert!(json(&"@a(".repeat(100_000)).contains("too deep"));
    assert!(json(&"[@a".repeat(100_000)).contains("too deep"));
    assert!(json(&"1,".repeat(20_000)).contains("too many items"));
    assert!(json(&"@a".repeat(20_000)).contains("too many items"));
    assert!(json("1e999").contains("too large") && json("0x10000000000000000").contains("digits"));
}

/// Both clients read these: see `tests/warp.rs`, where they do.
#[test]
fn what_is_written_is_what_all_clients_read() {
    for (json, expected) in [
        ("null", ""),
        ("[]", "{}"),
        ("[null]", "{,}"),
        ("[1,null]", "{1,,}"),
        ("1e21", "1000000000000000000000"),
        ("1.5e-7", "0.00000015"),
        ("5.0", "5.0"),
        ("18446744073709551615", "18446744073709551615"),
        (r#""true""#, r#""true""#),
        (r#""""#, r#""""#),
        (r#""a-b""#, "a-b"),
        (r#""-b""#, r#""-b""#),
        (r#""é""#, r#""é""#),
        (r#""say \"no\"\\\n""#, r#""say \u0022no\u0022\\\n""#),
        (r#"{"a b":{"c":[1,{"d":null}]}}"#, r#"{"a b":{c:{1,{d:}}}}"#),
        (r#"{"@late":{"by":5},"a":1}"#, "@late(by:5){a:1}"),
        (r#"{"@late":5}"#, "@late(5)"),
        (r#"{"a":1,"@late":5}"#, r#"{a:1,"@late":5}"#),
    ] {
        assert_eq!(written(&of_json(json)), expected, "{json}");
    }
    for (json, expected) in
        [("[5]", "{{5}}"), ("5", "5"), (r#"{"a":5}"#, "{a:5}"), ("[5,6]", "{5,6}"), ("[]", "{}")]
    {
        let mut text = String::new();
        body(&of_json(json), &mut text);
        assert_eq!(text, expected);
    }
}

/// Values that are the same when they are written and read: attributes stand first, and an attribute's value
/// is no record of one value.
fn values() -> impl Strategy<Value = Value> {
    let words = prop_oneof!["[a-zA-Z_][a-zA-Z0-9_-]{0,5}", ".{0,6}", Just("true".to_owned())];
    let words = words.boxed();
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Number(number.into())),
        any::<f64>()
            .prop_filter_map("finite", |number| serde_json::Number::from_f64(number).map(Value::Number))
            .prop_filter("kept apart from whole ones", |value| match value {
                Value::Number(number) => !number.to_string().contains('e'),
                _ => true,
            }),
        words.clone().prop_map(Value::Text),
        "[A-Za-z0-9+/]{0,8}".prop_map(|digits| Value::Data(digits[..digits.len() / 4 * 4].to_owned())),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let apart = |value: Value| match value {
            Value::Record(items) if items.len() < 2 || matches!(items[0], Item::Attr(..)) => Value::Extant,
            value => value,
        };
        let there = prop_oneof![4 => inner.clone(), 1 => Just(Value::Extant)].boxed();
        let attrs = prop::collection::vec((words.clone(), there.clone()), 0..3).prop_map(move |attrs| {
            attrs.into_iter().map(|(name, value)| Item::Attr(name, apart(value))).collect::<Vec<_>>()
        });
        let slot = (inner.clone(), there.clone()).prop_map(|(key, value)| Item::Slot(key, value));
        let fields = prop::collection::vec(prop_oneof![slot, there.prop_map(Item::Value)], 0..5);
        (attrs, fields).prop_map(|(mut attrs, mut fields)| {
            // A record alone behind attributes is their own; so is what is not there.
            if !attrs.is_empty() && matches!(&fields[..], [Item::Value(Value::Record(_) | Value::Extant)]) {
                fields.clear();
            }
            attrs.extend(fields);
            Value::Record(attrs)
        })
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in values()) {
        let text = written(&value);
        prop_assert_eq!(read(&text), Ok(value), "{}", text);
    }

    #[test]
    fn no_text_is_any_trouble(text in r#"([@{}\[\](),:;"'\\%#a1. \n-]|\\u0|\PC){0,40}"#) {
        if let Ok(value) = read(&text) {
            // What was understood is written so that it is understood again.
            let again = written(&value);
            prop_assert!(read(&again).is_ok(), "{:?} {:?}", value, again);
            let _ = value.json();
        }
    }
}
