//! What a host's abilities mean for its operator.

use super::{Area, Finding};
use crate::isolation::describe;
use crate::node::Abilities;

/// The containment that no kernel mechanism backs: descendants are killed one by one.
const WEAKEST: &str = "subreaper";

/// What is weaker than it could be; empty if nothing is.
pub fn weaknesses(area: Area, abilities: &Abilities) -> Vec<Finding> {
    let mut found = Vec::new();
    if abilities.containment == WEAKEST {
        let why = abilities.weaker_because.join("; ");
        let message = format!(
            "runs are contained by a child subreaper only, not by the kernel{}",
            if why.is_empty() { String::new() } else { format!(": {why}") }
        );
        let next = "run the worker as root, or allow user namespaces (sysctl \
                    user.max_user_namespaces, kernel.unprivileged_userns_clone=1)";
        found.push(Finding::warning(area, "ContainmentWeak", message, next));
    }
    if let Some(first) = abilities.missing_layers.keys().next() {
        let lines: Vec<String> = describe(&abilities.missing_layers, |_| true)
            .iter()
            .map(|line| line.trim().to_owned())
            .collect();
        let message = format!("runs are not isolated fully: {}", lines.join(" "));
        found.push(Finding::warning(area, "IsolationWeak", message, first.remedy()));
    }
    let (mut missing, mut steps) = (Vec::new(), Vec::new());
    let mut lacks = |has: bool, what: &'static str, step: &'static str| {
        if !has {
            missing.push(what);
            steps.push(step);
        }
    };
    let memory = "memory lock: LimitMEMLOCK=infinity";
    lacks(abilities.memory_locked, "its memory may be paged out", memory);
    let priority = "priority: LimitNICE=-20";
    lacks(abilities.priority_raised, "it has no priority over other processes", priority);
    let killer = "memory killer: the capability CAP_SYS_RESOURCE";
    lacks(abilities.oom_protected, "the kernel may kill it when memory ends", killer);
    if !missing.is_empty() {
        let message = format!("the guard can be starved: {}", missing.join(", "));
        let next = format!("give the worker in its unit file, for {}", steps.join("; for "));
        found.push(Finding::warning(area, "GuardStarvable", message, &next));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_weaker_is_said_with_the_reason() {
        let strong = Abilities {
            containment: "pid-namespace".to_owned(),
            memory_locked: true,
            priority_raised: true,
            oom_protected: true,
            ..Abilities::default()
        };
        assert_eq!(weaknesses(Area::Node, &strong), []);
        let weak = Abilities {
            containment: "subreaper".to_owned(),
            weaker_because: vec!["no namespaces: EPERM".to_owned()],
            priority_raised: false,
            ..strong
        };
        let found = weaknesses(Area::Node, &weak);
        let codes: Vec<_> = found.iter().map(|one| one.code.as_str()).collect();
        assert_eq!(codes, ["ContainmentWeak", "GuardStarvable"]);
        assert!(found[0].message.ends_with("kernel: no namespaces: EPERM"), "{}", found[0].message);
        assert!(found.iter().all(|one| !one.next_step.is_empty()));
    }
}
