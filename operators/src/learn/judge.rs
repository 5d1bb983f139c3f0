//! Predictions and outcomes that come from different places, put together.

use std::collections::BTreeMap;

use nekton_engine::agents::Key;
use nekton_engine::{Agent, Context, Events, Time};
use serde::{Deserialize, Serialize};

use super::Outcome;
use super::scoreboard::Scored;
use super::vector::sound;

/// What a model says will happen, or what has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Claim<I, B, M> {
    /// A prediction.
    Predicted {
        /// Of what: a flight, an hour of a sensor.
        id: I,
        /// The scoreboard that it goes to.
        board: B,
        /// Whose it is.
        model: M,
        /// A number, or the probability that it happens.
        predicted: f64,
    },
    /// An outcome.
    Happened {
        /// What has happened.
        id: I,
        /// A number; 0 or 1 where a probability is predicted.
        actual: f64,
    },
}

impl<I, B, M> Claim<I, B, M> {
    fn id(&self) -> &I {
        match self {
            Claim::Predicted { id, .. } | Claim::Happened { id, .. } => id,
        }
    }
}

/// A claim, and how long its case is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard<I, B, M> {
    claim: Claim<I, B, M>,
    horizon: Time,
}

/// The agent behind [`Judge::judge`]: what is said of one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "B: Key, M: Key")]
pub struct Case<I, B, M> {
    open: BTreeMap<(B, M), f64>,
    happened: bool,
    #[serde(skip)]
    of: std::marker::PhantomData<I>,
}

/// The most predictions of one thing.
const MOST: usize = 64;

impl<I: Key, B: Key, M: Key> Agent for Case<I, B, M> {
    type Key = I;
    type Event = Heard<I, B, M>;
    type View = ();
    type Emit = Scored<B, M>;

    fn create(_id: &I) -> Self {
        Case { open: BTreeMap::new(), happened: false, of: std::marker::PhantomData }
    }

    fn on_event(&mut self, heard: &Heard<I, B, M>, context: &mut Context<'_, Self>) {
        context.set_timer(context.time().saturating_add(heard.horizon));
        if self.happened {
            return;
        }
        match &heard.claim {
            Claim::Predicted { board, model, predicted, .. } => {
                if sound(*predicted) && self.open.len() < MOST {
                    // The first one stands.
                    self.open.entry((board.clone(), model.clone())).or_insert(*predicted);
                }
            }
            Claim::Happened { actual, .. } => {
                self.happened = true;
                for ((board, model), predicted) in std::mem::take(&mut self.open) {
                    context.emit(Scored { board, model, outcome: Outcome { predicted, actual: *actual } });
                }
            }
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        context.leave();
    }

    fn view(&self) -> Option<()> {
        None
    }
}

/// Predictions that are to be judged.
pub trait Judge<'s, I: Key, B: Key, M: Key> {
    /// Puts each prediction beside what happened, once that is known: for predictions that come from another program,
    /// or from other agents than the outcomes. Where an agent knows both itself, a [`Learner`](super::Learner) does
    /// it at once.
    ///
    /// A prediction counts if it comes before the outcome, in the [order](nekton_engine::Order) of events; one that
    /// comes after it is not judged. Of two predictions by the same model the first one counts, and of two outcomes.
    /// Within a time, the topic that the program names first comes first: name the outcomes first, and what was
    /// predicted in the very millisecond of its outcome is not judged. What was not heard of for `horizon`
    /// milliseconds is forgotten.
    ///
    /// **Cost**: an event the look-up of an agent; a timer. **Memory**: what is predicted or happened within the
    /// horizon, some 100 bytes and 8 a prediction.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// use nekton_operators::learn::{Claim, Judge};
    ///
    /// # let topics = job(|flow| {
    /// # let says = |id, model: &str, predicted| Claim::Predicted { id, board: (), model: model.to_owned(), predicted };
    /// # let claims = at(flow, [
    /// #     (1, vec![says(17, "mean", 12.0), says(17, "line", 20.0)]),
    /// #     (2, vec![says(17, "mean", 21.0), Claim::Happened { id: 17, actual: 21.0 }, says(17, "late", 21.0)]),
    /// # ]);
    /// // "mean" says 12 of 17, "line" says 20; then it is 21, and "late" says so
    /// let outcomes = claims.judge("flights", 86_400_000);
    /// flow.sink("outcomes", &outcomes.map(|scored| (scored.model, scored.outcome.error())));
    /// # });
    /// assert_eq!(topics.lines("outcomes"), [r#"["line",-1.0]"#, r#"["mean",-9.0]"#]);
    /// ```
    fn judge(&self, name: &str, horizon: Time) -> Events<'s, Scored<B, M>>;
}

impl<'s, I: Key, B: Key, M: Key> Judge<'s, I, B, M> for Events<'s, Claim<I, B, M>> {
    fn judge(&self, name: &str, horizon: Time) -> Events<'s, Scored<B, M>> {
        let heard = self.map(move |claim| Heard { claim, horizon });
        heard.agents::<Case<I, B, M>>(name, |heard| heard.claim.id().clone()).emitted()
    }
}
