//! Range requests evaluated at a revision: filters, order, limit, counts.

use super::{Kv, State, span::Span};
use crate::error::{COMPACTED, FUTURE_REVISION, Refusal};
use etcd_client::proto::{PbKeyValue, PbRangeRequest, PbRangeResponse, PbResponseHeader};
use std::cmp::Ordering;

// The generated names of these enumerations are not exported by etcd-client.
const ORDER_NONE: i32 = 0;
const ORDER_DESCEND: i32 = 2;
const TARGET_KEY: i32 = 0;
const TARGET_VERSION: i32 = 1;
const TARGET_CREATE: i32 = 2;
const TARGET_MOD: i32 = 3;
const TARGET_VALUE: i32 = 4;

/// Whether a read at the request's revision is possible when `current` is the newest one.
pub(crate) fn check_revision(state: &State, asked: i64, current: i64) -> Result<(), Refusal> {
    if asked > current {
        return Err(FUTURE_REVISION);
    }
    let at = if asked <= 0 { current } else { asked };
    if at < state.compacted { Err(COMPACTED) } else { Ok(()) }
}

/// Answers a range request as of revision `current` (or the older one it asks for).
pub(crate) fn range(
    state: &State,
    request: &PbRangeRequest,
    current: i64,
) -> Result<PbRangeResponse, Refusal> {
    check_revision(state, request.revision, current)?;
    let at = if request.revision <= 0 { current } else { request.revision };
    let span = Span::new(&request.key, &request.range_end);
    let found = state.index.range(span, at);
    let header = Some(PbResponseHeader { revision: current, ..Default::default() });
    if request.count_only {
        let count = as_count(found.count());
        return Ok(PbRangeResponse { header, count, ..Default::default() });
    }
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let (kvs, count, more) =
        if is_plain(request) { first_of(found, limit) } else { sorted(found, request, limit) };
    let kvs = kvs.into_iter().map(|kv| output(kv, request.keys_only)).collect();
    Ok(PbRangeResponse { header, kvs, more, count: as_count(count) })
}

/// Whether key order, unfiltered, is what was asked for.
fn is_plain(request: &PbRangeRequest) -> bool {
    request.sort_order != ORDER_DESCEND
        && request.sort_target == TARGET_KEY
        && !is_filtered(request)
}

fn is_filtered(request: &PbRangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// The first `limit` versions (0: all); the count is of all of them.
fn first_of<'a>(found: impl Iterator<Item = &'a Kv>, limit: usize) -> (Vec<&'a Kv>, usize, bool) {
    let mut kvs = Vec::new();
    let mut count = 0;
    for kv in found {
        count += 1;
        if limit == 0 || count <= limit {
            kvs.push(kv);
        }
    }
    let more = count > kvs.len();
    (kvs, count, more)
}

/// Filters, then sorts, then cuts. As in etcd the count is taken before the filters, and a target
/// without an order sorts only the first `limit` + 1 keys.
fn sorted<'a>(
    found: impl Iterator<Item = &'a Kv>,
    request: &PbRangeRequest,
    limit: usize,
) -> (Vec<&'a Kv>, usize, bool) {
    let mut kvs: Vec<_> = found.collect();
    let count = kvs.len();
    if limit > 0 && request.sort_order == ORDER_NONE && !is_filtered(request) {
        kvs.truncate(limit + 1);
    }
    kvs.retain(|kv| {
        within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
    });
    let descend = request.sort_order == ORDER_DESCEND;
    // Versions arrive in key order already; another target without an order means ascending.
    if request.sort_order != ORDER_NONE || request.sort_target != TARGET_KEY {
        kvs.sort_by(|a, b| {
            let order = compare(a, b, request.sort_target);
            if descend { order.reverse() } else { order }
        });
    }
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    (kvs, count, more)
}

fn compare(a: &PbKeyValue, b: &PbKeyValue, target: i32) -> Ordering {
    match target {
        TARGET_VERSION => a.version.cmp(&b.version),
        TARGET_CREATE => a.create_revision.cmp(&b.create_revision),
        TARGET_MOD => a.mod_revision.cmp(&b.mod_revision),
        TARGET_VALUE => a.value.cmp(&b.value),
        _ => a.key.cmp(&b.key),
    }
}

fn within(revision: i64, min: i64, max: i64) -> bool {
    (min == 0 || revision >= min) && (max == 0 || revision <= max)
}

fn output(kv: &PbKeyValue, keys_only: bool) -> PbKeyValue {
    if keys_only {
        PbKeyValue {
            key: kv.key.clone(),
            value: Vec::new(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    } else {
        kv.clone()
    }
}

fn as_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
