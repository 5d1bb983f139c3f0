//! `nekton topics tail`: the records of a topic, one a line.

use std::io::{BufWriter, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nekton::connect::{PartitionId, PartitionReader, Polled, Position, RawRecord, Source, Start};
use nekton::{Error, Result, Time, say};

use crate::bell::Bell;

/// How much is read from a partition at a time.
const BUDGET: usize = 256 << 10;
/// How long it waits to be woken before it looks all the same.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Command {
    /// The topic: file:PATH, or pulsar://HOST:PORT/TENANT/NAMESPACE/TOPIC
    url: String,
    /// Where to begin
    #[arg(long, value_name = "WHERE", default_value = "earliest")]
    from: From,
    /// End after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End at the end of the topic, instead of following it
    #[arg(long)]
    until_end: bool,
    /// Print a JSON object for each record, with its partition, position and key
    #[arg(long)]
    json: bool,
    /// Print progress marks as well, as JSON objects: the time up to which a partition is whole
    #[arg(long)]
    marks: bool,
    #[command(flatten)]
    access: nekton::topics::Access,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// At the oldest record
    Earliest,
    /// Behind the newest record
    Latest,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let start = match command.from {
        From::Earliest => Start::Earliest,
        From::Latest => Start::Latest,
    };
    let source = nekton::topics::open_source(&command.url, command.until_end, &command.access)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut tail = Tail::new(source, start);
    let mut left = command.count.unwrap_or(u64::MAX);
    let mut records = Vec::new();
    while left > 0 {
        let (partition, polled) = tail.poll(&mut records)?;
        let marks = if command.marks { tail.marks(partition) } else { &[] };
        let mut marks = marks.iter().peekable();
        for record in records.drain(..) {
            while let Some((position, time)) = marks.next_if(|mark| mark.0 < record.position) {
                if !written(print_mark(&mut out, partition, position, *time))? {
                    return Ok(());
                }
            }
            if left > 0 {
                left -= 1;
                if !written(print(&mut out, partition, &record, command.json))? {
                    return Ok(());
                }
            }
        }
        for (position, time) in marks {
            if !written(print_mark(&mut out, partition, position, *time))? {
                return Ok(());
            }
        }
        match polled {
            _ if left == 0 => {}
            Polled::More => {}
            Polled::End if command.until_end => break,
            // Whoever looks sees all there is.
            Polled::Idle | Polled::End => {
                if !written(out.flush())? {
                    return Ok(());
                }
                tail.wait();
            }
        }
    }
    written(out.flush()).map(drop)
}

/// Whether there is still somebody who reads what is printed (`| head` goes away).
fn written(outcome: std::io::Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::io("writing to standard output", &error)),
    }
}

/// All partitions of a topic being read, each in its order.
struct Tail {
    source: Arc<dyn Source>,
    start: Start,
    partitions: Vec<(Box<dyn PartitionReader>, Polled)>,
    next: usize,
    bell: Arc<Bell>,
}

impl Tail {
    fn new(source: Arc<dyn Source>, start: Start) -> Self {
        let bell = Arc::new(Bell::default());
        source.watch(bell.waker());
        Tail { source, start, partitions: Vec::new(), next: 0, bell }
    }

    /// Reads from the next partition. `Idle` and `End` speak of all of them.
    fn poll(&mut self, records: &mut Vec<RawRecord>) -> Result<(PartitionId, Polled)> {
        // Before anything is looked at: what comes from here on rings again.
        if self.next == 0 {
            self.bell.hush();
        }
        while self.partitions.len() < self.source.partitions() as usize {
            let number = self.partitions.len() as PartitionId;
            let reader = self.source.open(number, self.start, self.bell.waker())?;
            self.partitions.push((reader, Polled::More));
        }
        // A partition that comes up while the topic is followed is new from its beginning.
        self.start = Start::Earliest;
        if self.partitions.is_empty() {
            return Ok((0, Polled::End));
        }
        let number = self.next;
        self.next = (self.next + 1) % self.partitions.len();
        let (reader, polled) = &mut self.partitions[number];
        *polled = reader.poll(BUDGET, records)?;
        if let Some(last) = records.last() {
            reader.release(last.position);
        }
        let all = |wanted: &[Polled]| self.partitions.iter().all(|(_, polled)| wanted.contains(polled));
        let polled = if self.next != 0 {
            Polled::More
        } else if all(&[Polled::End]) {
            Polled::End
        } else if all(&[Polled::End, Polled::Idle]) {
            Polled::Idle
        } else {
            Polled::More
        };
        Ok((number as PartitionId, polled))
    }

    /// The progress marks among the records that were read last from a partition.
    fn marks(&self, partition: PartitionId) -> &[(Position, Time)] {
        self.partitions.get(partition as usize).map_or(&[], |(reader, _)| reader.marks())
    }

    fn wait(&self) {
        self.bell.wait(LOOK);
    }
}

fn print_mark(
    out: &mut impl Write,
    partition: PartitionId,
    position: &Position,
    time: Time,
) -> std::io::Result<()> {
    let position = position.to_string();
    writeln!(out, "{}", serde_json::json!({ "partition": partition, "position": position, "closed": time }))
}

fn print(
    out: &mut impl Write,
    partition: PartitionId,
    record: &RawRecord,
    json: bool,
) -> std::io::Result<()> {
    if json {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // A tombstone has no value; what is JSON is shown as such.
        let value = match serde_json::from_slice(&record.payload) {
            Ok(value) => value,
            Err(_) if record.payload.is_empty() => serde_json::Value::Null,
            Err(_) => text(&record.payload).into(),
        };
        let line = serde_json::json!({
            "partition": partition,
            "position": record.position.to_string(),
            "published": (record.published > 0).then_some(record.published),
            "key": record.key.as_deref().map(text),
            "value": value,
            "defect": record.defect,
        });
        return writeln!(out, "{line}");
    }
    if let Some(defect) = &record.defect {
        say(format_args!(
            "nekton: partition {partition} has a record at {} that cannot be read: {defect}",
            record.position
        ));
        return Ok(());
    }
    if let Some(key) = &record.key {
        out.write_all(key)?;
        out.write_all(b"\t")?;
        if record.payload.is_empty() {
            out.write_all(b"null")?;
        }
    }
    out.write_all(&record.payload)?;
    out.write_all(b"\n")
}
