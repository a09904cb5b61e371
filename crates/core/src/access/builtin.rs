//! The roles that every installation has. They cannot be changed or deleted, so that their names mean
//! the same everywhere.

use super::role::{Permissions, Role};
use super::words::{Kind, Verb};

/// Names of the built-in roles, and what each is for.
pub const BUILT_IN: [(&str, &str); 5] = [
    ("viewer", "read loops, claims, events, logs, nodes, and definitions for model calls"),
    ("submitter", "viewer, and apply, cancel and delete loops"),
    (
        "operator",
        "viewer, and cancel loops, mark nodes, give up claims and seals, diagnose, read the audit trail and the \
         list of revoked certificates, define providers, model routes, agents and budgets",
    ),
    ("admin", "everything but being a node"),
    ("node", "be a worker: its own session and runs only; comes with a node's identity"),
];

/// What operators define for model calls.
const DEFINED: [Kind; 4] = [Kind::Providers, Kind::ModelRoutes, Kind::Agents, Kind::Budgets];

/// A built-in role.
pub fn built_in(name: &str) -> Option<Role> {
    let permissions = match name {
        "viewer" => viewer(),
        "submitter" => submitter(),
        "operator" => operator(),
        "admin" => admin(),
        "node" => node(),
        _ => return None,
    };
    Some(Role { name: name.to_owned(), permissions })
}

fn viewer() -> Permissions {
    let kinds = [Kind::Loops, Kind::Claims, Kind::Events, Kind::Logs, Kind::Nodes];
    Permissions::of(&[Verb::Get, Verb::List, Verb::Watch], &kinds)
        .with(Permissions::of(&[Verb::Get, Verb::List], &DEFINED))
}

fn submitter() -> Permissions {
    viewer()
        .with(Permissions::of(&[Verb::Apply, Verb::Cancel, Verb::Delete], &[Kind::Loops]))
        .with(Permissions::of(&[Verb::List], &[Kind::Secrets]))
}

fn operator() -> Permissions {
    viewer()
        .with(Permissions::of(&[Verb::Cancel], &[Kind::Loops]))
        .with(Permissions::of(&[Verb::Mark], &[Kind::Nodes]))
        .with(Permissions::of(&[Verb::Delete], &[Kind::Claims]))
        .with(Permissions::of(&[Verb::Diagnose], &[Kind::Schedulers]))
        .with(Permissions::of(&[Verb::List, Verb::Verify], &[Kind::Audit]))
        .with(Permissions::of(&[Verb::Apply, Verb::Delete], &DEFINED))
        .with(Permissions::of(&[Verb::List], &[Kind::Certificates]))
}

fn admin() -> Permissions {
    let verbs: Vec<_> = Verb::all().filter(|verb| !verb.is_of_nodes()).collect();
    let kinds: Vec<_> = Kind::all().collect();
    Permissions::of(&verbs, &kinds)
}

fn node() -> Permissions {
    Permissions::of(&[Verb::Attach, Verb::Heartbeat, Verb::Report], &[Kind::Sessions])
        .with(Permissions::of(&[Verb::Fetch], &[Kind::Secrets]))
        .with(Permissions::of(&[Verb::Spend], &[Kind::Budgets, Kind::Providers]))
}
