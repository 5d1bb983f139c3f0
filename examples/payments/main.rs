//! Payments of a bank: cleaned, enriched, audited and sent on, and rings of accounts that are found in them. Try it:
//!
//! ```text
//! export PAYMENTS_SECRET=$(openssl rand -hex 32)
//! cargo run --release --example payments -- --until-end
//! ```
//!
//! `docs/payments.md` says what happens to a payment, and what can be relied upon.

mod agents;
mod events;
mod generator;
mod job;
#[path = "../common/random.rs"]
mod random;

use std::sync::{Arc, OnceLock};

use clap::Parser;
use nekton::{Publisher, Result, Runner};

use crate::generator::Bank;
use crate::job::{ACCOUNT_PARTITIONS, PARTITIONS, Shown};

/// Cleans, enriches and routes the payments of a bank that is made up, and finds rings of accounts
#[derive(Parser)]
#[command(name = "payments", version)]
struct Options {
    /// How many payments are made up and published first; 0 publishes nothing
    #[arg(long, value_name = "N", default_value_t = 20_000, help_heading = "Payments")]
    payments: u64,
    /// The same number makes up the same payments
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Payments")]
    seed: u64,
    /// For so many seconds payments wait for changes of accounts that may be on their way
    #[arg(long, value_name = "SECONDS", default_value_t = 10, help_heading = "Payments")]
    silence: u64,
    #[command(flatten)]
    runner: Runner,
}

fn main() {
    if let Err(error) = nekton::parse::<Options>().and_then(run) {
        nekton::say(format_args!("payments: {error}"));
        std::process::exit(error.exit_code());
    }
}

fn run(options: Options) -> Result<()> {
    let Options { payments, seed, silence, runner } = options;
    let pseudonyms = nekton::pseudonyms("PAYMENTS_SECRET")?;
    if payments > 0 && runner.process().0 == 0 {
        let mut bank = Bank::new(seed, payments);
        let mut publisher = Publisher::open(&runner, "bank.public.accounts", ACCOUNT_PARTITIONS)?;
        bank.accounts(|account, change| publisher.publish(&account, change))?;
        publisher.close()?;
        let mut publisher = Publisher::open(&runner, "payments", PARTITIONS)?;
        bank.payments(|account, line| publisher.publish(&account, line))?;
        publisher.close()?;
    }
    let shown: Arc<OnceLock<Shown>> = Arc::default();
    let built = shown.clone();
    runner.run("payments", move |flow| {
        // The workers of a process build the same views.
        let _ = built.set(job::build(flow, &pseudonyms, silence * 1_000));
    })?;
    shown.get().map_or(Ok(()), print)
}

/// What there was of each kind, and the largest rings.
fn print(shown: &Shown) -> Result<()> {
    println!("{:<12}{:>10}{:>18}", "", "payments", "amount");
    for ((name, total), _) in shown.totals.snapshot()?.records {
        println!("{name:<12}{:>10}{:>15}.{:02}", total.count, total.cents / 100, total.cents % 100);
    }
    let mut rings = shown.rings.snapshot()?.records;
    rings.sort_by_key(|((_, accounts), _)| std::cmp::Reverse(accounts.len()));
    println!("\n{} rings in an hour's large payments; the largest:", rings.len());
    for (((begin, _), accounts), _) in rings.iter().take(5) {
        let minutes = begin / 60_000 % 1_440;
        println!("  from {:02}:{:02}  accounts {accounts:?}", minutes / 60, minutes % 60);
    }
    Ok(())
}
