//! Every key decodes to what it was made of, and no two things share a key.

use flyball_core::model::DefinitionKind;
use flyball_core::spec::Access;
use proptest::prelude::*;

use super::*;

/// Text with the characters that could confuse an encoding, and arbitrary ones.
fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9-]{1,12}", "[-a-z/%.*2DF ~]{0,12}", any::<String>()]
}

fn loop_key() -> impl Strategy<Value = LoopKey> {
    (odd_text(), odd_text()).prop_map(|(namespace, name)| LoopKey::new(namespace, name))
}

fn owner_key() -> impl Strategy<Value = OwnerKey> {
    let access = prop_oneof![Just(Access::Exclusive), Just(Access::Read)];
    (access, odd_text(), loop_key())
        .prop_map(|(access, resource, holder)| OwnerKey::new(access, resource, &holder))
}

fn event_key() -> impl Strategy<Value = EventKey> {
    (odd_text(), odd_text(), 0..1_u64 << 48, any::<u32>())
        .prop_map(|(namespace, name, unix_ms, nonce)| EventKey { namespace, name, unix_ms, nonce })
}

fn binding_key() -> impl Strategy<Value = BindingKey> {
    (proptest::option::of(odd_text()), odd_text())
        .prop_map(|(namespace, name)| BindingKey { namespace, name })
}

fn definition_key() -> impl Strategy<Value = DefinitionKey> {
    let kinds: Vec<_> = DefinitionKind::all().collect();
    (proptest::sample::select(kinds), odd_text()).prop_map(|(kind, n)| DefinitionKey::new(kind, n))
}

fn revoked_key() -> impl Strategy<Value = Revoked> {
    "serial:[1-9a-f][0-9a-f]{0,40}|(user|node|scheduler):[a-z0-9]{1,9}"
        .prop_map(|text| text.parse().expect("well-formed"))
}

fn any_key() -> impl Strategy<Value = (Key, Vec<u8>)> {
    prop_oneof![
        odd_text().prop_map(|n| (Key::Node(n.clone().into()), node(&n.into()))),
        odd_text().prop_map(|n| (Key::Session(n.clone().into()), session(&n.into()))),
        odd_text().prop_map(|n| (Key::Probe(n.clone().into()), probe(&n.into()))),
        loop_key().prop_map(|k| (Key::Spec(k.clone()), spec(&k))),
        loop_key().prop_map(|k| (Key::Status(k.clone()), status(&k))),
        loop_key().prop_map(|k| (Key::Claim(k.clone()), claim(&k))),
        owner_key().prop_map(|k| (Key::Owner(k.clone()), k.encode())),
        odd_text().prop_map(|u| (Key::Duty(u.clone().into()), duty(&u.into()))),
        event_key().prop_map(|k| (Key::Event(k.clone()), event(&k))),
        odd_text().prop_map(|n| (Key::Role(n.clone()), role(&n))),
        any::<u64>().prop_map(|n| (Key::Audit(n), audit(n))),
        loop_key().prop_map(|k| (Key::Secret(k.clone()), secret(&k))),
        definition_key().prop_map(|k| (Key::Definition(k.clone()), definition(&k))),
        loop_key().prop_map(|k| (Key::LoopAccount(k.clone()), loop_account(&k))),
        odd_text().prop_map(|n| (Key::Quota(n.clone()), quota(&n))),
        odd_text().prop_map(|n| (Key::NamespaceAccount(n.clone()), namespace_account(&n))),
        binding_key().prop_map(|k| (Key::Binding(k.clone()), binding(&k))),
        revoked_key().prop_map(|k| (Key::Revoked(k.clone()), revoked(&k))),
        odd_text().prop_map(|n| (Key::JoinToken(n.clone()), join_token(&n))),
        odd_text().prop_map(|n| (Key::Signer(n.clone()), signer(&n))),
    ]
}

proptest! {
    #[test]
    fn every_key_round_trips((key, encoded) in any_key()) {
        prop_assert_eq!(Key::decode(&encoded), key);
        prop_assert!(encoded.is_ascii());
        prop_assert!(encoded.starts_with(PREFIX.as_bytes()));
    }

    #[test]
    fn equal_encodings_mean_equal_keys((one, a) in any_key(), (two, b) in any_key()) {
        prop_assert_eq!(a == b, one == two);
    }

    #[test]
    fn decoding_accepts_only_what_encoding_writes(text in "[-a-z0-9/%.*2DFx]{0,40}") {
        let bytes = format!("{PREFIX}{text}").into_bytes();
        let again = match Key::decode(&bytes) {
            Key::Installation => INSTALLATION.as_bytes().to_vec(),
            Key::Leader => LEADER.as_bytes().to_vec(),
            Key::Duty(u) => duty(&u),
            Key::Node(n) => node(&n),
            Key::Session(n) => session(&n),
            Key::Probe(n) => probe(&n),
            Key::Spec(k) => spec(&k),
            Key::Status(k) => status(&k),
            Key::Claim(k) => claim(&k),
            Key::Owner(k) => k.encode(),
            Key::Event(k) => event(&k),
            Key::Audit(n) => audit(n),
            Key::AuditHead => AUDIT_HEAD.into(),
            Key::Secret(k) => secret(&k),
            Key::Definition(k) => definition(&k),
            Key::Revoked(k) => revoked(&k),
            Key::JoinToken(n) => join_token(&n),
            Key::Signer(n) => signer(&n),
            Key::Role(n) => role(&n),
            Key::Binding(k) => binding(&k),
            Key::LoopAccount(k) => loop_account(&k),
            Key::NamespaceAccount(n) => namespace_account(&n),
            Key::Quota(n) => quota(&n),
            Key::Foreign => return Ok(()),
        };
        prop_assert_eq!(again, bytes);
    }
}

#[test]
fn keys_read_as_documented() {
    let key = LoopKey::new("default", "fix-it");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(text(spec(&key)), "/flyball/v1/loops/default/fix-it/spec");
    assert_eq!(text(status(&key)), "/flyball/v1/loops/default/fix-it/status");
    assert_eq!(text(claim(&key)), "/flyball/v1/claims/default/fix-it");
    assert_eq!(text(node(&"n1".into())), "/flyball/v1/nodes/n1");
    assert_eq!(text(loop_account(&key)), "/flyball/v1/accounts/loops/default/fix-it");
    assert_eq!(text(namespace_account("team")), "/flyball/v1/accounts/namespaces/team");
    assert_eq!(text(quota("anthropic")), "/flyball/v1/quotas/anthropic");
    assert_eq!(text(budget("team")), "/flyball/v1/definitions/budgets/team");
    assert_eq!(text(session(&"n1".into())), "/flyball/v1/sessions/n1");
    let exclusive = owner(Access::Exclusive, "git/example.org/r/src/**", &key);
    assert_eq!(text(exclusive), "/flyball/v1/owners/x/git/example.org/r/src/**");
    let shared = owner(Access::Read, "gpu/a b/0", &key);
    assert_eq!(text(shared), "/flyball/v1/owners/r/gpu/a%20b/0/default/fix-it");
    assert_eq!(text(revoked(&"node:n1".parse().unwrap())), "/flyball/v1/revoked/node:n1");
    assert_eq!(Key::decode(b"/flyball/v1/revoked/serial:0A"), Key::Foreign, "one form only");
    assert_eq!(Key::decode(b"/flyball/v1/timers/1/x"), Key::Foreign);
    assert_eq!(Key::decode(b"/other"), Key::Foreign);
    assert_eq!(Key::decode(b"\xff"), Key::Foreign);
}

#[test]
fn a_prefix_range_ends_before_the_next_family() {
    assert_eq!(behind(EVENTS), b"/flyball/v1/events0".to_vec());
}
