//! What is remembered: of outcomes how many they were, of payments which are waiting, of accounts what they paid.

use std::marker::PhantomData;

use nekton::Event;
use nekton::prelude::*;

use crate::events::{Entry, Payment, Unreadable};

/// How many, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Total {
    pub count: u64,
    pub cents: u64,
}

/// What has an amount.
pub trait Amount: Event {
    fn cents(&self) -> u64;
}
impl Amount for Entry {
    fn cents(&self) -> u64 {
        Entry::cents(self)
    }
}
impl Amount for Result<Payment, Unreadable> {
    fn cents(&self) -> u64 {
        self.as_ref().map_or(0, |payment| payment.cents)
    }
}

/// Counts events of a name.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Tally<E> {
    total: Total,
    #[serde(skip)]
    of: PhantomData<E>,
}

impl<E: Amount> Agent for Tally<E> {
    type Key = String;
    type Event = E;
    type View = Total;
    type Emit = ();

    fn create(_name: &String) -> Self {
        Tally { total: Total::default(), of: PhantomData }
    }
    fn on_event(&mut self, event: &E, _context: &mut Context<'_, Self>) {
        self.total.count += 1;
        self.total.cents += event.cents();
    }
    fn view(&self) -> Option<Total> {
        Some(self.total)
    }
}

/// A payment that waits for what its account was.
#[derive(Serialize, Deserialize)]
pub struct Waiting {
    cents: Option<u64>,
}

impl Agent for Waiting {
    type Key = String;
    /// Its number, the amount, and whether it begins to wait.
    type Event = (String, u64, bool);
    type View = u64;
    type Emit = ();

    fn create(_id: &String) -> Self {
        Waiting { cents: None }
    }
    fn on_event(&mut self, (_, cents, begins): &(String, u64, bool), context: &mut Context<'_, Self>) {
        if *begins {
            self.cents = Some(*cents);
        } else {
            context.leave();
        }
    }
    fn view(&self) -> Option<u64> {
        self.cents
    }
}

/// What an account has paid and got.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Book {
    paid: u64,
    got: u64,
}

impl Agent for Book {
    type Key = u64;
    type Event = (u64, u64, u64);
    type View = Book;
    type Emit = ();

    fn create(_account: &u64) -> Self {
        Book::default()
    }
    fn on_event(&mut self, (_, paid, got): &(u64, u64, u64), _context: &mut Context<'_, Self>) {
        self.paid += paid;
        self.got += got;
    }
    fn view(&self) -> Option<Book> {
        Some(self.clone())
    }
}
