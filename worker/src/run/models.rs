//! The model calls of a run: its gateway is opened when an agent is about to act for the first time, told of every
//! iteration, and closed before the run's end is reported, so that what was not spent is given back in time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use flyball_core::governor::Hint;
use flyball_core::isolation::{Layer, is_off};
use flyball_core::model::{AgentEnding, BudgetScope, PriceTable, QUOTA_WINDOW, QuotaEnded};
use flyball_core::quantity::Distance;
use flyball_core::spec::AgentSpec;
use flyball_core::status::{Outcome, Phase, Reason};
use flyball_gateway::{
    Gone, Iteration, Models, Need, OpenProvider, RunCalls, RunGate, RunIdentity, Serving, Spent,
};
use flyball_sandbox::Who;

use super::Run;
use super::agent::Acted;
use super::attempt::ModelAccess;
use super::fence::RunFence;
use super::halt::Halt;
use super::watching::Calls;
use crate::forward::Target;
use crate::models::setup::{ModelSetup, SetProvider, fetch};
use crate::models::{AskError, RunSlices};

/// The port on which an agent finds the gateway on its own loopback.
pub(super) const GATEWAY_PORT: u16 = 8117;
/// Where the vendors serve their own models; what stands elsewhere may lack what they add.
const VENDORS: [&str; 2] = ["https://api.anthropic.com", "https://api.openai.com"];

/// Longest pause before a loop looks whether an account has room: somebody may have raised its limit.
const QUOTA_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// A run's open gateway.
pub(super) struct RunModels {
    gate: Arc<RunGate>,
    access: ModelAccess,
    /// Where steps have no network of their own, the agent connects to this host's loopback: held open.
    outside: Option<Serving>,
    /// What had been spent when the iteration began.
    before: Spent,
}

/// Something outside the loop that keeps its agent from its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// A provider's account has no room for its calls.
    Quota(QuotaEnded),
    /// No model answers them; why.
    Silent(String),
}

impl Run {
    /// Opens the gateway for an agent that is about to act, or tells it of the iteration. A plain command gets one
    /// where a route takes its calls, and may do without.
    pub(super) async fn begin_models(
        &mut self,
        agent: &AgentSpec,
        number: u32,
        distance: Distance,
    ) -> Result<(), Halt> {
        let named = agent.uses.is_some();
        let context = &self.context;
        let node = (&context.config.node, &context.incarnation);
        let asked = fetch(&context.schedulers, node, &self.id, Some(agent)).await;
        let setup = match asked {
            Ok(setup) => setup,
            Err(error) if named || matches!(error, AskError::NotOwner(_)) => {
                return Err(Halt::not_handed(error));
            }
            Err(error) => {
                tracing::warn!(run = %self.id.key, "its command gets no models: {error}");
                self.close_models().await;
                return Ok(());
            }
        };
        let ModelSetup { agent, labels, .. } = &setup;
        self.definition.clone_from(agent);
        let labels = labels.clone();
        if setup.routes.is_empty() {
            self.close_models().await;
            return Ok(());
        }
        let prices = self.context.config.models.prices.clone();
        let models = Arc::new(models_of(setup, prices));
        let traceparent = flyball_telemetry::current_traceparent(&tracing::Span::current());
        let traceparent = traceparent.or_else(|| Some(self.traceparent.clone()));
        if self.gateway.is_none() {
            self.gateway = Some(self.open_gateway(&models, labels)?);
        }
        let stall = self.governor.stalled();
        if let Some(open) = &mut self.gateway {
            open.access.served = served(&models);
            open.access.routed_elsewhere = routed_elsewhere(&models);
            open.before = open.gate.spent();
            open.gate.begin_iteration(Iteration {
                number: u64::from(number),
                distance: Some(distance),
                stall,
                models: Some(models),
                traceparent,
            });
        }
        Ok(())
    }

    fn open_gateway(
        &self,
        models: &Arc<Models>,
        labels: BTreeMap<String, String>,
    ) -> Result<RunModels, Halt> {
        let context = &self.context;
        let key = format!("fbk-{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let run = (&self.id.key, &self.id.uid, self.id.token);
        let slices = RunSlices::new(
            context.schedulers.clone(),
            &context.config.node,
            &context.incarnation,
            run,
        );
        let gate = context.gateway.open(RunCalls {
            key: key.clone(),
            run: RunIdentity {
                namespace: self.id.key.namespace.clone(),
                name: self.id.key.name.clone(),
                uid: self.id.uid.to_string(),
                token: u64::try_from(self.id.token.0).unwrap_or_default(),
                node: context.config.node.to_string(),
                labels,
            },
            models: models.clone(),
            budget: self.spec.budget,
            begun: self.progress.iterations > 0,
            slices: Arc::new(slices),
            quotas: Arc::new(context.quotas.of_run(&self.id.key)),
            fence: Arc::new(RunFence {
                deadline: context.guard.extender(),
                stop: context.stop.clone(),
            }),
            traceparent: Some(self.traceparent.clone()),
        });
        let gate = Arc::new(gate);
        let (port, outside) = if self.has_network() {
            (GATEWAY_PORT, None)
        } else {
            let (port, serving) = self.serve_outside(&gate)?;
            (port, Some(serving))
        };
        let url = format!("http://127.0.0.1:{port}");
        let access = ModelAccess { url, key, ..ModelAccess::default() };
        Ok(RunModels { gate, access, outside, before: Spent::default() })
    }

    /// Whether steps have a network of their own.
    fn has_network(&self) -> bool {
        !self.context.guard.abilities().missing_layers.contains_key(&Layer::Network)
            && !is_off(Layer::Network)
    }

    /// On this host's loopback, where the run's key is what keeps others out.
    fn serve_outside(&self, gate: &RunGate) -> Result<(u16, Serving), Halt> {
        let listen = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            Ok::<_, std::io::Error>((port, gate.serve(listener)?))
        };
        listen()
            .map_err(|error| Halt::node_fault(&format!("cannot listen for model calls: {error}")))
    }

    /// When a model call of the run was under way last: an agent that waits for one has not stalled.
    pub(super) fn model_activity(&self) -> Option<Calls> {
        let open = self.gateway.as_ref()?;
        Some(Box::new(open.gate.activity()))
    }

    /// How the agent reaches models, if it does.
    pub(super) fn model_access(&self) -> Option<&ModelAccess> {
        self.gateway.as_ref().map(|open| &open.access)
    }

    /// The port that an agent's step listens on for the gateway, where it has a network of its own.
    pub(super) fn gateway_port(&self) -> Option<u16> {
        let open = self.gateway.as_ref()?;
        open.outside.is_none().then_some(GATEWAY_PORT)
    }

    /// What answers on the ports of a step: the operator's proxies and, for an agent, the gateway.
    pub(super) fn targets(&self, who: Who) -> BTreeMap<u16, Target> {
        let proxies = self.egress_targets().into_iter();
        let mut targets: BTreeMap<_, _> =
            proxies.map(|(port, proxy)| (port, Target::Proxy(proxy))).collect();
        if who == Who::Agent
            && let (Some(port), Some(open)) = (self.gateway_port(), &self.gateway)
        {
            targets.insert(port, Target::Gateway(open.gate.clone()));
        }
        targets
    }

    /// What the gateway has metered in this iteration; `None` without one.
    pub(super) fn metered(&self) -> Option<Spent> {
        let open = self.gateway.as_ref()?;
        Some(open.gate.spent().since(&open.before))
    }

    /// Gives back what the iteration did not spend of the loop's and the namespace's budget.
    pub(super) async fn end_iteration_models(&self) {
        if let Some(open) = &self.gateway {
            open.gate.end_iteration().await;
        }
    }

    /// How long the run's calls have waited for providers' accounts.
    pub(super) fn waited_for_quota(&self) -> Duration {
        let open = self.gateway.as_ref();
        self.waited + open.map_or(Duration::ZERO, |open| open.gate.waited())
    }

    /// The outcome of a run whose budget had no room for a call of this iteration. An iteration's own bound ends
    /// only that.
    pub(super) fn budget_ended(&self) -> Option<Outcome> {
        ended_budget(&self.metered()?).map(parked)
    }

    /// What kept the agent from its work in this iteration, if something outside the loop did. One that came to an
    /// end of its own, or has something to say, was not kept from it. A budget that has ended comes before models
    /// that do not answer, and after quota: calls that wait for quota hold room in budgets.
    pub(super) fn hindrance(&self, acted: &Acted) -> Option<Hindrance> {
        hindrance(acted.account.ending, &acted.hint, self.metered()?)
    }

    /// Whether this iteration's calls cost anything.
    pub(super) fn has_cost(&self) -> bool {
        self.metered().is_some_and(|spent| spent.amount.tokens > 0)
    }

    /// The outcome of a run that something outside keeps from going on.
    pub(super) fn waits_for(&mut self, hindrance: &Hindrance) -> Outcome {
        match hindrance {
            Hindrance::Quota(ended) => {
                let pause = quota_pause(ended, self.context.config.models.quota_wait);
                let spread = pause.mul_f64(rand::random_range(0.0..0.5));
                waits_for_quota(ended, pause + spread)
            }
            Hindrance::Silent(why) => {
                self.governor.on_models_unreachable(why, rand::random_range(0.0..1.0))
            }
        }
    }

    /// Ends what is left of the model calls and gives back what was not spent, before the end of the run is told.
    pub(super) async fn close_models(&mut self) {
        let Some(open) = self.gateway.take() else { return };
        self.waited += open.gate.waited();
        drop(open.outside);
        let spent = open.gate.close().await;
        tracing::debug!(run = %self.id.key, ?spent, "its model calls are over");
    }
}

fn ended_budget(spent: &Spent) -> Option<&Need> {
    spent.need.as_ref().filter(|need| need.ended.scope != BudgetScope::Iteration)
}

fn hindrance(ending: AgentEnding, hint: &Hint, spent: Spent) -> Option<Hindrance> {
    if matches!(ending, AgentEnding::Finished | AgentEnding::Hung) || *hint != Hint::None {
        return None;
    }
    let budget_ended = ended_budget(&spent).is_some();
    match (spent.quota, spent.gone) {
        (Some(ended), _) => Some(Hindrance::Quota(ended)),
        _ if budget_ended => None,
        (None, Some(Gone::Waited(provider))) => {
            Some(Hindrance::Quota(QuotaEnded { provider, left: Duration::ZERO }))
        }
        (None, Some(Gone::Silent(why))) => Some(Hindrance::Silent(why)),
        (None, None) => None,
    }
}

fn parked(need: &Need) -> Outcome {
    let ended = &need.ended;
    let message = format!(
        "{ended}: {} of {} are spent or promised, and a call needed up to {}; flyball budget extend raises it",
        ended.used, ended.limits, need.amount
    );
    Outcome { need: Some(need.amount), ..super::outcome(Phase::Parked, Reason::Budget, message) }
}

/// As long as the account said, up to a bound; not shorter than the call waited in vain, or than a provider's minute
/// where it waited longer: each new try begins an agent anew.
fn quota_pause(ended: &QuotaEnded, waited: Duration) -> Duration {
    ended.left.max(waited.min(QUOTA_WINDOW)).min(QUOTA_PAUSE_MAX)
}

fn waits_for_quota(ended: &QuotaEnded, pause: Duration) -> Outcome {
    let retry_after_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    let provider = &ended.provider;
    let message = format!(
        "the account of provider {provider} has no room for its calls; it goes on from its checkpoint by itself"
    );
    Outcome { retry_after_ms, ..super::outcome(Phase::Parked, Reason::Quota, message) }
}

fn models_of(setup: ModelSetup, prices: PriceTable) -> Models {
    let routing = setup.routing();
    let open = |(name, one): (String, SetProvider)| {
        (name, OpenProvider { spec: one.spec, key: one.credential })
    };
    let providers = setup.providers.into_iter().map(open).collect();
    Models { routing, providers, prices }
}

/// What the providers behind a run's routes speak.
fn served(models: &Models) -> Vec<flyball_core::model::Protocol> {
    let all = models.providers.values().flat_map(|provider| &provider.spec.protocols);
    let all: std::collections::BTreeSet<_> = all.copied().collect();
    all.into_iter().collect()
}

fn routed_elsewhere(models: &Models) -> bool {
    let vendor = |url: &str| VENDORS.iter().any(|known| url.starts_with(known));
    models.providers.values().any(|provider| !vendor(&provider.spec.base_url))
}

#[cfg(test)]
mod tests {
    use flyball_core::model::{Amount, BudgetEnded, Limits};

    use super::*;

    #[test]
    fn an_agent_is_hindered_by_what_is_outside_and_only_if_it_did_not_end_well() {
        let left = Duration::from_secs(9);
        let full = QuotaEnded { provider: "acme".to_owned(), left };
        let waited = Gone::Waited("beta".to_owned());
        let cut = QuotaEnded { provider: "beta".to_owned(), left: Duration::ZERO };
        let silent = || Gone::Silent("acme m: 529".to_owned());
        let need = |scope| {
            let (limits, used) = (Limits::default(), Amount::default());
            Some(Need { ended: BudgetEnded { scope, limits, used }, amount: used })
        };
        let of = |quota: Option<&QuotaEnded>, gone: Option<Gone>, need: Option<Need>| {
            let spent = Spent { quota: quota.cloned(), gone, need, ..Spent::default() };
            let well = [AgentEnding::Finished, AgentEnding::Hung];
            for ending in well {
                assert_eq!(hindrance(ending, &Hint::None, spent.clone()), None, "{ending:?}");
            }
            let says = Hint::NeedsHuman("look".to_owned());
            assert_eq!(hindrance(AgentEnding::Failed, &says, spent.clone()), None);
            hindrance(AgentEnding::Failed, &Hint::None, spent)
        };
        let word = Some(Hindrance::Silent("acme m: 529".to_owned()));
        let [quota, cut] = [full.clone(), cut].map(|ended| Some(Hindrance::Quota(ended)));
        assert_eq!(of(None, None, None), None);
        assert_eq!(of(Some(&full), Some(silent()), None), quota);
        assert_eq!(of(None, Some(waited), None), cut);
        assert_eq!(of(None, Some(silent()), None), word);
        // Its own budget comes before a silence, and after quota.
        assert_eq!(of(None, Some(silent()), need(BudgetScope::Loop)), None);
        assert_eq!(of(Some(&full), None, need(BudgetScope::Loop)), quota);
        assert_eq!(of(None, Some(silent()), need(BudgetScope::Iteration)), word);
    }

    #[test]
    fn a_pause_for_quota_is_what_was_said_within_bounds() {
        let seconds = Duration::from_secs;
        let of = |left, waited| {
            let ended = QuotaEnded { provider: "acme".to_owned(), left: seconds(left) };
            quota_pause(&ended, seconds(waited)).as_secs()
        };
        let window = QUOTA_WINDOW.as_secs();
        assert_eq!([of(0, 5), of(0, 600), of(90, 600)], [5, window, 90]);
        assert_eq!(of(86_400, 600), QUOTA_PAUSE_MAX.as_secs());
    }
}
