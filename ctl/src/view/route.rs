//! `route explain`: what would become of a model call.

use serde_json::Value;

use crate::output::Tint;

/// The text of an answer.
pub(crate) fn text(answer: &Value, color: bool) -> String {
    let asked = &answer["asked"];
    let mut lines = vec![format!(
        "A call for {} over {} from {}: {} ({}).",
        words(&asked["model"]),
        words(&asked["protocol"]),
        caller(asked),
        words(&asked["subtask"]),
        words(&asked["subtaskWhy"]),
    )];
    match answer["served"].as_bool() {
        Some(true) => plan(&mut lines, &answer["plan"], color),
        _ => refused(&mut lines, &answer["refused"], color),
    }
    lines.push(String::new());
    lines.join("\n")
}

fn caller(asked: &Value) -> String {
    let who = match asked["loop"].as_str() {
        Some("") | None => format!("a loop in namespace {}", words(&asked["namespace"])),
        Some(name) => format!("loop {}/{name}", words(&asked["namespace"])),
    };
    format!("{who}, stall {}", words(&asked["stall"]))
}

fn plan(lines: &mut Vec<String>, plan: &Value, color: bool) {
    lines.push(format!("Route {}: {}", words(&plan["route"]), words(&plan["routeWhy"])));
    lines.push(format!("Tier {}: {}", words(&plan["tier"]), words(&plan["tierWhy"])));
    let steps = plan["steps"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, step) in steps.iter().enumerate() {
        let (provider, model) = (words(&step["provider"]), words(&step["model"]));
        lines.push(format!("  {}. {provider} {model}: {}", index + 1, words(&step["why"])));
    }
    let left_out = plan["leftOut"].as_array().map_or(&[][..], Vec::as_slice);
    for one in left_out {
        let (provider, model) = (words(&one["provider"]), words(&one["model"]));
        let text = format!("  not {provider} {model}: {}", words(&one["why"]));
        lines.push(Tint::Dim.paint(&text, color));
    }
    let on_error = &plan["onError"];
    lines.push(format!(
        "At most {} tries; at most {} output tokens where the client sets no limit.",
        words(&on_error["tries"]),
        words(&plan["maxOutputTokens"]),
    ));
}

fn refused(lines: &mut Vec<String>, refused: &Value, color: bool) {
    lines.push(Tint::Bad.paint(&format!("Refused: {}", words(&refused["message"])), color));
    let reasons = refused["reasons"].as_array().map_or(&[][..], Vec::as_slice);
    lines.extend(reasons.iter().map(|reason| format!("  - {}", words(reason))));
}

/// Text or number, without control characters: models' names come from outside.
fn words(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_is_told_in_order_and_a_refusal_with_its_reasons() {
        let asked = json!({
            "model": "large", "protocol": "chat", "namespace": "team", "loop": "fix", "stall": 3,
            "subtask": "large", "subtaskWhy": "\"large\" is asked for",
        });
        let plan = json!({
            "route": "main", "routeWhy": "it takes every call", "tier": "strong", "tierWhy": "stall 3",
            "steps": [{ "provider": "acme", "model": "big-1", "why": "this session's share" }],
            "leftOut": [{ "provider": "beta", "model": "big-2", "why": "provider beta speaks chat" }],
            "onError": { "tries": 3 }, "maxOutputTokens": 8192,
        });
        let served = json!({ "served": true, "asked": asked, "plan": plan });
        insta::assert_snapshot!(text(&served, false), @r#"
        A call for large over chat from loop team/fix, stall 3: large ("large" is asked for).
        Route main: it takes every call
        Tier strong: stall 3
          1. acme big-1: this session's share
          not beta big-2: provider beta speaks chat
        At most 3 tries; at most 8192 output tokens where the client sets no limit.
        "#);
        let refused = json!({ "message": "nobody", "reasons": ["route a: no", "route b: no"] });
        let mut asked = asked;
        asked["loop"] = json!("");
        let refused = json!({ "served": false, "asked": asked, "refused": refused });
        insta::assert_snapshot!(text(&refused, false), @r#"
        A call for large over chat from a loop in namespace team, stall 3: large ("large" is asked for).
        Refused: nobody
          - route a: no
          - route b: no
        "#);
    }
}
