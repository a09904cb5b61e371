//! The guard in front of a service.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use flyball_core::access::{AuditEntry, Denied, Scope, Verb};
use flyball_core::identity::Identity;
use flyball_core::ids::NAME_BYTES_MAX;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Status};
use tower::Service;

use super::limit::{Limiter, STRANGER, STRANGERS, place};
use super::peek::first_message;
use super::policies::Policies;
use super::table::{Method, Trail, method};
use super::target::{Target, origin};
use crate::api::error::status;
use crate::shell::auditor::Auditor;

/// Longest wait for a request's first message: clients send it right away.
const FIRST_MESSAGE_MAX: Duration = Duration::from_secs(10);

/// Decides about every call.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    policies: Policies,
    auditor: Auditor,
    /// How often those may ask of whom nothing is known.
    strangers: Arc<Limiter<IpAddr>>,
}

/// Services that can be reached through the guard and in no other way.
pub(crate) struct GuardedRoutes {
    guard: Guard,
    routes: Routes,
}

impl GuardedRoutes {
    /// No service yet; whatever else is asked for is unknown.
    pub(crate) fn new(guard: Guard) -> Self {
        Self { guard, routes: Routes::default() }
    }

    /// With one more service, whose requests have first messages of at most this size.
    #[must_use]
    pub(crate) fn with<S>(self, service: S, bytes_max: usize) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let guarded = Guarded { guard: self.guard.clone(), inner: service, bytes_max };
        Self { guard: self.guard, routes: self.routes.add_service(guarded) }
    }

    /// All of them.
    pub(crate) fn into_routes(self) -> Routes {
        self.routes
    }
}

/// A service behind the guard.
#[derive(Debug, Clone)]
struct Guarded<S> {
    guard: Guard,
    inner: S,
    bytes_max: usize,
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The one that was polled is the one to call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let (guard, bytes_max) = (self.guard.clone(), self.bytes_max);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let (call, admitted) = guard.admit(&parts, body, bytes_max).await;
            let answer = match admitted {
                Ok(body) => inner.call(http::Request::from_parts(parts, body)).await?,
                Err(refusal) => refusal.into_http(),
            };
            let status = Status::from_header_map(answer.headers());
            if let Some(mut call) = call {
                if let Some(Told(name)) = answer.extensions().get() {
                    call.target.name.clone_from(name);
                }
                guard.audit(&call, status).await;
            }
            Ok(answer)
        })
    }
}

/// In the extensions of an answer: what the call was about, where the request does not say it.
#[derive(Debug, Clone)]
pub(crate) struct Told(pub(crate) String);

/// A call as far as it is known.
struct Call {
    who: Identity,
    from: String,
    trace: String,
    method: &'static Method,
    target: Target,
}

impl Guard {
    pub(crate) fn new(policies: Policies, auditor: Auditor) -> Self {
        let strangers = Arc::new(Limiter::new(STRANGER, STRANGERS));
        Self { policies, auditor, strangers }
    }

    /// A stranger is told at once what is not for strangers, before anything that it sends is read; and
    /// what it does stands in the trail only as far as it may ask.
    fn is_open_to_stranger(
        &self,
        method: &Method,
        extensions: &http::Extensions,
    ) -> Result<(), Status> {
        let decision =
            self.policies.now().decide(&Identity::Stranger, method.verb, method.kind, &Scope::Open);
        decision.map_err(|denied| refusal(&denied))?;
        let from = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        let from = from.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| place(address.ip()));
        if self.strangers.admits(from, Instant::now()) {
            return Ok(());
        }
        let message = "too many ask without a certificate; try again in some seconds";
        Err(status(Code::ResourceExhausted, "TOO_MANY_STRANGERS", message))
    }

    /// The body to pass on, or what to answer instead.
    async fn admit(
        &self,
        parts: &http::request::Parts,
        body: Body,
        bytes_max: usize,
    ) -> (Option<Call>, Result<Body, Status>) {
        let Some(who) = parts.extensions.get::<Identity>().cloned() else {
            return (None, Err(unknown_caller()));
        };
        let Some(method) = method(parts.uri.path()) else {
            return (None, Err(Status::unimplemented("there is no such method")));
        };
        if who == Identity::Stranger
            && let Err(refused) = self.is_open_to_stranger(method, &parts.extensions)
        {
            return (None, Err(refused));
        }
        let read = tokio::time::timeout(FIRST_MESSAGE_MAX, first_message(body, bytes_max)).await;
        let late = |_| Status::deadline_exceeded("the request's first message did not come");
        let peeked = match read.map_err(late).flatten() {
            Ok(peeked) => peeked,
            Err(status) => return (None, Err(status)),
        };
        let target = match target(method, &peeked.message) {
            Ok(target) => target,
            Err(status) => return (None, Err(status)),
        };
        let kind = target.kind.unwrap_or(method.kind);
        let decision = self.policies.now().decide(&who, method.verb, kind, &target.scope);
        let admitted = decision.map(|_| peeked.body).map_err(|denied| refusal(&denied));
        let trace = parts.headers.get("traceparent").and_then(|value| value.to_str().ok());
        let trace =
            trace.filter(|text| flyball_telemetry::is_traceparent(text)).unwrap_or_default();
        let (from, trace) = (origin(&parts.extensions), trace.to_owned());
        (Some(Call { who, from, trace, method, target }), admitted)
    }

    /// Writes down what a call was and what became of it. A refused heartbeat or draw is an attempt to act
    /// as another node, or that of a run which lost its loop, so it is told too.
    async fn audit(&self, call: &Call, status: Option<Status>) {
        let code = status.as_ref().map_or(Code::Ok, Status::code);
        let told = match call.method.trail {
            Trail::No => {
                let by_itself = matches!(call.method.verb, Verb::Heartbeat | Verb::Spend);
                by_itself && code == Code::PermissionDenied
            }
            Trail::Before | Trail::Beside => true,
        };
        if !told {
            return;
        }
        let namespace = match &call.target.scope {
            Scope::Namespace(namespace) => namespace.clone(),
            _ => String::new(),
        };
        // A stranger that is refused fills no trail with words and ports of its own: the same again is one entry.
        let nameless = call.who == Identity::Stranger && code != Code::Ok;
        let name = if nameless { "" } else { call.target.name.as_str() };
        let from = match call.from.rsplit_once(':') {
            Some((address, _)) if nameless => address.to_owned(),
            _ => call.from.clone(),
        };
        let entry = AuditEntry {
            who: call.who.to_string(),
            from,
            verb: call.method.verb.to_string(),
            kind: call.target.kind.unwrap_or(call.method.kind).to_string(),
            namespace,
            // Names are the caller's own words until they have been checked.
            name: name.chars().take(2 * NAME_BYTES_MAX).collect(),
            result: format!("{code:?}"),
            trace: call.trace.clone(),
            ..AuditEntry::default()
        };
        let reason = match &status {
            Some(status) => status.message(),
            None if call.target.dry_run => "dry run: nothing was changed",
            None => "",
        };
        let entry = entry.because(reason);
        match call.method.trail {
            Trail::Before => self.auditor.record(entry).await,
            Trail::Beside | Trail::No => self.auditor.note(entry),
        }
    }
}

fn target(method: &Method, message: &[u8]) -> Result<Target, Status> {
    (method.target)(message).map_err(|unreadable| {
        status(Code::InvalidArgument, "UNREADABLE_REQUEST", unreadable.to_string())
    })
}

fn unknown_caller() -> Status {
    let message = "nothing proves who calls: use the socket, a token or a certificate";
    status(Code::Unauthenticated, "UNKNOWN_CALLER", message)
}

fn refusal(denied: &Denied) -> Status {
    status(Code::PermissionDenied, "NOT_ALLOWED", denied.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http_body_util::Full;

    use super::super::table::METHODS;
    use super::*;
    use crate::findings::Findings;

    /// Counts who gets through.
    #[derive(Clone, Default)]
    struct Behind(Arc<AtomicUsize>);

    impl NamedService for Behind {
        const NAME: &'static str = "any";
    }

    impl Service<http::Request<Body>> for Behind {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(http::Response::new(Body::empty())))
        }
    }

    /// Calls a method with an empty message; whether it got through, and what was answered.
    async fn call(path: &str, who: Option<Identity>) -> (bool, Code) {
        let behind = Behind::default();
        let ambient = crate::config::ambient();
        let (auditor, _) = Auditor::new(Findings::default(), ambient, "s".to_owned());
        let guard = Guard::new(Policies::default(), auditor);
        let mut service = Guarded { guard, inner: behind.clone(), bytes_max: 100 };
        let body = Body::new(Full::new(Bytes::from_static(&[0; 5])));
        let mut request = http::Request::builder().uri(path).body(body).unwrap();
        if let Some(who) = who {
            request.extensions_mut().insert(who);
        }
        let answer = service.call(request).await.unwrap();
        let code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |one| one.code());
        (behind.0.load(Ordering::Relaxed) > 0, code)
    }

    #[tokio::test]
    async fn nothing_is_answered_to_nobody() {
        for one in METHODS {
            assert_eq!(call(one.path, None).await, (false, Code::Unauthenticated), "{}", one.path);
        }
    }

    #[tokio::test]
    async fn whoever_was_given_nothing_gets_nowhere() {
        let strangers =
            ["user:eve", "node:n1", "scheduler:s2"].map(|text| text.parse::<Identity>().unwrap());
        for one in METHODS {
            let open = (one.target)(&[]).is_ok_and(|target| target.scope == Scope::Open);
            for who in &strangers {
                let (through, code) = call(one.path, Some(who.clone())).await;
                assert_eq!(through, open, "{who} {}", one.path);
                let refused = [Code::PermissionDenied, Code::InvalidArgument].contains(&code);
                assert_eq!(refused, !open, "{who} {}: {code:?}", one.path);
            }
        }
    }

    #[tokio::test]
    async fn a_stranger_can_join_and_nothing_else() {
        let joining = ["/flyball.v1.Join/Authorities", "/flyball.v1.Join/Join"];
        for one in METHODS {
            let (through, code) = call(one.path, Some(Identity::Stranger)).await;
            assert_eq!(through, joining.contains(&one.path), "{}", one.path);
            assert_eq!(code == Code::PermissionDenied, !through, "{}: {code:?}", one.path);
        }
    }

    #[tokio::test]
    async fn a_method_without_a_row_is_unknown_even_to_the_owner() {
        let answer = call("/flyball.v1.Loops/Steal", Some(Identity::Owner)).await;
        assert_eq!(answer, (false, Code::Unimplemented));
    }
}
