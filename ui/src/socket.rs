//! The WebSocket: a client says what it watches, as often as it likes, and gets frames of all of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::feed::Asked;
use crate::hub::{Hub, MOST_PARTS, Watch};

/// The most bytes of a message of a client.
const LONGEST: usize = 64 << 10;
/// A client is asked whether it is there so often, and is not when nothing was heard of it for so long.
const PING: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);
/// The least time between two messages of a client that are read.
const PAUSE: Duration = Duration::from_millis(25);

/// What a client says: the number that frames of these views will have, and the views.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    watch: u32,
    views: Vec<Asked>,
}

/// What a client wants to watch, of what it says.
pub(crate) fn watch(text: &str) -> Result<Watch, &'static str> {
    let Ok(said) = serde_json::from_str::<Said>(text) else {
        return Err("send {\"watch\":1,\"views\":[{\"view\":\"NAME\"}]}");
    };
    match said.views.len() {
        0..=MOST_PARTS => Ok((said.watch, said.views.into_iter().map(Asked::understood).collect())),
        _ => Err("too many views"),
    }
}

/// The answer to a request for a WebSocket: what to say in `Sec-WebSocket-Accept`, or what is wrong.
pub(crate) fn accept(headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    let has = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        return Err("this is for WebSockets");
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("this speaks version 13 of the WebSocket protocol");
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or("the request has no Sec-WebSocket-Key")?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| "the Sec-WebSocket-Key is odd")
}

/// Serves one client until it goes, or the job does.
pub(crate) async fn serve(upgrade: OnUpgrade, hub: Hub, permit: Arc<OwnedSemaphorePermit>) {
    let _permit = permit;
    let Ok(upgraded) = upgrade.await else { return };
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST))
        .read_buffer_size(4 << 10)
        .write_buffer_size(0);
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let why = talk(&mut socket, &hub).await;
    if let Some((code, reason)) = why {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let close = async {
            let _ = socket.close(Some(frame)).await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), close).await;
    }
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Why the connection is to be closed; `None` if it is broken already.
async fn talk(socket: &mut Socket, hub: &Hub) -> Option<(CloseCode, &'static str)> {
    let mut watching = hub.join((0, Vec::new()));
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            biased;
            message = socket.next() => {
                heard = Instant::now();
                match message?.ok()? {
                    Message::Text(text) => match watch(&text) {
                        Ok(watch) => watching.watch(watch),
                        Err(why) => return Some((CloseCode::Policy, why)),
                    },
                    Message::Binary(_) => return Some((CloseCode::Unsupported, "messages are text")),
                    Message::Close(_) => return None,
                    _ => {}
                }
                // Whoever says too much is heard slowly.
                tokio::time::sleep(PAUSE).await;
            }
            frame = watching.frames.recv() => match frame {
                Some(frame) => socket.send(Message::Text(frame)).await.ok()?,
                None => return Some((CloseCode::Away, "the job has ended")),
            },
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE {
                    return Some((CloseCode::Policy, "nothing was heard of you"));
                }
                socket.send(Message::Ping(Default::default())).await.ok()?;
            }
        }
    }
}
