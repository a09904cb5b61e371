//! Everything random of a case, from its seed.

/// SplitMix64: small, and the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// From a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// All of these, in some order.
    pub(crate) fn shuffled<T, const N: usize>(&mut self, mut of: [T; N]) -> [T; N] {
        for left in (1..N).rev() {
            let last = u64::try_from(left).expect("short lists");
            of.swap(left, usize::try_from(self.range(0, last)).expect("an index"));
        }
        of
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let last = u64::try_from(of.len() - 1).expect("short lists");
        &of[usize::try_from(self.range(0, last)).expect("an index")]
    }
}
