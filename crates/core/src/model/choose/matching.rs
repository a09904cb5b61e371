//! Whether a route takes a call, in words.

use std::collections::BTreeMap;

use super::super::route::{Match, ModelRouteSpec};
use super::Asked;
use crate::quantity::Distance;

/// Why a route takes a call.
///
/// # Errors
/// Why it does not: of each alternative the first condition that does not hold.
pub(super) fn takes(spec: &ModelRouteSpec, asked: &Asked<'_>) -> Result<String, String> {
    if spec.matches.is_empty() {
        return Ok("it takes every call".to_owned());
    }
    let mut missed = Vec::new();
    for (index, one) in spec.matches.iter().enumerate() {
        match holds(one, asked) {
            Ok(why) => return Ok(format!("match[{index}]: {why}")),
            Err(why) => missed.push(format!("match[{index}]: {why}")),
        }
    }
    Err(missed.join("; "))
}

/// Whether some call of a loop in this namespace with these labels could be taken.
pub(super) fn could_match(
    spec: &ModelRouteSpec,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    let could = |one: &Match| in_namespace(one, namespace) && missing_label(one, labels).is_none();
    spec.matches.is_empty() || spec.matches.iter().any(could)
}

fn in_namespace(one: &Match, namespace: &str) -> bool {
    one.namespaces.is_empty() || one.namespaces.iter().any(|pattern| is_like(namespace, pattern))
}

fn missing_label<'a>(
    one: &'a Match,
    labels: &BTreeMap<String, String>,
) -> Option<(&'a str, &'a str)> {
    let missing = one.labels.iter().find(|(key, value)| labels.get(*key) != Some(value));
    missing.map(|(key, value)| (key.as_str(), value.as_str()))
}

fn holds(one: &Match, asked: &Asked<'_>) -> Result<String, String> {
    let (situation, mut why) = (asked.situation, Vec::new());
    if !one.models.is_empty() {
        let like = one.models.iter().find(|pattern| is_like(asked.model, pattern));
        let like = like.ok_or_else(|| {
            format!("model {:?} is not like {}", asked.model, one.models.join(" or "))
        })?;
        why.push(format!("model {:?} is like {like}", asked.model));
    }
    if !one.subtasks.is_empty() {
        let (class, words) = (asked.subtask.class, &asked.subtask.why);
        if !one.subtasks.contains(&class) {
            let wanted: Vec<_> = one.subtasks.iter().map(|class| class.as_str()).collect();
            return Err(format!("the call is {class} ({words}), not {}", wanted.join(" or ")));
        }
        why.push(format!("the call is {class} ({words})"));
    }
    if !in_namespace(one, &situation.namespace) {
        let wanted = one.namespaces.join(" or ");
        return Err(format!("namespace {} is not like {wanted}", situation.namespace));
    }
    if !one.namespaces.is_empty() {
        why.push(format!("namespace {}", situation.namespace));
    }
    if let Some((key, value)) = missing_label(one, &situation.labels) {
        return Err(format!("the loop does not have label {key}={value}"));
    }
    why.extend(one.labels.iter().map(|(key, value)| format!("label {key}={value}")));
    if let Some(least) = one.distance_at_least {
        let wanted = Distance(u64::from(least).saturating_mul(Distance::ONE.0));
        let Some(distance) = situation.distance else {
            return Err(format!(
                "the loop's distance was not measured yet; at least {least} is wanted"
            ));
        };
        if distance < wanted {
            return Err(format!("the loop's distance is {distance}; at least {least} is wanted"));
        }
        why.push(format!("distance {distance}, at least {least}"));
    }
    if let Some(least) = one.stall_at_least {
        let stall = situation.stall;
        if stall < least {
            return Err(format!("the loop's stall is {stall}; at least {least} is wanted"));
        }
        why.push(format!("stall {stall}, at least {least}"));
    }
    Ok(if why.is_empty() { "it takes every call".to_owned() } else { why.join(", ") })
}

/// Whether a text is like a pattern in which `*` stands for any part.
pub(super) fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        // The first place is the best one: what follows has most room behind it.
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::{Features, Situation, classify};
    use super::*;
    use crate::model::{OnError, Protocol};

    fn spec(matches: &[Match]) -> ModelRouteSpec {
        ModelRouteSpec {
            priority: 0,
            matches: matches.to_vec(),
            tiers: Vec::new(),
            on_error: OnError::default(),
            max_output_tokens: 100,
        }
    }

    #[test]
    fn patterns_stand_for_any_part() {
        for (text, pattern, like) in [
            ("abc", "abc", true),
            ("abc", "ab", false),
            ("abc", "*", true),
            ("", "*", true),
            ("", "", true),
            ("abc", "a*c", true),
            ("ac", "a*c", true),
            ("abcb", "a*b", true),
            ("abcbd", "a*b", false),
            ("aa", "a*a", true),
            ("a", "a*a", false),
            ("xaybz", "*a*b*", true),
            ("xbya", "*a*b*", false),
            ("xab", "*ab*b*", false),
            ("größe", "gr*e", true),
            ("a*c", "a*c", true),
        ] {
            assert_eq!(is_like(text, pattern), like, "{text} {pattern}");
        }
    }

    #[test]
    fn a_loop_has_the_routes_that_could_take_a_call_of_it() {
        let label = |value: &str| BTreeMap::from([("hard".to_owned(), value.to_owned())]);
        let teams = Match { namespaces: vec!["team-*".to_owned()], ..Match::default() };
        let hard_teams = Match { labels: label("yes"), ..teams.clone() };
        let late = Match { stall_at_least: Some(9), ..Match::default() };
        for (matches, in_team, in_easy_team, elsewhere) in [
            (vec![], true, true, true),
            (vec![late], true, true, true),
            (vec![hard_teams.clone()], true, false, false),
            (vec![hard_teams, teams], true, true, false),
        ] {
            let route = spec(&matches);
            let could = |namespace, value| could_match(&route, namespace, &label(value));
            let found = (could("team-a", "yes"), could("team-a", "no"), could("default", "yes"));
            assert_eq!(found, (in_team, in_easy_team, elsewhere), "{matches:?}");
        }
    }

    #[test]
    fn a_stall_is_matched_from_its_bound_on() {
        let route = spec(&[Match { stall_at_least: Some(2), ..Match::default() }]);
        let subtask = classify(None, "m", Features::default());
        let taken = [1, 2, 3].map(|stall| {
            let (situation, protocol) =
                (Situation { stall, ..Situation::default() }, Protocol::Chat);
            let (subtask, situation) = (&subtask, &situation);
            takes(&route, &Asked { model: "m", protocol, subtask, situation, sticky: "" }).is_ok()
        });
        assert_eq!(taken, [false, true, true]);
    }
}
