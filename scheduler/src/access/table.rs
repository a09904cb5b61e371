//! The one table: what each method of the API is, as a verb on a kind, and what it acts on.

use flyball_core::access::{Kind, Verb};

use super::target::{self, Target, Unreadable};

/// How the audit trail takes a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trail {
    /// Not: it changes nothing, or happens all the time by itself.
    No,
    /// An entry, durable before the answer goes out.
    Before,
    /// An entry, which the answer does not wait for: a node's deadline may hang on it.
    Beside,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    /// `/package.Service/Method`.
    pub(super) path: &'static str,
    pub(super) verb: Verb,
    /// The kind, where the target does not say a closer one.
    pub(super) kind: Kind,
    /// What it acts on, from its first message.
    pub(super) target: fn(&[u8]) -> Result<Target, Unreadable>,
    pub(super) trail: Trail,
}

macro_rules! methods {
    ($($path:literal: $verb:ident $kind:ident, $target:path, $trail:ident;)*) => {
        &[$(Method {
            path: $path,
            verb: Verb::$verb,
            kind: Kind::$kind,
            target: $target,
            trail: Trail::$trail,
        },)*]
    };
}

/// Every method there is.
pub(super) const METHODS: &[Method] = methods! {
    "/flyball.v1.Loops/Apply": Apply Loops, target::apply_loop, Before;
    "/flyball.v1.Loops/Get": Get Loops, target::get_loop, No;
    "/flyball.v1.Loops/List": List Loops, target::list_loops, No;
    "/flyball.v1.Loops/Watch": Watch Loops, target::watch_loops, No;
    "/flyball.v1.Loops/Cancel": Cancel Loops, target::cancel_loop, Before;
    "/flyball.v1.Loops/Delete": Delete Loops, target::delete_loop, Before;
    "/flyball.v1.Loops/Explain": Get Loops, target::get_loop, No;
    "/flyball.v1.Loops/ListClaims": List Claims, target::list_claims, No;
    "/flyball.v1.Loops/ListSeals": List Claims, target::list_seals, No;
    "/flyball.v1.Loops/AbandonSeal": Delete Claims, target::abandon_seal, Before;
    "/flyball.v1.Nodes/List": List Nodes, target::installation, No;
    "/flyball.v1.Nodes/Mark": Mark Nodes, target::mark_node, Before;
    "/flyball.v1.Sessions/Attach": Attach Sessions, target::attach, Beside;
    "/flyball.v1.Sessions/Heartbeat": Heartbeat Sessions, target::heartbeat, No;
    "/flyball.v1.Sessions/ReportGone": Report Sessions, target::report_gone, Beside;
    "/flyball.v1.Events/List": List Events, target::list_events, No;
    "/flyball.v1.Logs/Read": Get Logs, target::read_logs, No;
    "/flyball.v1.Access/WhoAmI": Get Roles, target::open, No;
    "/flyball.v1.Access/CanI": Get Roles, target::open, No;
    "/flyball.v1.Access/ListRoles": List Roles, target::installation, No;
    "/flyball.v1.Access/ApplyRole": Apply Roles, target::apply_role, Before;
    "/flyball.v1.Access/DeleteRole": Delete Roles, target::delete_role, Before;
    "/flyball.v1.Access/ListBindings": List RoleBindings, target::list_bindings, No;
    "/flyball.v1.Access/ApplyBinding": Apply RoleBindings, target::apply_binding, Before;
    "/flyball.v1.Access/DeleteBinding": Delete RoleBindings, target::delete_binding, Before;
    "/flyball.v1.Audit/List": List Audit, target::list_audit, No;
    "/flyball.v1.Audit/Verify": Verify Audit, target::all_namespaces, No;
    "/flyball.v1.Secrets/Set": Apply Secrets, target::set_secret, Before;
    "/flyball.v1.Secrets/List": List Secrets, target::list_secrets, No;
    "/flyball.v1.Secrets/Delete": Delete Secrets, target::delete_secret, Before;
    "/flyball.v1.Secrets/RotateKey": Apply Schedulers, target::secrets_key, Before;
    "/flyball.v1.Secrets/Fetch": Fetch Secrets, target::fetch_secrets, Before;
    "/flyball.v1.Definitions/Apply": Apply Providers, target::apply_definition, Before;
    "/flyball.v1.Definitions/Get": Get Providers, target::get_definition, No;
    "/flyball.v1.Definitions/List": List Providers, target::list_definitions, No;
    "/flyball.v1.Definitions/Delete": Delete Providers, target::delete_definition, Before;
    "/flyball.v1.Definitions/ExplainRoute": Get ModelRoutes, target::installation, No;
    "/flyball.v1.Models/Setup": Fetch Secrets, target::setup_models, Before;
    "/flyball.v1.Budgets/Draw": Spend Budgets, target::draw_budget, No;
    "/flyball.v1.Budgets/Settle": Spend Budgets, target::settle_budget, No;
    "/flyball.v1.Budgets/Get": Get Loops, target::get_budget, No;
    "/flyball.v1.Budgets/List": List Loops, target::list_budgets, No;
    "/flyball.v1.Budgets/Extend": Apply Loops, target::extend_budget, Before;
    "/flyball.v1.Budgets/GetNamespace": Get Budgets, target::get_namespace_budget, No;
    "/flyball.v1.Budgets/ListNamespaces": List Budgets, target::list_namespace_budgets, No;
    "/flyball.v1.Budgets/ExtendNamespace": Apply Budgets, target::extend_namespace_budget, Before;
    "/flyball.v1.Quotas/Take": Spend Providers, target::take_quota, No;
    "/flyball.v1.Quotas/Limited": Spend Providers, target::quota_limited, No;
    "/flyball.v1.Quotas/List": List Providers, target::installation, No;
    "/flyball.v1.Certificates/Revoke": Revoke Certificates, target::revoke, Before;
    "/flyball.v1.Certificates/ListRevoked": List Certificates, target::installation, No;
    "/flyball.v1.Certificates/Renew": Renew Certificates, target::open, Before;
    "/flyball.v1.Certificates/CreateToken": Apply JoinTokens, target::create_token, Before;
    "/flyball.v1.Certificates/ListTokens": List JoinTokens, target::installation, No;
    "/flyball.v1.Certificates/DeleteToken": Delete JoinTokens, target::delete_token, Before;
    "/flyball.v1.Join/Authorities": Join Nodes, target::open, No;
    "/flyball.v1.Join/Join": Join Nodes, target::join, Before;
    "/flyball.v1.Server/Info": Get Schedulers, target::open, No;
    "/flyball.v1.Server/Diagnose": Diagnose Schedulers, target::installation, No;
    "/grpc.health.v1.Health/Check": Get Schedulers, target::open, No;
    "/grpc.health.v1.Health/List": Get Schedulers, target::open, No;
    "/grpc.health.v1.Health/Watch": Get Schedulers, target::open, No;
};

/// The row of a method.
pub(super) fn method(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|one| one.path == path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CONTRACT: &str = include_str!("../../../proto/flyball/v1/flyball.proto");

    /// The methods of a contract, as paths.
    fn declared(contract: &str) -> BTreeSet<String> {
        let mut service = String::new();
        let mut found = BTreeSet::new();
        for line in contract.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.trim_end_matches([' ', '{']).to_owned();
            } else if let Some(rest) = line.strip_prefix("rpc ") {
                let name = rest.split('(').next().unwrap();
                found.insert(format!("/flyball.v1.{service}/{name}"));
            }
        }
        found
    }

    #[test]
    fn every_method_of_the_contract_has_one_row() {
        let rows: Vec<&str> = METHODS.iter().map(|one| one.path).collect();
        let distinct: BTreeSet<&str> = rows.iter().copied().collect();
        assert_eq!(rows.len(), distinct.len(), "a method stands in the table twice");
        let ours = rows.iter().filter(|path| path.starts_with("/flyball."));
        let ours: BTreeSet<String> = ours.map(|path| (*path).to_owned()).collect();
        assert_eq!(ours, declared(CONTRACT));
        assert!(ours.len() > 20);
    }

    #[test]
    fn what_changes_something_is_audited() {
        for one in METHODS {
            let reads = [Verb::Get, Verb::List, Verb::Watch, Verb::Diagnose, Verb::Verify];
            let by_itself = [Verb::Heartbeat, Verb::Spend].contains(&one.verb)
                || one.path.ends_with("/Authorities");
            let silent = reads.contains(&one.verb) || by_itself;
            assert_eq!(one.trail == Trail::No, silent, "{}", one.path);
        }
    }
}
