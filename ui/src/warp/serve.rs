//! The socket of one client: what it says to its session, what the hub and the session say to it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::header::{self, HeaderMap};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use nekton_engine::Live;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::commands::{Teller, Told};
use super::lanes::{Ask, Parcel, Says, queue};
use super::session::{Do, Session};
use crate::guard::{Guard, Said};
use crate::hub::{Counts, Hub};

/// The most bytes of a message of a client.
const LONGEST: usize = 64 << 10;
/// How many bytes are gathered before they are sent.
const GATHER: usize = 64 << 10;
/// How long a client may take to say its token.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// A client is asked whether it is there so often, and is not when nothing was heard of it for so long.
const PING: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);
/// How many wishes of a client may be on their way to the hub.
const WISHES: usize = 64;
/// Others have their turn after so many messages of a client.
const TURN: u32 = 64;

/// What all clients share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) hub: Hub,
    pub(crate) live: Live,
    pub(crate) guard: Guard,
    pub(crate) teller: Teller,
}

/// Whether a request is for a WebSocket of WARP: any but that of the page.
pub(crate) fn asked(headers: &HeaderMap, path: &str) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
        && path.trim_end_matches('/') != "/api/live"
}

/// The subprotocol to answer with. Swim's clients ask for none; who asks for some must ask for `warp0`.
pub(crate) fn protocol(headers: &HeaderMap) -> Result<Option<&'static str>, &'static str> {
    let asked = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let asked = asked.into_iter().filter_map(|value| value.to_str().ok());
    let mut asked = asked.flat_map(|value| value.split(',')).map(str::trim).peekable();
    if asked.peek().is_none() {
        return Ok(None);
    }
    match asked.any(|name| name == "warp0") {
        true => Ok(Some("warp0")),
        false => Err("the subprotocol here is warp0"),
    }
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Why a connection is closed; `None` if it is broken already.
type Close = Option<(CloseCode, String)>;

/// Serves one client until it goes, or the job does. `known`: it has the token, or needs none.
pub(crate) async fn serve(
    upgrade: OnUpgrade,
    shared: Shared,
    known: bool,
    permit: Arc<OwnedSemaphorePermit>,
) {
    let _permit = permit;
    let Ok(upgraded) = upgrade.await else { return };
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST))
        .read_buffer_size(16 << 10)
        .write_buffer_size(GATHER)
        .max_write_buffer_size(16 << 20);
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    whole(&shared.live).await;
    let (parcels, mut told) = queue();
    let number = shared.hub.join_warp(parcels);
    let leaving = Leaving(&shared.hub, number);
    let (answers, mut answered) = mpsc::channel(WISHES);
    let heard = Heard::new();
    let client = Client {
        session: Session::new(known, shared.guard.asks_token()),
        shared: &shared,
        number,
        answers,
        wishes: Arc::new(Semaphore::new(WISHES)),
        views: HashSet::new(),
        warned: false,
    };
    let why = tokio::select! {
        why = client.listen(&mut stream, &heard) => why,
        why = speak(&mut sink, &shared.hub.counts, &mut told, &mut answered, &heard) => why,
    };
    drop(leaving);
    if let Some((code, mut reason)) = why {
        tracing::debug!(reason, "a WARP connection is closed");
        // What was said last, and all that a close frame has room for.
        let close = async {
            while let Ok(answer) = answered.try_recv() {
                sink.feed(Message::text(answer)).await?;
            }
            let end = (0..=120).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
            reason.truncate(end);
            sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), close).await;
    }
}

/// Waits until a job that begins again has the views that it had, and is where it was: who has been linked to it
/// comes at once.
async fn whole(live: &Live) {
    let until = Instant::now() + INTRODUCTION;
    while !live.figures().ready && (Instant::now() < until || live.views().is_empty()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tells the hub that a client has left.
struct Leaving<'h>(&'h Hub, u64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.warp(Ask::Leave(self.1));
    }
}

/// When a client was heard last.
struct Heard(Instant, AtomicU64);

impl Heard {
    fn new() -> Self {
        Heard(Instant::now(), AtomicU64::new(0))
    }
    fn now(&self) {
        self.1.store(self.0.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
    fn silent(&self) -> Duration {
        self.0.elapsed().saturating_sub(Duration::from_millis(self.1.load(Ordering::Relaxed)))
    }
}

struct Client<'s> {
    session: Session,
    shared: &'s Shared,
    number: u64,
    answers: mpsc::Sender<&'static str>,
    wishes: Arc<Semaphore>,
    /// Views that there are.
    views: HashSet<String>,
    warned: bool,
}

impl Client<'_> {
    async fn listen(mut self, stream: &mut SplitStream<Socket>, heard: &Heard) -> Close {
        let introduction = Instant::now() + INTRODUCTION;
        let mut turn = 0;
        loop {
            let next = match self.session.known {
                true => stream.next().await,
                false => match tokio::time::timeout_at(introduction, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        return Some((
                            CloseCode::Policy,
                            "a token was needed: @auth{token:\"..\"}".to_owned(),
                        ));
                    }
                },
            };
            heard.now();
            match next? {
                Ok(Message::Text(text)) => {
                    let closed = self.hear(&text).await;
                    if closed.is_some() {
                        return closed;
                    }
                }
                Ok(Message::Binary(_)) => {
                    return Some((CloseCode::Unsupported, "messages are text".to_owned()));
                }
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(Error::Capacity(_)) => {
                    return Some((CloseCode::Size, format!("a message has at most {LONGEST} bytes")));
                }
                Err(Error::Utf8(_)) => return Some((CloseCode::Invalid, "this is no UTF-8".to_owned())),
                Err(_) => return None,
            }
            turn += 1;
            if turn % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Close {
        let guard = &self.shared.guard;
        let is_token =
            |token: &str| guard.knows_token(&Said { token: Some(token), ..Said::default() }).is_ok();
        match self.session.hear(text, is_token) {
            Err(why) => return Some((CloseCode::Policy, why)),
            Ok(Do::Link { to, place, sync }) => {
                let permit = self.wishes.clone().acquire_owned().await.ok()?;
                self.shared.hub.warp(Ask::Link { connection: self.number, to, place, sync, permit });
            }
            Ok(Do::Unlink { to }) => {
                let permit = self.wishes.clone().acquire_owned().await.ok()?;
                self.shared.hub.warp(Ask::Unlink { connection: self.number, to, permit });
            }
            Ok(Do::Tell(view, told)) => self.tell(view, told).await,
            Ok(Do::Ignore(to)) => self.ignore(&format!("{} is no node", to.node)),
            Ok(Do::Say(what)) => self.answers.send(what).await.ok()?,
            Ok(Do::Refuse(what, why)) => {
                let _ = self.answers.try_send(what);
                return Some((CloseCode::Policy, why.to_owned()));
            }
        }
        None
    }

    async fn tell(&mut self, view: String, told: Told) {
        if !self.views.contains(&view) {
            let Shared { live, teller, .. } = self.shared;
            if live.commands().is_none() {
                return self.ignore("the program takes none (flow.commands makes it)");
            }
            if teller.is_closed() {
                return self.ignore("the job ends with what its topics hold, or replays its past");
            }
            if !live.views().iter().any(|other| other.name() == view) {
                return self.ignore(&format!("there is no view {view:?}"));
            }
            self.views.insert(view);
        }
        // Waits while there are too many: then this client is not read any further.
        if self.shared.teller.send(told).await.is_err() {
            self.ignore("the job has ended");
        }
    }

    /// Nobody is told: WARP has no answer for commands.
    fn ignore(&mut self, why: &str) {
        match std::mem::replace(&mut self.warned, true) {
            false => tracing::warn!(
                why,
                "a command of a WARP client is dropped; further ones of it are told at debug"
            ),
            true => tracing::debug!(why, "a command of a WARP client is dropped"),
        }
    }
}

async fn speak(
    sink: &mut SplitSink<Socket, Message>,
    counts: &Counts,
    parcels: &mut mpsc::Receiver<Parcel>,
    answers: &mut mpsc::Receiver<&'static str>,
    heard: &Heard,
) -> Close {
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(answer) = answers.recv() => sink.send(Message::text(answer)).await.ok()?,
            parcel = parcels.recv() => match parcel {
                Some(parcel) => {
                    for (to, says) in parcel {
                        say(sink, counts, &to, says).await?;
                    }
                    sink.flush().await.ok()?;
                }
                None => return Some((CloseCode::Away, "the job has ended, or you hear too little of what you ask".to_owned())),
            },
            _ = pings.tick() => {
                if heard.silent() > SILENCE {
                    return Some((CloseCode::Policy, "nothing was heard of you".to_owned()));
                }
                sink.send(Message::Ping(Default::default())).await.ok()?;
            }
        }
    }
}

async fn say(sink: &mut SplitSink<Socket, Message>, counts: &Counts, to: &str, says: Says) -> Option<()> {
    let mut feed = async |what: &str, body: &str| {
        let mut text = String::with_capacity(what.len() + to.len() + body.len());
        text.push_str(what);
        text.push_str(to);
        text.push_str(body);
        counts.frames.fetch_add(1, Ordering::Relaxed);
        counts.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        sink.feed(Message::text(text)).await.ok()
    };
    match says {
        Says::Linked => feed("@linked", "").await,
        Says::Synced => feed("@synced", "").await,
        Says::Unlinked(body) => feed("@unlinked", body).await,
        Says::Event(body) => feed("@event", &body).await,
        Says::Events(bodies) => {
            for body in &*bodies {
                feed("@event", body).await?;
            }
            Some(())
        }
    }
}
