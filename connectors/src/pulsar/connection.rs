//! One connection to a broker: its socket, and who waits for which answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nekton_engine::{Error, Kind, Result};
use pulsar::message::proto::{self, BaseCommand, ServerError, base_command::Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, Frame};

/// How long a broker may take to answer a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a silent broker is asked whether it is there; twice without an answer and it is not.
const PING: Duration = Duration::from_secs(20);

/// When this much waits for one consumer, nothing is read from its connection: the broker was given
/// more permits than its messages, suddenly larger ones, have room.
const MOST_WAITING: usize = 64 << 20;

/// What a producer or consumer hears.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are frames, and a box a frame would cost more")]
pub(super) enum Heard {
    Frame(Frame),
    /// The connection is gone.
    Gone,
}

/// The stream under a connection.
pub(super) trait Socket: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Socket for S {}

#[derive(Default)]
struct Routes {
    gone: bool,
    requests: HashMap<u64, oneshot::Sender<BaseCommand>>,
    producers: HashMap<u64, mpsc::UnboundedSender<Heard>>,
    consumers: HashMap<u64, Inbox>,
}

/// Where a consumer's frames wait, and how many bytes of them.
struct Inbox {
    sender: mpsc::UnboundedSender<Heard>,
    bytes: Arc<AtomicUsize>,
}

/// What a consumer hears.
pub(super) struct Outbox {
    receiver: mpsc::UnboundedReceiver<Heard>,
    bytes: Arc<AtomicUsize>,
}

impl Outbox {
    pub(super) async fn next(&mut self) -> Heard {
        let heard = self.receiver.recv().await.unwrap_or(Heard::Gone);
        self.take(heard)
    }

    /// How many bytes of messages are waiting.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn try_next(&mut self) -> Option<Heard> {
        let heard = self.receiver.try_recv().ok()?;
        Some(self.take(heard))
    }

    fn take(&self, heard: Heard) -> Heard {
        if let Heard::Frame(frame) = &heard {
            self.bytes.fetch_sub(frame.rest.len(), Ordering::Relaxed);
        }
        heard
    }
}

/// A connection, shared by all that use it. It closes when the last of them lets go.
pub(super) struct Connection {
    pub(super) address: String,
    /// The most bytes of a message that the broker takes.
    pub(super) max_message: usize,
    out: mpsc::UnboundedSender<Bytes>,
    routes: Arc<Mutex<Routes>>,
    ids: AtomicU64,
    /// Ends the tasks when dropped.
    _ends: Vec<AbortOnDrop>,
}

struct AbortOnDrop(tokio::task::AbortHandle);
impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn lock(routes: &Mutex<Routes>) -> MutexGuard<'_, Routes> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command of a type, with one field set.
macro_rules! command {
    ($type:ident, $field:ident: $value:expr) => {
        pulsar::message::proto::BaseCommand {
            r#type: pulsar::message::proto::base_command::Type::$type as i32,
            $field: Some($value),
            ..Default::default()
        }
    };
}
pub(super) use command;

impl Connection {
    /// Shakes hands over an open socket.
    pub(super) async fn new(
        mut socket: Box<dyn Socket>,
        address: &str,
        token: Option<&str>,
        proxied: Option<String>,
    ) -> Result<Arc<Self>> {
        let hello = command!(Connect, connect: proto::CommandConnect {
            client_version: concat!("nekton-", env!("CARGO_PKG_VERSION")).to_owned(),
            auth_method_name: token.map(|_| "token".to_owned()),
            auth_data: token.map(|token| token.as_bytes().to_vec()),
            protocol_version: Some(19),
            proxy_to_broker_url: proxied,
            feature_flags: Some(proto::FeatureFlags { supports_auth_refresh: Some(true), ..Default::default() }),
            ..Default::default()
        });
        let lost = |error: std::io::Error| {
            Error::new(Kind::Unavailable, format!("the connection to the broker {address} broke: {error}"))
        };
        let mut buffer = BytesMut::with_capacity(64 << 10);
        let answer = async {
            socket.write_all(&frame::encode(&hello)).await.map_err(lost)?;
            loop {
                let found = frame::decode(&mut buffer);
                let found = found.map_err(|error| {
                    Error::new(Kind::Unavailable, format!("{address} is no Pulsar broker: it sent {error}"))
                })?;
                if let Some(frame) = found {
                    return Ok(frame.command);
                }
                if socket.read_buf(&mut buffer).await.map_err(lost)? == 0 {
                    return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
                }
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.map_err(|_| {
            Error::new(
                Kind::Unavailable,
                format!("what listens on {address} does not answer as a Pulsar broker does"),
            )
        })??;
        if let Some(error) = answer.error {
            return Err(refusal(error.error, &error.message, &format!("connecting to {address}")));
        }
        let Some(connected) = answer.connected else {
            return Err(Error::new(
                Kind::Unavailable,
                format!("{address} did not answer as a Pulsar broker does"),
            ));
        };
        let max_message =
            connected.max_message_size.and_then(|size| usize::try_from(size).ok()).unwrap_or(5 << 20);

        let (out, outgoing) = mpsc::unbounded_channel();
        let routes = Arc::new(Mutex::new(Routes::default()));
        let (reading, writing) = tokio::io::split(socket);
        let token = token.map(str::to_owned);
        let reader =
            tokio::spawn(read(reading, buffer, routes.clone(), out.clone(), token, address.to_owned()));
        let writer = tokio::spawn(write(writing, outgoing));
        let ends = vec![AbortOnDrop(reader.abort_handle()), AbortOnDrop(writer.abort_handle())];
        Ok(Arc::new(Connection {
            address: address.to_owned(),
            max_message,
            out,
            routes,
            ids: AtomicU64::new(1),
            _ends: ends,
        }))
    }

    /// A number for a request, producer or consumer.
    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn gone(&self) -> bool {
        lock(&self.routes).gone
    }

    /// Sends a frame. What cannot be sent any more is noticed as [`Heard::Gone`].
    pub(super) fn send(&self, frame: Bytes) {
        let _ = self.out.send(frame);
    }

    pub(super) fn tell(&self, command: &BaseCommand) {
        self.send(frame::encode(command));
    }

    /// Sends a request and waits for its answer; the broker's refusal is an error about `what`.
    pub(super) async fn ask(&self, id: u64, command: &BaseCommand, what: &str) -> Result<BaseCommand> {
        let (sender, answer) = oneshot::channel();
        {
            let mut routes = lock(&self.routes);
            if routes.gone {
                return Err(self.lost());
            }
            routes.requests.insert(id, sender);
        }
        self.tell(command);
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        lock(&self.routes).requests.remove(&id);
        match answer {
            Err(_) => Err(Error::new(
                Kind::Unavailable,
                format!(
                    "{what}: the broker {} did not answer for {} seconds",
                    self.address,
                    PATIENCE.as_secs()
                ),
            )),
            Ok(Err(_)) => Err(self.lost()),
            Ok(Ok(command)) => match command.error {
                Some(error) => Err(refusal(error.error, &error.message, what)),
                None => Ok(command),
            },
        }
    }

    fn lost(&self) -> Error {
        Error::new(Kind::Unavailable, format!("the connection to the broker {} is lost", self.address))
    }

    /// From now on, what is for producer `id` is heard by the receiver.
    pub(super) fn hear_producer(&self, id: u64) -> mpsc::UnboundedReceiver<Heard> {
        let (sender, heard) = mpsc::unbounded_channel();
        let mut routes = lock(&self.routes);
        if routes.gone {
            let _ = sender.send(Heard::Gone);
        }
        routes.producers.insert(id, sender);
        heard
    }

    /// From now on, what is for consumer `id` is heard by the receiver.
    pub(super) fn hear_consumer(&self, id: u64) -> Outbox {
        let (sender, receiver) = mpsc::unbounded_channel();
        let bytes = Arc::new(AtomicUsize::new(0));
        let mut routes = lock(&self.routes);
        if routes.gone {
            let _ = sender.send(Heard::Gone);
        }
        routes.consumers.insert(id, Inbox { sender, bytes: bytes.clone() });
        Outbox { receiver, bytes }
    }

    pub(super) fn forget(&self, id: u64) {
        let mut routes = lock(&self.routes);
        routes.producers.remove(&id);
        routes.consumers.remove(&id);
    }
}

/// The broker's "no", by kind.
pub(super) fn refusal(code: i32, message: &str, what: &str) -> Error {
    let kind = match ServerError::try_from(code).unwrap_or(ServerError::UnknownError) {
        ServerError::AuthenticationError | ServerError::AuthorizationError => Kind::Denied,
        ServerError::TopicNotFound | ServerError::SubscriptionNotFound | ServerError::ConsumerNotFound => {
            Kind::Missing
        }
        ServerError::ProducerFenced | ServerError::ConsumerBusy => Kind::Conflict,
        ServerError::InvalidTopicName | ServerError::IncompatibleSchema | ServerError::NotAllowedError => {
            Kind::Config
        }
        _ => Kind::Unavailable,
    };
    let said = message.lines().next().unwrap_or_default();
    // Some messages begin with the name of a class.
    let said = said.rsplit_once("Exception: ").map_or(said, |(_, said)| said);
    let hint = match kind {
        Kind::Denied => ". Check --pulsar-token and what it grants",
        _ => "",
    };
    Error::new(kind, format!("{what}: the broker refused ({said}){hint}"))
}

async fn write(
    mut socket: tokio::io::WriteHalf<Box<dyn Socket>>,
    mut outgoing: mpsc::UnboundedReceiver<Bytes>,
) {
    let mut frames = Vec::new();
    while outgoing.recv_many(&mut frames, 64).await > 0 {
        for frame in frames.drain(..) {
            if socket.write_all(&frame).await.is_err() {
                // The reader sees it as well, and tells.
                return;
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

async fn read(
    mut socket: tokio::io::ReadHalf<Box<dyn Socket>>,
    mut buffer: BytesMut,
    routes: Arc<Mutex<Routes>>,
    out: mpsc::UnboundedSender<Bytes>,
    token: Option<String>,
    address: String,
) {
    let mut silent = 0;
    'open: loop {
        loop {
            match frame::decode(&mut buffer) {
                Ok(Some(frame)) => {
                    let waiting = route(frame, &routes, &out, token.as_deref());
                    while let Some(bytes) = &waiting
                        && bytes.load(Ordering::Relaxed) > MOST_WAITING
                        && Arc::strong_count(bytes) > 1
                    {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(
                        address,
                        error,
                        "the broker sent what is no frame: the connection is closed"
                    );
                    break 'open;
                }
            }
        }
        if buffer.capacity() - buffer.len() < 16 << 10 {
            buffer.reserve(256 << 10);
        }
        match tokio::time::timeout(PING, socket.read_buf(&mut buffer)).await {
            Ok(Ok(0)) | Ok(Err(_)) => break,
            Ok(Ok(_)) => silent = 0,
            Err(_) => {
                silent += 1;
                if silent > 2 {
                    tracing::warn!(address, "the broker is silent: the connection is closed");
                    break;
                }
                let _ = out.send(frame::encode(&command!(Ping, ping: proto::CommandPing {})));
            }
        }
    }
    let mut routes = lock(&routes);
    routes.gone = true;
    routes.requests.clear();
    let Routes { producers, consumers, .. } = &*routes;
    for waiting in producers.values().chain(consumers.values().map(|inbox| &inbox.sender)) {
        let _ = waiting.send(Heard::Gone);
    }
}

/// Gives a frame to whom it is for; for a consumer's, says how much is waiting for it.
fn route(
    frame: Frame,
    routes: &Mutex<Routes>,
    out: &mpsc::UnboundedSender<Bytes>,
    token: Option<&str>,
) -> Option<Arc<AtomicUsize>> {
    let command = &frame.command;
    let request = match Type::try_from(command.r#type) {
        Ok(Type::Ping) => {
            let _ = out.send(frame::encode(&command!(Pong, pong: proto::CommandPong {})));
            return None;
        }
        Ok(Type::AuthChallenge) => {
            let response = proto::CommandAuthResponse {
                response: Some(proto::AuthData {
                    auth_method_name: Some("token".to_owned()),
                    auth_data: token.map(|token| token.as_bytes().to_vec()),
                }),
                protocol_version: Some(19),
                ..Default::default()
            };
            let _ = out.send(frame::encode(&command!(AuthResponse, auth_response: response)));
            return None;
        }
        Ok(Type::Success) => command.success.as_ref().map(|c| c.request_id),
        Ok(Type::ProducerSuccess) => command.producer_success.as_ref().map(|c| c.request_id),
        Ok(Type::Error) => command.error.as_ref().map(|c| c.request_id),
        Ok(Type::LookupResponse) => command.lookup_topic_response.as_ref().map(|c| c.request_id),
        Ok(Type::PartitionedMetadataResponse) => {
            command.partition_metadata_response.as_ref().map(|c| c.request_id)
        }
        Ok(Type::GetLastMessageIdResponse) => {
            command.get_last_message_id_response.as_ref().map(|c| c.request_id)
        }
        Ok(Type::ConsumerStatsResponse) => command.consumer_stats_response.as_ref().map(|c| c.request_id),
        Ok(Type::GetTopicsOfNamespaceResponse) => {
            command.get_topics_of_namespace_response.as_ref().map(|c| c.request_id)
        }
        _ => None,
    };
    let mut routes = lock(routes);
    if let Some(id) = request {
        // A producer that waits for exclusiveness hears "not ready" first.
        let ready = command.producer_success.as_ref().is_none_or(|c| c.producer_ready.unwrap_or(true));
        if ready && let Some(waiting) = routes.requests.remove(&id) {
            let _ = waiting.send(frame.command);
        }
        return None;
    }
    let producer = command.send_receipt.as_ref().map(|c| c.producer_id);
    let producer = producer.or(command.send_error.as_ref().map(|c| c.producer_id));
    let producer = producer.or(command.close_producer.as_ref().map(|c| c.producer_id));
    let consumer = command.message.as_ref().map(|c| c.consumer_id);
    let consumer = consumer.or(command.close_consumer.as_ref().map(|c| c.consumer_id));
    if let Some(id) = producer {
        let _ = routes.producers.get(&id)?.send(Heard::Frame(frame));
        return None;
    }
    let inbox = routes.consumers.get(&consumer?)?;
    inbox.bytes.fetch_add(frame.rest.len(), Ordering::Relaxed);
    let _ = inbox.sender.send(Heard::Frame(frame));
    Some(inbox.bytes.clone())
}
