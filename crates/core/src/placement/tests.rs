//! Placement as a table: nodes, what the loop needs, what comes out. And properties over random
//! clusters.

use proptest::prelude::*;

use super::*;
use crate::quantity::{ByteSize, CpuMillis};
use crate::spec::SecretSpec;

fn add(resources: &mut Resources, name: &str, amount: &str) {
    match name {
        "cpu" => resources.cpu = amount.parse().unwrap(),
        "memory" => resources.memory = amount.parse().unwrap(),
        "disk" => resources.disk = amount.parse().unwrap(),
        custom => {
            resources.custom.insert(custom.to_owned(), amount.parse().unwrap());
        }
    }
}

/// `n1 cpu=4 used.cpu=1 slots=2/4 label.zone=eu offline`: a node, ready and with 8 slots if it does
/// not say otherwise.
fn node(text: &str) -> NodeView {
    let mut words = text.split_whitespace();
    let name = NodeName::from(words.next().unwrap());
    let mut node = NodeView { name, slots: 8, online: true, ..NodeView::default() };
    for word in words {
        match word.split_once('=') {
            None if word == "offline" => node.online = false,
            None if word == "cordoned" => node.mark = NodeMark::Cordoned,
            None if word == "draining" => node.mark = NodeMark::Draining,
            None => panic!("{word}"),
            Some(("slots", value)) => {
                let (used, slots) = value.split_once('/').unwrap();
                (node.slots_used, node.slots) = (used.parse().unwrap(), slots.parse().unwrap());
            }
            Some((name, value)) => match name.split_once('.') {
                Some(("used", name)) => add(&mut node.used, name, value),
                Some(("label", key)) => {
                    node.labels.insert(key.to_owned(), value.to_owned());
                }
                _ => add(&mut node.capacity, name, value),
            },
        }
    }
    node
}

/// `cpu=2 gpu=1 label.zone=eu avoid=n1`: what the loop needs.
fn outcome(nodes: &[&str], wants: &str) -> String {
    let nodes: Vec<NodeView> = nodes.iter().map(|text| node(text)).collect();
    let mut spec = LoopSpec::default();
    let mut avoid = None;
    for word in wants.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        match name.strip_prefix("label.") {
            Some(key) => {
                spec.placement.required_labels.insert(key.to_owned(), value.to_owned());
            }
            None if name == "avoid" => avoid = Some(NodeName::from(value)),
            None => add(&mut spec.needs, name, value),
        }
    }
    match place(&spec, &nodes, avoid.as_ref()) {
        Placement::On { node, score } => format!("{node} {score}"),
        Placement::Wait { summary, .. } => format!("wait: {summary}"),
        Placement::Never { summary, .. } => format!("never: {summary}"),
    }
}

macro_rules! cases {
    ($($name:ident: $nodes:expr, $wants:expr, $outcome:expr;)*) => {
        $(#[test] fn $name() { assert_eq!(outcome(&$nodes, $wants), $outcome); })*
    };
}

cases! {
    empty_cluster_waits: [], "", "wait: no node is known yet";
    first_name_wins_a_tie: ["n2", "n1"], "", "n1 875";
    loops_without_needs_are_spread: ["n1 slots=2/8", "n2 slots=1/8"], "", "n2 750";
    slots_count_as_a_share: ["n1 slots=1/2", "n2 slots=4/16"], "", "n2 687";
    most_free_share_wins: ["n1 cpu=4 used.cpu=2", "n2 cpu=4 used.cpu=1"], "cpu=1", "n2 687";
    share_not_amount: ["n1 cpu=16 used.cpu=12", "n2 cpu=4"], "cpu=2", "n2 687";
    all_kinds_count: ["n1 cpu=4 memory=8Gi used.memory=6Gi", "n2 cpu=4 used.cpu=2 memory=8Gi"],
        "memory=1Gi", "n2 750";
    exact_fit: ["n1 cpu=2 slots=0/1"], "cpu=2", "n1 0";
    custom_resource: ["n1 cpu=8", "n2 cpu=8 gpu=1"], "gpu=1", "n2 625";
    rare_nodes_are_kept_free: ["n1 gpu=1", "n2"], "", "n2 875";
    label_required: ["n1 label.zone=us", "n2 label.zone=eu"], "label.zone=eu", "n2 875";
    lost_run_goes_elsewhere: ["n1", "n2 slots=7/8"], "avoid=n1", "n2 0";
    lost_run_returns_if_nothing_else: ["n1", "n2 cordoned"], "avoid=n1", "n1 875";
    zero_need_is_no_need: ["n1"], "gpu=0", "n1 875";

    reasons_are_counted: ["n1 cpu=2", "n2 cpu=2", "n3 gpu=1 cordoned"], "gpu=1",
        "wait: 0 of 3 nodes fit: 2 lack gpu (need 1, have 0), 1 is cordoned";
    differing_amounts: ["n1 cpu=2", "n2 cpu=1500m", "n3 cpu=4 offline"], "cpu=4",
        "wait: 0 of 3 nodes fit: 2 lack cpu (need 4, have at most 2), 1 is offline";
    short_for_now: ["n1 memory=8Gi used.memory=7000Mi"], "memory=2Gi",
        "wait: 0 of 1 node fits: 1 is short of memory (need 2Gi, free 1.1Gi of 8Gi)";
    short_in_several: ["n1 cpu=4 used.cpu=3", "n2 cpu=4 used.cpu=3500m"], "cpu=2",
        "wait: 0 of 2 nodes fit: 2 are short of cpu (need 2, free at most 1)";
    full: ["n1 slots=2/2", "n2 slots=4/4"], "",
        "wait: 0 of 2 nodes fit: 2 are full (no free slot)";
    full_with_number: ["n1 slots=2/2", "n2 draining"], "",
        "wait: 0 of 2 nodes fit: 1 is full (2 of 2 slots used), 1 is draining";
    used_over_capacity: ["n1 cpu=2 used.cpu=3"], "cpu=1",
        "wait: 0 of 1 node fits: 1 is short of cpu (need 1, free 0 of 2)";
    permanent_reason_first: ["n1 offline", "n2 offline gpu=1"], "gpu=1",
        "wait: 0 of 2 nodes fit: 1 lacks gpu (need 1, have 0), 1 is offline";

    never_names_the_nearest: ["n1 gpu=1", "n2 gpu=3 offline", "n3"], "gpu=4",
        "never: no known node can ever fit: nearest is n2, which lacks gpu (need 4, have 3) \
         (0 of 3 nodes fit: 3 lack gpu (need 4, have at most 3))";
    never_by_label: ["n1 label.zone=us", "n2"], "label.zone=eu",
        "never: no known node can ever fit: nearest is n1, which has label zone=us (need eu) \
         (0 of 2 nodes fit: 2 lack label zone=eu)";
    never_lists_all_that_lacks: ["n1 cpu=2 memory=1Gi"], "cpu=4 memory=2Gi label.a=b",
        "never: no known node can ever fit: nearest is n1, which lacks label a=b and lacks cpu \
         (need 4, have 2) and lacks memory (need 2Gi, have 1Gi)";
    never_without_slots: ["n1 slots=0/0"], "",
        "never: no known node can ever fit: nearest is n1, which has no slots";
    never_fewer_lacks_are_nearer: ["n1 cpu=8 label.z=a", "n2 cpu=8 label.z=b"],
        "cpu=9 label.z=b",
        "never: no known node can ever fit: nearest is n2, which lacks cpu (need 9, have 8) \
         (0 of 2 nodes fit: 1 has label z=a (need b), 1 lacks cpu (need 9, have 8))";
}

#[test]
fn every_node_has_its_reasons() {
    let nodes = [node("b cpu=1 offline cordoned"), node("a cpu=4 used.cpu=3 label.zone=us")];
    let mut spec = LoopSpec::default();
    spec.needs.cpu = CpuMillis(2000);
    let Placement::Wait { reasons, .. } = place(&spec, &nodes, None) else { panic!() };
    let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "a is short of cpu (need 2, free 1 of 4)",
            "b lacks cpu (need 2, have 1), is offline, is cordoned",
        ]
    );
}

#[test]
fn bytes_are_never_rounded_up() {
    let memory = Countable::Memory;
    assert_eq!(memory.show((1 << 30) - 1), "1023.9Mi");
    assert_eq!(memory.show(1 << 30), "1Gi");
    assert_eq!(memory.show(1023), "1023");
    assert_eq!(memory.show(u64::MAX), "16777215.9Ti");
}

fn resources(max: u64) -> impl Strategy<Value = Resources> {
    (0..=max, 0..=max, prop::option::of(0..=max)).prop_map(|(cpu, memory, gpu)| Resources {
        cpu: CpuMillis(cpu),
        memory: ByteSize(memory),
        disk: ByteSize(0),
        custom: gpu.map(|gpu| ("gpu".to_owned(), gpu)).into_iter().collect(),
        ..Resources::default()
    })
}

fn label() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::option::of(prop::sample::select(vec!["eu", "us"])).prop_map(|zone| {
        zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect()
    })
}

fn cluster() -> impl Strategy<Value = Vec<NodeView>> {
    let marks = vec![NodeMark::Schedulable, NodeMark::Cordoned, NodeMark::Draining];
    let parts = (resources(4), resources(3), label(), 0..3u32, 0..3u32, any::<bool>());
    let parts = (parts, prop::sample::select(marks));
    prop::collection::vec(parts, 0..5).prop_map(|parts| {
        let named = parts.into_iter().enumerate();
        named
            .map(|(n, ((capacity, used, labels, slots, slots_used, online), mark))| NodeView {
                name: NodeName::from(format!("n{n}")),
                labels,
                capacity,
                used,
                slots,
                slots_used,
                mark,
                online,
                ..NodeView::default()
            })
            .collect()
    })
}

/// Whether the loop fits, written once more from the definition.
fn fits(spec: &LoopSpec, node: &NodeView) -> bool {
    let free = |need: u64, used: u64, capacity: u64| need == 0 || used + need <= capacity;
    let gpu = |resources: &Resources| resources.custom.get("gpu").copied().unwrap_or(0);
    let (need, used, has) = (&spec.needs, &node.used, &node.capacity);
    node.online
        && node.mark == NodeMark::Schedulable
        && node.slots_used < node.slots
        && spec.placement.required_labels.iter().all(|(k, v)| node.labels.get(k) == Some(v))
        && free(need.cpu.0, used.cpu.0, has.cpu.0)
        && free(need.memory.0, used.memory.0, has.memory.0)
        && free(gpu(need), gpu(used), gpu(has))
}

/// The node as it would be without claims, online and open for runs.
fn emptied(node: &NodeView) -> NodeView {
    let mut node = node.clone();
    (node.used, node.slots_used) = (Resources::default(), 0);
    (node.online, node.mark) = (true, NodeMark::Schedulable);
    node
}

proptest! {
    #[test]
    fn decisions_follow_from_who_fits(
        needs in resources(5), labels in label(), nodes in cluster(), avoid in 0..5usize,
    ) {
        let mut spec = LoopSpec { needs, ..LoopSpec::default() };
        spec.placement.required_labels = labels;
        let avoid = NodeName::from(format!("n{avoid}"));
        let fitting: Vec<&NodeView> = nodes.iter().filter(|node| fits(&spec, node)).collect();
        let ever = nodes.is_empty() || nodes.iter().any(|node| fits(&spec, &emptied(node)));
        let decision = place(&spec, &nodes, Some(&avoid));
        match &decision {
            Placement::On { node, score } => {
                prop_assert!(fitting.iter().any(|fitting| fitting.name == *node));
                prop_assert!(*node != avoid || fitting.len() == 1);
                prop_assert!(*score <= 1000);
            }
            Placement::Wait { reasons, .. } => {
                prop_assert!(fitting.is_empty() && ever);
                prop_assert_eq!(reasons.len(), nodes.len());
                prop_assert!(reasons.iter().all(|reason| !reason.misfits.is_empty()));
            }
            Placement::Never { nearest, reasons, .. } => {
                prop_assert!(!ever);
                prop_assert!(nearest.is_some());
                prop_assert_eq!(reasons.len(), nodes.len());
            }
        }
        let mut turned = nodes.clone();
        turned.reverse();
        prop_assert_eq!(place(&spec, &turned, Some(&avoid)), decision);
    }
}

#[test]
fn a_node_that_failed_starts_is_left_alone_and_says_so() {
    let resting = |faults, seconds| Some(Resting { faults, seconds });
    let tired = |name: &str, resting| NodeView {
        name: NodeName::from(name),
        slots: 2,
        online: true,
        resting,
        ..NodeView::default()
    };
    let spec = LoopSpec::default();
    let nodes = [tired("n1", resting(1, 2)), tired("n2", None)];
    assert!(matches!(place(&spec, &nodes, None), Placement::On { node, .. } if node.0 == "n2"));
    let Placement::Wait { summary, reasons } = place(&spec, &nodes[..1], None) else { panic!() };
    assert_eq!(summary, "0 of 1 node fits: 1 could not start a run, and is avoided for 2 s more");
    assert_eq!(reasons[0].to_string(), "n1 could not start a run, and is avoided for 2 s more");
    let nodes = [tired("n1", resting(1, 2)), tired("n2", resting(3, 9))];
    let Placement::Wait { summary, reasons } = place(&spec, &nodes, None) else { panic!() };
    assert_eq!(summary, "0 of 2 nodes fit: 2 could not start runs and are avoided for a while");
    let second = "n2 could not start 3 runs in a row, and is avoided for 9 s more";
    assert_eq!(reasons[1].to_string(), second);
}

#[test]
fn a_strict_loop_goes_where_every_layer_is() {
    let mut spec = LoopSpec::default();
    let whole = NodeView { missing_layers: Some(Vec::new()), ..node("whole") };
    let weak = NodeView { missing_layers: Some(vec![Layer::Network]), ..node("weak") };
    let silent = node("silent");
    let nodes = [weak.clone(), silent.clone()];
    assert!(matches!(place(&spec, &nodes, None), Placement::On { .. }));
    spec.sandbox.isolation = IsolationLevel::Strict;
    let Placement::Never { summary, .. } = place(&spec, &nodes, None) else { panic!("placed") };
    for part in ["without network", "does not say how well it isolates"] {
        assert!(summary.contains(part), "{summary}");
    }
    let Placement::On { node, .. } = place(&spec, &[weak, silent, whole], None) else {
        panic!("not placed")
    };
    assert_eq!(node.as_str(), "whole");
}

#[test]
fn a_loop_goes_where_what_it_names_is_offered() {
    let mut spec = LoopSpec::default();
    spec.sandbox.caches = vec!["npm".to_owned()];
    let Placement::Never { summary, .. } = place(&spec, &[node("n1")], None) else {
        panic!("placed")
    };
    assert!(summary.contains("does not offer cache npm"), "{summary}");
    let mut offering = node("n2");
    offering.offers.caches = vec!["npm".to_owned()];
    assert!(matches!(place(&spec, &[offering], None), Placement::On { .. }));
}

#[test]
fn secrets_as_files_need_a_file_tree_of_the_steps_own() {
    let secret = |file| SecretSpec {
        name: "token".to_owned(),
        to: vec!["agent".to_owned()],
        env: "TOKEN".to_owned(),
        file,
    };
    let mut weak = node("n1");
    weak.missing_layers = Some(vec![Layer::Mount]);
    let mut spec = LoopSpec { secrets: vec![secret(true)], ..LoopSpec::default() };
    let Placement::Never { summary, .. } = place(&spec, &[weak.clone()], None) else {
        panic!("placed")
    };
    assert!(summary.contains("does not offer secrets as files"), "{summary}");
    let mut whole = node("n2");
    whole.missing_layers = Some(Vec::new());
    assert!(matches!(place(&spec, &[whole], None), Placement::On { .. }));
    spec.secrets = vec![secret(false)];
    assert!(matches!(place(&spec, &[weak], None), Placement::On { .. }));
}
