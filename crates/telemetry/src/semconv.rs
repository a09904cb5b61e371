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
