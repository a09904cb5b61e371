//! In front of every call: who calls, what it is, whether that is allowed, and the audit trail.
//!
//! A service is only reachable through [`Guarded`], which looks at a call before anything else does.
//! It decides from the caller's identity, from the one row that [`table`] has for the method, and from
//! what the first message says it acts on; whatever it cannot read or does not know is refused. So no
//! handler has to remember to ask.

mod guard;
pub(crate) mod limit;
mod peek;
mod policies;
mod revoked;
mod table;
mod target;

use flyball_core::identity::Identity;

pub(crate) use guard::{Guard, GuardedRoutes, Told};
pub(crate) use policies::Policies;
pub(crate) use revoked::RevokedList;
pub(crate) use target::origin;

/// For a network whose callers are all the owner unless it says otherwise, e.g. a simulated one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsOwner;

impl<S> tower::Layer<S> for AsOwner {
    type Service = tonic::service::interceptor::InterceptedService<S, AsOwner>;

    fn layer(&self, inner: S) -> Self::Service {
        Self::Service::new(inner, *self)
    }
}

impl tonic::service::Interceptor for AsOwner {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        if request.extensions().get::<Identity>().is_none() {
            request.extensions_mut().insert(Identity::Owner);
        }
        Ok(request)
    }
}
