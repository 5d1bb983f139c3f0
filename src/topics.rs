//! Which connector is behind a topic's logical name, and topics opened by their URL.
//!
//! A program that is no job takes the flags for reaching brokers as [`Access`]:
//!
//! ```
//! use clap::Parser;
//! use nekton::topics::Access;
//!
//! /// Looks at a topic.
//! #[derive(Parser)]
//! struct Look {
//!     url: String,
//!     #[command(flatten)]
//!     access: Access,
//! }
//!
//! let look = Look::try_parse_from(["look", "pulsar+ssl://broker/fleet/prod/telemetry", "--pulsar-ca", "ca.pem"])?;
//! assert_eq!(look.url, "pulsar+ssl://broker/fleet/prod/telemetry");
//! # Ok::<(), clap::Error>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nekton_connectors::file::{self, FileSettings};
use nekton_connectors::object;
use nekton_connectors::pulsar::{Pulsar, PulsarSettings};
use nekton_engine::connect::{Log, Sink, SinkSettings, Source, Store, Topics, Waker};
use nekton_engine::{Error, Result};

pub use crate::access::Access;

/// Topics by URL: a place for all of them, and other places for some.
pub(crate) struct ByUrl {
    base: String,
    moved: BTreeMap<String, String>,
    /// Where what is written is, if not with the others.
    outputs: Option<String>,
    files: FileSettings,
    pulsar_settings: PulsarSettings,
    /// Started when the first topic on it is opened.
    pulsar: Mutex<Option<Pulsar>>,
    named: Mutex<BTreeSet<String>>,
}

/// Where a URL points.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Pulsar(String),
}

impl ByUrl {
    pub(crate) fn new(
        base: String,
        moved: BTreeMap<String, String>,
        files: FileSettings,
        pulsar: PulsarSettings,
    ) -> Self {
        ByUrl {
            base,
            moved,
            outputs: None,
            files,
            pulsar_settings: pulsar,
            pulsar: Mutex::default(),
            named: Mutex::default(),
        }
    }

    /// The same topics, written by one of several writers where the broker allows that.
    pub(crate) fn shared(mut self) -> Self {
        self.pulsar_settings.exclusive = false;
        self
    }

    /// The same topics, of which those that are written are under another URL.
    pub(crate) fn outputs(mut self, outputs: Option<String>) -> Self {
        self.outputs = outputs;
        self
    }

    fn pulsar(&self) -> Result<Pulsar> {
        let mut pulsar = self.pulsar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pulsar) = &*pulsar {
            return Ok(pulsar.clone());
        }
        Ok(pulsar.insert(Pulsar::new(self.pulsar_settings.clone())?).clone())
    }

    fn place(&self, name: &str, base: &str) -> Result<Place> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        match self.moved.get(name) {
            Some(url) => place(url),
            None => place(&format!("{}/{name}", base.trim_end_matches('/'))),
        }
    }
}

fn place(url: &str) -> Result<Place> {
    let path = match url.split_once(':') {
        Some(("file", path)) => path.strip_prefix("//").unwrap_or(path),
        Some(("pulsar" | "pulsar+ssl", _)) => return Ok(Place::Pulsar(url.to_owned())),
        Some((scheme, rest)) if rest.starts_with("//") => {
            return Err(Error::config(format!(
                "{url} is at no kind of topic that is known: {scheme} is not supported. Topics are files \
                 (file:PATH) or on Apache Pulsar (pulsar://HOST:PORT/TENANT/NAMESPACE)"
            )));
        }
        _ => url,
    };
    if path.is_empty() {
        return Err(Error::config(format!("{url:?} names no path: write file:PATH")));
    }
    Ok(Place::File(path.into()))
}

impl Topics for ByUrl {
    fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
        match self.place(name, &self.base)? {
            Place::File(path) => file::open_source(&path, &self.files),
            Place::Pulsar(url) => self.pulsar()?.source(&url),
        }
        .map_err(|error| error.context(format!("topic {name:?}")))
    }

    fn sink(&self, name: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        match self.place(name, self.outputs.as_ref().unwrap_or(&self.base))? {
            Place::File(path) => file::open_sink(&path, &self.files, settings),
            Place::Pulsar(url) => self.pulsar()?.sink(&url, settings),
        }
        .map_err(|error| error.context(format!("topic {name:?}")))
    }

    fn log(&self, job: &str, waker: Waker) -> Result<Box<dyn Log>> {
        match place(&self.base)? {
            Place::File(path) => file::open_log(&path.join(".nekton").join(job).join("bindings"), waker),
            Place::Pulsar(url) => {
                self.pulsar()?.log(&format!("{}/nekton-{job}-bindings", url.trim_end_matches('/')), waker)
            }
        }
    }

    fn read_log(&self, job: &str) -> Result<Vec<bytes::Bytes>> {
        match place(&self.base)? {
            Place::File(path) => file::read_log(&path.join(".nekton").join(job).join("bindings")),
            Place::Pulsar(url) => {
                self.pulsar()?.read_log(&format!("{}/nekton-{job}-bindings", url.trim_end_matches('/')))
            }
        }
    }

    fn built(&self) -> Result<()> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(unknown) = self.moved.keys().find(|name| !named.contains(*name)) else { return Ok(()) };
        let names: Vec<&str> = named.iter().map(String::as_str).collect();
        Err(Error::config(format!(
            "--topic {unknown}=..: this program has no topic {unknown:?}. It has: {}",
            names.join(", ")
        )))
    }
}

/// Opens the topic at a URL for reading, outside of any job: `file:PATH`, or
/// `pulsar://HOST:PORT/TENANT/NAMESPACE/TOPIC`. Nothing is remembered of what was read. With `until_end`, the end of a
/// partition is reported instead of waiting for more.
///
/// # Errors
/// If the URL is of no known kind, there is no such topic, or it may not be read.
///
/// ```
/// use nekton::connect::{Polled, Start, Waker};
/// use nekton::topics::{Access, open_source};
/// use std::sync::{Arc, mpsc};
///
/// # use clap::Parser;
/// # #[derive(Parser)]
/// # struct Flags { #[command(flatten)] access: Access }
/// # let folder = tempfile::tempdir()?;
/// # std::fs::write(folder.path().join("0.jsonl"), "12\n64\n")?;
/// # let url = format!("file:{}", folder.path().display());
/// # let access = Flags::parse_from(["look"]).access;
/// let source = open_source(&url, true, &access)?; // `access` as `Runner`, among the program's flags
/// let (sender, woken) = mpsc::channel();
/// let waker: Waker = Arc::new(move || { let _ = sender.send(()); });
/// let mut partition = source.open(0, Start::Earliest, waker)?;
/// let mut records = Vec::new();
/// loop {
///     match partition.poll(1 << 20, &mut records)? {
///         Polled::More => {}
///         Polled::Idle => woken.recv()?,
///         Polled::End => break,
///     }
/// }
/// assert_eq!(records.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(), [b"12", b"64"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_source(url: &str, until_end: bool, access: &Access) -> Result<Arc<dyn Source>> {
    one(url, until_end, access)?.source(url)
}

/// Opens the topic at a URL for writing, outside of any job, and creates it where it does not exist. On
/// Pulsar, others may write to it at the same time.
///
/// # Errors
/// If the URL is of no known kind, or the topic cannot be written.
///
/// ```
/// use nekton::connect::{Envelope, Message, SinkSettings, WriteBatch};
/// use nekton::topics::{Access, open_sink};
/// use std::sync::Arc;
///
/// # use clap::Parser;
/// # #[derive(Parser)]
/// # struct Flags { #[command(flatten)] access: Access }
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("file:{}", folder.path().join("readings").display());
/// # let access = Flags::parse_from(["write"]).access;
/// let settings = SinkSettings { envelope: Envelope::Events, schema: None, partitions: 1 };
/// let sink = open_sink(&url, &settings, &access)?;
/// let mut partition = sink.open(0, Arc::new(|| {}))?;
/// partition.write(WriteBatch { time: 1, first: 0, messages: vec![Message { key: None, value: Some("64".into()) }] })?;
/// partition.close()?;
/// # assert_eq!(std::fs::read_to_string(folder.path().join("readings/0.jsonl"))?, "64\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_sink(url: &str, settings: &SinkSettings, access: &Access) -> Result<Arc<dyn Sink>> {
    one(url, true, access)?.sink(url, settings)
}

/// Opens the place of checkpoints at a URL: `file:PATH`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or
/// `az://CONTAINER/PREFIX`. How a bucket is reached is in the environment, as for its vendor's own tools.
///
/// # Errors
/// If the URL is of no such kind, or a setting is wrong. Nothing is created or sent before the store is used.
///
/// ```
/// use nekton::checkpoints;
/// use nekton::topics::open_store;
///
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("file:{}", folder.path().display());
/// let store = open_store(&url)?;
/// assert!(checkpoints::jobs(&*store)?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_store(url: &str) -> Result<Arc<dyn Store>> {
    if object::is_object_url(url) {
        let named = |name: &str| object::SETTINGS.iter().any(|beginning| name.starts_with(beginning));
        let settings: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| named(name))
            .collect();
        return object::open_store(url, settings.iter().map(|(name, value)| (&name[..], &value[..])));
    }
    let hint = "write file:PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or none";
    match place(url) {
        Ok(Place::File(path)) => Ok(file::open_store(&path)),
        _ => Err(Error::config(format!("checkpoints cannot be kept at {url}: {hint}"))),
    }
}

/// Where the checkpoints of jobs whose topics are at `topics` are kept, unless somebody says otherwise: beside a folder
/// that is called `topics`, in any other folder, and for topics on a broker under `nekton-data`. Two places
/// of topics never share one of checkpoints.
pub(crate) fn checkpoints_beside(topics: &str) -> Result<String> {
    let path = match place(topics)? {
        Place::File(path) if path.file_name().is_some_and(|name| name == "topics") => {
            path.with_file_name("checkpoints")
        }
        Place::File(path) => path.join(".nekton/checkpoints"),
        Place::Pulsar(url) => {
            let of = url.split_once("://").map_or(&url[..], |(_, rest)| rest).trim_matches('/');
            let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
            PathBuf::from("./nekton-data/checkpoints").join(of.chars().map(plain).collect::<String>())
        }
    };
    Ok(format!("file:{}", path.display()))
}

/// One topic, with its URL for a name.
fn one(url: &str, until_end: bool, access: &Access) -> Result<ByUrl> {
    let files = FileSettings { until_end, ..FileSettings::default() };
    let pulsar = PulsarSettings { until_end, durable: false, exclusive: false, ..access.settings("topics")? };
    Ok(ByUrl::new(String::new(), BTreeMap::from([(url.to_owned(), url.to_owned())]), files, pulsar))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_path_or_is_refused_in_words() {
        for url in ["file:data/x", "file://data/x", "data/x"] {
            assert_eq!(place(url).unwrap(), Place::File("data/x".into()));
        }
        assert!(place("kafka://host/x").unwrap_err().to_string().contains("kafka is not supported"));
        assert!(place("file:").is_err());
    }

    #[test]
    fn checkpoints_are_beside_the_topics_that_they_belong_to() {
        for (topics, beside) in [
            ("file:./nekton-data/topics", "file:./nekton-data/checkpoints"),
            ("file:/data/fleet", "file:/data/fleet/.nekton/checkpoints"),
            ("pulsar://b:6650/public/default", "file:./nekton-data/checkpoints/b_6650_public_default"),
        ] {
            assert_eq!(checkpoints_beside(topics).unwrap(), beside);
        }
    }
}
