//! The decision about one model call: which route takes it, which of its tiers, and in what order its deployments are
//! asked. Pure and deterministic: the same question gets the same answer on every machine, and every answer says why.

mod answer;
mod classify;
mod matching;
mod share;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use self::answer::{LeftOut, Limited, Plan, Refused, RouteMissed, Step};
pub use self::classify::{Features, Subtask, classify};
use super::provider::Protocol;
use super::route::{Deployment, ModelRouteSpec, Tier};
use crate::quantity::{Distance, Span};

/// The routes, in the order in which they are asked, and what each provider speaks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routing {
    routes: Vec<(String, ModelRouteSpec)>,
    providers: BTreeMap<String, Vec<Protocol>>,
}

impl Routing {
    /// From routes and providers by their names, in any order.
    pub fn new(
        routes: impl IntoIterator<Item = (String, ModelRouteSpec)>,
        providers: impl IntoIterator<Item = (String, Vec<Protocol>)>,
    ) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by(|(a, one), (b, two)| two.priority.cmp(&one.priority).then(a.cmp(b)));
        Self { routes, providers: providers.into_iter().collect() }
    }

    /// The routes, the first to be asked first.
    pub fn routes(&self) -> impl Iterator<Item = (&str, &ModelRouteSpec)> {
        self.routes.iter().map(|(name, spec)| (name.as_str(), spec))
    }

    /// Only the routes that could take a call of a loop in this namespace with these labels.
    #[must_use]
    pub fn for_loop(mut self, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        self.routes.retain(|(_, spec)| matching::could_match(spec, namespace, labels));
        self
    }

    /// Names of the providers that the routes name, each once.
    pub fn named_providers(&self) -> BTreeSet<&str> {
        let tiers = self.routes.iter().flat_map(|(_, spec)| &spec.tiers);
        tiers.flat_map(|tier| &tier.deployments).map(|one| one.provider.as_str()).collect()
    }
}

/// Where the loop is that calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Situation {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its best distance, if it was measured.
    pub distance: Option<Distance>,
    /// Iterations in a row without improvement; 0 again after one.
    pub stall: u32,
}

/// One call, as far as a decision hangs on it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The model that the client asks for.
    pub model: &'a str,
    /// What the client speaks.
    pub protocol: Protocol,
    /// What kind of work it is.
    pub subtask: &'a Subtask,
    /// Where its loop is.
    pub situation: &'a Situation,
    /// Names run and session: calls with the same text prefer the same deployments, so that prompt caches live.
    pub sticky: &'a str,
}

/// A deployment that is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resting {
    /// For how long yet.
    pub left: Duration,
    /// Why, e.g. `3 failures in a row, the last: 529`.
    pub why: String,
    /// Whether its provider said that the account is at its limit.
    pub limited: bool,
}

/// Tells of a provider's model whether it is left alone.
pub type Health<'a> = dyn Fn(&str, &str) -> Option<Resting> + 'a;

/// Nothing is known to fail.
pub fn all_well(_: &str, _: &str) -> Option<Resting> {
    None
}

/// Decides about a call.
///
/// # Errors
/// [`Refused`]: no route takes it, or none of the route's deployments can serve it now, with the reason of each.
pub fn choose(routing: &Routing, asked: &Asked<'_>, health: &Health<'_>) -> Result<Plan, Refused> {
    let mut missed = Vec::new();
    for (name, spec) in routing.routes() {
        match matching::takes(spec, asked) {
            Ok(why) => return Walk::new(routing, name, spec, asked, health).plan(why),
            Err(why) => missed.push(RouteMissed { route: name.to_owned(), why }),
        }
    }
    Err(Refused::NoRoute { model: asked.model.to_owned(), missed })
}

/// The tier for a stall: the last one that begins at or below it. Stall is 0 again after progress, and so the first
/// tier serves again.
fn tier_for(tiers: &[Tier], stall: u32) -> Option<usize> {
    tiers
        .iter()
        .rposition(|tier| tier.from.stall <= stall)
        .or_else(|| (!tiers.is_empty()).then_some(0))
}

/// The route's deployments, gone through in their order.
struct Walk<'a> {
    routing: &'a Routing,
    route: &'a str,
    spec: &'a ModelRouteSpec,
    asked: &'a Asked<'a>,
    health: &'a Health<'a>,
    steps: Vec<Step>,
    left_out: Vec<LeftOut>,
    /// How long until the first that rests can be asked again.
    left: Option<Duration>,
    limited: Option<Limited>,
    /// What the providers speak that do not speak what was asked.
    others: BTreeMap<&'a str, &'a [Protocol]>,
}

impl<'a> Walk<'a> {
    fn new(
        routing: &'a Routing,
        route: &'a str,
        spec: &'a ModelRouteSpec,
        asked: &'a Asked<'a>,
        health: &'a Health<'a>,
    ) -> Self {
        let (steps, left_out, others) = Default::default();
        Self {
            routing,
            route,
            spec,
            asked,
            health,
            steps,
            left_out,
            left: None,
            limited: None,
            others,
        }
    }

    fn plan(mut self, route_why: String) -> Result<Plan, Refused> {
        let (tiers, stall) = (&self.spec.tiers, self.asked.situation.stall);
        let Some(own) = tier_for(tiers, stall) else { return Err(self.refused()) };
        self.tier(&tiers[own], None);
        if self.spec.on_error.other_tiers {
            // The stronger ones, the nearest first; then the weaker ones.
            let others = (own + 1..tiers.len()).chain((0..own).rev());
            others.for_each(|other| self.tier(&tiers[other], Some(&tiers[own].name)));
        }
        if self.steps.is_empty() {
            return Err(self.refused());
        }
        Ok(Plan {
            route: self.route.to_owned(),
            route_why,
            tier: tiers[own].name.clone(),
            tier_index: own,
            tier_why: tier_words(tiers, own, stall),
            steps: self.steps,
            left_out: self.left_out,
            on_error: self.spec.on_error.clone(),
            max_output_tokens: self.spec.max_output_tokens,
        })
    }

    fn tier(&mut self, tier: &'a Tier, instead_of: Option<&str>) {
        let total: u32 = tier.deployments.iter().map(|one| one.weight).sum();
        for one in share::order(&tier.deployments, self.asked.sticky) {
            let model = one.model.as_deref().unwrap_or(self.asked.model);
            let known = |provider: &str, other: &str| provider == one.provider && other == model;
            if self.steps.iter().any(|step| known(&step.provider, &step.model)) {
                continue;
            }
            match self.hindrance(one, model) {
                Some(why) => self.left_out.push(LeftOut {
                    tier: tier.name.clone(),
                    provider: one.provider.clone(),
                    model: model.to_owned(),
                    why,
                }),
                None => self.steps.push(Step {
                    tier: tier.name.clone(),
                    provider: one.provider.clone(),
                    model: model.to_owned(),
                    why: self.step_words(one, total, instead_of),
                }),
            }
        }
    }

    /// Why a deployment cannot be asked.
    fn hindrance(&mut self, one: &'a Deployment, model: &str) -> Option<String> {
        let (name, wanted) = (one.provider.as_str(), self.asked.protocol);
        let Some(spoken) = self.routing.providers.get(name) else {
            return Some(format!("provider {name} does not exist"));
        };
        if !spoken.contains(&wanted) {
            self.others.insert(name, spoken);
            return Some(format!("provider {name} speaks {}, not {wanted}", words(spoken)));
        }
        let resting = (self.health)(name, model)?;
        self.left = Some(self.left.map_or(resting.left, |left| left.min(resting.left)));
        if resting.limited && self.limited.as_ref().is_none_or(|one| resting.left < one.left) {
            self.limited = Some(Limited { provider: name.to_owned(), left: resting.left });
        }
        Some(format!("left alone for {} yet: {}", Span(resting.left), resting.why))
    }

    fn step_words(&self, one: &Deployment, total: u32, instead_of: Option<&str>) -> String {
        match (self.steps.is_empty(), instead_of, one.weight) {
            (true, None, 0) => "those with a share cannot be asked".to_owned(),
            (true, None, weight) if self.left_out.is_empty() => {
                format!("this session's share: weight {weight} of {total}")
            }
            (true, None, weight) => {
                format!(
                    "this session's next share: weight {weight} of {total}; others are left out"
                )
            }
            (true, Some(tier), _) => format!("nobody of tier {tier} can be asked"),
            (false, None, _) => "asked when those before it fail".to_owned(),
            (false, Some(tier), _) => format!("asked when tier {tier} fails"),
        }
    }

    fn refused(self) -> Refused {
        let (route, left_out) = (self.route.to_owned(), self.left_out);
        match (self.left, self.others.is_empty()) {
            (Some(left), _) => Refused::Resting { route, left, limited: self.limited, left_out },
            (None, false) => {
                let protocol = self.asked.protocol;
                let spoken = self.others.values().flat_map(|spoken| spoken.iter().copied());
                Refused::OtherProtocol { route, protocol, spoken: spoken.collect(), left_out }
            }
            (None, true) => Refused::NoProvider { route, left_out },
        }
    }
}

fn words(protocols: &[Protocol]) -> String {
    let words: Vec<_> = protocols.iter().map(|one| one.as_str()).collect();
    words.join(" and ")
}

fn tier_words(tiers: &[Tier], own: usize, stall: u32) -> String {
    let next = tiers.get(own + 1);
    let next = next.map(|tier| format!("; tier {} is from {} on", tier.name, tier.from.stall));
    let next = next.unwrap_or_default();
    match (stall, own) {
        (0, _) => format!("the loop does not stall{next}"),
        (stall, 0) => format!("stall {stall}: iterations in a row without improvement{next}"),
        (stall, own) => {
            let from = tiers[own].from.stall;
            format!(
                "stall {stall}: iterations in a row without improvement, and it is from {from} on{next}"
            )
        }
    }
}
