//! What stands before the services of a host: for the simulated etcd it breaks the rules on command.
//! Answers get lost, renewals are acknowledged for leases that are dropped, reads are stale. It works on
//! the bytes of requests and answers, so that the server itself stays the product's.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tonic::body::Body;
use tonic::service::Routes;
use tower::{BoxError, Service};

use crate::chance::Chance;
use crate::site::{Site, TTL};
use crate::trapped;

pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub(crate) const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// What the simulated etcd does wrong now.
pub(crate) struct Lies {
    chance: Chance,
    /// Answers to transactions get lost, so many in a hundred.
    lose_answers: AtomicI64,
    /// Renewals are acknowledged for leases that are dropped.
    lie: AtomicBool,
    /// Leases that were dropped by a lie.
    dropped: Mutex<BTreeSet<i64>>,
    /// Reads show so many revisions less than there are.
    stale: AtomicI64,
}

impl Lies {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            chance: Chance::new(seed, "lies"),
            lose_answers: AtomicI64::new(0),
            lie: AtomicBool::new(false),
            dropped: Mutex::default(),
            stale: AtomicI64::new(0),
        }
    }

    pub(crate) fn lose_answers(&self, percent: i64) {
        self.lose_answers.store(percent, Ordering::Relaxed);
    }

    pub(crate) fn lie(&self, on: bool) {
        self.lie.store(on, Ordering::Relaxed);
        if !on {
            self.dropped.lock().expect("whole").clear();
        }
    }

    pub(crate) fn stale(&self, revisions: i64) {
        self.stale.store(revisions, Ordering::Relaxed);
    }

    fn loses(&self) -> bool {
        let percent = self.lose_answers.load(Ordering::Relaxed);
        percent > 0 && self.chance.percent(percent.unsigned_abs())
    }

    /// Whether the renewal of this lease is a lie: from now on always, for one in three.
    fn lies_about(&self, lease: i64) -> bool {
        if !self.lie.load(Ordering::Relaxed) {
            return false;
        }
        let mut dropped = self.dropped.lock().expect("whole");
        dropped.contains(&lease) || (self.chance.percent(33) && dropped.insert(lease))
    }
}

/// Services of a host.
#[derive(Clone)]
pub(crate) struct Surgeon {
    routes: Routes,
    pub(crate) site: Arc<Site>,
    /// The host.
    pub(crate) at: &'static str,
    /// Who asks.
    pub(crate) from: String,
    /// For an etcd, a way to it.
    etcd: Option<etcd_client::Client>,
}

impl Surgeon {
    /// Passes everything on that no script stops.
    pub(crate) fn honest(routes: Routes, site: Arc<Site>, at: &'static str) -> Self {
        Self { routes, site, at, from: String::new(), etcd: None }
    }

    /// For a connection of this host.
    pub(crate) fn asked_by(&self, from: String) -> Self {
        Self { from, ..self.clone() }
    }

    /// Stands before an etcd, which it reaches through `client` itself.
    pub(crate) fn before_etcd(
        routes: Routes,
        site: Arc<Site>,
        client: etcd_client::Client,
    ) -> Self {
        Self { routes, site, at: "etcd", from: String::new(), etcd: Some(client) }
    }

    /// Does what is asked, or what is wrong with this etcd now.
    pub(crate) fn pass(self, request: Request<Body>) -> Answering {
        let Self { mut routes, site, etcd, .. } = self;
        Box::pin(async move {
            let Some(client) = etcd else { return routes.call(request).await };
            match request.uri().path() {
                TXN if site.lies.loses() => lose(routes, request, &site).await,
                RANGE if site.lies.stale.load(Ordering::Relaxed) > 0 => {
                    read_stale(routes, request, &site, client).await
                }
                KEEP_ALIVE if site.lies.lie.load(Ordering::Relaxed) => {
                    lie(routes, request, &site, client).await
                }
                _ => routes.call(request).await,
            }
        })
    }
}

impl<B> Service<Request<B>> for Surgeon
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (surgeon, request) = (self.clone(), request.map(Body::new));
        if self.site.traps.are_expected() {
            return Box::pin(trapped::call(surgeon, request));
        }
        surgeon.pass(request)
    }
}

pub(crate) type Answer = Result<Response<Body>, Infallible>;
/// An answer to come.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Carries it out and never answers, or says that something broke.
async fn lose(mut routes: Routes, request: Request<Body>, site: &Site) -> Answer {
    let Ok(answer) = routes.call(request).await;
    // Waits until it is done for sure.
    let _ = answer.into_body().collect().await;
    site.bite("an answer to a transaction was lost");
    if site.lies.chance.percent(50) {
        std::future::pending::<()>().await;
    }
    Ok(tonic::Status::unavailable("simulated: the answer was lost").into_http())
}

/// Reads at an older revision and says that it is the newest.
async fn read_stale(
    mut routes: Routes,
    request: Request<Body>,
    site: &Site,
    mut client: etcd_client::Client,
) -> Answer {
    let (parts, message) = unpack(request).await;
    let newest =
        client.get("x", None).await.ok().and_then(|got| got.header().map(|h| h.revision()));
    let back = site.lies.stale.load(Ordering::Relaxed);
    let revision = newest.map_or(0, |newest| newest - back);
    let pinned = field(&message, 4).is_some_and(|revision| revision > 0);
    if revision < 1 || pinned {
        return routes.call(Request::from_parts(parts, pack(&message, None))).await;
    }
    let mut older = BytesMut::from(&message[..]);
    put_field(&mut older, 4, revision);
    let Ok(answer) = routes.call(Request::from_parts(parts, pack(&older, None))).await;
    let (parts, body) = answer.into_parts();
    let Ok(collected) = body.collect().await else {
        return Ok(tonic::Status::internal("body").into_http());
    };
    let trailers = collected.trailers().cloned();
    let bytes = collected.to_bytes();
    if bytes.len() < 5 {
        return Ok(Response::from_parts(parts, raw(bytes, trailers)));
    }
    // A second header is merged into the first one.
    let mut header = BytesMut::new();
    put_field(&mut header, 3, revision);
    let mut told = BytesMut::from(&bytes[5..]);
    told.put_u8(1 << 3 | 2);
    told.put_u8(u8::try_from(header.len()).expect("short"));
    told.put(header);
    Ok(Response::from_parts(parts, pack(&told, trailers)))
}

/// Drops the lease and acknowledges its renewal.
async fn lie(
    mut routes: Routes,
    request: Request<Body>,
    site: &Site,
    mut client: etcd_client::Client,
) -> Answer {
    let (parts, message) = unpack(request).await;
    let lease = field(&message, 1).unwrap_or(0);
    let is_session = site.view().leases.contains_key(&lease);
    let lies = is_session && site.lies.lies_about(lease);
    if lies {
        site.view().unfair.insert(lease);
        // Gone already when it is the second lie about it.
        let _ = client.lease_revoke(lease).await;
    }
    let Ok(answer) = routes.call(Request::from_parts(parts, pack(&message, None))).await;
    if !lies {
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let Ok(collected) = body.collect().await else {
        return Ok(tonic::Status::internal("body").into_http());
    };
    let trailers = collected.trailers().cloned();
    let bytes = collected.to_bytes();
    let mut told = BytesMut::from(bytes.get(5..).unwrap_or_default());
    put_field(&mut told, 3, TTL.as_secs().cast_signed());
    site.bite("a renewal was acknowledged for a lease that was dropped");
    Ok(Response::from_parts(parts, pack(&told, trailers)))
}

pub(crate) async fn unpack(request: Request<Body>) -> (http::request::Parts, Bytes) {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let message = if bytes.len() < 5 { Bytes::new() } else { bytes.slice(5..) };
    (parts, message)
}

/// One message as gRPC frames it.
pub(crate) fn pack(message: &[u8], trailers: Option<http::HeaderMap>) -> Body {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("short"));
    bytes.put_slice(message);
    raw(bytes.freeze(), trailers)
}

fn raw(bytes: Bytes, trailers: Option<http::HeaderMap>) -> Body {
    let mut frames: Vec<Result<_, Infallible>> = vec![Ok(Frame::data(bytes))];
    frames.extend(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
    Body::new(StreamBody::new(tokio_stream::iter(frames)))
}

/// A number in a protobuf message, the last one of this field.
fn field(mut message: &[u8], wanted: u64) -> Option<i64> {
    let mut found = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == wanted {
                    found = Some(value.cast_signed());
                }
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            _ => return found,
        }
    }
    found
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn put_field(message: &mut BytesMut, number: u64, value: i64) {
    for mut part in [number << 3, value.cast_unsigned()] {
        while part >= 0x80 {
            message.put_u8(u8::try_from(part & 0x7f).expect("7 bits") | 0x80);
            part >>= 7;
        }
        message.put_u8(u8::try_from(part).expect("7 bits"));
    }
}
