//! Dashboards show metrics that exist.

use crate::offence::Offence;
use crate::tree::File;

/// What Prometheus puts behind a metric's name: its unit, and what a series of it is.
const ENDS: [&str; 10] = [
    "_total",
    "_USD_total",
    "_USD_sum",
    "_USD_count",
    "_USD_bucket",
    "_seconds_sum",
    "_seconds_count",
    "_seconds_bucket",
    "_sum",
    "_count",
];

/// Names in the expressions of a dashboard that no metric of `names` (the module with all of them) has.
pub(crate) fn unknown_metrics(dashboard: &File, names: &File) -> Vec<Offence> {
    let known: Vec<String> = names
        .text
        .lines()
        .filter(|line| line.starts_with("pub const METRIC_"))
        .filter_map(|line| line.split('"').nth(1))
        .map(|name| name.replace('.', "_"))
        .collect();
    let is_known = |word: &str| {
        // A sum that goes up and down has its plain name.
        let plain = |name: &String| name == word && name.ends_with("_waiting");
        if known.iter().any(plain) {
            return true;
        }
        ENDS.iter()
            .filter_map(|end| word.strip_suffix(end))
            .any(|name| known.iter().any(|k| k == name))
    };
    let lines = dashboard.text.lines().enumerate().filter(|(_, line)| line.contains("\"expr\":"));
    lines
        .flat_map(|(at, line)| words(line).map(move |word| (at + 1, word)))
        .filter(|(_, word)| !is_known(word))
        .map(|(at, word)| Offence::new(&dashboard.path, at, format!("no metric is {word}")))
        .collect()
}

/// Names of series: what stands before a range, and whatever else begins as our metrics do and is no label to sum by.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let series = line.split('[').collect::<Vec<_>>();
    let before = series.len().saturating_sub(1);
    let ranges = series.into_iter().take(before);
    let ranges = ranges.filter_map(move |part| part.rsplit(|c: char| !is_name(c)).next());
    let outside = line.split(" by (").enumerate().map(|(at, part)| match at {
        0 => part,
        _ => part.split_once(')').map_or("", |(_, rest)| rest),
    });
    let words = outside.flat_map(move |part| part.split(move |c: char| !is_name(c)));
    let ours = |word: &&str| word.starts_with("flyball_") || word.starts_with("gen_ai_");
    ranges.chain(words.filter(ours))
}

#[test]
fn a_metric_that_does_not_exist_is_found() {
    let names = "pub const METRIC_COST: &str = \"flyball.cost\";\n";
    let names = File::sample("semconv.rs", names);
    let shows = |expr: &str| File::sample("d.json", &format!("\"expr\": \"{expr}\","));
    let known = shows("sum(rate(flyball_cost_USD_total[1h]))");
    assert!(unknown_metrics(&known, &names).is_empty());
    let both = shows("rate(flyball_costs_USD_total[1h]) / rate(flyball_cost_USD_total[1h])");
    assert!(!unknown_metrics(&both, &names).is_empty());
    let now = shows("sum by (flyball_direction) (flyball_waits)");
    assert_eq!(unknown_metrics(&now, &names).len(), 1);
}
