//! The keys a request names: etcd's pair of key and range end.

use std::ops::Bound;

/// Bounds of a range in an ordered map.
type KeyBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Keys between `key` and `range_end` in etcd's notation: an empty end means the key alone, the
/// end `\0` means all keys from `key` on, and an end at or before the key means nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span<'a> {
    One(&'a [u8]),
    From(&'a [u8]),
    Between(&'a [u8], &'a [u8]),
}

impl<'a> Span<'a> {
    pub(crate) fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::One(key),
            [0] => Self::From(key),
            end => Self::Between(key, end),
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => key == *one,
            Self::From(from) => key >= *from,
            Self::Between(from, to) => key >= *from && key < *to,
        }
    }

    /// Bounds for an ordered map; `None` if the span holds nothing.
    pub(crate) fn bounds(&self) -> Option<KeyBounds<'a>> {
        match *self {
            Self::One(one) => Some((Bound::Included(one), Bound::Included(one))),
            Self::From(from) => Some((Bound::Included(from), Bound::Unbounded)),
            Self::Between(from, to) if from < to => {
                Some((Bound::Included(from), Bound::Excluded(to)))
            }
            Self::Between(..) => None,
        }
    }
}
