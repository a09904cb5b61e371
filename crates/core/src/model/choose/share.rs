//! Who is asked first: weighted, and the same for the same session. Each deployment draws a number from the session's
//! name and its own (weighted rendezvous hashing), so that one that comes or goes moves only its own share of the
//! sessions, and the caches of all others live on. In whole numbers: every machine draws the same.

use super::super::route::Deployment;

/// Fractional bits of a logarithm.
const FRACTION_BITS: u32 = 24;

/// The deployments in the order in which a session asks them. Those with weight 0 come last, as they are written.
pub(super) fn order<'a>(deployments: &'a [Deployment], sticky: &str) -> Vec<&'a Deployment> {
    let mut drawn: Vec<_> = deployments
        .iter()
        .map(|one| (wait(hash(sticky, one)), u64::from(one.weight), one))
        .collect();
    // wait/weight, smallest first, multiplied out: without weight it is infinite, as no wait is 0.
    drawn.sort_by(|(wait_a, weight_a, _), (wait_b, weight_b, _)| {
        wait_a.saturating_mul(*weight_b).cmp(&wait_b.saturating_mul(*weight_a))
    });
    drawn.into_iter().map(|(_, _, one)| one).collect()
}

/// FNV-1a with a finishing mix (that of SplitMix64): stable over versions, which the standard hasher is not. It
/// spreads load and guards nothing.
fn hash(sticky: &str, one: &Deployment) -> u64 {
    let model = one.model.as_deref().unwrap_or_default();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in [sticky, &one.provider, model] {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// `-log2(hash / 2^64)` with [`FRACTION_BITS`] fractional bits: exponentially distributed for a hash that is spread
/// evenly, so that the smallest `wait / weight` falls to each by its share. At least 1, below 2^31.
fn wait(hash: u64) -> u64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    // In [1, 2), with 63 fractional bits.
    let mut mantissa = hash << zeros;
    let mut log = 0_u64;
    for _ in 0..FRACTION_BITS {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let doubled = square >> 64 != 0;
        log = log << 1 | u64::from(doubled);
        // Below 2^64 after this; the bits that fall off are the last ones of the fraction.
        mantissa = u64::try_from(if doubled { square >> 1 } else { square }).unwrap_or(u64::MAX);
    }
    (u64::from(zeros + 1) << FRACTION_BITS).saturating_sub(log).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_logarithms() {
        let one = 1_u64 << FRACTION_BITS;
        assert_eq!(wait(u64::MAX), 1);
        assert_eq!(wait(1), 64 * one);
        assert_eq!(wait(0), 64 * one);
        // A half, a quarter; the lowest bit, which is always set, is lost in the fraction.
        assert_eq!(wait(1 << 63), one);
        assert_eq!(wait(1 << 62), 2 * one);
        // -log2(0.75) = 0.41503…
        assert_eq!(wait(3 << 62) * 100_000 / one, 41_503);
        assert_eq!(wait(3 << 61) * 100_000 / one, 141_503);
    }

    #[test]
    fn every_version_draws_the_same() {
        for (session, provider, model, drawn) in [
            ("", "", None, 0x3899_e489_d898_6d44),
            ("run-7/1", "acme", None, 0x924f_95ba_88e2_a092),
            ("run-7/1", "acme", Some("small-1"), 0xf3fe_00bb_0042_4411),
            ("run-7/1", "acmes", Some("mall-1"), 0x9d42_6788_0faa_6f9d),
        ] {
            let (provider, model) = (provider.to_owned(), model.map(str::to_owned));
            let one = Deployment { provider, model, weight: 1 };
            assert_eq!(hash(session, &one), drawn, "{session} {one:?}");
        }
    }

    #[test]
    fn who_has_no_weight_comes_last_and_as_it_is_written() {
        let names = ["d", "b", "a", "c", "e"];
        let of = |name: &str, weight| Deployment { provider: name.to_owned(), model: None, weight };
        let among = names.map(|name| of(name, u32::from(name == "a")));
        for session in ["", "x", "run-7/1", "run-7/2"] {
            let asked = order(&among, session).into_iter().map(|one| one.provider.as_str());
            assert_eq!(asked.collect::<Vec<_>>(), ["a", "d", "b", "c", "e"], "{session}");
        }
    }

    #[test]
    fn sessions_are_shared_by_weight_and_move_only_where_they_must() {
        let of = |name: &str, weight| Deployment { provider: name.to_owned(), model: None, weight };
        let three = [of("a", 6), of("b", 3), of("c", 1), of("spare", 0)];
        let first = |among: &[Deployment], session: u32| {
            order(among, &format!("run-7/{session}"))[0].provider.clone()
        };
        let (mut counts, mut moved) = (std::collections::BTreeMap::new(), 0);
        for session in 0..10_000 {
            let chosen = first(&three, session);
            let without_c = first(&[of("a", 6), of("b", 3)], session);
            if chosen == "c" {
                moved += 1;
            } else {
                assert_eq!(without_c, chosen, "only the sessions of the one that is gone move");
            }
            *counts.entry(chosen).or_insert(0) += 1;
        }
        // Five standard deviations of a share are below 250 of 10000.
        for (name, expected) in [("a", 6000), ("b", 3000), ("c", 1000)] {
            let count: i32 = counts[name];
            assert!((count - expected).abs() < 250, "{name}: {count}");
        }
        assert_eq!(counts["c"], moved);
        assert_eq!(order(&three, "x").last().unwrap().provider, "spare");
    }
}
