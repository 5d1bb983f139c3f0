//! `nekton topics publish`: lines from standard input to a topic, one record each.

use std::collections::VecDeque;
use std::io::{BufRead, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Args;
use nekton::connect::{Envelope, Message, PartitionWriter, SinkSettings, WriteBatch};
use nekton::hash::fixed_hash;
use nekton::{Error, Kind, Result, Time, say};

use crate::bell::Bell;

/// The longest line, in bytes: as much as a Pulsar broker takes by default.
const LONGEST: usize = 5 << 20;
/// The most bytes that are handed over at once, and how many times at most before some of it is out.
const BATCH: usize = 1 << 20;
const IN_FLIGHT: usize = 8;
/// How many lines wait to be handed over at most.
const WAITING: usize = 4_096;
/// How long nothing may go out before that is an error.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Command {
    /// The topic: file:PATH, or pulsar://HOST:PORT/TENANT/NAMESPACE/TOPIC
    url: String,
    /// The field of each line, a JSON object, that is its key: lines with the same one stay in order
    #[arg(long, value_name = "FIELD")]
    key_field: Option<String>,
    /// How many partitions the topic gets if it does not exist yet
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    partitions: u32,
    #[command(flatten)]
    access: nekton::topics::Access,
}

pub(crate) fn run(command: Command) -> Result<()> {
    let settings = SinkSettings { envelope: Envelope::Events, schema: None, partitions: command.partitions };
    let sink = nekton::topics::open_sink(&command.url, &settings, &command.access)?;
    let bell = Arc::new(Bell::default());
    let open = |number| {
        let writer = sink.open(number, bell.waker())?;
        Ok(Partition { writer, messages: Vec::new(), outstanding: VecDeque::new() })
    };
    let partitions = (0..sink.partitions()).map(open).collect::<Result<Vec<_>>>()?;
    let lines = lines()?;
    if std::io::stdin().is_terminal() {
        say(format_args!("Each line is published to {}. Ctrl-D ends.", sink.describe()));
    }
    let mut publisher = Publisher { partitions, bell, next: 0, time: 0, published: 0 };
    let outcome = publisher.publish_all(&lines, command.key_field.as_deref());
    // What came before a bad line goes out all the same.
    let closed = publisher.close();
    say(format_args!("published {} records to {}", publisher.published, sink.describe()));
    outcome.and(closed)
}

struct Partition {
    writer: Box<dyn PartitionWriter>,
    /// What is to be handed over.
    messages: Vec<Message>,
    /// The times that were handed over and are not out yet.
    outstanding: VecDeque<Time>,
}

struct Publisher {
    partitions: Vec<Partition>,
    bell: Arc<Bell>,
    /// The partition of the next line without a key.
    next: usize,
    time: Time,
    published: u64,
}

impl Publisher {
    fn publish_all(&mut self, lines: &Lines, key_field: Option<&str>) -> Result<()> {
        let mut number = 0_u64;
        loop {
            let (mut bytes, mut ended) = (0, None);
            // All that is there; nothing waits for more while it could be handed over.
            while bytes < BATCH && ended.is_none() {
                match lines.next(bytes == 0) {
                    Input::Line(line) => {
                        number += 1;
                        bytes += line.len() + 1;
                        if let Err(error) = self.take(line, key_field) {
                            ended = Some(Err(error.context(format!("line {number}"))));
                        }
                    }
                    Input::Nothing => break,
                    Input::Failed(error) => ended = Some(Err(error)),
                    Input::End => ended = Some(Ok(())),
                }
            }
            self.hand_over()?;
            if let Some(ended) = ended {
                return ended;
            }
            self.make_room()?;
        }
    }

    fn take(&mut self, line: Vec<u8>, key_field: Option<&str>) -> Result<()> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let count = self.partitions.len();
        let (key, place) = match key_field {
            None => {
                let place = self.next;
                self.next = (place + 1) % count;
                (None, place)
            }
            Some(field) => {
                let (text, hash) = key(&line, field)?;
                (Some(text), (hash >> 32) as usize % count)
            }
        };
        self.partitions[place].messages.push(Message { key, value: Some(Bytes::from(line)) });
        self.published += 1;
        Ok(())
    }

    fn hand_over(&mut self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Time);
        let held = self.partitions.iter().filter_map(|partition| partition.writer.last_time()).max();
        // Times only grow, also over what the topic held before.
        self.time = now.max(self.time + 1).max(held.map_or(0, |time| time.saturating_add(1)));
        for partition in &mut self.partitions {
            if !partition.messages.is_empty() {
                let messages = std::mem::take(&mut partition.messages);
                partition.writer.write(WriteBatch { time: self.time, first: 0, messages })?;
                partition.outstanding.push_back(self.time);
            }
        }
        Ok(())
    }

    /// Waits until little enough is on its way.
    fn make_room(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.bell.hush();
            let mut most = 0;
            for partition in &mut self.partitions {
                let written = partition.writer.written()?;
                while partition.outstanding.front().is_some_and(|&time| Some(time) <= written) {
                    partition.outstanding.pop_front();
                }
                most = most.max(partition.outstanding.len());
            }
            if most <= IN_FLIGHT {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new(
                    Kind::Unavailable,
                    format!("the topic took nothing for {} s: is its broker up?", PATIENCE.as_secs()),
                ));
            }
            self.bell.wait(LOOK);
        }
    }

    fn close(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        for partition in self.partitions.drain(..) {
            // Every one is closed, whatever became of those before.
            let closed = partition.writer.close();
            outcome = outcome.and(closed);
        }
        outcome
    }
}

/// A line's key as JSON text, and its hash: a topic's partition follows from it as in programs whose keys are texts or
/// whole numbers.
fn key(line: &[u8], field: &str) -> Result<(Bytes, u64)> {
    let wrong = |what: String| {
        Error::new(
            Kind::BadInput,
            format!("{what}. With --key-field, each line is a JSON object with that field"),
        )
    };
    let line: serde_json::Value =
        serde_json::from_slice(line).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
    let key = line.get(field).ok_or_else(|| wrong(format!("it has no field {field:?}")))?;
    let text = key.to_string();
    let hash = match (key.as_str(), key.as_u64(), key.as_i64()) {
        (Some(key), _, _) => fixed_hash(key),
        (_, Some(key), _) => fixed_hash(&key),
        (_, _, Some(key)) => fixed_hash(&key),
        _ => fixed_hash(&text),
    };
    Ok((text.into(), hash))
}

/// What comes from standard input.
enum Input {
    Line(Vec<u8>),
    Nothing,
    Failed(Error),
    End,
}

/// Standard input, read on a thread of its own: it may be a terminal, where a read takes its time.
struct Lines {
    input: Receiver<Input>,
    stop: Arc<AtomicBool>,
}

impl Lines {
    fn next(&self, wait: bool) -> Input {
        if self.stop.load(Ordering::Relaxed) {
            return Input::End;
        }
        if wait {
            return self.input.recv().unwrap_or(Input::End);
        }
        self.input.try_recv().unwrap_or_else(|error| match error {
            TryRecvError::Empty => Input::Nothing,
            TryRecvError::Disconnected => Input::End,
        })
    }
}

/// Starts reading. Ctrl-C is an end as Ctrl-D is: what was read goes out.
fn lines() -> Result<Lines> {
    let (sender, input) = sync_channel(WAITING);
    let stop = Arc::new(AtomicBool::new(false));
    let (of_signal, stopped) = (sender.clone(), stop.clone());
    ctrlc::set_handler(move || {
        stopped.store(true, Ordering::Relaxed);
        // Wakes a wait for input; if there is no room, nobody waits.
        let _ = of_signal.try_send(Input::End);
    })
    .map_err(|error| Error::config(format!("signals cannot be handled: {error}")))?;
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        // The other end is gone when everything has ended.
        while let Some(input) = read(&mut stdin)
            && sender.send(input).is_ok()
        {}
        let _ = sender.send(Input::End);
    });
    Ok(Lines { input, stop })
}

/// The next line, without its end; `None` at the end of input.
fn read(input: &mut impl BufRead) -> Option<Input> {
    let mut line = Vec::new();
    match input.by_ref().take(LONGEST as u64 + 2).read_until(b'\n', &mut line) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => return Some(Input::Failed(Error::io("reading standard input", &error))),
    }
    for end in [b'\n', b'\r'] {
        if line.last() == Some(&end) {
            line.pop();
        }
    }
    if line.len() > LONGEST {
        return Some(Input::Failed(Error::new(
            Kind::BadInput,
            format!("a line of standard input has more than {LONGEST} bytes, which no topic takes"),
        )));
    }
    Some(Input::Line(line))
}
