//! `definitions/<kind>/<name>`: providers, model routes, agents, and by namespace the budgets.

use flyball_core::model::{DefinitionKey, DefinitionKind};

use super::{Key, path};

const DEFINITIONS: &str = "/flyball/v1/definitions/";

/// The key of a definition.
pub(crate) fn definition(of: &DefinitionKey) -> Vec<u8> {
    let mut key = definitions_of(of.kind);
    path::push_segment(&mut key, &of.name);
    key
}

/// Where the definitions of a kind are.
pub(crate) fn definitions_of(kind: DefinitionKind) -> Vec<u8> {
    format!("{DEFINITIONS}{}/", kind.plural()).into_bytes()
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    let (plural, name) = rest.split_once('/')?;
    let kind = DefinitionKind::all().find(|kind| kind.plural() == plural)?;
    Some(Key::Definition(DefinitionKey::new(kind, path::decode_segment(name)?)))
}
