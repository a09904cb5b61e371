//! Which writes fit together into one request, by etcd's limits: at most 128 operations along any
//! path of nesting, 1.5 MiB per request, and no key written twice.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::StoreError;

/// etcd's default `--max-txn-ops`. A request of N nested transactions of width k needs
/// N + k <= 128, where a transaction's width is the longest of its three lists plus the width of
/// what is nested in it.
pub(crate) const TXN_OPS_MAX: usize = 128;

/// etcd's default `--max-request-bytes` is 1.5 MiB for the request as it is logged; the rest is
/// left for its frame and for estimates of the encoding being a little short.
pub(crate) const REQUEST_BYTES_MAX: usize = 1_572_864 - 65_536;

/// What a compare or an operation takes beside its key and value: tags, lengths, revisions, lease.
const OPERATION_BYTES: usize = 48;

/// What one nested transaction takes of a request.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    compares: usize,
    successes: usize,
    failures: usize,
    /// Width of the transactions nested inside it.
    inner: usize,
    bytes: usize,
    /// Hashes of the keys written. Equal hashes of unequal keys only cost a further request.
    writes: Vec<u64>,
    /// Hashes of the keys compared.
    compared: Vec<u64>,
}

impl Cost {
    /// Nothing yet; room for the given number of writes.
    pub(crate) fn new(writes: usize) -> Self {
        Self {
            compares: 0,
            successes: 0,
            failures: 0,
            inner: 0,
            bytes: OPERATION_BYTES,
            writes: Vec::with_capacity(writes),
            compared: Vec::with_capacity(writes + 2),
        }
    }

    /// Counts a compare.
    pub(crate) fn compare(&mut self, key: &[u8]) -> &mut Self {
        self.compares += 1;
        self.bytes += key.len() + OPERATION_BYTES;
        self.compared.push(hash(key));
        self
    }

    /// Counts a put or delete in the success branch.
    pub(crate) fn write(&mut self, key: &[u8], value_bytes: usize) -> &mut Self {
        self.successes += 1;
        self.bytes += key.len() + value_bytes + OPERATION_BYTES;
        self.writes.push(hash(key));
        self
    }

    /// Counts a delete in the success branch that has a transaction and a compare of its own.
    pub(crate) fn guarded_delete(&mut self, key: &[u8]) -> &mut Self {
        self.inner = 1;
        self.bytes += key.len() + 2 * OPERATION_BYTES;
        self.write(key, 0)
    }

    /// Counts a read in the failure branch.
    pub(crate) fn read(&mut self, key: &[u8]) -> &mut Self {
        self.failures += 1;
        self.bytes += key.len() + OPERATION_BYTES;
        self
    }

    fn width(&self) -> usize {
        self.compares.max(self.successes).max(self.failures) + self.inner
    }

    /// Refuses what does not even fit alone.
    pub(crate) fn check(&self, what: impl Fn() -> String) -> Result<(), StoreError> {
        if self.width() + 1 > TXN_OPS_MAX {
            return Err(StoreError::Refused {
                why: format!("{} takes {} operations of {TXN_OPS_MAX}", what(), self.width() + 1),
            });
        }
        if self.bytes > REQUEST_BYTES_MAX {
            return Err(StoreError::TooLarge {
                what: what(),
                bytes: self.bytes,
                bytes_max: REQUEST_BYTES_MAX,
            });
        }
        Ok(())
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The request that is being filled.
#[derive(Default)]
struct Request {
    count: usize,
    width: usize,
    bytes: usize,
    writes: HashSet<u64>,
    compared: HashSet<u64>,
}

impl Request {
    fn takes(&self, cost: &Cost) -> bool {
        // All compares see the state before the request, so a key that one write changes must not
        // be compared by another either.
        self.count + 1 + self.width.max(cost.width()) <= TXN_OPS_MAX
            && self.bytes + cost.bytes <= REQUEST_BYTES_MAX
            && !cost.writes.iter().any(|k| self.writes.contains(k) || self.compared.contains(k))
            && !cost.compared.iter().any(|k| self.writes.contains(k))
    }

    fn add(&mut self, cost: &Cost) {
        self.count += 1;
        self.width = self.width.max(cost.width());
        self.bytes += cost.bytes;
        self.writes.extend(&cost.writes);
        self.compared.extend(&cost.compared);
    }
}

/// How many writes go into each request, in order.
pub(crate) fn plan<'a>(costs: impl Iterator<Item = &'a Cost>) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut request = Request::default();
    for cost in costs {
        if request.count > 0 && !request.takes(cost) {
            sizes.push(request.count);
            request = Request::default();
        }
        request.add(cost);
    }
    if request.count > 0 {
        sizes.push(request.count);
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A write of `width` keys of its own.
    fn cost(name: &str, width: usize, value_bytes: usize) -> Cost {
        let mut cost = Cost::new(width);
        for index in 0..width {
            let key = format!("{name}/{index}");
            cost.compare(key.as_bytes()).write(key.as_bytes(), value_bytes);
        }
        cost
    }

    fn sizes(costs: &[Cost]) -> Vec<usize> {
        plan(costs.iter())
    }

    #[test]
    fn nested_writes_fill_a_request_up_to_the_limit_of_operations() {
        for width in [1, 2, 4, 52] {
            let costs: Vec<Cost> = (0..300).map(|n| cost(&n.to_string(), width, 10)).collect();
            let sizes = sizes(&costs);
            assert_eq!(sizes[0], TXN_OPS_MAX - width);
            assert_eq!(sizes.iter().sum::<usize>(), 300);
        }
    }

    #[test]
    fn a_guarded_delete_counts_its_own_nesting() {
        let mut release = Cost::new(1);
        release.guarded_delete(b"a");
        assert_eq!(release.width(), 2);
    }

    #[test]
    fn a_request_stays_below_the_limit_of_bytes() {
        let costs: Vec<Cost> = (0..4).map(|n| cost(&n.to_string(), 1, 700_000)).collect();
        assert_eq!(sizes(&costs), [2, 2]);
    }

    #[test]
    fn no_key_is_written_twice_or_written_and_compared_in_one_request() {
        let twice = [cost("a", 1, 1), cost("b", 1, 1), cost("a", 1, 1)];
        assert_eq!(sizes(&twice), [2, 1]);
        let mut compares = cost("c", 1, 1);
        compares.compare(b"a/0");
        assert_eq!(sizes(&[cost("a", 1, 1), compares.clone()]), [1, 1]);
        assert_eq!(sizes(&[compares, cost("a", 1, 1)]), [1, 1]);
        let mut shared = cost("d", 1, 1);
        shared.compare(b"session");
        let mut too = cost("e", 1, 1);
        too.compare(b"session");
        assert_eq!(sizes(&[shared, too]), [2]);
        assert_eq!(sizes(&[]), [0_usize; 0]);
    }

    #[test]
    fn what_does_not_fit_alone_is_refused_with_numbers() {
        let wide = cost("a", 128, 1).check(|| "loop a/b".to_owned());
        assert!(wide.unwrap_err().to_string().contains("129 operations of 128"));
        let large = cost("a", 1, 2_000_000).check(|| "loop a/b".to_owned());
        assert!(matches!(large, Err(StoreError::TooLarge { bytes_max: REQUEST_BYTES_MAX, .. })));
        assert_eq!(cost("a", 127, 1).check(String::new), Ok(()));
    }
}
