//! Routing by content: what an event says decides in which topic it is written.

use std::collections::BTreeMap;
use std::fmt::Debug;

use nekton_engine::agents::Key;
use nekton_engine::{Event, Events, Flow, keyed};

use super::split::divide;

/// Routing.
pub trait Routing<'s, E: Event> {
    /// Writes each event to the topic of its route, see [`Routes`].
    ///
    /// Routes are declared, not found in the data: a topic is opened when the job starts, because what it holds already says where
    /// an earlier run stopped writing. So each topic has each event exactly once, as that of any sink; one that is misspelt
    /// in an event cannot make a topic of its own; and there are as many topics as the program says. What has no route of its own
    /// goes to the topic given with [`otherwise`](Routes::otherwise), with nothing lost.
    ///
    /// **Cost**: `route` of the event, and a search in a tree. A topic takes what a sink takes. **Memory**: none.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let orders = events(flow, "orders", [(1, vec![(("CH", 7), 0), (("US", 8), 0), (("DE", 9), 0), (("ch", 1), 0)])]).map(|(order, _)| order);
    /// let mut routes = orders.route(|(country, _)| country.clone()); // (country, number): CH 7, US 8, DE 9, ch 1
    /// for country in ["CH", "DE", "FR"] {
    ///     routes = routes.to(country, "orders-europe");
    /// }
    /// routes.to("US", "orders-us").otherwise("orders-elsewhere");
    /// # });
    /// assert_eq!(topics.lines("orders-europe"), [r#"["CH",7]"#, r#"["DE",9]"#]);
    /// assert_eq!(topics.lines("orders-us"), [r#"["US",8]"#]);
    /// assert_eq!(topics.lines("orders-elsewhere"), [r#"["ch",1]"#]);
    /// ```
    fn route<R: Ord + Debug + 'static>(&self, route: impl Fn(&E) -> R + 'static) -> Routes<'s, E, R>;
}

impl<'s, E: Event> Routing<'s, E> for Events<'s, E> {
    fn route<R: Ord + Debug + 'static>(&self, route: impl Fn(&E) -> R + 'static) -> Routes<'s, E, R> {
        Routes {
            events: self.clone(),
            route: Box::new(route),
            topics: Vec::new(),
            of: BTreeMap::new(),
            write: Box::new(|flow, topic, events| flow.sink(topic, events)),
        }
    }
}

/// Which route leads to which topic. Nothing is written before [`otherwise`](Routes::otherwise) or [`rest`](Routes::rest).
#[must_use = "nothing is written before otherwise(..) or rest()"]
pub struct Routes<'s, E: Clone + 'static, R> {
    events: Events<'s, E>,
    route: Box<dyn Fn(&E) -> R>,
    topics: Vec<String>,
    of: BTreeMap<R, usize>,
    write: Write<'s, E>,
}

type Write<'s, E> = Box<dyn Fn(&mut Flow<'s>, &str, &Events<'s, E>)>;

impl<'s, E: Event, R: Ord + Debug + 'static> Routes<'s, E, R> {
    /// Events of this route go to this topic. Several routes may lead to one topic.
    ///
    /// # Panics
    /// If the route was declared before.
    pub fn to(mut self, route: impl Into<R>, topic: &str) -> Self {
        let route = route.into();
        assert!(!self.of.contains_key(&route), "the route {route:?} leads to two topics: keep one of them");
        let place = self.place(topic);
        self.of.insert(route, place);
        self
    }

    /// The place of a topic among the topics.
    fn place(&mut self, topic: &str) -> usize {
        let known = self.topics.iter().position(|known| known == topic);
        known.unwrap_or_else(|| {
            self.topics.push(topic.to_owned());
            self.topics.len() - 1
        })
    }

    /// Writes events with a key, by which each topic is partitioned, as [`keyed`] does.
    pub fn keyed<K: Key>(self, key: impl Fn(&E) -> K + Clone + 'static) -> Self {
        let write: Write<'s, E> =
            Box::new(move |flow, topic, events| flow.sink(topic, keyed(events, key.clone())));
        Routes { write, ..self }
    }

    /// Writes them all, and what has no route to this topic.
    pub fn otherwise(mut self, topic: &str) {
        let rest = self.place(topic);
        drop(self.written(rest));
    }

    /// Writes those that have a route, and gives back the others.
    pub fn rest(self) -> Events<'s, E> {
        let every = self.topics.len();
        self.written(every)
    }

    /// Writes every topic; what has no route goes to the part `rest`, which is a topic's or one more.
    fn written(self, rest: usize) -> Events<'s, E> {
        let Routes { events, route, topics, of, write } = self;
        let parts = topics.len().max(rest + 1);
        let of = move |event: &E| of.get(&route(event)).copied().unwrap_or(rest);
        let parts = divide(&events, parts, of);
        let mut flow = events.flow();
        for (topic, part) in topics.iter().zip(&parts) {
            write(&mut flow, topic, part);
        }
        parts.into_iter().nth(rest).unwrap_or_else(|| events.filter(|_| false))
    }
}
