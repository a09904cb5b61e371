//! `events/<ns>/<loop>/<time>-<random>`: what happened lately; short-lived. Events of no loop (of
//! a node or the scheduler) stand under `-/-`, which is no valid name.

use super::{EVENTS, path};

const NO_NAME: &str = "-";

/// The key of one event; keys of one loop sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// Namespace; empty for events of no loop.
    pub namespace: String,
    /// Loop; empty for events of no loop.
    pub name: String,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Random, so that events of one millisecond do not collide.
    pub nonce: u32,
}

/// The encoded key of an event.
pub(crate) fn event(key: &EventKey) -> Vec<u8> {
    let mut encoded = events_of(&key.namespace, Some(&key.name));
    // 12 hex digits last until the year 10889; fixed width keeps the order.
    encoded.extend_from_slice(format!("{:012x}-{:08x}", key.unix_ms, key.nonce).as_bytes());
    encoded
}

/// The prefix of a namespace's events, or of a loop's.
pub(crate) fn events_of(namespace: &str, name: Option<&str>) -> Vec<u8> {
    let mut prefix = EVENTS.as_bytes().to_vec();
    for part in std::iter::once(namespace).chain(name) {
        if part.is_empty() {
            prefix.extend_from_slice(NO_NAME.as_bytes());
        } else if part == NO_NAME {
            prefix.extend_from_slice(b"%2D"); // the one text that would read as no name
        } else {
            path::push_segment(&mut prefix, part);
        }
        prefix.push(b'/');
    }
    prefix
}

fn decode_name(text: &str) -> Option<String> {
    match text {
        NO_NAME => Some(String::new()),
        "%2D" => Some(NO_NAME.to_owned()),
        "" => None,
        _ => path::decode_segment(text),
    }
}

fn decode_hex(text: &str, digits: usize) -> Option<u64> {
    let canonical = text.len() == digits
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if canonical { u64::from_str_radix(text, 16).ok() } else { None }
}

pub(super) fn decode(rest: &str) -> Option<EventKey> {
    let mut parts = rest.split('/');
    let (namespace, name, id) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, nonce) = id.split_once('-')?;
    let key = EventKey {
        namespace: decode_name(namespace)?,
        name: decode_name(name)?,
        unix_ms: decode_hex(time, 12)?,
        nonce: u32::try_from(decode_hex(nonce, 8)?).ok()?,
    };
    parts.next().is_none().then_some(key)
}
