//! A bank that does not exist: its accounts, as Debezium tells of them, and its payments, as they come in.
//!
//! The same seed makes the same. Among the payments there is what real streams have: some come late, some twice, some from accounts
//! that are blocked, and some lines are none. Now and then, a few accounts send a large amount round in a ring.

use nekton::prelude::*;
use serde_json::{Value, json};

use crate::events::Published;
use crate::random::Random;

/// When the first payment is made: 2026-01-05, 09:00 in UTC.
const BEGIN: Time = 1_767_603_600_000;
/// A payment a second.
const APART: Time = 1_000;
/// At most, a payment comes so much after those that were made later.
const DELAY: Time = 20_000;

/// The bank.
pub struct Bank {
    random: Random,
    seed: u64,
    payments: u64,
    accounts: u64,
}

impl Bank {
    pub fn new(seed: u64, payments: u64) -> Self {
        Bank { random: Random(seed), seed, payments, accounts: 100 + payments / 50 }
    }

    /// What is captured of the table `accounts`, each with its key.
    pub fn accounts(
        &mut self,
        mut publish: impl FnMut(u64, &Value) -> nekton::Result<()>,
    ) -> nekton::Result<()> {
        let lasts = self.payments * APART;
        let mut lsn = 10_000_000;
        let mut place = || {
            lsn += 56;
            lsn
        };
        let mut rows = Vec::new();
        let mut log = Vec::new();
        for id in 0..self.accounts {
            let country = ["DE", "FR", "US", "CH", "BR"][self.random.below(5) as usize];
            let limit = [50_000, 1_000_000, 5_000_000][self.random.below(3) as usize];
            let row = json!({"id": id, "holder": format!("Holder {id}"), "country": country, "blocked": false, "limit_cents": limit});
            log.push((id, change("r", row.clone(), BEGIN - 60_000, place())));
            rows.push(row);
        }
        let changes = self.accounts;
        for number in 0..changes {
            let id = self.random.below(self.accounts);
            let row = &mut rows[id as usize];
            let at = BEGIN + lasts * number / changes;
            let soon = at + lasts / changes / 2;
            let kind = self.random.below(10);
            match kind {
                0..5 => row["blocked"] = json!(!row["blocked"].as_bool().unwrap_or(false)),
                5..9 => {
                    row["limit_cents"] = json!([50_000, 1_000_000, 5_000_000][self.random.below(3) as usize])
                }
                _ => {
                    log.push((id, change("d", row.clone(), at, place())));
                    log.push((id, Value::Null)); // the tombstone
                    log.push((id, change("c", row.clone(), soon, place())));
                    continue;
                }
            }
            log.push((id, change("u", row.clone(), at, place())));
        }
        // The connector is restarted a few times, and goes back some way.
        let mut next = 0;
        while next < log.len() {
            let until = (next + 50 + self.random.below(200) as usize).min(log.len());
            let back = next.saturating_sub(self.random.below(30) as usize);
            for (id, event) in &log[back..until] {
                publish(*id, event)?;
            }
            next = until;
        }
        Ok(())
    }

    /// The lines of `payments`, each with the account that pays.
    pub fn payments(
        &mut self,
        mut publish: impl FnMut(u64, &Value) -> nekton::Result<()>,
    ) -> nekton::Result<()> {
        let mut ring: Vec<(u64, u64)> = Vec::new();
        let mut last: Option<(u64, Value)> = None;
        for number in 0..self.payments {
            let delay = if self.random.one_in(10) { self.random.below(DELAY) } else { 0 };
            let at = BEGIN + number * APART - delay;
            let (from, to, cents) = match ring.pop() {
                Some((from, to)) => (from, to, 900_000 + self.random.below(50_000)),
                None => {
                    let large = self.random.one_in(100);
                    let cents = if large {
                        900_000 + self.random.below(500_000)
                    } else {
                        100 + self.random.below(90_000)
                    };
                    (self.random.below(self.accounts), self.random.below(self.accounts), cents)
                }
            };
            if ring.is_empty() && self.random.one_in(100) {
                let members: Vec<u64> =
                    (0..3 + self.random.below(3)).map(|_| self.random.below(self.accounts)).collect();
                ring = members
                    .iter()
                    .zip(members.iter().cycle().skip(1))
                    .map(|(from, to)| (*from, *to))
                    .collect();
            }
            let card = format!("4{:015}", self.random.below(1_000_000_000_000_000));
            let id = format!("p{}-{number}", self.seed);
            let mut line = json!(Published { id, at, from, to, cents, card });
            if self.random.one_in(200) {
                match self.random.below(3) {
                    0 => drop(line.as_object_mut().and_then(|fields| fields.remove("cents"))),
                    1 => line["at"] = line["card"].clone(),
                    _ => line = json!(format!("pay with {}", line["card"])),
                }
            }
            publish(from, &line)?;
            // Some are sent again, at once or when another has come.
            if self.random.one_in(50) {
                publish(from, &line)?;
            }
            if let Some((from, line)) = last.take().filter(|_| self.random.one_in(50)) {
                publish(from, &line)?;
            }
            last = Some((from, line));
        }
        Ok(())
    }
}

/// A change event of Debezium's connector for PostgreSQL.
fn change(op: &str, row: Value, at: Time, lsn: u64) -> Value {
    let (before, after) = if op == "d" { (row, Value::Null) } else { (Value::Null, row) };
    let source = json!({
        "version": "3.1.0.Final", "connector": "postgresql", "name": "bank", "ts_ms": at, "db": "bank", "schema": "public",
        "table": "accounts", "txId": lsn / 100, "lsn": lsn, "xmin": null, "snapshot": if op == "r" { "true" } else { "false" },
    });
    json!({"before": before, "after": after, "source": source, "transaction": null, "op": op, "ts_ms": at + 40})
}
