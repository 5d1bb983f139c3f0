//! What stands in the topics.

use nekton::connect::RawRecord;
use nekton::operators::mask::{Pseudonym, Pseudonyms, keep_last};
use nekton::prelude::*;

/// A payment as it is published: a line of the topic `payments`.
#[derive(Serialize, Deserialize)]
pub struct Published {
    pub id: String,
    /// When it was made, in milliseconds since 1970.
    pub at: Time,
    pub from: u64,
    pub to: u64,
    pub cents: u64,
    /// The number of the card.
    pub card: String,
}

/// A payment as everything behind the source knows it: there is no type behind it that could hold the number of a card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payment {
    pub id: String,
    pub at: Time,
    pub from: u64,
    pub to: u64,
    pub cents: u64,
    /// Which card it was, without saying so.
    pub card: Pseudonym,
    /// What a person recognizes of it.
    pub shown: String,
}

/// A record that is no payment. What it says stays where it is: it may hold the number of a card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unreadable {
    /// Where it stands in its partition.
    pub position: String,
    /// Stands for its bytes.
    pub record: Pseudonym,
    pub why: String,
}

/// Reads a record and masks it at once.
pub fn read(record: &RawRecord, pseudonyms: &Pseudonyms) -> Result<Payment, Unreadable> {
    let unreadable = |why: String| Unreadable {
        position: record.position.to_string(),
        record: pseudonyms.of("record", &record.payload),
        why,
    };
    let Published { id, at, from, to, cents, card } =
        serde_json::from_slice(&record.payload).map_err(|error| {
            let said = error.to_string();
            // Other messages repeat values.
            let safe = said.starts_with("missing field");
            unreadable(if safe { said } else { format!("no payment, from column {} on", error.column()) })
        })?;
    if card.len() < 12 || !card.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(unreadable(format!(
            "the card has no number of 12 digits or more, but {} characters",
            card.len()
        )));
    }
    Ok(Payment { id, at, from, to, cents, card: pseudonyms.of("card", &card), shown: keep_last(&card, 4) })
}

/// A row of the table `accounts`, in the topic `bank.public.accounts`. It has more columns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    pub country: String,
    pub blocked: bool,
    /// The most that one payment may be.
    pub limit_cents: u64,
}

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Accepted,
    Rejected,
    /// It came before.
    Duplicate,
    /// It came when what its account was then may be forgotten.
    Late,
    /// It was none.
    Unreadable,
}

/// An entry of the topic `audit`: there is one for each record of `payments`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub outcome: Outcome,
    pub why: Option<String>,
    /// Where the account is that pays, where that is known.
    pub country: Option<String>,
    pub payment: Option<Payment>,
    pub unreadable: Option<Unreadable>,
}

impl Entry {
    pub fn of(outcome: Outcome, payment: Payment) -> Self {
        Entry { outcome, why: None, country: None, payment: Some(payment), unreadable: None }
    }

    pub fn unreadable(unreadable: Unreadable) -> Self {
        let why = Some(unreadable.why.clone());
        Entry {
            outcome: Outcome::Unreadable,
            why,
            country: None,
            payment: None,
            unreadable: Some(unreadable),
        }
    }

    /// What becomes of a payment, by what its account was when it was made.
    pub fn judged(payment: Payment, account: Option<Account>) -> Self {
        let why = match &account {
            None => Some("there is no such account"),
            Some(account) if account.blocked => Some("the account is blocked"),
            Some(account) if payment.cents > account.limit_cents => Some("it is above the account's limit"),
            Some(_) => None,
        };
        let outcome = if why.is_some() { Outcome::Rejected } else { Outcome::Accepted };
        let country = account.map(|account| account.country);
        Entry { why: why.map(str::to_owned), country, ..Entry::of(outcome, payment) }
    }

    /// Which way it goes: accepted ones by country.
    pub fn route(&self) -> String {
        match self.outcome {
            Outcome::Accepted => self.country.clone().unwrap_or_default(),
            _ => "refused".to_owned(),
        }
    }

    pub fn cents(&self) -> u64 {
        self.payment.as_ref().map_or(0, |payment| payment.cents)
    }
}
