//! A bucket as a store of objects: asks the server and waits, on a runtime of its own.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use nekton_engine::connect::Store;
use nekton_engine::{Error, Kind, Result};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    WriteMultipart,
};
use percent_encoding::percent_decode_str;
use tokio::runtime::Runtime;

use super::place::Place;
use super::said;

/// An object is written and read in pieces of so many bytes.
pub(super) const PIECE: usize = 8 << 20;
/// So many pieces of an object are on their way at once.
const AT_ONCE: usize = 4;
/// One call takes no longer, whatever the server does.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a creation that another one has disturbed is begun again.
const TRIES: usize = 5;
/// The metadata that says which call has created an object.
const CREATOR: &str = "nekton-creator";

pub(super) struct ObjectStore {
    place: Place,
    /// `None` only while this is dropped.
    runtime: Option<Runtime>,
    /// Whether the server has been seen to refuse a creation.
    conditional: AtomicBool,
    /// Tells the calls of this process apart, and with `seed` those of all.
    calls: AtomicU64,
    seed: u64,
}

impl ObjectStore {
    pub(super) fn new(place: Place) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("objects")
            .enable_all()
            .build()
            .map_err(|error| Error::io("starting a thread", &error))?;
        // Every hasher is seeded by the operating system.
        let seed = RandomState::new().build_hasher().finish();
        let (runtime, conditional, calls) = (Some(runtime), AtomicBool::new(false), AtomicU64::new(0));
        Ok(ObjectStore { place, runtime, conditional, calls, seed })
    }

    /// Does something on the runtime and waits for it. The caller may itself be on another runtime.
    fn wait<T: Send + 'static>(
        &self,
        doing: &str,
        name: &str,
        work: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<object_store::Result<T>> {
        let what = self.url(name);
        let gone = || Error::new(Kind::Internal, format!("{doing} {what}: the thread for it has ended"));
        let runtime = self.runtime.as_ref().ok_or_else(gone)?;
        let (sender, receiver) = sync_channel(1);
        runtime.spawn(async move {
            let outcome = tokio::time::timeout(PATIENCE, work).await;
            // Nobody waits any more if the caller has gone.
            let _ = sender.send(outcome);
        });
        receiver.recv().map_err(|_| gone())?.map_err(|_| {
            Error::new(
                Kind::Unavailable,
                format!(
                    "{doing} {what}: the server has not done it within {} s; start again",
                    PATIENCE.as_secs()
                ),
            )
        })
    }

    fn failed<T>(&self, doing: &str, name: &str, outcome: object_store::Result<T>) -> Result<T> {
        outcome.map_err(|error| said::error(doing, &self.url(name), self.place.kind, &error))
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.place.url)
    }

    fn path(&self, name: &str) -> Path {
        let parts = self.place.prefix.parts();
        parts.chain(name.split('/').filter(|part| !part.is_empty()).map(Into::into)).collect()
    }

    /// Creates an object once: whether this call did.
    fn create_once(&self, name: &str, content: &Bytes, creator: &str) -> Result<object_store::Result<bool>> {
        let (bucket, path, content) = (self.place.bucket.clone(), self.path(name), content.clone());
        let creator = creator.to_owned();
        self.wait("creating", name, async move {
            let mut attributes = Attributes::new();
            attributes.insert(Attribute::Metadata(CREATOR.into()), creator.clone().into());
            let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
            match bucket.put_opts(&path, content.into(), options).await {
                Ok(_) => Ok(true),
                // It may be a repetition that was refused, after the first answer was lost.
                Err(object_store::Error::AlreadyExists { .. }) => {
                    let options = GetOptions { head: true, ..GetOptions::default() };
                    let there = bucket.get_opts(&path, options).await?;
                    let by = there.attributes.get(&Attribute::Metadata(CREATOR.into()));
                    Ok(by.is_some_and(|by| **by == *creator))
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Makes sure that the server refuses to create what is there, at the cost of one request.
    fn must_refuse(&self, name: &str) -> Result<()> {
        if self.conditional.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (bucket, path) = (self.place.bucket.clone(), self.path(name));
        let again = self.wait("creating", name, async move {
            // What is there, so that a server that ignores the condition has done no harm.
            let there = bucket.get_opts(&path, GetOptions::default()).await?;
            let attributes = there.attributes.clone();
            let content = there.bytes().await?;
            let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
            match bucket.put_opts(&path, content.into(), options).await {
                Ok(_) => Ok(false),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(true),
                Err(error) => Err(error),
            }
        })?;
        if !self.failed("creating", name, again)? {
            let why = "two runs of a job could both go on. Use a server that honours it, or a folder: --checkpoints file:PATH";
            return Err(Error::config(format!(
                "the server of {} ignores the condition that an object must not exist yet (If-None-Match): {why}",
                self.place.url
            )));
        }
        self.conditional.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// That an object is not there means something only where its bucket is.
    fn bucket_is_there(&self, name: &str) -> Result<()> {
        let (bucket, path) = (self.place.bucket.clone(), self.path(name));
        let outcome = self.wait("reading", name, async move {
            bucket.list(Some(&path)).next().await.transpose().map(drop)
        })?;
        self.failed("reading", name, outcome)
    }
}

impl Store for ObjectStore {
    fn put(&self, name: &str, content: Bytes) -> Result<()> {
        let (bucket, path) = (self.place.bucket.clone(), self.path(name));
        let outcome = self.wait("writing", name, async move {
            if content.len() <= PIECE {
                return bucket.put(&path, PutPayload::from(content)).await.map(drop);
            }
            let upload = bucket.put_multipart(&path).await?;
            let mut writer = WriteMultipart::new_with_chunk_size(upload, PIECE);
            let mut content = content;
            while !content.is_empty() {
                if let Err(error) = writer.wait_for_capacity(AT_ONCE).await {
                    // Pieces of an unfinished object take space that nobody sees.
                    let _ = writer.abort().await;
                    return Err(error);
                }
                writer.put(content.split_to(content.len().min(PIECE)));
            }
            writer.finish().await.map(drop)
        })?;
        self.failed("writing", name, outcome)
    }

    fn create(&self, name: &str, content: Bytes) -> Result<bool> {
        let creator = format!("{:016x}-{}", self.seed, self.calls.fetch_add(1, Ordering::Relaxed));
        for _ in 0..TRIES {
            match self.create_once(name, &content, &creator)? {
                // It is there and it is not: somebody is just deleting or creating it.
                Err(object_store::Error::NotFound { .. }) => self.bucket_is_there(name)?,
                outcome => {
                    let created = self.failed("creating", name, outcome)?;
                    match created {
                        true => self.must_refuse(name)?,
                        false => self.conditional.store(true, Ordering::Relaxed),
                    }
                    return Ok(created);
                }
            }
        }
        Ok(false)
    }

    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let (bucket, path) = (self.place.bucket.clone(), self.path(name));
        let outcome = self.wait("reading", name, async move {
            let size = bucket.head(&path).await?.size;
            let mut content = BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
            let mut at = 0;
            while at < size {
                let piece = at..size.min(at + PIECE as u64);
                let options = GetOptions { range: Some(GetRange::Bounded(piece)), ..GetOptions::default() };
                let bytes = bucket.get_opts(&path, options).await?.bytes().await?;
                if bytes.is_empty() {
                    break;
                }
                at += bytes.len() as u64;
                content.extend_from_slice(&bytes);
            }
            Ok(content.freeze())
        })?;
        match outcome {
            Err(object_store::Error::NotFound { .. }) => self.bucket_is_there(name).map(|()| None),
            outcome => self.failed("reading", name, outcome).map(Some),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        // Servers are asked for whole folders.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let (bucket, path) = (self.place.bucket.clone(), self.path(folder));
        let outcome = self.wait("listing", folder, async move {
            let mut found = Vec::new();
            let mut objects = bucket.list(Some(&path));
            while let Some(object) = objects.next().await {
                found.push(object?.location);
            }
            Ok(found)
        })?;
        let found = self.failed("listing", folder, outcome)?;
        let under = self.place.prefix.parts().count();
        let name = |path: &Path| {
            let parts: Vec<_> = path.parts().skip(under).map(|part| decoded(part.as_ref())).collect();
            parts.join("/")
        };
        Ok(found.iter().map(name).filter(|name| name.starts_with(prefix)).collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        let (bucket, path) = (self.place.bucket.clone(), self.path(name));
        match self.wait("deleting", name, async move { bucket.delete(&path).await })? {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            outcome => self.failed("deleting", name, outcome),
        }
    }

    fn describe(&self) -> String {
        self.place.url.clone()
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        // Dropping a runtime where another one runs would panic.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Characters that the servers do not take are encoded by `object_store`.
fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}
