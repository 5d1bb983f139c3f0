//! A live scoreboard of models: how good each is, and which one is best now.

use std::collections::BTreeMap;

use differential_dataflow::VecCollection;
use nekton_engine::agents::Key;
use nekton_engine::{Agent, Agents, Context, Events, Time};
use serde::{Deserialize, Serialize};

use super::Outcome;
use super::tally::{Measure, Score, Tally};
use super::vector::within;

/// A prediction of a model, beside what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored<B, M> {
    /// The board that it goes to, such as an airport; `()` if there is one for all.
    pub board: B,
    /// The model's name.
    pub model: M,
    /// What it said and what happened.
    pub outcome: Outcome,
}

/// How models are compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// What they are compared by.
    pub measure: Measure,
    /// Which part of the recent mean a new outcome is: 0.01 looks at some hundred.
    pub part: f64,
    /// A model without so many outcomes cannot be champion.
    pub after: u64,
    /// By which part a challenger must be better than the champion: 0.05 is 5 %.
    pub margin: f64,
    /// At how many of its outcomes in a row it must be.
    pub patience: u32,
}

impl Default for Rules {
    /// The absolute error of some 100 outcomes; a challenger must be better by 5 %, 20 times in a row.
    fn default() -> Self {
        Rules { measure: Measure::Absolute, part: 0.01, after: 30, margin: 0.05, patience: 20 }
    }
}

/// An outcome with the rules of the program as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ruled<B, M> {
    scored: Scored<B, M>,
    rules: Rules,
}

/// What a scoreboard shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Standing<M> {
    /// The model that is best now; nobody before a model has enough outcomes.
    pub champion: Option<M>,
    /// How good each is.
    pub scores: Vec<(M, Score)>,
    /// How many outcomes could not be judged: no numbers or no probabilities, or models too many.
    pub refused: u64,
}

/// Another model is best.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Crowned<B, M> {
    /// On which board.
    pub board: B,
    /// The one that was best until then.
    pub before: Option<M>,
    /// The one that is best now.
    pub champion: M,
}

/// The agent behind a scoreboard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "M: Key")]
pub struct Board<B, M> {
    models: BTreeMap<M, Tally>,
    champion: Option<M>,
    /// Who is better than the champion, and at how many of its outcomes in a row.
    ahead: Option<(M, u32)>,
    refused: u64,
    #[serde(skip)]
    of: std::marker::PhantomData<B>,
}

/// The most models on a board.
const MOST: usize = 64;

impl<B: Key, M: Key> Board<B, M> {
    /// Whether there is another champion now that `model` has an outcome more; who was it before.
    fn challenge(&mut self, model: &M, rules: &Rules) -> Option<Option<M>> {
        let eligible = self.models.iter().filter(|(_, tally)| tally.count >= rules.after.max(1));
        let others = eligible.filter(|(other, _)| Some(*other) != self.champion.as_ref());
        let best = others.min_by(|(_, one), (_, other)| one.recent().total_cmp(&other.recent()));
        let (best, recent) = best.map(|(best, tally)| (best.clone(), tally.recent()))?;
        let champion = self.champion.as_ref().and_then(|champion| self.models.get(champion));
        if let Some(champion) = champion {
            if recent >= champion.recent() * (1.0 - rules.margin) {
                self.ahead = None;
                return None;
            }
            let before = self.ahead.take().filter(|(ahead, _)| *ahead == best).map_or(0, |(_, times)| times);
            let times = before + u32::from(best == *model);
            if times < rules.patience {
                self.ahead = Some((best, times));
                return None;
            }
        }
        self.ahead = None;
        Some(self.champion.replace(best))
    }
}

impl<B: Key, M: Key> Agent for Board<B, M> {
    type Key = B;
    type Event = Ruled<B, M>;
    type View = Standing<M>;
    type Emit = Crowned<B, M>;

    fn create(_board: &B) -> Self {
        let of = std::marker::PhantomData;
        Board { models: BTreeMap::new(), champion: None, ahead: None, refused: 0, of }
    }

    fn on_event(&mut self, Ruled { scored, rules }: &Ruled<B, M>, context: &mut Context<'_, Self>) {
        let Scored { model, outcome, .. } = scored;
        let full = self.models.len() >= MOST && !self.models.contains_key(model);
        if full || !Tally::takes(outcome, rules.measure) {
            self.refused += 1;
            return;
        }
        self.models.entry(model.clone()).or_default().add(outcome, rules.measure, rules.part);
        if let Some(before) = self.challenge(model, rules)
            && let Some(champion) = self.champion.clone()
        {
            context.emit(Crowned { board: context.key().clone(), before, champion });
        }
    }

    fn view(&self) -> Option<Standing<M>> {
        let scores = self.models.iter().map(|(model, tally)| (model.clone(), tally.score())).collect();
        Some(Standing { champion: self.champion.clone(), scores, refused: self.refused })
    }
}

/// Outcomes that go to scoreboards.
pub trait Scoreboards<'s, B: Key, M: Key> {
    /// A scoreboard for each board's name; `name` is the root's own. Let all models of a board predict the same
    /// things: then they can be compared.
    ///
    /// The running figures are kept as whole numbers (of billionths), so they do not depend on the order of outcomes.
    /// The recent mean does, and who is champion depends on what has been: a champion stays until a challenger was
    /// better by the margin at so many of its outcomes in a row, so that two that are about as good do not take
    /// turns. That is why this is a root, with a state of its own in checkpoints.
    ///
    /// **Cost**: an outcome some 40 floating-point operations and a look at each model's recent mean; at the end of a
    /// time, a view of all models of each board that had one. One worker has a board. **Memory**: some 500 bytes a
    /// model of a board; 64 models at most.
    ///
    /// # Panics
    /// If a rule's part is not between 1e-9 and 1, or its margin not between 0 and 1.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// use nekton_operators::learn::{Outcome, Rules, Scoreboards, Scored};
    ///
    /// # let topics = job(|flow| {
    /// # let scored = |model: &str, predicted| Scored { board: (), model: model.to_owned(), outcome: Outcome { predicted, actual: 10.0 } };
    /// # let outcomes = at(flow, [
    /// #     (1, vec![scored("mean", 14.0), scored("line", 4.0)]),
    /// #     (2, vec![scored("mean", 13.0), scored("line", 9.0)]),
    /// #     (3, vec![scored("mean", 14.0), scored("line", 11.0)]),
    /// # ]);
    /// // 10 happens, three times. The model "mean" says 14, 13 and 14; "line" says 4, 9 and 11.
    /// let rules = Rules { part: 0.5, after: 1, patience: 1, ..Rules::default() };
    /// let board = outcomes.scoreboard("models", rules);
    /// flow.sink("errors", upsert(&board.scores().map(|((_, model), score)| (model, score.mean_absolute))));
    /// flow.sink("champion", upsert(&board.champions()));
    /// # });
    /// assert_eq!(topics.lines("champion"), [
    ///     r#"{"key":null,"value":"mean","time":1}"#,
    ///     r#"{"key":null,"value":"line","time":2}"#,
    /// ]);
    /// assert_eq!(topics.lines("errors").last().unwrap(), r#"{"key":"mean","value":3.6666666666666665,"time":3}"#);
    /// ```
    fn scoreboard(&self, name: &str, rules: Rules) -> Scoreboard<'s, B, M>;
}

impl<'s, B: Key, M: Key> Scoreboards<'s, B, M> for Events<'s, Scored<B, M>> {
    fn scoreboard(&self, name: &str, rules: Rules) -> Scoreboard<'s, B, M> {
        within("the part of the recent mean", rules.part, 1e-9, 1.0);
        within("the margin", rules.margin, 0.0, 1.0);
        let ruled = self.map(move |scored| Ruled { scored, rules });
        Scoreboard(ruled.agents(name, |ruled: &Ruled<B, M>| ruled.scored.board.clone()))
    }
}

/// The scoreboards of a program.
pub struct Scoreboard<'s, B: Key, M: Key>(Agents<'s, Board<B, M>>);

impl<'s, B: Key, M: Key> Scoreboard<'s, B, M> {
    /// Each board as a whole.
    pub fn standings(&self) -> VecCollection<'s, Time, (B, Standing<M>), isize> {
        self.0.views()
    }
    /// How good each model of each board is.
    pub fn scores(&self) -> VecCollection<'s, Time, ((B, M), Score), isize> {
        self.0.flat_map(|(board, standing)| {
            standing.scores.into_iter().map(move |(model, score)| ((board.clone(), model), score))
        })
    }
    /// Which model is best, by board. Changes seldom: join the models' predictions with it to show the champion's.
    pub fn champions(&self) -> VecCollection<'s, Time, (B, M), isize> {
        let champions =
            self.0.flat_map(|(board, standing)| standing.champion.map(|champion| (board, champion)));
        champions.consolidate()
    }
    /// That another model has become the best, as events.
    pub fn crowned(&self) -> Events<'s, Crowned<B, M>> {
        self.0.emitted()
    }
}
