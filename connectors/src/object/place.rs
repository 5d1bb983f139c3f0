//! Where a store is, and how its server is reached: a URL and settings.

use std::sync::Arc;
use std::time::Duration;

use nekton_engine::{Error, Result};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

/// A server that does not answer for so long is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// A request takes no longer: it moves a piece of at most [`super::store::PIECE`] bytes.
const REQUEST: Duration = Duration::from_secs(60);
/// A request that fails is repeated for so long.
const RETRY: Duration = Duration::from_secs(30);

/// A bucket, and where in it.
pub(super) struct Place {
    pub(super) bucket: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
    /// As the user has written it.
    pub(super) url: String,
    pub(super) kind: Cloud,
}

/// Whose protocol a bucket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    S3,
    Google,
    Azure,
}

impl Cloud {
    /// Where credentials come from.
    pub(super) fn credentials(self) -> &'static str {
        match self {
            Cloud::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            Cloud::Google => "GOOGLE_SERVICE_ACCOUNT (the path of a key file)",
            Cloud::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        }
    }

    /// Where the server's address comes from.
    pub(super) fn endpoint(self) -> &'static str {
        match self {
            Cloud::S3 => "AWS_ENDPOINT and AWS_REGION",
            Cloud::Google => "GOOGLE_BASE_URL",
            Cloud::Azure => "AZURE_STORAGE_ENDPOINT",
        }
    }
}

pub(super) fn open<'a>(url: &str, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Place> {
    let wrong = |why: &str| {
        Error::config(format!(
            "{url} is no place for objects: {why}. Write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
        ))
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() || name.contains(['?', '#', '@', ':']) {
        return Err(wrong("it names no bucket"));
    }
    let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| wrong(&error.to_string()))?;
    let settings = settings.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    // For all of the process, unless the program has chosen itself.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Who names an address with http means it.
    let plain = |name: &str, value: &str| name.contains("endpoint") && value.starts_with("http://");
    let mut http = false;
    let refused = |error: object_store::Error| {
        Error::config(format!(
            "the settings for {url} are refused: {error}. Correct the environment variables"
        ))
    };
    let (kind, bucket): (_, Arc<dyn ObjectStore>) = match scheme {
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::new();
            for (setting, value) in settings {
                http |= plain(&setting, value);
                if let Ok(key) = setting.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            let builder = builder.with_bucket_name(name).with_retry(retry());
            (Cloud::S3, Arc::new(builder.with_client_options(client(http)).build().map_err(refused)?))
        }
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::new();
            for (setting, value) in settings {
                http |= setting == "google_base_url" && value.starts_with("http://");
                if let Ok(key) = setting.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            let builder = builder.with_bucket_name(name).with_retry(retry());
            (Cloud::Google, Arc::new(builder.with_client_options(client(http)).build().map_err(refused)?))
        }
        "az" => {
            let mut builder = MicrosoftAzureBuilder::new();
            for (setting, value) in settings {
                http |= plain(&setting, value);
                if let Ok(key) = setting.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            let builder = builder.with_container_name(name).with_retry(retry());
            (Cloud::Azure, Arc::new(builder.with_client_options(client(http)).build().map_err(refused)?))
        }
        _ => return Err(wrong(&format!("{scheme} is not supported"))),
    };
    Ok(Place { bucket, prefix, url: url.trim_end_matches('/').to_owned(), kind })
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        base: 2.,
    };
    RetryConfig { backoff, max_retries: 8, retry_timeout: RETRY }
}

fn client(http: bool) -> ClientOptions {
    ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST).with_allow_http(http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_bucket_and_a_place_in_it_or_is_refused_in_words() {
        let of = |url: &str| open(url, [("AZURE_STORAGE_ACCOUNT_NAME", "fleet")]);
        for (url, kind, prefix) in [
            ("s3://bucket", Cloud::S3, ""),
            ("s3://bucket/a/b/", Cloud::S3, "a/b"),
            ("gs://bucket/fleet", Cloud::Google, "fleet"),
            ("az://container/fleet", Cloud::Azure, "fleet"),
        ] {
            let place = of(url).unwrap();
            assert_eq!((place.kind, place.prefix.as_ref()), (kind, prefix));
        }
        for (url, why) in [
            ("s3://", "no bucket"),
            ("s3:///x", "no bucket"),
            ("hdfs://x/y", "not supported"),
            ("s3://b/a//b", "empty path segment"),
        ] {
            let error = of(url).err().unwrap().to_string();
            assert!(error.contains(why) && error.contains("s3://BUCKET/PREFIX"), "{error}");
        }
    }
}
