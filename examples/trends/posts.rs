//! Posts that nobody has written. The same seed makes the same.
//!
//! Their words are as frequent as those of languages are (Zipf's law: the second half as often as the first, and so on). Now and then
//! something happens, and many write about it for some minutes. Posts come when they were written, or later: some much later.

use nekton::prelude::*;

use crate::random::Random;

/// Milliseconds of a minute.
pub const MINUTE: Time = 60_000;
/// When the first one is written: 2026-06-12, 18:00 in UTC.
pub const BEGIN: Time = 1_781_287_200_000;
/// How many different words there are.
const WORDS: usize = 5_000;

/// A post, in one run of this program: a topic may hold several.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Post {
    pub run: u64,
    pub id: u64,
    pub author: u64,
    /// When it was written.
    pub at: Time,
    pub text: String,
}

/// Something that many write about.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    pub tag: &'static str,
    /// In minutes since the beginning.
    pub from: f64,
    pub lasts: f64,
    /// Which share of all posts has it at its height.
    pub share: f64,
}

/// What is made up.
#[derive(Clone, Copy, Debug)]
pub struct Posts {
    pub minutes: u32,
    pub a_minute: u32,
    /// Of a thousand posts, so many come when all their windows have closed.
    pub too_late: u64,
    pub seed: u64,
}

impl Posts {
    /// What happens, as shares of all the minutes.
    pub fn bursts(&self) -> Vec<Burst> {
        let minutes = f64::from(self.minutes);
        let burst =
            |tag, from: f64, lasts, share| Burst { tag, from: (from * minutes).floor(), lasts, share };
        vec![
            burst("#goal", 0.57, 8.0, 0.20),
            burst("#blackout", 0.70, 25.0, 0.06),
            burst("#thunder", 0.75, 12.0, 0.03),
            burst("#penalty", 0.88, 6.0, 0.25),
        ]
    }

    /// All posts in the order in which they come. `late` and `window` are how long windows stay open, and how long they are.
    pub fn posts(&self, run: u64, late: Time, window: Time) -> Vec<Post> {
        let mut random = Random(self.seed);
        let words: Vec<String> = (0..WORDS).map(word).collect();
        // How often one of the first so many words is written.
        let mut sum = 0.0;
        let sums: Vec<f64> = (1..=WORDS)
            .map(|rank| {
                sum += 1.0 / (rank + 2) as f64;
                sum
            })
            .collect();
        let bursts = self.bursts();
        let count = u64::from(self.minutes) * u64::from(self.a_minute);
        let mut posts: Vec<(Time, Post)> = Vec::new();
        for id in 0..count {
            let since = id * MINUTE / u64::from(self.a_minute);
            let mut text = Vec::new();
            for _ in 0..2 + random.below(3) {
                let drawn = random.share() * sum;
                text.push(words[sums.partition_point(|sum| *sum < drawn).min(WORDS - 1)].as_str());
            }
            for burst in &bursts {
                let minute = since as f64 / MINUTE as f64 - burst.from;
                // It is everywhere within a minute, and then fades; a little of it there is always.
                let height = if (0.0..burst.lasts).contains(&minute) {
                    minute.min(1.0) * (1.0 - minute / burst.lasts)
                } else {
                    0.0
                };
                if random.share() < burst.share * height + 0.001 {
                    text.push(burst.tag);
                }
            }
            let delay = match random.below(1_000) {
                many if many < self.too_late => late + window + MINUTE * (2 + random.below(15)),
                many if many < 50 => random.below(late),
                many if many < 200 => random.below(MINUTE),
                _ => random.below(2_000),
            };
            let at = BEGIN + since;
            posts
                .push((at + delay, Post { run, id, author: random.below(10_000), at, text: text.join(" ") }));
        }
        posts.sort_by_key(|(comes, post)| (*comes, post.id));
        posts.into_iter().map(|(_, post)| post).collect()
    }
}

/// The word of a rank.
fn word(rank: usize) -> String {
    const SYLLABLES: [&str; 20] = [
        "ka", "lo", "mi", "ren", "ta", "su", "vel", "no", "shi", "dar", "pe", "ru", "fin", "go", "ya", "bel",
        "cor", "zu", "hem", "ti",
    ];
    let first = SYLLABLES[rank % 20];
    let second = SYLLABLES[(rank / 20 + rank) % 20];
    match rank / 400 {
        0 => format!("{first}{second}"),
        more => format!("{first}{second}{}", SYLLABLES[more % 20]),
    }
}
