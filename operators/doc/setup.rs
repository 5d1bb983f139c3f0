// What stands behind the examples in the documentation, in their hidden lines.

mod engine {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/doc/setup.rs"));
}
pub use differential_dataflow::VecCollection;
pub use engine::{Memory, at};
pub use nekton_engine::agents::{Key, Record};
pub use nekton_engine::*;
pub use nekton_operators::*;

/// Runs a job without topics to its end; gives back the topics it wrote.
pub fn job<F>(program: F) -> Memory
where
    F: for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
{
    engine::job(&[], program)
}

/// Runs a job over topics with these lines to its end; gives back all topics.
pub fn job_on<F>(inputs: &[(&str, &[&str])], program: F) -> Memory
where
    F: for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
{
    engine::job(inputs, program)
}

/// A table whose rows change at these times.
pub fn table<'s, K: Own<Owned: Key>, V: Own<Owned: Record>, const N: usize>(
    flow: &mut Flow<'s>,
    name: &str,
    times: [(Time, Vec<(K, Option<V>)>); N],
) -> VecCollection<'s, Time, (K::Owned, V::Owned), isize> {
    let mut entry = 0;
    let times = times.map(|(time, rows)| {
        let position = connect::Position { entry, ..connect::Position::default() };
        entry += rows.len() as u64;
        let events = rows.into_iter().map(|(key, value)| (key.own(), value.map(Own::own))).collect();
        (time, vec![Block { order: Order { source: 0, partition: 0, position }, events }])
    });
    type Rows<K, V> = Script<Row<<K as Own>::Owned, <V as Own>::Owned>>;
    let script = Script::new(times);
    let feed: Box<dyn FnOnce(usize, usize, connect::Waker) -> Rows<K, V>> = Box::new(|_, _, _| script);
    flow.feed(name, feed).table(name)
}

/// Events of one partition, each with a time of its own, at these times of the dataflow.
pub fn events<'s, E: Own<Owned: Event>, const N: usize>(
    flow: &mut Flow<'s>,
    name: &str,
    times: [(Time, Vec<(E, Time)>); N],
) -> Events<'s, (E::Owned, Time)> {
    let mut entry = 0;
    let times = times.map(|(time, events)| {
        let position = connect::Position { entry, ..connect::Position::default() };
        entry += events.len() as u64;
        let events = events.into_iter().map(|(event, at)| (event.own(), at)).collect();
        (time, vec![Block { order: Order { source: 0, partition: 0, position }, events }])
    });
    let script = Script::new(times);
    let feed: Box<dyn FnOnce(usize, usize, connect::Waker) -> Script<(E::Owned, Time)>> = Box::new(|_, _, _| script);
    flow.feed(name, feed)
}

/// So that examples can write text as `"text"`.
pub trait Own {
    type Owned;
    fn own(self) -> Self::Owned;
}
impl Own for &str {
    type Owned = String;
    fn own(self) -> String {
        self.to_owned()
    }
}
macro_rules! owned {
    ($($plain:ty)*) => { $(impl Own for $plain { type Owned = Self; fn own(self) -> Self { self } })* };
}
owned!(() i32 u8 u32 u64 i64 Decimal<2> Position);
macro_rules! owned_tuple {
    ($($part:ident)*) => {
        impl<$($part: Own),*> Own for ($($part,)*) {
            type Owned = ($($part::Owned,)*);
            #[allow(non_snake_case)]
            fn own(self) -> Self::Owned {
                let ($($part,)*) = self;
                ($($part.own(),)*)
            }
        }
    };
}
owned_tuple!(A B);
owned_tuple!(A B C);
