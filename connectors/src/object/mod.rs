//! Buckets as stores of objects: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`. An object is there whole or not at all. Creating
//! one is conditional on the server ([`If-None-Match`](https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match)): of two
//! jobs that create the same one, exactly one succeeds. A server that ignores the condition is found out at the
//! first creation, and refused.
//!
//! * `place.rs` reads the URL and the settings.
//! * `store.rs` asks the server, within bounds of time, on a runtime of its own.
//! * `said.rs` says what went wrong, to what, and what to do.

mod place;
mod said;
mod store;

use std::sync::Arc;

use nekton_engine::Result;
use nekton_engine::connect::Store;

/// The beginnings of the names of settings that [`open_store`] understands, in the environment of a process.
pub const SETTINGS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Whether a URL is of a store of this kind, by its scheme.
///
/// ```
/// use nekton_connectors::object::is_object_url;
///
/// assert!(is_object_url("s3://bucket/fleet") && is_object_url("gs://bucket") && is_object_url("az://container"));
/// assert!(!is_object_url("file:./checkpoints"));
/// ```
pub fn is_object_url(url: &str) -> bool {
    ["s3://", "s3a://", "gs://", "az://"].iter().any(|scheme| url.starts_with(scheme))
}

/// Opens a bucket, or a part of one, as a store of objects. `settings` are named as the environment variables of
/// the vendors' own tools are: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`;
/// `GOOGLE_SERVICE_ACCOUNT`; `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`; those that are not known
/// are passed over. Nothing is sent before the store is used.
///
/// # Errors
/// [`Kind::Config`](nekton_engine::Kind::Config) if the URL or a setting is wrong.
///
/// ```
/// use nekton_connectors::object::open_store;
///
/// let settings = [("AWS_ACCESS_KEY_ID", "nekton"), ("AWS_SECRET_ACCESS_KEY", "plankton"), ("AWS_REGION", "eu-central-1")];
/// let store = open_store("s3://checkpoints/fleet", settings)?;
/// assert_eq!(store.describe(), "s3://checkpoints/fleet");
/// # Ok::<(), nekton_engine::Error>(())
/// ```
pub fn open_store<'a>(
    url: &str,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(store::ObjectStore::new(place::open(url, settings)?)?))
}
