//! The commands that clients of a job's server send, on their way to the topic that the program reads them from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nekton_engine::{Error, Live, Result};
use nekton_ui::{Commands, Told};

use crate::publish::Publisher;
use crate::topics::ByUrl;

/// How long the topic is left alone when it could not be written.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes commands until the server ends; then what it has taken, if that can be written.
pub(crate) struct Writing {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writing {
    /// The topic is opened when the first command comes, so that until then others may write it.
    pub(crate) fn start(commands: Commands, topics: ByUrl, live: Live, partitions: u32) -> Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let writer = Writer { topics, live, partitions, publisher: None, ending: ending.clone() };
        let thread =
            std::thread::Builder::new().name("commands".to_owned()).spawn(move || writer.run(commands));
        Ok(Writing { ending, thread: thread.map_err(|error| Error::io("starting a thread", &error))? })
    }

    /// Waits for the last command. The server must have ended, or is about to.
    pub(crate) fn end(self) {
        self.ending.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

struct Writer {
    topics: ByUrl,
    live: Live,
    partitions: u32,
    publisher: Option<Publisher>,
    ending: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self, mut commands: Commands) {
        let mut told = Vec::new();
        while commands.take(&mut told) {
            // What clients send meanwhile waits, and then they do.
            while let Err(error) = self.write(&told) {
                self.publisher = None;
                if self.ending.load(Ordering::SeqCst) {
                    tracing::error!(%error, commands = told.len(), "the last commands could not be written, and are lost");
                    break;
                }
                tracing::warn!(%error, "commands cannot be written: they wait, and so do those who send them");
                std::thread::park_timeout(PAUSE);
            }
            told.clear();
        }
        let closed = self.publisher.map_or(Ok(()), Publisher::close);
        if let Err(error) = closed {
            tracing::error!(%error, "the topic of commands could not be closed");
        }
    }

    fn write(&mut self, told: &[Told]) -> Result<()> {
        if self.publisher.is_none() {
            let topic = self.live.commands().ok_or_else(|| Error::config("the program takes no commands"))?;
            self.publisher = Some(Publisher::open_at(&self.topics, &topic, self.partitions)?);
        }
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        for Told { key, record } in told {
            publisher.publish_json(key, record.clone().into())?;
        }
        publisher.flush()
    }
}
