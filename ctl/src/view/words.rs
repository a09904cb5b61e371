//! Small phrases that several views share: ages, durations, lists, labels, tints.

use std::collections::BTreeMap;

use flyball_core::node::Resources;
use flyball_core::quantity::{ByteSize, Distance};
use flyball_core::status::{LoopStatus, Phase, Reason};
use jiff::Timestamp;

use crate::output::Tint;

/// How long ago, in the largest unit that says enough: `5s`, `12m`, `3h20m`, `4d`. `-` if unknown.
pub(super) fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    match since {
        Some(since) => span(u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0)),
        None => "-".to_owned(),
    }
}

/// How long until then: `in 9m`, or `passed`. `-` if there is no such moment.
pub(super) fn until(at: Option<Timestamp>, now: Timestamp) -> String {
    match at {
        Some(at) if at > now => {
            // A started second counts: nothing is over before its time.
            let left = at.duration_since(now) + jiff::SignedDuration::from_millis(999);
            format!("in {}", span(u64::try_from(left.as_secs()).unwrap_or(0)))
        }
        Some(_) => "passed".to_owned(),
        None => "-".to_owned(),
    }
}

/// Seconds in at most two units.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{minutes}m"),
        7200..172_800 if minutes % 60 == 0 || hours >= 10 => format!("{hours}h"),
        7200..172_800 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d"),
    }
}

/// Milliseconds as people say them: `840ms`, `12.5s`, `7m`.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..120_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => span(ms / 1000),
    }
}

/// A moment with how long ago it was, or when it will be.
pub(super) fn moment(at: Option<Timestamp>, now: Timestamp) -> String {
    match at {
        Some(at) => {
            let from_now =
                if at > now { until(Some(at), now) } else { format!("{} ago", age(Some(at), now)) };
            format!("{} ({from_now})", at.strftime("%Y-%m-%d %H:%M:%SZ"))
        }
        None => "-".to_owned(),
    }
}

/// The distance last measured, or the best one, or `-`.
pub(super) fn distance(status: &LoopStatus) -> String {
    let progress = &status.progress;
    optional_distance(progress.distance.or(progress.best_distance))
}

/// A distance, `-` if nothing was measured.
pub(super) fn optional_distance(distance: Option<Distance>) -> String {
    distance.map_or_else(|| "-".to_owned(), |distance| distance.to_string())
}

/// Names in one cell: all of them while they are short, else the first ones and how many more.
pub(super) fn names(names: &[String], chars_max: usize) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        let more = names.len() - index;
        if index > 0 && text.chars().count() + name.chars().count() + 1 > chars_max {
            return format!("{text} +{more}");
        }
        if index > 0 {
            text.push(',');
        }
        text.push_str(name);
    }
    text
}

/// `key=value` pairs.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// The first characters of a commit.
pub(super) fn short(commit: Option<&str>) -> String {
    commit.map_or_else(|| "-".to_owned(), |commit| commit.chars().take(10).collect())
}

/// A size in the largest unit that keeps three digits: `23.5Gi`. Exact ones stay as they are.
pub(super) fn size(size: ByteSize) -> String {
    let exact = size.to_string();
    let units = [("Ti", 40_u32), ("Gi", 30), ("Mi", 20)];
    let unit = units.into_iter().find(|(_, shift)| size.0 >> shift > 0);
    match unit {
        Some((unit, shift)) if exact.len() > 6 => {
            let tenths = (u128::from(size.0) * 10) >> shift;
            format!("{}.{}{unit}", tenths / 10, tenths % 10)
        }
        _ => exact,
    }
}

/// `cpu 2, memory 4Gi, gpu 1`; `nothing` when all are zero.
pub(super) fn resources(resources: &Resources) -> String {
    let mut parts = Vec::new();
    let mut add = |name: &str, amount: String| {
        if amount != "0" {
            parts.push(format!("{name} {amount}"));
        }
    };
    add("cpu", resources.cpu.to_string());
    add("memory", size(resources.memory));
    add("disk", size(resources.disk));
    for (name, amount) in &resources.custom {
        add(name, amount.to_string());
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// The reason as a cell; `None` is no reason at all.
pub(super) fn reason(reason: Reason) -> String {
    match reason {
        Reason::None => String::new(),
        known => format!("{known:?}"),
    }
}

/// The colour of a phase.
pub(crate) fn tint(phase: Phase) -> Tint {
    match phase {
        Phase::Converged => Tint::Good,
        Phase::Assigned | Phase::Running => Tint::Busy,
        Phase::Pending | Phase::Parked => Tint::Waiting,
        Phase::Unreachable | Phase::Exhausted | Phase::Failed => Tint::Bad,
        Phase::Cancelled => Tint::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let texts: Vec<_> =
            [5, 119, 120, 7199, 7200, 12_000, 40_000, 172_800, 900_000].map(span).to_vec();
        assert_eq!(texts, ["5s", "119s", "2m", "119m", "2h", "3h20m", "11h", "2d", "10d"]);
    }

    #[test]
    fn a_clock_that_is_behind_shows_zero() {
        let now = Timestamp::from_second(100).unwrap();
        assert_eq!(age(Timestamp::from_second(200).ok(), now), "0s");
        assert_eq!(age(None, now), "-");
    }

    #[test]
    fn what_is_to_come_is_told_from_now() {
        let now = Timestamp::from_second(100).unwrap();
        let at = |second| Timestamp::from_second(second).ok();
        let texts = [at(160), at(700), at(100), None].map(|at| until(at, now));
        assert_eq!(texts, ["in 60s", "in 10m", "passed", "-"]);
        let texts = [at(700), at(100), at(70), None].map(|at| moment(at, now));
        let [later, present, past] =
            ["00:11:40Z (in 10m)", "00:01:40Z (0s ago)", "00:01:10Z (30s ago)"];
        let texts = texts.each_ref().map(|text| text.trim_start_matches("1970-01-01 "));
        assert_eq!(texts, [later, present, past, "-"]);
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 4096, 24_684_092 * 1024, 16 << 30, 1_500_000_000];
        let texts = sizes.map(|bytes| size(ByteSize(bytes)));
        assert_eq!(texts, ["0", "4Ki", "23.5Gi", "16Gi", "1.3Gi"]);
    }

    #[test]
    fn durations_are_short() {
        assert_eq!([7, 12_540, 600_000].map(duration), ["7ms", "12.5s", "10m"]);
    }

    #[test]
    fn long_lists_of_names_are_counted() {
        let list: Vec<String> = ["build", "lint", "test"].map(String::from).to_vec();
        assert_eq!(names(&list, 40), "build,lint,test");
        assert_eq!(names(&list, 10), "build,lint +1");
        assert_eq!(names(&list, 1), "build +2");
        assert_eq!(names(&[], 10), "");
    }
}
