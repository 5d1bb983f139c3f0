//! CSV (RFC 4180) into records, however its bytes come: each row becomes a JSON object, header to value.
//!
//! CSV has no types, so the JSON is a guess that loses nothing: a cell that stands there without quotes
//! and is a JSON number, `true` or `false` is written as it stands, an empty one as `null`, and everything else as a
//! string. [`Source::untyped`](nekton_engine::connect::Source::untyped) tells the engine that it is
//! one, so that the type that is read decides.

use csv_core::ReadFieldResult;
use nekton_engine::connect::{Position, RawRecord};

use super::lines::KEPT;

/// About how many bytes of records are made before the caller gets them: a row's JSON repeats the names.
const MADE: usize = 128 << 10;
/// What some programs put before UTF-8.
const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Cuts bytes into rows.
pub(super) struct Rows {
    limit: usize,
    parser: csv_core::Reader,
    /// The columns as JSON, `"name":`; those without a name are left out.
    header: Option<Vec<Option<Vec<u8>>>>,
    /// Bytes taken so far.
    pub(super) offset: u64,
    /// How much of a byte order mark the file began with; `None` once that is known.
    mark: Option<usize>,
    row: Row,
}

/// The unfinished row.
#[derive(Default)]
struct Row {
    /// Where it begins; `None` between two rows.
    begun: Option<u64>,
    /// Its bytes, as far as the limit allows.
    raw: Vec<u8>,
    too_long: bool,
    /// Its whole cells and what there is of the next, unquoted, one behind the other.
    text: Vec<u8>,
    cells: Vec<Cell>,
    /// Where the unfinished cell begins in `raw`, and whether with a quote; `None` between two cells.
    cell: Option<(usize, bool)>,
}

/// A whole cell.
struct Cell {
    /// Where it ends in the row's text.
    end: usize,
    quoted: bool,
}

impl Rows {
    pub(super) fn new(limit: usize) -> Self {
        Rows {
            limit,
            parser: csv_core::Reader::new(),
            header: None,
            offset: 0,
            mark: Some(0),
            row: Row::default(),
        }
    }

    /// Takes bytes and says how many: perhaps not all, if they make many records. An error says
    /// why the header cannot be used.
    pub(super) fn take(&mut self, bytes: &[u8], records: &mut Vec<RawRecord>) -> Result<usize, String> {
        let mut at = 0;
        if let Some(seen) = self.mark {
            let same = MARK[seen..].iter().zip(bytes).take_while(|(a, b)| a == b).count();
            self.offset += same as u64;
            at = same;
            if seen + same < MARK.len() {
                if same == bytes.len() {
                    self.mark = Some(seen + same);
                    return Ok(same);
                }
                // It was none: these bytes belong to the first name.
                self.mark = None;
                self.offset -= (seen + same) as u64;
                self.take(&MARK[..seen + same], records)?;
            }
            self.mark = None;
        }
        let mut made = 0;
        while at < bytes.len() && made < MADE {
            let (count, end) = self.step(&bytes[at..]);
            at += count;
            self.offset += count as u64;
            if end {
                made += self.end_row(records)?;
            }
        }
        Ok(at)
    }

    /// Takes the unfinished row as a whole one.
    pub(super) fn finish(&mut self, records: &mut Vec<RawRecord>) -> Result<(), String> {
        let row = &mut self.row;
        if row.begun.is_none() {
            return Ok(());
        }
        let quotes = |from: usize| row.raw[from..].iter().filter(|&&byte| byte == b'"').count();
        let open = !row.too_long && row.cell.is_some_and(|(from, quoted)| quoted && quotes(from) % 2 == 1);
        let quoted = row.cell.is_some_and(|(_, quoted)| quoted);
        row.cells.push(Cell { end: row.text.len(), quoted });
        self.parser.reset();
        if open {
            self.set_aside("ends within quotes".to_owned(), records)?;
        } else {
            self.end_row(records)?;
        }
        Ok(())
    }

    /// One step of the parser: how many bytes it took, and whether a row ends there.
    fn step(&mut self, bytes: &[u8]) -> (usize, bool) {
        let row = &mut self.row;
        if row.begun.is_none() {
            if matches!(bytes[0], b'\r' | b'\n') {
                return (1, false);
            }
            row.begun = Some(self.offset);
        }
        row.cell.get_or_insert((row.raw.len(), bytes[0] == b'"'));
        let mut text = [0; 1 << 10];
        let (found, count, written) = self.parser.read_field(bytes, &mut text);
        row.raw.extend_from_slice(&bytes[..count]);
        if !row.too_long {
            row.text.extend_from_slice(&text[..written]);
            // The line end, which is one byte here, does not count.
            let end = matches!(found, ReadFieldResult::Field { record_end: true });
            row.too_long = row.raw.len() - usize::from(end) > self.limit;
        }
        if row.too_long {
            row.raw.truncate(KEPT);
            row.text = Vec::new();
            row.cells = Vec::new();
        }
        match found {
            ReadFieldResult::Field { record_end } => {
                let quoted = row.cell.take().is_some_and(|(_, quoted)| quoted);
                if !row.too_long {
                    row.cells.push(Cell { end: row.text.len(), quoted });
                }
                (count, record_end)
            }
            ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull | ReadFieldResult::End => {
                (count, false)
            }
        }
    }

    /// Makes a record of the row; returns how many bytes it has.
    fn end_row(&mut self, records: &mut Vec<RawRecord>) -> Result<usize, String> {
        if self.row.too_long {
            return self.set_aside(format!("longer than {} bytes", self.limit), records);
        }
        if self.row.raw.iter().all(u8::is_ascii_whitespace) {
            self.row.clear();
            return Ok(0);
        }
        let Some(header) = &self.header else {
            self.header = Some(self.row.header()?);
            self.row.clear();
            return Ok(0);
        };
        match self.row.json(header) {
            Ok(json) if json.len() > self.limit => {
                self.set_aside(format!("longer than {} bytes as JSON", self.limit), records)
            }
            Ok(json) => {
                let made = json.len();
                records.push(self.row.record(json, None));
                self.row.clear();
                Ok(made)
            }
            Err(defect) => self.set_aside(defect, records),
        }
    }

    /// Hands the row on as it stands, as unreadable.
    fn set_aside(&mut self, defect: String, records: &mut Vec<RawRecord>) -> Result<usize, String> {
        if self.header.is_none() {
            return Err(defect);
        }
        let mut raw = std::mem::take(&mut self.row.raw);
        while raw.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            raw.pop();
        }
        let made = raw.len();
        records.push(self.row.record(raw, Some(defect)));
        self.row.clear();
        Ok(made)
    }
}

impl Row {
    fn clear(&mut self) {
        self.begun = None;
        self.raw.clear();
        self.too_long = false;
        self.text.clear();
        self.cells.clear();
        self.cell = None;
    }

    fn record(&self, payload: Vec<u8>, defect: Option<String>) -> RawRecord {
        let position = Position { entry: self.begun.unwrap_or_default(), ..Position::default() };
        RawRecord { position, key: None, payload: payload.into(), published: 0, defect }
    }

    fn cells(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let starts = std::iter::once(0).chain(self.cells.iter().map(|cell| cell.end));
        starts.zip(&self.cells).map(|(start, cell)| (&self.text[start..cell.end], cell.quoted))
    }

    fn header(&self) -> Result<Vec<Option<Vec<u8>>>, String> {
        let mut columns = Vec::with_capacity(self.cells.len());
        for (index, (name, _)) in self.cells().enumerate() {
            let name = std::str::from_utf8(name)
                .map_err(|_| format!("the name of column {} is not UTF-8", index + 1))?
                .trim();
            let mut json = Vec::new();
            string(name, &mut json);
            json.push(b':');
            let column = (!name.is_empty()).then_some(json);
            if column.is_some() && columns.contains(&column) {
                return Err(format!("two columns are named {name:?}"));
            }
            columns.push(column);
        }
        Ok(columns)
    }

    /// The row as a JSON object, or what is wrong with it.
    fn json(&self, header: &[Option<Vec<u8>>]) -> Result<Vec<u8>, String> {
        if self.cells.len() != header.len() {
            return Err(format!("{} columns, and the header has {}", self.cells.len(), header.len()));
        }
        let mut json = Vec::with_capacity(self.raw.len() * 2 + 2);
        for (name, (cell, quoted)) in header.iter().zip(self.cells()) {
            let Some(name) = name else { continue };
            json.push(if json.is_empty() { b'{' } else { b',' });
            json.extend_from_slice(name);
            match std::str::from_utf8(cell) {
                Ok("") if !quoted => json.extend_from_slice(b"null"),
                Ok("true" | "false") if !quoted => json.extend_from_slice(cell),
                Ok(_) if !quoted && is_number(cell) => json.extend_from_slice(cell),
                Ok(text) => string(text, &mut json),
                Err(_) => {
                    let name = String::from_utf8_lossy(&name[..name.len() - 1]);
                    return Err(format!("the value of {name} is not UTF-8"));
                }
            }
        }
        if json.is_empty() {
            json.push(b'{');
        }
        json.push(b'}');
        Ok(json)
    }
}

fn string(text: &str, json: &mut Vec<u8>) {
    // Writing text into memory does not fail.
    let _ = serde_json::to_writer(json, text);
}

/// Whether this is a number as JSON writes it (RFC 8259, section 6).
fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> Option<&[u8]> {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then(|| &text[count..])
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let Some(mut rest) = (match text {
        [b'0', rest @ ..] => Some(rest),
        _ => digits(text),
    }) else {
        return false;
    };
    if let [b'.', fraction @ ..] = rest {
        let Some(behind) = digits(fraction) else { return false };
        rest = behind;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let Some(behind) = digits(exponent) else { return false };
        rest = behind;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every record as `position json`, or `position ! defect: raw`.
    fn cut(limit: usize, end: bool, chunks: &[&[u8]]) -> Result<String, String> {
        let mut rows = Rows::new(limit);
        let mut records = Vec::new();
        for chunk in chunks {
            let mut at = 0;
            while at < chunk.len() {
                at += rows.take(&chunk[at..], &mut records)?;
            }
        }
        if end {
            rows.finish(&mut records)?;
        }
        let lines = records.iter().map(|record| {
            let text = String::from_utf8_lossy(&record.payload);
            match &record.defect {
                Some(defect) => format!("{} ! {defect}: {text}", record.position.entry),
                None => format!("{} {text}", record.position.entry),
            }
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// The same at once and byte by byte.
    #[track_caller]
    fn check(limit: usize, end: bool, text: &[u8], expected: &str) {
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(cut(limit, end, &[text]).unwrap(), expected, "at once");
        assert_eq!(cut(limit, end, &bytes).unwrap(), expected, "byte by byte");
    }

    #[test]
    fn a_row_becomes_an_object_of_header_to_value() {
        check(
            1000,
            false,
            b"\xef\xbb\xbfn, name ,,x\r\n1,\"a \"\"b\"\"\r\nc\",skipped,\r\n\r\n-2.5e3,00501,,true\n",
            "16 {\"n\":1,\"name\":\"a \\\"b\\\"\\r\\nc\",\"x\":null}\n43 {\"n\":-2.5e3,\"name\":\"00501\",\"x\":true}",
        );
    }

    #[test]
    fn quoted_numbers_stay_text() {
        check(
            1000,
            false,
            b"a,b\n\"17\",\"\"\n\"null\",null\n",
            "4 {\"a\":\"17\",\"b\":\"\"}\n12 {\"a\":\"null\",\"b\":\"null\"}",
        );
    }

    #[test]
    fn a_row_is_a_record_once_its_line_end_stands_outside_quotes() {
        check(1000, false, b"a,b\n1,2\n3,\"4\n", "4 {\"a\":1,\"b\":2}");
        check(1000, true, b"a,b\n1,2\n3,", "4 {\"a\":1,\"b\":2}\n8 {\"a\":3,\"b\":null}");
        check(1000, true, b"a,b\n3,\"4\n", "4 ! ends within quotes: 3,\"4");
    }

    #[test]
    fn rows_that_do_not_fit_are_set_aside_and_the_next_is_read() {
        check(
            12,
            false,
            b"a,b\n1\n1,2,3\n1,\"234567890123\"\n1,2\n\xff,2\n",
            "4 ! 1 columns, and the header has 2: 1\n6 ! 3 columns, and the header has 2: 1,2,3\n\
             12 ! longer than 12 bytes: 1,\"234567890123\"\n29 ! longer than 12 bytes as JSON: 1,2\n\
             33 ! the value of \"a\" is not UTF-8: \u{fffd},2",
        );
    }

    #[test]
    fn a_header_that_names_nothing_clearly_is_refused() {
        assert!(cut(100, false, &[b"a,b,a\n"]).unwrap_err().contains("two columns are named \"a\""));
        assert!(cut(100, false, &[b"a,\xff\n"]).unwrap_err().contains("column 2"));
        assert!(cut(4, false, &[b"abc,def\n"]).unwrap_err().contains("longer than 4 bytes"));
    }

    #[test]
    fn numbers_are_what_json_says() {
        for number in ["0", "-0", "17", "1.50", "1e5", "1E-5", "-1.0e+2"] {
            assert!(is_number(number.as_bytes()), "{number}");
            assert!(serde_json::from_str::<f64>(number).is_ok(), "{number}");
        }
        for text in ["", "-", "00501", "1.", ".5", "+1", "1e", "1e+", "NaN", "0x1", "1 ", "1_000"] {
            assert!(!is_number(text.as_bytes()), "{text}");
            assert!(text.ends_with(' ') || serde_json::from_str::<f64>(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn how_the_bytes_come_makes_no_difference(
            text in "[ab01\",\r\n]{0,80}",
            limit in 1..40_usize,
            size in 1..80_usize,
            end in proptest::bool::ANY,
        ) {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            proptest::prop_assert_eq!(cut(limit, end, &pieces), cut(limit, end, &[text.as_bytes()]));
        }
    }
}
