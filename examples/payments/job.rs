//! The job: from the topics `payments` and `bank.public.accounts` to the topics of what became of each payment.

use nekton::differential_dataflow::VecCollection;
use nekton::operators::mask::Pseudonyms;
use nekton::prelude::*;

use crate::agents::{Book, Tally, Total, Waiting};
use crate::events::{Account, Entry, Outcome, read};

/// A payment that comes again within so many milliseconds is not another one.
const HORIZON: Time = 3_600_000;
/// Payments come at most so much later than others of their partition that were made after them.
const DISORDER: Time = 30_000;
/// How many partitions the topics have: what is first heard of one is not too late because others are read faster.
pub const PARTITIONS: u32 = 4;
pub const ACCOUNT_PARTITIONS: u32 = 2;
/// From so many cents on, a payment may be part of a ring.
const LARGE: u64 = 900_000;
/// What the screen shows.
pub struct Shown {
    pub totals: View<(String, Total)>,
    pub rings: View<((Time, u64), Vec<u64>)>,
}

/// Builds the job. An account's table of which nothing was heard for `silence` milliseconds has nothing to say.
pub fn build(flow: &mut Flow<'_>, pseudonyms: &Pseudonyms, silence: Time) -> Shown {
    // Masked before anything remembers it. It cannot fail, so no record goes to a dead-letter topic as it is.
    let pseudonyms = pseudonyms.clone();
    let records = flow.events_with("payments", move |record| Ok(read(record, &pseudonyms)));
    let (payments, unreadable) = records.try_map(|read| read);
    let watermark = Watermark::behind(DISORDER).step(1_000).idle_after(silence.max(60_000));
    let payments = payments.event_time(|payment| payment.at, watermark.partitions(PARTITIONS));
    let (payments, again) = payments.first_and_again("once", HORIZON, |payment| payment.id.clone());

    // What the account that pays was when it paid.
    let accounts = flow.debezium_by::<u64, Account>("bank.public.accounts", &["id"]);
    let rows = accounts.rows(watermark.partitions(ACCOUNT_PARTITIONS).idle_after(silence));
    let with_account = payments.as_of("with account", &rows, |payment| payment.from);

    // One entry for each record, whatever became of it.
    let decided = with_account.enriched.map(|(payment, account)| Entry::judged(payment, account));
    let entries = unreadable
        .map(Entry::unreadable)
        .concat(&again.map(|payment| Entry::of(Outcome::Duplicate, payment)))
        .concat(&with_account.late.map(|payment| Entry::of(Outcome::Late, payment)))
        .concat(&decided);
    flow.sink("audit", &entries);
    let payer = |entry: &Entry| entry.payment.as_ref().map(|payment| payment.from);
    let mut routes = entries.route(Entry::route).keyed(payer).to("refused", "payments-refused");
    for (country, topic) in [("DE", "payments-eu"), ("FR", "payments-eu"), ("US", "payments-us")] {
        routes = routes.to(country, topic);
    }
    routes.otherwise("payments-elsewhere");

    // The audit: everything that came is somewhere, at every time.
    let came = records.agents::<Tally<_>>("received", |_| "received".to_owned());
    let outcomes =
        entries.agents::<Tally<_>>("outcomes", |entry| format!("{:?}", entry.outcome).to_lowercase());
    let waiting = payments.events().map(|payment| (payment.id, payment.cents, true));
    let no_more = with_account.late.map(|payment| (payment.id, payment.cents, false));
    let no_more = no_more.concat(&decided.flat_map(|entry| {
        let payment = entry.payment?;
        Some((payment.id, payment.cents, false))
    }));
    let waiting = waiting.concat(&no_more).agents::<Waiting>("waiting", |(id, ..)| id.clone());
    let waiting = waiting.map(|(_, cents)| ("waiting".to_owned(), cents)).aggregate((Count, Sum));
    let waiting = waiting.map(|(name, (count, cents))| (name, Total { count: count as u64, cents }));
    let totals = came.views().concat(outcomes.views()).concat(waiting);
    flow.sink("totals", &totals);

    // What each account has paid and got.
    let accepted = decided.filter(|entry| entry.outcome == Outcome::Accepted);
    let bookings = accepted.flat_map(|entry| {
        let payment = entry.payment.into_iter();
        payment.flat_map(|payment| [(payment.from, payment.cents, 0), (payment.to, 0, payment.cents)])
    });
    flow.sink("books", &bookings.agents::<Book>("books", |(account, ..)| *account));

    // Accounts that send large amounts round in a ring within an hour, looked at every half hour, shown for a day.
    let hours = Windows::hopping(3_600_000, 1_800_000).late(600_000).keep(86_400_000);
    let large = accepted.flat_map(|entry| entry.payment.filter(|payment| payment.cents >= LARGE));
    let links = large
        .event_time(|payment| payment.at, watermark)
        .windows("large", hours, |payment| ((payment.from, payment.to), ()), Count)
        .results
        .map(|(((from, to), window), _)| ((window.start, from), (window.start, to)))
        .filter(|(from, to)| from != to);
    let rings = by_ring(links.rings());
    flow.sink("rings", &rings);

    Shown { totals: flow.view("totals", &totals), rings: flow.view("rings", &rings) }
}

/// The accounts of each ring, by the start of its hour and one of them.
fn by_ring<'s>(
    members: VecCollection<'s, Time, ((Time, u64), (Time, u64)), isize>,
) -> VecCollection<'s, Time, ((Time, u64), Vec<u64>), isize> {
    let members = members.map(|((_, account), ring)| (ring, account));
    members.reduce(|_ring, accounts, list| {
        list.push((accounts.iter().map(|(account, _)| **account).collect(), 1));
    })
}
