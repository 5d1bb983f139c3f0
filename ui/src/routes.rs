//! What is at which address.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use nekton_engine::{Kind, Live, Look, Time, Watched};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::assets::asset;
use crate::drawing;
use crate::feed::{Asked, MOST_ROWS, Wanted};
use crate::graph::Sampler;
use crate::guard::{COOKIE, Guard, Said};
use crate::hub::{Hub, Watch, no_such_view};
use crate::metrics;
use crate::query::Query;
use crate::record::Record;
use crate::server::About;
use crate::socket;
use crate::stream::Events;
use crate::table::csv;
use crate::warp;

type Answer = Response<Either<Full<Bytes>, Events>>;

/// How long a request waits for others that read whole views.
const TURN: Duration = Duration::from_secs(5);
/// The most bytes of records in an answer, about.
const MOST_BYTES: usize = 8 << 20;

/// What all requests share.
pub(crate) struct Routes {
    guard: Guard,
    hub: Hub,
    live: Live,
    about: About,
    graph: Sampler,
    warp: warp::Shared,
    /// One request at a time reads a view, and leaves the processor alone as long as it took: readers get half of one.
    reading: Arc<Semaphore>,
}

impl Routes {
    pub(crate) fn new(guard: Guard, hub: Hub, live: Live, about: About, teller: warp::Teller) -> Self {
        let warp = warp::Shared { hub: hub.clone(), live: live.clone(), guard: guard.clone(), teller };
        let (graph, reading) = (Sampler::default(), Arc::new(Semaphore::new(1)));
        Routes { guard, hub, live, about, graph, warp, reading }
    }

    fn view(&self, name: &str) -> Result<Arc<dyn Watched>, Trouble> {
        let views = self.live.views();
        let found = views.iter().find(|view| view.name() == name).cloned();
        found.ok_or_else(|| (StatusCode::NOT_FOUND, no_such_view(name, &views)))
    }
}

/// A status and a sentence.
type Trouble = (StatusCode, String);

fn bad(why: String) -> Trouble {
    (StatusCode::BAD_REQUEST, why)
}

/// Answers a request.
pub(crate) async fn answer(
    routes: &Routes,
    mut request: Request<Incoming>,
    permit: Arc<OwnedSemaphorePermit>,
) -> Answer {
    let mut answer = match respond(routes, &mut request, permit).await {
        Ok(answer) => answer,
        Err((status, why)) => {
            let mut answer = text(status, "application/json", json!({ "error": why }).to_string());
            if status == StatusCode::UNAUTHORIZED {
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            answer
        }
    };
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                  frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

async fn respond(
    routes: &Routes,
    request: &mut Request<Incoming>,
    permit: Arc<OwnedSemaphorePermit>,
) -> Result<Answer, Trouble> {
    let query = Query::parse(request.uri().query());
    if warp::asked(request.headers(), request.uri().path()) {
        return speak_warp(routes, request, &query, permit);
    }
    check(&routes.guard, request, &query)?;
    if request.method() != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "there is nothing here but to look: GET".to_owned()));
    }
    let path = request.uri().path().to_owned();
    if let Some((kind, contents)) = asset(&path) {
        if let (Some(token), "/", true) = (query.get("token"), &path[..], routes.guard.asks_token()) {
            return Ok(remember(token));
        }
        return Ok(text(StatusCode::OK, kind, contents));
    }
    let mut segments = path.split('/').skip(1).map(|segment| percent_decode_str(segment).decode_utf8());
    let mut segment = || segments.next().transpose().map_err(|_| bad("the path is no UTF-8".to_owned()));
    let segments = [segment()?, segment()?, segment()?, segment()?, segment()?];
    let segments = segments.each_ref().map(|segment| segment.as_deref().unwrap_or_default());
    match segments {
        ["health", "", ..] => Ok(text(StatusCode::OK, "text/plain", "ok\n")),
        ["ready", "", ..] => Ok(match routes.live.figures().ready {
            true => text(StatusCode::OK, "text/plain", "ready\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not yet\n"),
        }),
        ["metrics", "", ..] => {
            let metrics = metrics::text(&routes.live, &routes.hub.counts);
            Ok(text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics))
        }
        ["api", "openapi.json", "", ..] => {
            Ok(text(StatusCode::OK, "application/json", include_str!("openapi.json")))
        }
        ["api", "job", "", ..] => {
            let figures = metrics::json(&routes.live, &routes.hub.counts);
            let views: Vec<_> = routes.live.views().iter().map(|view| view.name().to_owned()).collect();
            let version = env!("CARGO_PKG_VERSION");
            let about =
                json!({ "about": routes.about, "version": version, "views": views, "figures": figures });
            Ok(text(StatusCode::OK, "application/json", about.to_string()))
        }
        ["api", "views", "", ..] => {
            let view = |view: &Arc<dyn Watched>| {
                let Look { map, charts } = view.look();
                json!({ "view": view.name(), "size": view.size(), "map": map, "charts": charts })
            };
            let views: Vec<_> = routes.live.views().iter().map(view).collect();
            Ok(text(StatusCode::OK, "application/json", Value::from(views).to_string()))
        }
        ["api", "graph", "", ..] => {
            let graph = routes.graph.graph(&routes.live).await;
            Ok(text(StatusCode::OK, "application/json", json!(*graph).to_string()))
        }
        ["api", "graph.svg", "", ..] => {
            let graph = routes.graph.graph(&routes.live).await;
            Ok(text(StatusCode::OK, "image/svg+xml", drawing::svg(&graph)))
        }
        // What the WebSocket tells of several views, for who has none.
        ["api", "live", "", ..] if query.get("watch").is_some() => {
            query.only(&["watch"]).map_err(bad)?;
            let watch =
                socket::watch(query.get("watch").unwrap_or_default()).map_err(|why| bad(why.to_owned()))?;
            Ok(events(routes, watch))
        }
        ["api", "live", "", ..] => {
            let accepted = socket::accept(request.headers()).map_err(|why| bad(why.to_owned()))?;
            let upgrade = hyper::upgrade::on(request);
            tokio::spawn(socket::serve(upgrade, routes.hub.clone(), permit));
            Ok(upgraded(accepted))
        }
        ["api", "views", view, "", ..] if !view.is_empty() => page(routes, view, None, &query).await,
        ["api", "views", view, "records", key] if !key.is_empty() => {
            page(routes, view, Some(key), &query).await
        }
        ["api", "views", view, "changes", ""] => {
            query.only(&["filter", "key", "limit", "fields", "only"]).map_err(bad)?;
            routes.view(view)?;
            let wanted = wanted(view, query.get("key"), &query)?;
            Ok(events(routes, (1, vec![Ok(wanted)])))
        }
        _ => Err((
            StatusCode::NOT_FOUND,
            "there is nothing here; /api/openapi.json says what there is".to_owned(),
        )),
    }
}

/// An answer that does not end.
fn events(routes: &Routes, watch: Watch) -> Answer {
    let mut answer = Response::new(Either::Right(Events::new(routes.hub.join(watch))));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}

/// The answer after which the connection is a WebSocket.
fn upgraded(accepted: HeaderValue) -> Answer {
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "", "");
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    answer
}

/// A client of WARP may say its token later, if it says none now.
fn speak_warp(
    routes: &Routes,
    request: &mut Request<Incoming>,
    query: &Query,
    permit: Arc<OwnedSemaphorePermit>,
) -> Result<Answer, Trouble> {
    let said = said(request, query)?;
    routes.guard.same_site(&said).map_err(trouble)?;
    let known = match routes.guard.knows_token(&said) {
        Err(refused) if said.authorization.or(said.token).is_some() => return Err(trouble(refused)),
        known => known.is_ok(),
    };
    let accepted = socket::accept(request.headers()).map_err(|why| bad(why.to_owned()))?;
    let protocol = warp::protocol(request.headers()).map_err(|why| bad(why.to_owned()))?;
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(warp::serve(upgrade, routes.warp.clone(), known, permit));
    let mut answer = upgraded(accepted);
    if let Some(protocol) = protocol {
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(answer)
}

fn said<'r>(request: &'r Request<Incoming>, query: &'r Query) -> Result<Said<'r>, Trouble> {
    let named = |name: HeaderName| one(request.headers(), name);
    Ok(Said {
        host: named(header::HOST)?,
        origin: named(header::ORIGIN)?,
        authorization: named(header::AUTHORIZATION)?,
        cookies: named(header::COOKIE)?,
        token: query.get("token"),
    })
}

fn trouble((status, why): (u16, &str)) -> Trouble {
    (StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN), why.to_owned())
}

fn check(guard: &Guard, request: &Request<Incoming>, query: &Query) -> Result<(), Trouble> {
    let said = said(request, query)?;
    // Whoever starts containers again asks without a token, and by an address.
    if matches!(request.uri().path(), "/health" | "/ready") && said.origin.is_none() {
        return Ok(());
    }
    guard.same_site(&said).map_err(trouble)?;
    guard.knows_token(&said).map_err(trouble)
}

/// A header that may be there once.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Trouble> {
    let mut values = headers.get_all(&name).into_iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(bad(format!("the header {name} is there twice")));
    }
    let text = value.map(|value| value.to_str()).transpose();
    text.map_err(|_| bad(format!("the header {name} is no text")))
}

/// Keeps the token of the address in a cookie, so that it does not stay in the address.
fn remember(token: &str) -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "text/plain", "");
    let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
    // It is the right one, which has no odd characters.
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
    answer
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn wanted(view: &str, key: Option<&str>, query: &Query) -> Result<Wanted, Trouble> {
    let fields = query.get("fields").unwrap_or_default();
    let asked = Asked {
        view: view.to_owned(),
        filter: query.get("filter").unwrap_or_default().to_owned(),
        key: key.map(str::to_owned),
        limit: query.number("limit").map_err(bad)?,
        fields: fields.split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect(),
        only: query.get("only").map(str::to_owned),
    };
    asked.understood().map_err(bad)
}

/// Records of a view at one time: those of a key, or a page of them.
async fn page(routes: &Routes, view: &str, key: Option<&str>, query: &Query) -> Result<Answer, Trouble> {
    query.only(&["filter", "limit", "after", "format"]).map_err(bad)?;
    let as_csv = match query.get("format") {
        None | Some("json") => false,
        Some("csv") => true,
        Some(other) => return Err(bad(format!("format={other}: there are json and csv"))),
    };
    let wanted = wanted(view, key, query)?;
    let view = routes.view(view)?;
    let after = query.get("after").map(str::to_owned);
    let turn = tokio::time::timeout(TURN, routes.reading.clone().acquire_owned());
    let Ok(Ok(turn)) = turn.await else {
        let why = "others read views at this moment: try again in some seconds".to_owned();
        return Err((StatusCode::SERVICE_UNAVAILABLE, why));
    };
    let reading = view.clone();
    let read = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let read = read(&*reading, &wanted, after.as_deref());
        let took = begun.elapsed();
        (read, turn, took)
    });
    let (read, turn, took) =
        read.await.map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "reading the view failed".to_owned()))?;
    tokio::spawn(async move {
        tokio::time::sleep(took).await;
        drop(turn);
    });
    let Read { time, records, next } = read?;
    if let (Some(key), true) = (key, records.is_empty()) {
        return Err((
            StatusCode::NOT_FOUND,
            format!("view {:?} has no record with the key {key} now", view.name()),
        ));
    }
    if as_csv {
        return Ok(text(StatusCode::OK, "text/csv; charset=utf-8", csv(&records)));
    }
    let mut body = format!("{{\"view\":{},\"time\":", Value::from(view.name()));
    body.push_str(&if time == Time::MAX { "null".to_owned() } else { time.to_string() });
    body.push_str(",\"records\":[");
    for (index, record) in records.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let (key, value) = (record.key(), record.value().unwrap_or("null"));
        body.push_str(&format!("{comma}{{\"key\":{key},\"value\":{value},\"count\":{}}}", record.count));
    }
    body.push_str(&format!("],\"next\":{}}}", Value::from(next)));
    Ok(text(StatusCode::OK, "application/json", body))
}

struct Read {
    time: Time,
    records: Vec<Record>,
    /// What to ask for `after` next; `None` at the end.
    next: Option<String>,
}

fn read(view: &dyn Watched, wanted: &Wanted, after: Option<&str>) -> Result<Read, Trouble> {
    let (mut records, mut bytes, mut more) = (Vec::<Record>::new(), 0, false);
    let time = view.read(None, after.map(str::as_bytes), &mut |json, count| {
        let record = Record::new(json, count);
        if wanted.has(&record) {
            if records.len() >= wanted.limit.min(MOST_ROWS) || bytes > MOST_BYTES {
                more = true;
                return false;
            }
            bytes += json.len();
            records.push(record);
        }
        true
    });
    let status = |kind| match kind {
        Kind::BadInput => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let time = time.map_err(|error| (status(error.kind()), error.to_string()))?.unwrap_or_default();
    let next = records.last().filter(|_| more).map(|last| last.text().to_string());
    Ok(Read { time, records, next })
}
