//! Splitting: one stream of events into several.

use nekton_engine::{Block, Events};
use timely::dataflow::operators::vec::{Map, Partition};

/// Splitting. (One event becomes many with [`Events::flat_map`].)
pub trait Split<'s, E: Clone + 'static> {
    /// The events for which `condition` is true, and the others; both in their order. Nothing is copied.
    ///
    /// Do not [`concat`](Events::concat) the two again: what comes first would not be defined. Map what each event becomes in
    /// one `map` instead.
    ///
    /// **Cost**: a move an event. **Memory**: none.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let payments = events(flow, "payments", [(1, vec![("rent", 120_000), ("tea", 4), ("car", 900_000)])]).map(|(what, cents)| (what, cents));
    /// // (for what, cents): rent 120,000, tea 4, car 900,000
    /// let (large, small) = payments.split(|(_, cents)| *cents >= 100_000);
    /// flow.sink("to-be-looked-at", &large);
    /// flow.sink("booked", &small);
    /// # });
    /// assert_eq!(topics.lines("to-be-looked-at"), [r#"["rent",120000]"#, r#"["car",900000]"#]);
    /// assert_eq!(topics.lines("booked"), [r#"["tea",4]"#]);
    /// ```
    fn split(&self, condition: impl Fn(&E) -> bool + 'static) -> (Events<'s, E>, Events<'s, E>);

    /// Replaces each event by `logic` of it, and sets those apart for which it fails, with what it said: for a topic of
    /// the program's own dead letters.
    ///
    /// **Cost**: that of `logic`, and a move an event. **Memory**: none.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let readings = events(flow, "readings", [(1, vec![("21", 0), ("hot", 0)])]).map(|(text, _)| text);
    /// let (celsius, refused) = readings.try_map(|text| { // 21, hot
    ///     text.parse::<i64>().map_err(|why| format!("{text}: {why}"))
    /// });
    /// flow.sink("celsius", &celsius);
    /// flow.sink("refused", &refused);
    /// # });
    /// assert_eq!(topics.lines("celsius"), ["21"]);
    /// assert_eq!(topics.lines("refused"), [r#""hot: invalid digit found in string""#]);
    /// ```
    fn try_map<A: Clone + 'static, B: Clone + 'static>(
        &self,
        logic: impl FnMut(E) -> Result<A, B> + 'static,
    ) -> (Events<'s, A>, Events<'s, B>);
}

impl<'s, E: Clone + 'static> Split<'s, E> for Events<'s, E> {
    fn split(&self, condition: impl Fn(&E) -> bool + 'static) -> (Events<'s, E>, Events<'s, E>) {
        let mut parts = divide(self, 2, move |event| usize::from(!condition(event))).into_iter();
        // There are as many as were asked for.
        let mut part = || parts.next().unwrap_or_else(|| self.filter(|_| false));
        (part(), part())
    }
    fn try_map<A: Clone + 'static, B: Clone + 'static>(
        &self,
        logic: impl FnMut(E) -> Result<A, B> + 'static,
    ) -> (Events<'s, A>, Events<'s, B>) {
        let (fine, failed) = self.map(logic).split(Result::is_ok);
        (fine.flat_map(Result::ok), failed.flat_map(Result::err))
    }
}

/// Divides events into so many streams; `part` says into which each goes, and is below `parts`.
pub(super) fn divide<'s, E: Clone + 'static>(
    events: &Events<'s, E>,
    parts: usize,
    part: impl Fn(&E) -> usize + 'static,
) -> Vec<Events<'s, E>> {
    let flow = events.flow();
    let blocks = events.blocks().flat_map(move |Block { order, events }| {
        let mut divided: Vec<Vec<E>> = (0..parts).map(|_| Vec::new()).collect();
        for event in events {
            divided[part(&event)].push(event);
        }
        let blocks = (0_u64..).zip(divided).filter(|(_, events)| !events.is_empty());
        blocks.map(move |(part, events)| (part, Block { order, events })).collect::<Vec<_>>()
    });
    let streams = blocks.partition(parts as u64, |numbered| numbered);
    streams.into_iter().map(|blocks| flow.events_of(blocks)).collect()
}
