//! Counting tokens of a request, which is free: the provider is asked, no budget is touched, and where nobody can be
//! asked the answer is an estimate.

use std::time::Duration;

use bytes::Bytes;
use flyball_core::model::{Asked, Features, Protocol, classify};
use http::{HeaderValue, Response};
use hyper::body::Incoming;

use crate::body::Body;
use crate::config::ERROR_MAX;
use crate::request::{Asking, header, json};
use crate::wire::{self, Call, Edits};
use crate::{headers, tries, upstream};

/// Longest wait for a provider's count.
const COUNT_TIME_MAX: Duration = Duration::from_secs(10);

impl Asking {
    /// Answers `/v1/messages/count_tokens`.
    pub(crate) async fn count_tokens(self, body: Incoming) -> Response<Body> {
        let (body, _room) = match self.body(body).await {
            Ok(body) => body,
            Err(refusal) => return self.refuse(&refusal),
        };
        let call = match wire::parse(Protocol::Anthropic, &body) {
            Ok(call) => call,
            Err(error) => return self.refuse(&wire::Refusal::BadCall(error)),
        };
        let asked = tokio::time::timeout(COUNT_TIME_MAX, self.counted(&body, &call)).await;
        match asked.ok().flatten() {
            Some(response) => response,
            None => json(wire::count_tokens(&body, &call)),
        }
    }

    /// The provider's own count, of whoever would serve the call.
    async fn counted(&self, body: &Bytes, call: &Call) -> Option<Response<Body>> {
        let now = self.gate.now();
        let features = Features { tools: call.tools, max_output: call.max_output };
        let subtask =
            classify(header(&self.head.headers, "x-flyball-subtask"), &call.model, features);
        let asked = Asked {
            model: &call.model,
            protocol: Protocol::Anthropic,
            subtask: &subtask,
            situation: &now.situation,
            sticky: "",
        };
        let plan = flyball_core::model::choose(
            &now.models.routing,
            &asked,
            &flyball_core::model::all_well,
        );
        let plan = plan.ok()?;
        let step = plan.steps.first()?;
        let provider = now.models.providers.get(&step.provider)?;
        let edits = Edits { model: Some(&step.model), ..Edits::default() };
        let body = wire::edit(body.clone(), call, &edits);
        let uri =
            upstream::target(&provider.spec, "/v1/messages/count_tokens", self.head.uri.query());
        let request = tries::outgoing(&self.head.headers, provider, uri.ok()?, body).ok()?;
        let answer = self.gate.shared.upstreams.send(request).await.ok()?;
        // A server without a count of its own: the estimate is better than an error.
        if !answer.status().is_success() {
            return None;
        }
        let (head, mut body) = answer.into_parts();
        let body = tries::whole(&mut body, ERROR_MAX).await;
        let mut response = Response::new(Body::Whole(body));
        *response.headers_mut() = headers::downstream(&head.headers);
        let id = HeaderValue::from_str(&self.id).ok()?;
        response.headers_mut().insert("x-flyball-request-id", id);
        Some(response)
    }
}
