//! What keeps the last entry of an output partition, which says how far the job has come: a durable subscription,
//! acknowledged behind that entry. Without it, a broker deletes what nobody is subscribed to, and entries
//! that all have read.
//!
//! The subscription is one for failover, so that a run that hangs does not keep the next one from it. What an
//! earlier run still acknowledges does no harm: acknowledgements only go forward, and each is behind an entry
//! that is stored. No permits are given, so no message comes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nekton_engine::{Kind, Result};
use pulsar::message::proto::{self, command_subscribe as subscribe};
use tokio::sync::oneshot;

use super::client::{Backoff, Client, Purpose};
use super::connection::Heard;
use super::progress::EntryId;
use super::subscription::Subscription;

/// How often the subscription is moved, if there is something new.
const EVERY: Duration = Duration::from_secs(1);

/// Where the anchor may stand: the producer says it, and the anchor's task follows.
#[derive(Default)]
struct Place(Mutex<Option<EntryId>>);

impl Place {
    fn set(&self, id: EntryId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    fn get(&self) -> Option<EntryId> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The producer's end: which entry is the last. When it is dropped, the anchor's task ends.
pub(super) struct Last {
    last: Option<EntryId>,
    place: Arc<Place>,
    _over: oneshot::Sender<()>,
}

impl Last {
    /// The broker holds this entry, and had stored nothing of ours behind it.
    pub(super) fn stored(&mut self, id: EntryId) {
        // The first entry of a ledger has only the one that was stored before it.
        let before = if id.entry > 0 { Some(EntryId { entry: id.entry - 1, ..id }) } else { self.last };
        self.last = Some(id);
        before.into_iter().for_each(|before| self.place.set(before));
    }
}

/// One partition's anchor.
pub(super) struct Anchor {
    client: Arc<Client>,
    topic: String,
    subscription: String,
    place: Arc<Place>,
    over: oneshot::Receiver<()>,
}

impl Anchor {
    /// The anchor of a job in a topic or partition. No job's name has a colon before `last`, so that no job
    /// reads with this subscription.
    pub(super) fn new(client: Arc<Client>, topic: String, job: &str) -> (Self, Last) {
        let place = Arc::new(Place::default());
        let (_over, over) = oneshot::channel();
        let last = Last { last: None, place: place.clone(), _over };
        (Anchor { client, topic, subscription: format!("nekton-{job}:last"), place, over }, last)
    }

    /// Subscribes; from here on, what is behind the last acknowledgement stays.
    pub(super) async fn open(&self) -> Result<Subscription> {
        // Not where messages come in: answers would wait behind them.
        let connection = self.client.broker_of(&self.topic, Purpose::Writing).await?;
        let request = proto::CommandSubscribe {
            topic: self.topic.clone(),
            subscription: self.subscription.clone(),
            sub_type: subscribe::SubType::Failover as i32,
            durable: Some(true),
            initial_position: Some(subscribe::InitialPosition::Earliest as i32),
            ..Default::default()
        };
        Subscription::open(connection, request, &format!("keeping the last entry of {}", self.topic)).await
    }

    /// Keeps the subscription, and moves it on, until the producer is gone.
    pub(super) async fn run(mut self, granted: Subscription) {
        let mut granted = Some(granted);
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            let opened = match granted.take() {
                Some(granted) => Ok(granted),
                None => self.open().await,
            };
            match opened {
                Ok(granted) => {
                    if self.hold(granted).await {
                        return;
                    }
                }
                // It stands where it stood, so the last entry is safe meanwhile. That no broker can be reached is
                // the producer's to say.
                Err(error) if error.kind() != Kind::Unavailable && backoff.attempts().is_multiple_of(8) => {
                    tracing::warn!(topic = self.topic, %error, "the last entry may be lost");
                }
                Err(_) => {}
            }
            if begun.elapsed() > Duration::from_secs(10) {
                backoff = Backoff::default();
            }
            tokio::select! {
                () = backoff.pause() => {}
                _ = &mut self.over => return,
            }
        }
    }

    /// Whether it is over; otherwise the subscription is lost.
    async fn hold(&mut self, mut granted: Subscription) -> bool {
        // The broker may have forgotten what was acknowledged before.
        let mut acknowledged = None;
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heard = granted.heard.next() => match heard {
                    Heard::Frame(frame) if frame.command.close_consumer.is_none() => {}
                    _ => return false,
                },
                _ = ticks.tick() => self.acknowledge(&granted, &mut acknowledged),
                _ = &mut self.over => {
                    self.acknowledge(&granted, &mut acknowledged);
                    // Then the broker has heard the acknowledgement as well.
                    granted.leave().await;
                    return true;
                }
            }
        }
    }

    fn acknowledge(&self, granted: &Subscription, acknowledged: &mut Option<EntryId>) {
        let place = self.place.get();
        if place > *acknowledged {
            *acknowledged = place;
            place.into_iter().for_each(|id| granted.acknowledge(id, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_after(stored: &[(u64, i64)]) -> Option<(u64, i64)> {
        let place = Arc::new(Place::default());
        let mut last = Last { last: None, place: place.clone(), _over: oneshot::channel().0 };
        for &(ledger, entry) in stored {
            last.stored(EntryId { ledger, entry });
        }
        place.get().map(|id| (id.ledger, id.entry))
    }

    #[test]
    fn what_is_acknowledged_is_always_behind_the_last_entry() {
        assert_eq!(place_after(&[]), None);
        assert_eq!(place_after(&[(7, 0)]), None, "nothing is known to be before it");
        assert_eq!(place_after(&[(7, 4)]), Some((7, 3)));
        assert_eq!(place_after(&[(7, 4), (7, 5)]), Some((7, 4)));
        assert_eq!(place_after(&[(7, 4), (9, 0)]), Some((7, 4)), "a ledger ends, and another begins");
        assert_eq!(place_after(&[(7, 4), (9, 0), (9, 1)]), Some((9, 0)));
    }
}
