//! `accounts/loops/<ns>/<name>` and `accounts/namespaces/<ns>`: what is spent of budgets.

use flyball_core::ids::LoopKey;
use flyball_core::model::{DefinitionKey, DefinitionKind};

use super::loops::{decode_loop, push_loop};
use super::{Key, path};

const LOOPS: &str = "/flyball/v1/accounts/loops/";
const NAMESPACES: &str = "/flyball/v1/accounts/namespaces/";

/// The key of a loop's account.
pub(crate) fn loop_account(key: &LoopKey) -> Vec<u8> {
    let mut encoded = LOOPS.as_bytes().to_vec();
    push_loop(&mut encoded, key);
    encoded
}

/// Where the accounts of a namespace's loops are, or those of all for an empty one.
pub(crate) fn loop_accounts_of(namespace: &str) -> Vec<u8> {
    let mut prefix = LOOPS.as_bytes().to_vec();
    if !namespace.is_empty() {
        path::push_segment(&mut prefix, namespace);
        prefix.push(b'/');
    }
    prefix
}

/// The key of a namespace's account.
pub(crate) fn namespace_account(namespace: &str) -> Vec<u8> {
    let mut key = NAMESPACES.as_bytes().to_vec();
    path::push_segment(&mut key, namespace);
    key
}

/// The key of a namespace's budget.
pub(crate) fn budget(namespace: &str) -> Vec<u8> {
    super::definition(&DefinitionKey::new(DefinitionKind::Budget, namespace))
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    match rest.split_once('/')? {
        ("loops", rest) => decode_loop(rest).map(Key::LoopAccount),
        ("namespaces", rest) => path::decode_segment(rest).map(Key::NamespaceAccount),
        _ => None,
    }
}
