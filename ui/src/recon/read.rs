//! Reads Recon.

use std::fmt;

use serde_json::Number;

use super::{Item, Value, gathered};

/// How deep records may be in one another, counted twice (a record, a value in it), and how many items there may be in all.
const DEPTH: usize = 64;
const ITEMS: usize = 10_000;

/// What is wrong, and before which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    at: usize,
    what: &'static str,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// Reads a value. Its length is for the caller to bound; the time is proportional to it.
pub(crate) fn read(text: &str) -> Result<Value, Trouble> {
    let mut reader = Reader { text, at: 0, depth: 0, items: 0 };
    Ok(gathered(reader.block(None)?))
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    items: usize,
}

/// As XML's names begin, without a colon.
fn begins_word(letter: char) -> bool {
    matches!(letter, 'A'..='Z' | '_' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

/// As they go on, without a dot.
fn in_word(letter: char) -> bool {
    begins_word(letter)
        || matches!(letter, '-' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

impl<'t> Reader<'t> {
    fn wrong<T>(&self, what: &'static str) -> Result<T, Trouble> {
        Err(Trouble { at: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The character here. `at` is always between two.
    fn letter(&self) -> Option<char> {
        match self.peek()? {
            byte if byte.is_ascii() => Some(byte.into()),
            _ => self.text.get(self.at..)?.chars().next(),
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn while_it(&mut self, is: impl Fn(u8) -> bool) -> &'t str {
        let begin = self.at;
        while self.peek().is_some_and(&is) {
            self.at += 1;
        }
        &self.text[begin..self.at]
    }

    fn blanks(&mut self) {
        self.while_it(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// Blanks, ends of lines, and comments.
    fn space(&mut self) {
        loop {
            self.while_it(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
            if self.peek() != Some(b'#') {
                return;
            }
            // Up to an ASCII byte, so `at` stays between two characters.
            self.while_it(|byte| byte != b'\n' && byte != b'\r');
        }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Trouble>) -> Result<T, Trouble> {
        if self.depth == DEPTH {
            return self.wrong("it is nested too deep");
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn push(&mut self, items: &mut Vec<Item>, item: Item) -> Result<(), Trouble> {
        self.items += 1;
        if self.items > ITEMS {
            return self.wrong("it has too many items");
        }
        items.push(item);
        Ok(())
    }

    /// Items up to the closing one, which is taken, or the end of the text.
    fn block(&mut self, closing: Option<u8>) -> Result<Vec<Item>, Trouble> {
        let mut items = Vec::new();
        loop {
            self.space();
            match self.peek() {
                None if closing.is_none() => return Ok(items),
                None => return self.wrong("it is not closed"),
                Some(byte) if Some(byte) == closing => {
                    self.at += 1;
                    return Ok(items);
                }
                Some(b',' | b';') => {
                    self.at += 1;
                    self.push(&mut items, Item::Value(Value::Extant))?;
                    continue;
                }
                Some(_) => {}
            }
            let first = self.deeper(Self::value)?;
            self.blanks();
            let item = match self.takes(b':') {
                false => Item::Value(first),
                true => {
                    self.blanks();
                    let nothing = match self.peek() {
                        None | Some(b',' | b';' | b'\n' | b'\r' | b'#') => true,
                        byte => byte == closing,
                    };
                    Item::Slot(first, if nothing { Value::Extant } else { self.deeper(Self::value)? })
                }
            };
            self.push(&mut items, item)?;
            self.blanks();
            match self.peek() {
                Some(b',' | b';') => self.at += 1,
                None | Some(b'\n' | b'\r' | b'#') => {}
                byte if byte == closing => {}
                Some(_) => return self.wrong("there should be a comma or an end"),
            }
        }
    }

    /// A literal, with attributes before and behind it, or attributes alone.
    fn value(&mut self) -> Result<Value, Trouble> {
        let mut items = Vec::new();
        let mut literal = None;
        loop {
            if self.peek() == Some(b'@') {
                if let Some(first) = literal.take() {
                    self.add(&mut items, first)?;
                }
                let attr = self.attr()?;
                self.push(&mut items, attr)?;
            } else if literal.is_none() && self.is_literal() {
                literal = Some(self.literal()?);
            } else {
                break;
            }
            self.blanks();
        }
        match literal {
            None if items.is_empty() => self.wrong("there should be a value"),
            Some(literal) if items.is_empty() => Ok(literal),
            Some(literal) => {
                self.add(&mut items, literal)?;
                Ok(Value::Record(items))
            }
            None => Ok(Value::Record(items)),
        }
    }

    /// A literal among attributes: the items of a record are beside them.
    fn add(&mut self, items: &mut Vec<Item>, literal: Value) -> Result<(), Trouble> {
        match literal {
            Value::Record(of) => {
                items.extend(of);
                Ok(())
            }
            literal => self.push(items, Item::Value(literal)),
        }
    }

    fn attr(&mut self) -> Result<Item, Trouble> {
        self.at += 1;
        let name = match self.letter() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote as u8)?,
            Some(letter) if begins_word(letter) => self.word().to_owned(),
            _ => return self.wrong("there should be the name of an attribute"),
        };
        let value = match self.takes(b'(') {
            true => gathered(self.deeper(|reader| reader.block(Some(b')')))?),
            false => Value::Extant,
        };
        Ok(Item::Attr(name, value))
    }

    fn is_literal(&self) -> bool {
        self.letter().is_some_and(|letter| {
            matches!(letter, '{' | '[' | '%' | '"' | '\'' | '-')
                || letter.is_ascii_digit()
                || begins_word(letter)
        })
    }

    fn literal(&mut self) -> Result<Value, Trouble> {
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                self.deeper(|reader| reader.block(Some(b'}'))).map(Value::Record)
            }
            Some(b'[') => self.deeper(Self::markup).map(Value::Record),
            Some(b'%') => self.data(),
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote).map(Value::Text),
            Some(byte) if byte == b'-' || byte.is_ascii_digit() => self.number(),
            _ => Ok(match self.word() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                word => Value::Text(word.to_owned()),
            }),
        }
    }

    fn word(&mut self) -> &'t str {
        let begin = self.at;
        while let Some(letter) = self.letter().filter(|letter| in_word(*letter)) {
            self.at += letter.len_utf8();
        }
        &self.text[begin..self.at]
    }

    fn number(&mut self) -> Result<Value, Trouble> {
        let begin = self.at;
        self.takes(b'-');
        if self.peek() == Some(b'0')
            && self.text.as_bytes().get(self.at + 1) == Some(&b'x')
            && begin == self.at
        {
            self.at += 2;
            let digits = self.while_it(|byte| byte.is_ascii_hexdigit());
            return match u64::from_str_radix(digits, 16) {
                Ok(number) => Ok(Value::Number(number.into())),
                Err(_) => self.wrong("this hexadecimal number has no or too many digits"),
            };
        }
        let whole = self.while_it(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 1 && whole.starts_with('0') {
            return self.wrong("this is no number");
        }
        let mut exact = true;
        if self.takes(b'.') {
            exact = false;
            if self.while_it(|byte| byte.is_ascii_digit()).is_empty() {
                return self.wrong("this is no number");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            exact = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.while_it(|byte| byte.is_ascii_digit()).is_empty() {
                return self.wrong("this is no number");
            }
        }
        let text = &self.text[begin..self.at];
        let number = match exact {
            true => text.parse::<i64>().map(Number::from).or(text.parse::<u64>().map(Number::from)).ok(),
            false => None,
        };
        let number = number.or_else(|| text.parse().ok().and_then(Number::from_f64));
        number.map(Value::Number).map_or_else(|| self.wrong("this number is too large"), Ok)
    }

    fn data(&mut self) -> Result<Value, Trouble> {
        self.at += 1;
        let digits = self.while_it(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')).len();
        let filled = self.while_it(|byte| byte == b'=').len();
        let text = &self.text[self.at - digits - filled..self.at];
        match filled <= 2 && text.len().is_multiple_of(4) {
            true => Ok(Value::Data(text.to_owned())),
            false => self.wrong("this is no base64"),
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<String, Trouble> {
        self.at += 1;
        let mut text = String::new();
        loop {
            // Both are ASCII, so `at` stays between two characters.
            text.push_str(self.while_it(|byte| byte != quote && byte != b'\\'));
            match self.peek() {
                None => return self.wrong("this text is not closed"),
                Some(b'\\') => text.push(self.escaped()?),
                Some(_) => {
                    self.at += 1;
                    return Ok(text);
                }
            }
        }
    }

    /// A character behind a backslash.
    fn escaped(&mut self) -> Result<char, Trouble> {
        self.at += 1;
        let letter = match self.peek() {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            Some(plain @ (b'"' | b'\'' | b'$' | b'/' | b'@' | b'[' | b'\\' | b']' | b'{' | b'}')) => {
                plain.into()
            }
            _ => return self.wrong("this cannot stand behind a backslash"),
        };
        self.at += 1;
        Ok(letter)
    }

    fn unicode(&mut self) -> Result<char, Trouble> {
        let first = self.unit()?;
        // Beyond the first plane, two halves follow one another, as in JSON.
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            self.at += 1;
            let second = self.unit()?;
            let whole = 0x10000 + ((first - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff);
            return Ok(char::from_u32(whole).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Four digits behind a `u`.
    fn unit(&mut self) -> Result<u32, Trouble> {
        let digits = self.text.get(self.at + 1..self.at + 5);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(unit) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
            return self.wrong("there should be four hexadecimal digits");
        };
        self.at += 5;
        Ok(unit)
    }

    /// Text with items in it.
    fn markup(&mut self) -> Result<Vec<Item>, Trouble> {
        self.at += 1;
        let mut items = Vec::new();
        let mut text = String::new();
        loop {
            text.push_str(self.while_it(|byte| !matches!(byte, b'[' | b']' | b'{' | b'}' | b'@' | b'\\')));
            if self.peek() == Some(b'\\') {
                text.push(self.escaped()?);
                continue;
            }
            if !text.is_empty() {
                self.push(&mut items, Item::Value(Value::Text(std::mem::take(&mut text))))?;
            }
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return Ok(items);
                }
                Some(b'{') => {
                    self.at += 1;
                    items.extend(self.deeper(|reader| reader.block(Some(b'}')))?);
                }
                Some(b'@') => {
                    let mut inline = vec![self.attr()?];
                    if matches!(self.peek(), Some(b'{' | b'[')) {
                        let literal = self.literal()?;
                        self.add(&mut inline, literal)?;
                    }
                    self.push(&mut items, Item::Value(Value::Record(inline)))?;
                }
                None => return self.wrong("it is not closed"),
                Some(_) => return self.wrong("this cannot stand in markup"),
            }
        }
    }
}
