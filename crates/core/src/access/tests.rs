//! Decisions over small policies, and documents with every fault.

use serde_json::{Value, json};

use super::*;
use crate::identity::Identity;

fn binding(namespace: Option<&str>, name: &str, role: &str, subjects: &[&str]) -> Binding {
    let key = BindingKey { namespace: namespace.map(str::to_owned), name: name.to_owned() };
    let subjects = subjects.iter().map(|text| text.parse().unwrap()).collect();
    Binding { key, role: role.to_owned(), subjects }
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.put_binding(binding(Some("a"), "subs", "submitter", &["user:ada"]));
    policy.put_binding(binding(Some("a"), "all", "viewer", &["users"]));
    policy.put_binding(binding(None, "ops", "operator", &["user:oda"]));
    policy.put_binding(binding(Some("b"), "adm", "admin", &["user:bea"]));
    policy.put_binding(binding(Some("a"), "old", "gone", &["user:eve"]));
    policy
}

fn user(name: &str) -> Identity {
    Identity::User(name.to_owned())
}

fn namespace(name: &str) -> Scope {
    Scope::Namespace(name.to_owned())
}

fn may(who: &Identity, verb: Verb, kind: Kind, scope: &Scope) -> bool {
    policy().decide(who, verb, kind, scope).is_ok()
}

#[test]
fn a_role_holds_where_it_is_bound_and_nowhere_else() {
    let ada = user("ada");
    assert!(may(&ada, Verb::Apply, Kind::Loops, &namespace("a")));
    assert!(!may(&ada, Verb::Apply, Kind::Loops, &namespace("b")));
    assert!(!may(&ada, Verb::List, Kind::Loops, &Scope::AllNamespaces));
    assert!(!may(&ada, Verb::List, Kind::Nodes, &Scope::Installation));
    assert!(!may(&ada, Verb::Mark, Kind::Nodes, &Scope::Installation));
    let eve = user("eve");
    assert!(may(&eve, Verb::List, Kind::Loops, &namespace("a")), "through `users`");
    assert!(!may(&eve, Verb::Apply, Kind::Loops, &namespace("a")));
    let oda = user("oda");
    assert!(may(&oda, Verb::Mark, Kind::Nodes, &Scope::Installation));
    assert!(may(&oda, Verb::List, Kind::Loops, &Scope::AllNamespaces));
    assert!(!may(&oda, Verb::Apply, Kind::Loops, &namespace("a")));
    let bea = user("bea");
    assert!(may(&bea, Verb::Apply, Kind::RoleBindings, &namespace("b")));
    assert!(!may(&bea, Verb::Apply, Kind::Roles, &Scope::Installation));
    assert!(!may(&bea, Verb::Mark, Kind::Nodes, &Scope::Installation));
}

#[test]
fn the_owner_cannot_be_locked_out() {
    for verb in Verb::all() {
        for kind in Kind::all() {
            for scope in [Scope::Open, Scope::Installation, Scope::AllNamespaces, namespace("x")] {
                assert_eq!(
                    Policy::default().decide(&Identity::Owner, verb, kind, &scope),
                    Ok(By::Owner)
                );
            }
        }
    }
}

#[test]
fn a_node_is_only_itself() {
    let (own, other) = (Identity::Node("n1".into()), Scope::AsNode("n2".into()));
    let itself = Scope::AsNode("n1".into());
    for verb in Verb::all() {
        for kind in Kind::all() {
            let fits = [Verb::Attach, Verb::Heartbeat, Verb::Report].contains(&verb)
                && kind == Kind::Sessions
                || (verb, kind) == (Verb::Fetch, Kind::Secrets)
                || verb == Verb::Spend && [Kind::Budgets, Kind::Providers].contains(&kind);
            assert_eq!(may(&own, verb, kind, &itself), fits, "{verb} {kind}");
            assert!(!may(&own, verb, kind, &other), "{verb} {kind}");
            assert!(!may(&own, verb, kind, &Scope::AllNamespaces), "{verb} {kind}");
            assert!(!may(&own, verb, kind, &namespace("a")), "{verb} {kind}");
        }
    }
    let scheduler = Identity::Scheduler("s".to_owned());
    assert!(may(&scheduler, Verb::Get, Kind::Schedulers, &Scope::Open));
    assert!(!may(&scheduler, Verb::Get, Kind::Loops, &namespace("a")));
}

#[test]
fn nobody_becomes_a_node_by_a_binding() {
    let mut policy = Policy::default();
    let permissions = Permissions::of(&[Verb::Fetch], &[Kind::Secrets]);
    policy.put_role(Role { name: "sly".to_owned(), permissions });
    policy.put_binding(binding(None, "sly", "sly", &["user:eve"]));
    policy.put_binding(binding(None, "node", "node", &["user:eve"]));
    policy.put_binding(binding(None, "admin", "admin", &["user:eve"]));
    let scope = Scope::AsNode("n1".into());
    let denied = policy.decide(&user("eve"), Verb::Fetch, Kind::Secrets, &scope).unwrap_err();
    assert!(denied.to_string().ends_with("only a node may, with its own certificate"), "{denied}");
}

#[test]
fn a_refusal_says_what_is_missing() {
    let said = |who: &str, verb, kind, scope| {
        policy().decide(&user(who), verb, kind, &scope).unwrap_err().to_string()
    };
    insta::assert_snapshot!(said("ada", Verb::Apply, Kind::Loops, namespace("b")), @"user:ada may not apply loops in namespace b: no rolebinding gives it; a role that would: submitter, admin; it may in: a");
    insta::assert_snapshot!(said("eve", Verb::Cancel, Kind::Loops, namespace("a")), @"user:eve may not cancel loops in namespace a: rolebinding a/old gives role gone, which does not exist; a role that would: submitter, operator, admin");
    let node =
        policy().decide(&Identity::Node("n1".into()), Verb::List, Kind::Loops, &namespace("a"));
    insta::assert_snapshot!(node.unwrap_err(), @"node:n1 may not list loops in namespace a: a node may only attach, heartbeat, report and fetch");
}

#[test]
fn a_custom_role_is_what_it_lists_and_no_built_in_one_changes() {
    let (_, role) = parse_role(&role("canceller", &["cancel"], &["loops"])).unwrap();
    let mut policy = policy();
    policy.put_role(role);
    policy.put_binding(binding(Some("a"), "c", "canceller", &["user:eve"]));
    assert!(policy.decide(&user("eve"), Verb::Cancel, Kind::Loops, &namespace("a")).is_ok());
    assert!(policy.decide(&user("eve"), Verb::Delete, Kind::Loops, &namespace("a")).is_err());
    policy.remove_role("canceller");
    assert!(policy.decide(&user("eve"), Verb::Cancel, Kind::Loops, &namespace("a")).is_err());
    let everything = built_in("admin").unwrap().permissions;
    policy.put_role(Role { name: "viewer".to_owned(), permissions: everything });
    assert!(policy.decide(&user("eve"), Verb::Delete, Kind::Loops, &namespace("a")).is_err());
}

#[test]
fn nobody_gives_away_what_they_lack() {
    let policy = policy();
    let permissions = |role: &str| built_in(role).unwrap().permissions;
    let give =
        |who: &str, role, scope: &Scope| policy.may_give(&user(who), &permissions(role), scope);
    assert_eq!(give("bea", "admin", &namespace("b")), Ok(()));
    assert!(give("bea", "submitter", &namespace("a")).is_err());
    assert!(give("bea", "viewer", &Scope::AllNamespaces).is_err());
    assert!(give("oda", "admin", &Scope::AllNamespaces).is_err());
    assert_eq!(
        policy.may_give(&Identity::Owner, &permissions("admin"), &Scope::AllNamespaces),
        Ok(())
    );
}

fn role(name: &str, verbs: &[&str], kinds: &[&str]) -> Value {
    json!({
        "apiVersion": "flyball.dev/v1", "kind": "Role", "metadata": { "name": name },
        "spec": { "rules": [{ "verbs": verbs, "kinds": kinds }] },
    })
}

fn binding_document(metadata: Value, spec: Value) -> Value {
    json!({ "apiVersion": "flyball.dev/v1", "kind": "RoleBinding", "metadata": metadata, "spec": spec })
}

fn faults<T: std::fmt::Debug>(parsed: Result<T, Vec<crate::manifest::FieldError>>) -> String {
    let errors = parsed.unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn documents_of_roles_are_checked() {
    let (_, all) = parse_role(&role("x", &["*"], &["*"])).unwrap();
    assert_eq!(all.permissions, built_in("admin").unwrap().permissions);
    let (_, aliases) = parse_role(&role("x", &["create", "drain"], &["loop", "node"])).unwrap();
    assert!(aliases.permissions.has(Verb::Apply, Kind::Loops));
    assert!(aliases.permissions.has(Verb::Mark, Kind::Nodes));
    insta::assert_snapshot!(faults(parse_role(&role("admin", &["read", "attach"], &[]))), @r#"
    metadata.name: is the name of a built-in role, which cannot be changed; found admin
    spec.rules[0].verbs[0]: "read" is no verb; there are: get, list, watch, apply, delete, cancel, mark, diagnose, verify, attach, heartbeat, report, fetch, spend, revoke, renew, join
    spec.rules[0].kinds: must have at least one entry
    spec.rules[0].verbs: only a node does this, with its own certificate; no role can give it; found attach
    "#);
}

#[test]
fn documents_of_bindings_are_checked() {
    let metadata = json!({ "name": "x" });
    let spec = json!({ "role": "viewer", "subjects": ["user:ada", "users"] });
    let (manifest, binding) = parse_binding(&binding_document(metadata.clone(), spec)).unwrap();
    assert_eq!(binding.key.namespace.as_deref(), Some("default"));
    assert_eq!(manifest.metadata.namespace.as_deref(), Some("default"));
    let spec = json!({ "role": "viewer", "subjects": ["user:ada"], "allNamespaces": true });
    let (_, everywhere) = parse_binding(&binding_document(metadata, spec)).unwrap();
    assert_eq!(everywhere.key.namespace, None);
    let spec = json!({
        "role": "node", "subjects": ["ada", "node:n1", "owner"], "allNamespaces": true, "subject": 1
    });
    let faulty = binding_document(json!({ "name": "X", "namespace": "a" }), spec.clone());
    insta::assert_snapshot!(faults(parse_binding(&faulty)), @"spec.subject: unknown field; allowed here: allNamespaces, role, subjects; did you mean subjects?");
    let mut spec = spec;
    spec.as_object_mut().unwrap().remove("subject");
    let faulty = binding_document(json!({ "name": "X", "namespace": "a" }), spec);
    insta::assert_snapshot!(faults(parse_binding(&faulty)), @r#"
    metadata.name: "X" is not a valid name: use 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit
    metadata.namespace: must be left out with spec.allNamespaces, which holds in every namespace; found a
    spec.role: comes with a node's certificate and cannot be given to anybody; found node
    spec.subjects[0]: must be user:NAME for one user, or users for all of them; found "ada"
    spec.subjects[1]: must be user:NAME for one user, or users for all of them; what nodes and schedulers may do is fixed; found "node:n1"
    spec.subjects[2]: must be user:NAME for one user, or users for all of them; the owner may do everything anyway; found "owner"
    "#);
}

#[test]
fn lists_are_bounded() {
    let subjects = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("user:u{number}")).collect();
        let metadata = json!({ "name": "x", "namespace": "a" });
        parse_binding(&binding_document(metadata, json!({ "role": "viewer", "subjects": names })))
    };
    assert!(subjects(200).is_ok(), "the bound itself is allowed");
    insta::assert_snapshot!(faults(subjects(201)), @"spec.subjects: must have at most 200 entries; found 201");
}

#[test]
fn what_allows_a_call_is_told() {
    let binding = BindingKey { namespace: Some("a".to_owned()), name: "subs".to_owned() };
    let by = By::Binding { binding, role: "submitter".to_owned() };
    let told = [By::Owner, By::Everyone, By::Itself, By::Joining, by].map(|by| by.to_string());
    let expected = [
        "the owner may do everything",
        "every known caller may",
        "a node may, for itself",
        "whoever has no certificate may ask to join",
        "role submitter, given by rolebinding a/subs",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_node_is_told_whether_it_is_another_or_asks_for_too_much() {
    let why = |verb, scope: Scope| {
        let node = Identity::Node(crate::ids::NodeName("n1".to_owned()));
        policy().decide(&node, verb, Kind::Nodes, &scope).unwrap_err().to_string()
    };
    let other = why(Verb::Attach, Scope::AsNode(crate::ids::NodeName("n2".to_owned())));
    assert!(other.ends_with(": it is another node"), "{other}");
    let itself = why(Verb::Mark, Scope::AsNode(crate::ids::NodeName("n1".to_owned())));
    assert!(itself.ends_with(": a node may only attach, heartbeat, report and fetch"), "{itself}");
}

#[test]
fn bindings_are_found_by_role_and_by_caller_until_they_are_removed() {
    let mut policy = policy();
    let names = |found: Vec<&BindingKey>| -> Vec<String> {
        found.into_iter().map(|key| key.name.clone()).collect()
    };
    assert_eq!(names(policy.bindings_of("viewer")), ["all"]);
    assert_eq!(names(policy.bindings_of("nobody")), Vec::<String>::new());
    let of_ada = |policy: &Policy| -> Vec<String> {
        policy.roles_of(&user("ada")).into_iter().map(|(_, role)| role).collect()
    };
    assert_eq!(of_ada(&policy), ["viewer", "submitter"]);
    let key = BindingKey { namespace: Some("a".to_owned()), name: "subs".to_owned() };
    policy.remove_binding(&key);
    assert_eq!(of_ada(&policy), ["viewer"]);
}

#[test]
fn a_policy_counts_its_roles_and_bindings() {
    let mut policy = policy();
    assert_eq!(policy.counts(), (0, 5));
    let (_, custom) = parse_role(&role("canceller", &["cancel"], &["loops"])).unwrap();
    policy.put_role(custom);
    assert_eq!(policy.counts(), (1, 5));
}

#[test]
fn words_have_one_meaning() {
    for verb in Verb::all() {
        assert_eq!(verb.as_str().parse(), Ok(verb));
    }
    for kind in Kind::all() {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert_eq!("rolebinding".parse(), Ok(Kind::RoleBindings));
    assert!("pods".parse::<Kind>().unwrap_err().to_string().contains("rolebindings"));
    assert!("audi".parse::<Kind>().is_err());
}

#[test]
fn a_stranger_may_ask_to_join_and_nothing_else() {
    let stranger = Identity::Stranger;
    for verb in Verb::all() {
        for kind in Kind::all() {
            let joins = (verb, kind) == (Verb::Join, Kind::Nodes);
            assert_eq!(may(&stranger, verb, kind, &Scope::Open), joins, "{verb} {kind}");
            assert!(!may(&stranger, verb, kind, &Scope::Installation), "{verb} {kind}");
        }
    }
}

#[test]
fn roles_are_named_only_to_whom_one_could_help() {
    let roles = |who: &Identity, verb| {
        policy().decide(who, verb, Kind::Secrets, &namespace("b")).unwrap_err().roles
    };
    assert_eq!(roles(&user("ada"), Verb::Apply), ["admin"]);
    assert!(roles(&user("ada"), Verb::Fetch).is_empty(), "only a node does this");
    assert!(roles(&Identity::Node("n1".into()), Verb::Apply).is_empty(), "what it may is fixed");
}

#[test]
fn a_subject_is_written_as_it_is_read() {
    for text in ["user:ada", "users"] {
        assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
    }
    for text in ["user:", "user:Ada", "user:a/b", "user:*"] {
        assert!(text.parse::<Subject>().is_err(), "{text}");
    }
}

#[test]
fn kinds_are_of_a_namespace_or_of_the_installation() {
    let outside = [
        Kind::Nodes,
        Kind::Sessions,
        Kind::Schedulers,
        Kind::Roles,
        Kind::Providers,
        Kind::ModelRoutes,
        Kind::Agents,
        Kind::Certificates,
        Kind::JoinTokens,
    ];
    for kind in Kind::all() {
        assert_eq!(kind.is_namespaced(), !outside.contains(&kind), "{kind}");
        for verb in Verb::all() {
            // A namespace's budget is its bound, so whoever is admin inside does not set it.
            let bounds = kind == Kind::Budgets && [Verb::Apply, Verb::Delete].contains(&verb);
            let expected = bounds || outside.contains(&kind);
            assert_eq!(kind.is_of_installation(verb), expected, "{verb} {kind}");
        }
    }
}
