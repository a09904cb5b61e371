//! Decisions as a table, and properties over random routes.

use proptest::prelude::*;

use super::*;
use crate::model::{Match, OnError, Stall, SubtaskClass};

fn deployment(provider: &str, model: Option<&str>, weight: u32) -> Deployment {
    Deployment { provider: provider.to_owned(), model: model.map(str::to_owned), weight }
}

fn tier(name: &str, stall: u32, deployments: &[Deployment]) -> Tier {
    Tier { name: name.to_owned(), from: Stall { stall }, deployments: deployments.to_vec() }
}

fn spec(priority: i32, matches: &[Match], tiers: &[Tier]) -> ModelRouteSpec {
    let (matches, tiers) = (matches.to_vec(), tiers.to_vec());
    ModelRouteSpec {
        priority,
        matches,
        tiers,
        on_error: OnError::default(),
        max_output_tokens: 100,
    }
}

/// A cheap tier, and a strong one from stall 2 on; reviews go elsewhere; `local` speaks another protocol.
fn routing() -> Routing {
    let cheap = [deployment("acme", Some("small-1"), 3), deployment("beta", Some("small-2"), 1)];
    let strong = [deployment("acme", Some("big-1"), 1), deployment("local", None, 0)];
    let main = spec(0, &[], &[tier("cheap", 0, &cheap), tier("strong", 2, &strong)]);
    let reviews = Match { subtasks: vec![SubtaskClass::Review], ..Match::default() };
    let hard = Match {
        models: vec!["claude-*".to_owned()],
        namespaces: vec!["team-*".to_owned()],
        labels: BTreeMap::from([("hard".to_owned(), "yes".to_owned())]),
        distance_at_least: Some(3),
        ..Match::default()
    };
    let review = spec(5, &[reviews, hard], &[tier("only", 0, &[deployment("beta", None, 1)])]);
    let local = Match { models: vec!["llama".to_owned()], ..Match::default() };
    let local = spec(5, &[local], &[tier("only", 0, &[deployment("local", None, 1)])]);
    let gone = Match { models: vec!["gone-*-x".to_owned()], ..Match::default() };
    let gone = spec(5, &[gone], &[tier("only", 0, &[deployment("nobody", None, 1)])]);
    let routes = [("main", main), ("review", review), ("local", local), ("gone", gone)];
    let anthropic = vec![Protocol::Anthropic];
    let providers =
        [("acme", anthropic.clone()), ("beta", anthropic), ("local", vec![Protocol::Chat])];
    Routing::new(
        routes.map(|(name, spec)| (name.to_owned(), spec)),
        providers.map(|(name, spoken)| (name.to_owned(), spoken)),
    )
}

fn asking(model: &str, header: Option<&str>, situation: &Situation) -> Result<Plan, Refused> {
    let subtask = classify(header, model, Features { tools: true, max_output: None });
    let asked = Asked {
        model,
        protocol: Protocol::Anthropic,
        subtask: &subtask,
        situation,
        sticky: "run-1/session-1",
    };
    choose(&routing(), &asked, &all_well)
}

fn stalled(stall: u32) -> Situation {
    Situation { namespace: "default".to_owned(), stall, ..Situation::default() }
}

fn told(answer: &Result<Plan, Refused>) -> String {
    match answer {
        Ok(plan) => {
            let mut lines = vec![
                format!("route {}: {}", plan.route, plan.route_why),
                format!("tier {} ({}): {}", plan.tier, plan.tier_index, plan.tier_why),
            ];
            let step =
                |one: &Step| format!("{} {} {}: {}", one.tier, one.provider, one.model, one.why);
            lines.extend(plan.steps.iter().map(step));
            lines.extend(plan.left_out.iter().map(|one| format!("not {one}")));
            lines.join("\n")
        }
        Err(refused) => {
            let reasons = refused.reasons().into_iter();
            let all = std::iter::once(format!("{}: {refused}", refused.label())).chain(reasons);
            all.collect::<Vec<_>>().join("\n")
        }
    }
}

#[test]
fn every_choice_explains_itself() {
    insta::assert_snapshot!(told(&asking("opus", None, &stalled(0))), @"
    route main: it takes every call
    tier cheap (0): the loop does not stall; tier strong is from 2 on
    cheap acme small-1: this session's share: weight 3 of 4
    cheap beta small-2: asked when those before it fail
    strong acme big-1: asked when tier cheap fails
    not local opus (tier strong): provider local speaks chat, not anthropic
    ");
    insta::assert_snapshot!(told(&asking("opus", None, &stalled(3))), @"
    route main: it takes every call
    tier strong (1): stall 3: iterations in a row without improvement, and it is from 2 on
    strong acme big-1: this session's share: weight 1 of 1
    cheap acme small-1: asked when tier strong fails
    cheap beta small-2: asked when tier strong fails
    not local opus (tier strong): provider local speaks chat, not anthropic
    ");
    insta::assert_snapshot!(told(&asking("opus", Some("review"), &stalled(0))), @"
    route review: match[0]: the call is review (the client says so (x-flyball-subtask))
    tier only (0): the loop does not stall
    only beta opus: this session's share: weight 1 of 1
    ");
}

#[test]
fn a_stall_escalates_and_progress_steps_down() {
    let tiers: Vec<_> =
        [0, 1, 2, 3, 0].map(|stall| asking("m", None, &stalled(stall)).unwrap().tier).into();
    assert_eq!(tiers, ["cheap", "cheap", "strong", "strong", "cheap"]);
    let escalated = [1, 2].map(|stall| asking("m", None, &stalled(stall)).unwrap().is_escalated());
    assert_eq!(escalated, [false, true]);
}

#[test]
fn all_conditions_of_a_match_must_hold() {
    let mut situation = Situation {
        namespace: "team-a".to_owned(),
        labels: BTreeMap::from([("hard".to_owned(), "yes".to_owned())]),
        distance: Some(Distance(3_000_000)),
        stall: 0,
    };
    let route = |model: &str, situation: &Situation| asking(model, None, situation).unwrap().route;
    assert_eq!(route("claude-x", &situation), "review");
    assert_eq!(route("gpt-x", &situation), "main");
    situation.distance = Some(Distance(2_999_999));
    assert_eq!(route("claude-x", &situation), "main");
    situation.distance = None;
    assert_eq!(route("claude-x", &situation), "main");
    situation.distance = Some(Distance(9_000_000));
    situation.labels.clear();
    assert_eq!(route("claude-x", &situation), "main");
    assert_eq!(routing().for_loop("team-a", &situation.labels).routes().count(), 4);
}

#[test]
fn refusals_say_what_is_missing() {
    insta::assert_snapshot!(told(&asking("llama", None, &stalled(0))), @"
    other-protocol: route local takes the call, but its providers speak chat and not anthropic; calls are not translated
    local llama (tier only): provider local speaks chat, not anthropic
    ");
    insta::assert_snapshot!(told(&asking("gone-for-x", None, &stalled(0))), @"
    no-provider: route gone takes the call, but none of the providers it names exists
    nobody gone-for-x (tier only): provider nobody does not exist
    ");
    let only_claude = Match { models: vec!["claude-*".to_owned()], ..Match::default() };
    let late = Match { stall_at_least: Some(2), ..Match::default() };
    let tiers = [tier("t", 0, &[deployment("acme", None, 1)])];
    let routes = [("a".to_owned(), spec(0, &[only_claude, late], &tiers))];
    let subtask = classify(None, "gpt", Features::default());
    let (situation, protocol) = (stalled(1), Protocol::Chat);
    let asked =
        Asked { model: "gpt", protocol, subtask: &subtask, situation: &situation, sticky: "" };
    insta::assert_snapshot!(told(&choose(&Routing::new(routes, []), &asked, &all_well)), @r#"
    no-route: none of 1 model routes takes a call for "gpt"
    route a: match[0]: model "gpt" is not like claude-*; match[1]: the loop's stall is 1; at least 2 is wanted
    "#);
    insta::assert_snapshot!(told(&choose(&Routing::default(), &asked, &all_well)), @r#"no-route: there is no model route for this loop, so nobody serves model "gpt""#);
}

#[test]
fn who_rests_is_passed_over_and_the_rest_keep_their_order() {
    let subtask = classify(None, "m", Features::default());
    let (situation, protocol) = (stalled(0), Protocol::Anthropic);
    let asked =
        Asked { model: "m", protocol, subtask: &subtask, situation: &situation, sticky: "s" };
    let rest = |seconds| {
        move |provider: &str, _: &str| {
            let left = Duration::from_secs(if provider == "beta" { seconds } else { seconds + 5 });
            let resting = Resting {
                left,
                why: "3 failures in a row, the last: 529".to_owned(),
                limited: false,
            };
            (provider != "acme" || seconds > 20).then_some(resting)
        }
    };
    insta::assert_snapshot!(told(&choose(&routing(), &asked, &rest(7))), @"
    route main: it takes every call
    tier cheap (0): the loop does not stall; tier strong is from 2 on
    cheap acme small-1: this session's share: weight 3 of 4
    strong acme big-1: asked when tier cheap fails
    not beta small-2 (tier cheap): left alone for 7s yet: 3 failures in a row, the last: 529
    not local m (tier strong): provider local speaks chat, not anthropic
    ");
    let refused = choose(&routing(), &asked, &rest(30));
    insta::assert_snapshot!(told(&refused), @"
    resting: route main takes the call, but its 4 deployments cannot be asked now; the first can be in 30s
    acme small-1 (tier cheap): left alone for 35s yet: 3 failures in a row, the last: 529
    beta small-2 (tier cheap): left alone for 30s yet: 3 failures in a row, the last: 529
    acme big-1 (tier strong): left alone for 35s yet: 3 failures in a row, the last: 529
    local m (tier strong): provider local speaks chat, not anthropic
    ");
    assert_eq!(refused.unwrap_err().retry_after(), Some(Duration::from_secs(30)));
}

#[test]
fn classes_come_from_header_name_and_features_in_this_order() {
    let tools = Features { tools: true, max_output: Some(100) };
    for (header, model, features, class) in [
        (Some("plan"), "small", tools, SubtaskClass::Plan),
        (Some(" review "), "opus", tools, SubtaskClass::Review),
        (Some("junk"), "small", tools, SubtaskClass::Small),
        (None, "large", Features { tools: false, max_output: Some(5) }, SubtaskClass::Large),
        (None, "claude-3-5-haiku-20241022", tools, SubtaskClass::Small),
        (None, "gpt-5-mini", tools, SubtaskClass::Small),
        (None, "gemini-2.5-pro", tools, SubtaskClass::Large),
        (None, "review", tools, SubtaskClass::Large),
        (None, "opus", Features { tools: false, max_output: Some(1024) }, SubtaskClass::Small),
        (None, "opus", Features { tools: false, max_output: Some(1025) }, SubtaskClass::Large),
        (None, "opus", Features::default(), SubtaskClass::Large),
    ] {
        let found = classify(header, model, features);
        assert_eq!(found.class, class, "{header:?} {model} {}", found.why);
    }
}

fn any_tiers() -> impl Strategy<Value = Vec<Tier>> {
    let one = (0..5_u8, 0..3_u8, 0..4_u32).prop_map(|(provider, model, weight)| {
        deployment(&format!("p{provider}"), Some(&format!("m{model}")), weight)
    });
    let tiers = proptest::collection::vec((proptest::collection::vec(one, 1..5), 1..4_u32), 1..4);
    tiers.prop_map(|tiers| {
        let mut stall = 0;
        let numbered = tiers.into_iter().enumerate();
        let tiers = numbered.map(|(index, (deployments, gap))| {
            let from = stall;
            stall += gap;
            tier(&format!("t{index}"), from, &deployments)
        });
        tiers.collect()
    })
}

#[test]
fn of_the_accounts_at_their_limit_the_first_is_named() {
    let subtask = classify(None, "m", Features::default());
    let (situation, protocol) = (stalled(0), Protocol::Anthropic);
    let asked =
        Asked { model: "m", protocol, subtask: &subtask, situation: &situation, sticky: "s" };
    for (acme, beta, first) in [
        ((30, true), (5, false), (5, Some(("acme", 30)))),
        ((30, true), (5, true), (5, Some(("beta", 5)))),
        ((4, true), (5, true), (4, Some(("acme", 4)))),
        ((4, false), (5, false), (4, None)),
    ] {
        let health = |provider: &str, _: &str| {
            let (seconds, limited) = if provider == "acme" { acme } else { beta };
            let (left, why) = (Duration::from_secs(seconds), "429".to_owned());
            Some(Resting { left, why, limited })
        };
        let Err(Refused::Resting { left, limited, .. }) = choose(&routing(), &asked, &health)
        else {
            panic!("{acme:?} {beta:?}")
        };
        let limited = limited.as_ref().map(|one| (one.provider.as_str(), one.left.as_secs()));
        assert_eq!((left.as_secs(), limited), first);
    }
    // Who comes after one that is left alone has the next share.
    let rests = |provider: &str, _: &str| {
        let (left, why, limited) = (Duration::from_secs(9), "529".to_owned(), false);
        (provider == "acme").then_some(Resting { left, why, limited })
    };
    let plan = choose(&routing(), &asked, &rests).unwrap();
    assert_eq!(plan.steps[0].provider, "beta");
    assert!(plan.steps[0].why.starts_with("this session's next share"), "{}", plan.steps[0].why);
}

#[test]
fn providers_are_named_once_and_a_route_of_tiers_has_one_for_every_stall() {
    let routing = routing();
    let named: Vec<_> = routing.named_providers().into_iter().collect();
    assert_eq!(named, ["acme", "beta", "local", "nobody"]);
    let tiers = [tier("late", 2, &[]), tier("later", 4, &[])];
    let of = |stall| tier_for(&tiers, stall);
    assert_eq!([0, 2, 3, 4, 9].map(of), [Some(0), Some(0), Some(0), Some(1), Some(1)]);
    assert_eq!(tier_for(&[], 0), None);
}

proptest! {
    #[test]
    fn a_plan_keeps_its_promises(
        tiers in any_tiers(),
        stall in 0..8_u32,
        other_tiers: bool,
        spoken in proptest::collection::vec(any::<bool>(), 4),
        down in 0..16_u32,
        sticky in "[a-z]{0,4}",
    ) {
        let mut route = spec(0, &[], &tiers);
        route.on_error.other_tiers = other_tiers;
        // p4 does not exist.
        let speaks = |yes: bool| if yes { vec![Protocol::Chat] } else { vec![Protocol::Responses] };
        let providers = spoken.iter().enumerate().map(|(at, yes)| (format!("p{at}"), speaks(*yes)));
        let routing = Routing::new([("r".to_owned(), route)], providers);
        let rests = |provider: &str| {
            provider[1..].parse::<u32>().is_ok_and(|at| down >> at & 1 == 1)
        };
        let health = |provider: &str, _: &str| {
            let resting = Resting { left: Duration::from_secs(9), why: "x".to_owned(), limited: false };
            rests(provider).then_some(resting)
        };
        let subtask = classify(None, "m", Features::default());
        let (situation, protocol) = (stalled(stall), Protocol::Chat);
        let asked = Asked { model: "m", protocol, subtask: &subtask, situation: &situation, sticky: &sticky };
        let answer = choose(&routing, &asked, &health);
        prop_assert_eq!(&answer, &choose(&routing, &asked, &health));
        let can = |provider: &str| {
            let at: usize = provider[1..].parse().unwrap();
            spoken.get(at) == Some(&true) && !rests(provider)
        };
        let own = tiers.iter().rev().find(|tier| tier.from.stall <= stall).unwrap();
        let mine = |tier: &Tier| other_tiers || tier.name == own.name;
        let possible = tiers.iter().filter(|tier| mine(tier)).flat_map(|tier| &tier.deployments);
        let possible: BTreeSet<_> = possible
            .filter(|one| can(&one.provider))
            .map(|one| (one.provider.clone(), one.model.clone().unwrap()))
            .collect();
        match answer {
            Ok(plan) => {
                let steps = plan.steps.iter().map(|step| (step.provider.clone(), step.model.clone()));
                let steps: Vec<_> = steps.collect();
                prop_assert_eq!(steps.len(), possible.len(), "each once");
                prop_assert_eq!(steps.into_iter().collect::<BTreeSet<_>>(), possible);
                prop_assert_eq!(&plan.tier, &own.name);
                let foreign = plan.steps.iter().skip_while(|step| step.tier == own.name);
                prop_assert!(foreign.clone().all(|step| step.tier != own.name), "own tier first");
                // All well: those that can be asked now stand in the same order.
                let well = choose(&routing, &asked, &all_well).unwrap();
                let kept: Vec<_> = well.steps.iter().filter(|step| !rests(&step.provider)).collect();
                let order = |steps: &[&Step]| -> Vec<_> {
                    steps.iter().map(|step| (step.tier.clone(), step.provider.clone(), step.model.clone())).collect()
                };
                prop_assert_eq!(order(&kept), order(&plan.steps.iter().collect::<Vec<_>>()));
            }
            Err(refused) => {
                prop_assert!(possible.is_empty());
                prop_assert!(!refused.reasons().is_empty());
            }
        }
    }
}
