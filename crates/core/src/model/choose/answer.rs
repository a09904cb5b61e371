//! What a decision answers: a plan, or a refusal that says why.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::super::provider::Protocol;
use super::super::route::OnError;
use crate::quantity::Span;

/// Whom to ask, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The route that takes the call.
    pub route: String,
    /// Why it does.
    pub route_why: String,
    /// The tier that serves it.
    pub tier: String,
    /// Which one that is, from 0; above 0 the call is escalated.
    pub tier_index: usize,
    /// Why it does.
    pub tier_why: String,
    /// At least one; each is asked when those before it failed, as far as the route's bounds allow.
    pub steps: Vec<Step>,
    /// Who is not asked, and why.
    pub left_out: Vec<LeftOut>,
    /// What is done when a deployment fails.
    pub on_error: OnError,
    /// Output limit for a client that sets none, in tokens.
    pub max_output_tokens: u64,
}

impl Plan {
    /// Whether a stronger tier than the first one serves the call.
    pub fn is_escalated(&self) -> bool {
        self.tier_index > 0
    }
}

/// One deployment to ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its tier.
    pub tier: String,
    /// Its provider.
    pub provider: String,
    /// The model's name there.
    pub model: String,
    /// Why it stands here.
    pub why: String,
}

/// A deployment that is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Its tier.
    pub tier: String,
    /// Its provider.
    pub provider: String,
    /// The model's name there.
    pub model: String,
    /// Why not.
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (tier {}): {}", self.provider, self.model, self.tier, self.why)
    }
}

/// A route that does not take a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteMissed {
    /// Its name.
    pub route: String,
    /// Why not: of each alternative the first condition that does not hold.
    pub why: String,
}

/// Nobody is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason", rename_all_fields = "camelCase")]
pub enum Refused {
    /// No route takes the call.
    NoRoute {
        /// The model that was asked for.
        model: String,
        /// Every route there is, and why it does not.
        missed: Vec<RouteMissed>,
    },
    /// The route's providers speak other protocols, and nothing is translated.
    OtherProtocol {
        /// The route.
        route: String,
        /// What the client speaks.
        protocol: Protocol,
        /// What the providers speak.
        spoken: BTreeSet<Protocol>,
        /// Each deployment.
        left_out: Vec<LeftOut>,
    },
    /// Everyone who could be asked is left alone for a while.
    Resting {
        /// The route.
        route: String,
        /// Until the first can be asked again.
        #[serde(serialize_with = "as_span")]
        left: Duration,
        /// Of those whose account is at its limit the first, if there are any.
        #[serde(skip_serializing_if = "Option::is_none")]
        limited: Option<Limited>,
        /// Each deployment.
        left_out: Vec<LeftOut>,
    },
    /// The providers that the route names do not exist.
    NoProvider {
        /// The route.
        route: String,
        /// Each deployment.
        left_out: Vec<LeftOut>,
    },
}

/// Of those whose account is at its limit the one that can be asked soonest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limited {
    /// The provider.
    pub provider: String,
    /// For how long it is left alone yet.
    #[serde(serialize_with = "as_span")]
    pub left: Duration,
}

fn as_span<S: serde::Serializer>(left: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    Span(*left).serialize(serializer)
}

impl Refused {
    /// A stable word for it, for telemetry.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NoRoute { .. } => "no-route",
            Self::OtherProtocol { .. } => "other-protocol",
            Self::Resting { .. } => "resting",
            Self::NoProvider { .. } => "no-provider",
        }
    }

    /// When the same call may be tried again; `None`: something has to be changed first.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Resting { left, .. } => Some(*left),
            _ => None,
        }
    }

    /// The reasons one by one.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::NoRoute { missed, .. } => {
                missed.iter().map(|one| format!("route {}: {}", one.route, one.why)).collect()
            }
            Self::OtherProtocol { left_out, .. }
            | Self::Resting { left_out, .. }
            | Self::NoProvider { left_out, .. } => {
                left_out.iter().map(ToString::to_string).collect()
            }
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute { model, missed } if missed.is_empty() => {
                write!(f, "there is no model route for this loop, so nobody serves model {model:?}")
            }
            Self::NoRoute { model, missed } => {
                write!(f, "none of {} model routes takes a call for {model:?}", missed.len())
            }
            Self::OtherProtocol { route, protocol, spoken, .. } => {
                let spoken: Vec<_> = spoken.iter().map(|one| one.as_str()).collect();
                let spoken = spoken.join(" and ");
                write!(
                    f,
                    "route {route} takes the call, but its providers speak {spoken} and not {protocol}; calls are \
                     not translated"
                )
            }
            Self::Resting { route, left, left_out, .. } => write!(
                f,
                "route {route} takes the call, but its {} deployments cannot be asked now; the first can be in {}",
                left_out.len(),
                Span(*left)
            ),
            Self::NoProvider { route, .. } => {
                write!(f, "route {route} takes the call, but none of the providers it names exists")
            }
        }
    }
}

impl std::error::Error for Refused {}
