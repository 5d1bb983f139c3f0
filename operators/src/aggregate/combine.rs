//! Several aggregates at once, and aggregates of a part of each value.

use std::fmt;

use super::{Aggregate, Group};

/// An aggregate of a part of each value, as [`of`] makes it.
#[derive(Clone, Copy)]
pub struct Of<F, A> {
    part: F,
    aggregate: A,
}

impl<F, A: fmt::Debug> fmt::Debug for Of<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Of").field(&self.aggregate).finish_non_exhaustive()
    }
}

/// An aggregate of a part of each value.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let sensors = table(flow, "sensors", [(1, vec![(7, Some(("hall", 20, 31))), (8, Some(("hall", 21, 30)))])]);
/// // (sensor, (room, celsius, humidity)): 7 => ("hall", 20, 31), 8 => ("hall", 21, 30)
/// let by_room = sensors.map(|(_, (room, celsius, humidity))| (room, (celsius, humidity)));
/// flow.sink("driest", upsert(&by_room.aggregate(of(|v: &(i32, i32)| v.1, Min))));
/// # });
/// assert_eq!(topics.lines("driest"), [r#"{"key":"hall","value":30,"time":1}"#]);
/// ```
pub fn of<V, P, F: Fn(&V) -> P + 'static, A: Aggregate<P>>(part: F, aggregate: A) -> Of<F, A> {
    Of { part, aggregate }
}

impl<V, P, F: Fn(&V) -> P + 'static, A: Aggregate<P>> Aggregate<V> for Of<F, A> {
    type State = A::State;
    type Output = A::Output;
    fn update(&self, state: &mut A::State, value: V, count: isize) {
        self.aggregate.update(state, (self.part)(&value), count);
    }
    fn output(&self, state: &A::State) -> Option<A::Output> {
        self.aggregate.output(state)
    }
    fn is_empty(&self, state: &A::State) -> bool {
        self.aggregate.is_empty(state)
    }
}
impl<V, P, F: Fn(&V) -> P + 'static, A: Group<P>> Group<V> for Of<F, A> {}

/// Shown where all of them have something to show.
macro_rules! tuple {
    ($($aggregate:ident $at:tt)*) => {
        impl<V: Clone, $($aggregate: Aggregate<V>),*> Aggregate<V> for ($($aggregate,)*) {
            type State = ($($aggregate::State,)*);
            type Output = ($($aggregate::Output,)*);
            fn update(&self, state: &mut Self::State, value: V, count: isize) {
                $(self.$at.update(&mut state.$at, value.clone(), count);)*
            }
            fn output(&self, state: &Self::State) -> Option<Self::Output> {
                Some(($(self.$at.output(&state.$at)?,)*))
            }
            fn is_empty(&self, state: &Self::State) -> bool {
                true $(&& self.$at.is_empty(&state.$at))*
            }
        }
        impl<V: Clone, $($aggregate: Group<V>),*> Group<V> for ($($aggregate,)*) {}
    };
}
tuple!(A 0 B 1);
tuple!(A 0 B 1 C 2);
tuple!(A 0 B 1 C 2 D 3);
