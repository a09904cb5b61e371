//! `roles/<name>`, and `bindings/in/<ns>/<name>` or `bindings/all/<name>`: who may do what.

use flyball_core::access::BindingKey;

use super::path;

/// Where the roles are.
pub(crate) const ROLES: &str = "/flyball/v1/roles/";
/// Where the bindings are.
pub(crate) const BINDINGS: &str = "/flyball/v1/bindings/";

/// The key of a role.
pub(crate) fn role(name: &str) -> Vec<u8> {
    let mut key = ROLES.as_bytes().to_vec();
    path::push_segment(&mut key, name);
    key
}

/// The key of a binding.
pub(crate) fn binding(of: &BindingKey) -> Vec<u8> {
    let mut key = BINDINGS.as_bytes().to_vec();
    match &of.namespace {
        Some(namespace) => {
            key.extend_from_slice(b"in/");
            path::push_segment(&mut key, namespace);
            key.push(b'/');
        }
        None => key.extend_from_slice(b"all/"),
    }
    path::push_segment(&mut key, &of.name);
    key
}

pub(super) fn decode_role(rest: &str) -> Option<String> {
    path::decode_segment(rest)
}

pub(super) fn decode_binding(rest: &str) -> Option<BindingKey> {
    let (namespace, name) = match rest.split_once('/')? {
        ("all", name) => (None, name),
        ("in", rest) => {
            let (namespace, name) = rest.split_once('/')?;
            (Some(path::decode_segment(namespace)?), name)
        }
        _ => return None,
    };
    Some(BindingKey { namespace, name: path::decode_segment(name)? })
}
