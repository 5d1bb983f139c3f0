//! The scoreboard that is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use nekton::operators::learn::Score;
use nekton::{Result, View};

use super::forecaster::{Progress, Who};
use super::job::Line;
use crate::calendar::in_new_york;
use crate::table::{Ink, WIDTH, number, progress};

/// What there is to show, all of one time.
#[derive(Default)]
pub struct Board {
    /// By board (an airport, or all) and model.
    scores: BTreeMap<(String, Who), Score>,
    champions: BTreeMap<String, Who>,
    pub progress: Progress,
}

/// The board of all airports.
const ALL: &str = "all";

impl Board {
    pub fn of(view: &View<Line>) -> Result<Self> {
        let mut shown = Board::default();
        for (line, _) in view.snapshot()?.records {
            match line {
                Line::Score(board, who, score) => drop(shown.scores.insert((board, who), score)),
                Line::Champion(board, who) => drop(shown.champions.insert(board, who)),
                Line::Progress(progress) => shown.progress = progress,
            }
        }
        Ok(shown)
    }

    fn score(&self, board: &str, who: Who) -> Option<&Score> {
        self.scores.get(&(board.to_owned(), who))
    }

    /// The mean absolute errors, a model a line.
    fn table(&self, ink: Ink) -> Vec<String> {
        let boards: Vec<&String> = {
            let mut boards: Vec<&String> = self.scores.keys().map(|(board, _)| board).collect();
            boards.dedup();
            boards.sort_by_key(|board| (*board != ALL, *board));
            boards
        };
        let columns: String = boards.iter().map(|board| format!("{board:>8}")).collect();
        let mut lines =
            vec![format!(" {:<30}{columns}{:>9}{:>9}", "MEAN ABSOLUTE ERROR, MINUTES", "bias", "of late")];
        for who in Who::ALL {
            let Some(all) = self.score(ALL, who) else { continue };
            let of = |board: &&String| {
                self.score(board, who).map_or(String::new(), |score| format!("{:.2}", score.mean_absolute))
            };
            let columns: String = boards.iter().map(|board| format!("{:>8}", of(board))).collect();
            let champion = self.champions.get(ALL) == Some(&who);
            let name = format!("{:<30}", format!("{}{}", who.name(), if champion { " *" } else { "" }));
            let name = if champion { ink.bold(&name) } else { name };
            lines.push(format!(" {name}{columns}{:>+9.2}{:>9.2}", all.bias, all.recent));
        }
        lines
    }

    pub fn frame(&self, of: Option<u64>, elapsed: Duration, ink: Ink) -> Vec<String> {
        let (title, clock) = ("nekton · delays, two hours ahead", in_new_york(self.progress.at));
        let gap = WIDTH - 2 - title.chars().count() - clock.chars().count();
        let rate = self.progress.heard as f64 / elapsed.as_secs_f64().max(0.001);
        let mut lines = vec![format!(" {}{:gap$}{}", ink.bold(title), "", ink.bold(&clock))];
        lines.push(progress(self.progress.heard, of, rate, ink));
        lines.push(String::new());
        lines.extend(self.table(ink));
        lines.push(String::new());
        lines.push(format!(" {}", self.counts()));
        lines
    }

    fn counts(&self) -> String {
        let Progress { predicted, judged, cancelled, .. } = self.progress;
        let open = predicted - judged - cancelled;
        format!(
            "{} predicted, {} left, {} cancelled, {} open",
            number(predicted),
            number(judged),
            number(cancelled),
            number(open)
        )
    }

    /// A line where there is no terminal.
    pub fn line(&self) -> String {
        let error = |who| self.score(ALL, who).map_or(0.0, |score| score.mean_absolute.into_inner());
        format!(
            "{}  {}; off by {:.1} minutes, the airport's mean by {:.1}\n",
            in_new_york(self.progress.at),
            self.counts(),
            error(Who::Network),
            error(Who::AirportMean)
        )
    }

    /// What was done and where it is.
    pub fn summary(&self, elapsed: Duration, topics: &str, examples: bool) -> String {
        let mut text = String::from("\n");
        for line in self.table(Ink(false)) {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(
            text,
            " * the champion: the best of late\n\n{}, from {} lines of the log in {:.1} s\nTopics at {topics}:",
            self.counts(),
            number(self.progress.heard),
            elapsed.as_secs_f64()
        );
        let mut topic = |name: &str, what: &str| {
            let _ = writeln!(text, "  {name:<12}{what}");
        };
        topic("log", "what became known, in its order");
        topic("predictions", "how late each flight will leave, two hours ahead");
        topic("outcomes", "what was predicted and what happened");
        topic("models", "how good each model is, by airport (upsert)");
        topic("champions", "which one is best of late (changes)");
        topic("next", "each plane's next flight, and how late the plane makes it (changes)");
        topic("congestion", "how many wait at each airport, and how late they leave (upsert)");
        if examples {
            topic("examples", "what the models predict from");
        }
        text
    }
}
