//! What changes in a view, without what it holds: for who follows more than has room in a feed. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::feed::Wanted;
use crate::record::Record;

/// The most changes in a frame, and bytes, about.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 8 << 20;

/// The changes of a time that are wanted, as the fields of a part: what goes and what comes of one key is one change. One
/// that comes to the filter or leaves it is told as well. `None` if there is none.
///
/// `"changes":[{"key":7,"before":1,"after":2},..]`: without `before` it is new, without `after` gone; `count` where there
/// are several of it. `missing` says how many there was no room for.
pub(crate) fn told(wanted: &Wanted, changes: &[Record]) -> Option<String> {
    // In the order of the view, as it gives them.
    let mut keys: BTreeMap<usize, (Vec<&Record>, Vec<&Record>)> = BTreeMap::new();
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, change) in changes.iter().enumerate() {
        let of_key = keys.entry(*first.entry(change.key()).or_insert(index)).or_default();
        if change.count < 0 {
            of_key.0.push(change)
        } else {
            of_key.1.push(change)
        };
    }
    let (mut text, mut some, mut missing) = (String::from("\"changes\":["), 0, 0_usize);
    let mut tell = |before: Option<&Record>, after: Option<&Record>| {
        let Some(one) = before.or(after).filter(|_| before.into_iter().chain(after).any(|r| wanted.has(r)))
        else {
            return;
        };
        if some >= MOST || text.len() > MOST_BYTES {
            missing += 1;
            return;
        }
        let _ = write!(text, "{}{{\"key\":{}", if some > 0 { "," } else { "" }, one.key());
        for (name, record) in [("before", before), ("after", after)] {
            if let Some(record) = record {
                let _ = write!(text, ",\"{name}\":{}", record.value().unwrap_or("null"));
            }
        }
        if one.count.unsigned_abs() != 1 {
            let _ = write!(text, ",\"count\":{}", one.count.unsigned_abs());
        }
        text.push('}');
        some += 1;
    };
    for (gone, new) in keys.values() {
        let single = |records: &[&Record]| records.iter().all(|record| record.count.unsigned_abs() == 1);
        let pairs = if single(gone) && single(new) { gone.len().min(new.len()) } else { 0 };
        for (before, after) in gone.iter().zip(new).take(pairs) {
            tell(Some(before), Some(after));
        }
        gone[pairs..].iter().for_each(|before| tell(Some(before), None));
        new[pairs..].iter().for_each(|after| tell(None, Some(after)));
    }
    text.push(']');
    if missing > 0 {
        let _ = write!(text, ",\"missing\":{missing}");
    }
    (some > 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Asked;

    fn of(filter: &str, changes: &[(&str, isize)]) -> Option<String> {
        let asked = Asked {
            view: "v".into(),
            filter: filter.into(),
            only: Some("changes".into()),
            ..Asked::default()
        };
        let changes: Vec<_> =
            changes.iter().map(|(text, count)| Record::new(text.as_bytes(), *count)).collect();
        told(&asked.understood().unwrap(), &changes)
    }

    #[test]
    fn what_goes_and_what_comes_of_a_key_is_one_change() {
        let changes = [("[1,10]", -1), ("[1,11]", 1), ("[2,20]", 1), ("[3,30]", -1), ("\"x\"", 2)];
        let expected = r#""changes":[{"key":1,"before":10,"after":11},{"key":2,"after":20},{"key":3,"before":30},{"key":"x","after":null,"count":2}]"#;
        assert_eq!(of("", &changes).unwrap(), expected);
        // Into the filter, out of it, beside it.
        let changes =
            [("[1,10]", -1), ("[1,11]", 1), ("[2,11]", -1), ("[2,10]", 1), ("[3,9]", -1), ("[3,8]", 1)];
        let expected = r#""changes":[{"key":1,"before":10,"after":11},{"key":2,"before":11,"after":10}]"#;
        assert_eq!(of("value>10", &changes).unwrap(), expected);
        assert_eq!(of("value>90", &changes), None);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let records: Vec<_> = (0..MOST + 5).map(|key| format!("[{key},1]")).collect();
        let changes: Vec<_> = records.iter().map(|record| (&record[..], 1)).collect();
        assert!(of("", &changes).unwrap().ends_with("],\"missing\":5"));
    }
}
