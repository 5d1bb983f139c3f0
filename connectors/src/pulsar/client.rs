//! A service's brokers: connections to them, and which of them serves a topic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nekton_engine::{Error, Kind, Result};
use pulsar::message::proto::{
    self, command_lookup_topic_response::LookupType, command_partitioned_topic_metadata_response as metadata,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::PulsarSettings;
use super::connection::{Connection, Socket, command, refusal};
use super::topic::address;

/// What a connection is for. Messages to us and messages from us do not share one: were reading held up
/// by a full queue, receipts would be held up as well, and with them what empties the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Reading,
    Writing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    address: String,
    proxied: Option<String>,
    purpose: Purpose,
}

/// The brokers behind one service URL.
pub(super) struct Client {
    tls: Option<TlsConnector>,
    brokers: Vec<String>,
    token: Option<String>,
    open: Mutex<HashMap<Place, Arc<tokio::sync::Mutex<Weak<Connection>>>>>,
}

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a lookup may be sent on to another broker.
const REDIRECTS: usize = 20;

impl Client {
    pub(super) fn new(tls: bool, brokers: Vec<String>, settings: &PulsarSettings) -> Result<Self> {
        let tls = if tls { Some(TlsConnector::from(Arc::new(tls_config(settings)?))) } else { None };
        Ok(Client { tls, brokers, token: settings.token.clone(), open: Mutex::default() })
    }

    /// A connection to one of the service's brokers.
    pub(super) async fn service(&self, purpose: Purpose) -> Result<Arc<Connection>> {
        let mut last = None;
        for address in &self.brokers {
            match self.connect(Place { address: address.clone(), proxied: None, purpose }).await {
                Ok(connection) => return Ok(connection),
                Err(error) if error.kind() == Kind::Unavailable => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::config("no broker is named")))
    }

    async fn connect(&self, place: Place) -> Result<Arc<Connection>> {
        let slot = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.entry(place.clone()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.upgrade()
            && !connection.gone()
        {
            return Ok(connection);
        }
        let socket = tokio::time::timeout(CONNECT, self.socket(&place.address)).await.map_err(|_| {
            Error::new(
                Kind::Unavailable,
                format!("{} does not answer: check the URL and the network", place.address),
            )
        })??;
        let connection =
            Connection::new(socket, &place.address, self.token.as_deref(), place.proxied.clone()).await?;
        *slot = Arc::downgrade(&connection);
        Ok(connection)
    }

    async fn socket(&self, address: &str) -> Result<Box<dyn Socket>> {
        let socket = TcpStream::connect(address).await.map_err(|error| {
            let hint = "is the broker running, and is the URL right?";
            Error::new(Kind::Unavailable, format!("{address} cannot be reached ({error}): {hint}"))
        })?;
        // Small requests wait for nothing.
        let _ = socket.set_nodelay(true);
        let Some(tls) = &self.tls else { return Ok(Box::new(socket)) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::config(format!("{host} is no host name that a certificate could have")))?;
        let socket = tls.connect(name, socket).await.map_err(|error| {
            // Who just closes the connection may be going down.
            let refused = error.get_ref().is_some_and(|error| error.is::<tokio_rustls::rustls::Error>());
            let kind = if refused { Kind::Denied } else { Kind::Unavailable };
            let hint =
                "if its certificate is not from a public authority, name the authority with --pulsar-ca";
            Error::new(kind, format!("no TLS connection to {address} ({error}): {hint}"))
        })?;
        Ok(Box::new(socket))
    }

    /// The broker that serves a topic or partition.
    pub(super) async fn broker_of(&self, topic: &str, purpose: Purpose) -> Result<Arc<Connection>> {
        let what = format!("looking up {topic}");
        let mut connection = self.service(purpose).await?;
        let mut authoritative = false;
        for _ in 0..REDIRECTS {
            let id = connection.next_id();
            let request = command!(Lookup, lookup_topic: proto::CommandLookupTopic {
                topic: topic.to_owned(),
                request_id: id,
                authoritative: Some(authoritative),
                ..Default::default()
            });
            let answer = connection.ask(id, &request, &what).await?.lookup_topic_response.unwrap_or_default();
            if let Some(code) = answer.error {
                return Err(refusal(code, answer.message.as_deref().unwrap_or_default(), &what));
            }
            let url =
                if self.tls.is_some() { &answer.broker_service_url_tls } else { &answer.broker_service_url };
            let broker = url.as_deref().and_then(address).ok_or_else(|| {
                Error::new(Kind::Unavailable, format!("{what}: the broker named no address to go to"))
            })?;
            let place = if answer.proxy_through_service_url() {
                Place { address: connection.address.clone(), proxied: Some(broker), purpose }
            } else {
                Place { address: broker, proxied: None, purpose }
            };
            connection = self.connect(place).await?;
            if answer.response() == LookupType::Connect {
                return Ok(connection);
            }
            authoritative = answer.authoritative();
        }
        Err(Error::new(Kind::Unavailable, format!("{what}: sent from broker to broker {REDIRECTS} times")))
    }

    /// How many partitions a topic has; 0 for a plain one, and for one that is not there.
    pub(super) async fn partitions(&self, topic: &str) -> Result<u32> {
        let what = format!("looking for {topic}");
        let connection = self.service(Purpose::Reading).await?;
        let id = connection.next_id();
        let request = command!(PartitionedMetadata, partition_metadata: proto::CommandPartitionedTopicMetadata {
            topic: topic.to_owned(),
            request_id: id,
            ..Default::default()
        });
        let answer =
            connection.ask(id, &request, &what).await?.partition_metadata_response.unwrap_or_default();
        match (answer.response(), answer.error) {
            (metadata::LookupType::Success, _) => Ok(answer.partitions()),
            (_, code) => {
                Err(refusal(code.unwrap_or(0), answer.message.as_deref().unwrap_or_default(), &what))
            }
        }
    }

    /// Whether a plain topic is there; `true` where that may not be asked.
    pub(super) async fn exists(&self, namespace: &str, topic: &str) -> Result<bool> {
        let connection = self.service(Purpose::Reading).await?;
        let id = connection.next_id();
        let request = command!(GetTopicsOfNamespace, get_topics_of_namespace: proto::CommandGetTopicsOfNamespace {
            request_id: id,
            namespace: namespace.to_owned(),
            mode: Some(proto::command_get_topics_of_namespace::Mode::Persistent as i32),
            topics_pattern: None,
            topics_hash: None,
        });
        match connection.ask(id, &request, &format!("looking for {topic}")).await {
            Ok(answer) => Ok(answer
                .get_topics_of_namespace_response
                .is_none_or(|a| a.topics.iter().any(|name| name == topic))),
            Err(error) if error.kind() == Kind::Denied => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn tls_config(settings: &PulsarSettings) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| {
                Error::config(format!(
                    "--pulsar-ca {}: not a file of certificates in PEM ({error})",
                    path.display()
                ))
            };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
            for certificate in certificates {
                roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"there is none in it"));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::config(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots);
    Ok(config.with_no_client_auth())
}

/// Pauses between attempts: 0.1 s, doubled up to 5 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub(super) async fn pause(&mut self) {
        let pause = Duration::from_millis(100 << self.attempts.min(6)).min(Duration::from_secs(5));
        self.attempts += 1;
        tokio::time::sleep(pause).await;
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// Asks again, for at most `patience`, while the answer is that a broker is not ready.
pub(super) async fn patiently<T, F: Future<Output = Result<T>>>(
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let begun = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        match ask().await {
            Err(error) if error.kind() == Kind::Unavailable && begun.elapsed() < patience => {
                tracing::debug!(%error, "asking again");
                backoff.pause().await;
            }
            answer => return answer,
        }
    }
}
