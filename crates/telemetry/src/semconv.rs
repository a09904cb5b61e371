//! The names of spans and attributes, in one place, so that code and dashboards move together.
//!
//! Names of other conventions (CI/CD, GenAI) are used where one fits; ours begin with `flyball.`.

/// A client submits or changes a loop.
pub const SPAN_SUBMIT: &str = "loop.submit";
/// The leader assigns a loop to a node.
pub const SPAN_ASSIGN: &str = "loop.assign";
/// A new owner begins: seal and restore.
pub const SPAN_TAKEOVER: &str = "run.takeover";
/// One iteration of a loop.
pub const SPAN_ITERATION: &str = "iteration";
/// The agent of an iteration.
pub const SPAN_AGENT: &str = "invoke_agent";
/// One check.
pub const SPAN_CHECK: &str = "check";
/// The proof in a fresh clone and the push.
pub const SPAN_PUBLISH: &str = "run.publish";

/// `namespace/name` of the loop.
pub const LOOP: &str = "flyball.loop";
/// Uid of the loop.
pub const LOOP_UID: &str = "flyball.loop.uid";
/// Fencing token of the run.
pub const TOKEN: &str = "flyball.token";
/// Number of the iteration.
pub const ITERATION: &str = "flyball.iteration";
/// Node of the run.
pub const NODE: &str = "flyball.node";

/// Protocol of a model call.
pub const PROTOCOL: &str = "flyball.gateway.protocol";
/// The model's name at the provider that served a call.
pub const SERVED_MODEL: &str = "flyball.gateway.served_model";
/// The route that took a call.
pub const ROUTE: &str = "flyball.gateway.route";
/// Why it did.
pub const ROUTE_REASON: &str = "flyball.gateway.route.reason";
/// The tier that served a call.
pub const TIER: &str = "flyball.gateway.tier";
/// Why this tier.
pub const TIER_REASON: &str = "flyball.gateway.tier.reason";
/// Whether it is a stronger tier than the route's first.
pub const ESCALATED: &str = "flyball.gateway.escalated";
/// Class of a call.
pub const SUBTASK: &str = "flyball.gateway.subtask";
/// Tries of a call, the last included.
pub const TRIES: &str = "flyball.gateway.tries";
/// Deployments that failed before the last one, each with why.
pub const FALLBACK_CHAIN: &str = "flyball.gateway.fallback_chain";
/// What a call cost, in US dollars.
pub const COST: &str = "flyball.cost";
/// Whether usage and cost are estimates.
pub const ESTIMATED: &str = "flyball.gateway.estimated";
/// The gateway's id of a request.
pub const REQUEST_ID: &str = "flyball.gateway.request_id";
/// The file that holds a call's content, where that is kept.
pub const CONTENT_FILE: &str = "flyball.content.file";
/// Name of the agent.
pub const AGENT_NAME: &str = "gen_ai.agent.name";
/// Whether an agent counts more tokens than the gateway: `over`, `under` or `equal`.
pub const DIRECTION: &str = "flyball.direction";
/// Why something was counted.
pub const REASON: &str = "flyball.reason";

/// Tokens of a call, by `gen_ai.token.type`.
pub const METRIC_TOKENS: &str = "gen_ai.client.token.usage";
/// Duration of a call.
pub const METRIC_DURATION: &str = "gen_ai.client.operation.duration";
/// Time to the first byte of an answer.
pub const METRIC_FIRST_CHUNK: &str = "gen_ai.client.operation.time_to_first_chunk";
/// Money spent.
pub const METRIC_COST: &str = "flyball.cost";
/// Calls that were answered.
pub const METRIC_CALLS: &str = "flyball.gateway.calls";
/// Answered calls that went to a stronger tier than the first.
pub const METRIC_ESCALATIONS: &str = "flyball.gateway.escalations";
/// Calls that were refused, failed or were cut off.
pub const METRIC_REFUSALS: &str = "flyball.gateway.refusals";
/// Tries after a failed one.
pub const METRIC_RETRIES: &str = "flyball.gateway.retries";
/// Calls that wait for room in a provider's account now.
pub const METRIC_QUOTA_WAITING: &str = "flyball.gateway.quota.waiting";
/// How long calls waited for it.
pub const METRIC_QUOTA_WAIT: &str = "flyball.gateway.quota.wait";
/// Times that a deployment was left alone after failures.
pub const METRIC_RESTS: &str = "flyball.gateway.rests";
/// What an iteration's calls cost.
pub const METRIC_ITERATION_COST: &str = "flyball.iteration.cost";
/// Part of an iteration's answered calls that a stronger tier served than the first.
pub const METRIC_ITERATION_ESCALATION: &str = "flyball.iteration.escalation_ratio";
/// Difference between an agent's own count of tokens and the gateway's.
pub const METRIC_TOKENS_OFF: &str = "flyball.agent.usage.difference";
/// Spans that never reached the collector.
pub const METRIC_SPANS_LOST: &str = "flyball.telemetry.spans.lost";
/// What a converged loop has cost.
pub const METRIC_LOOP_COST: &str = "flyball.loop.cost";
