//! The server: one thread that accepts connections and speaks HTTP, within bounds.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nekton_engine::{Error, Live, Result};
use tokio::sync::{Semaphore, watch};

use crate::guard::Guard;
use crate::hub::Hub;
use crate::listen::{Listen, bind, check_token};
use crate::routes::{Routes, answer};
use crate::stall::Stall;
use crate::warp::{self, Commands};

/// The most connections; further ones are closed.
const CONNECTIONS: usize = 2_048;
/// How long a request's head may take, and a connection be kept without one.
const HEAD: Duration = Duration::from_secs(10);
/// The most bytes and headers of a request's head.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;
/// How long a job that has ended waits for its clients to take the last frame.
const LAST: Duration = Duration::from_millis(300);

/// What the page says of the job.
#[derive(Clone, Debug, serde::Serialize)]
pub struct About {
    /// The job's name.
    pub job: String,
    /// Workers in all processes.
    pub workers: usize,
    /// Processes.
    pub processes: usize,
    /// When it was started, in milliseconds since 1970.
    pub started: u64,
}

impl About {
    /// A job of one worker that starts now.
    pub fn job(name: &str) -> Self {
        About { job: name.to_owned(), workers: 1, processes: 1, started: crate::hub::now() }
    }
}

/// The screens of a job. When this is dropped, clients get a last frame, and the server ends.
#[derive(Debug)]
pub struct Screens {
    url: String,
    address: SocketAddr,
    token: bool,
    commands: Option<Commands>,
    ending: Ending,
}

struct Ending {
    hub: Hub,
    shut: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ending").finish_non_exhaustive()
    }
}

impl Screens {
    /// Starts the server; `None` if it is to listen nowhere. Takes two threads, which sleep while nobody looks.
    ///
    /// With a token, requests must have it. Where other machines can reach the address, one is needed.
    ///
    /// # Errors
    /// An address that cannot be listened on; a token that is missing or too short.
    pub fn open(listen: Listen, token: Option<String>, about: About, live: Live) -> Result<Option<Self>> {
        if let Some(token) = &token {
            check_token(token)?;
        }
        let Some(listener) = bind(listen, token.is_some())? else { return Ok(None) };
        let failed = |error: std::io::Error| Error::io("the server of screens", &error);
        let address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let (hub, hub_thread) = Hub::start(live.clone()).map_err(failed)?;
        let guard = Guard::new(address, token.clone());
        let (teller, commands) = warp::commands();
        let routes = Arc::new(Routes::new(guard, hub.clone(), live, about, teller));
        let (shut, shutting) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("screens-read")
            .max_blocking_threads(2)
            .build()
            .map_err(failed)?;
        let serving = move || {
            let done = runtime.block_on(serve(listener, routes, shutting));
            if let Err(error) = done {
                tracing::warn!(%error, "the server of screens has ended");
            }
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("screens".to_owned()).spawn(serving).map_err(failed)?;
        let host = match address.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        Ok(Some(Screens {
            url: format!("http://{host}:{}/", address.port()),
            address,
            token: token.is_some(),
            commands: Some(commands),
            ending: Ending { hub, shut, threads: vec![hub_thread, thread] },
        }))
    }

    /// The commands that clients send to agents, for whoever writes them to the topic: the first who asks.
    pub fn commands(&mut self) -> Option<Commands> {
        self.commands.take()
    }

    /// Where a browser on this machine finds the page.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A sentence for who has started the job.
    pub fn invitation(&self) -> String {
        let port = match self.address.port() {
            9090 => "",
            _ if self.token => "",
            _ => " (--listen says where)",
        };
        let token = match (self.token, self.address.ip().is_loopback()) {
            (false, _) => "",
            (true, true) => "?token=..",
            (true, false) => {
                "?token=.., unencrypted: put a proxy with TLS before it where others could listen"
            }
        };
        format!("shows itself at {}{token}{port}", self.url)
    }
}

impl Drop for Screens {
    fn drop(&mut self) {
        self.ending.hub.end();
        let mut threads = self.ending.threads.drain(..);
        // The hub's last frame is on its way before the server is told.
        if let Some(hub) = threads.next() {
            let _ = hub.join();
        }
        let _ = self.ending.shut.send(true);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: TcpListener,
    routes: Arc<Routes>,
    mut shutting: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutting.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: others have to close theirs first.
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::debug!("too many connections: one is closed");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (permit, routes, mut shutting) = (Arc::new(permit), routes.clone(), shutting.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (routes, permit) = (routes.clone(), permit.clone());
                async move { Ok::<_, Infallible>(answer(&routes, request, permit).await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_headers(HEADERS)
                .max_buf_size(HEAD_BYTES);
            let connection =
                builder.serve_connection(TokioIo::new(Stall::new(stream)), service).with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let done = tokio::select! {
                done = connection.as_mut() => done,
                _ = shutting.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = done {
                tracing::debug!(%error, "a connection");
            }
        });
    }
    let _ = tokio::time::timeout(LAST, room.acquire_many(CONNECTIONS as u32)).await;
    Ok(())
}
