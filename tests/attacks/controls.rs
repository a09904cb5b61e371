//! Controls of attempts that are never made with a layer off: the same script as root, unconfined, in throw-away
//! namespaces. Each only opens, looks or asks with arguments that do nothing.

use std::process::{Command, Stdio};

use crate::Verdict;
use crate::list::{Attack, Bare, PRELUDE};
use crate::scene::Scene;

/// What an unconfined attempt cannot show either, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("map_more_users", "root has a mapping already, so the kernel refuses it to anybody"),
    ("leave_a_process", "what an init does not end; `outlive_the_run` has a control of its own"),
];
/// What root itself may not do everywhere: this takes CAP_SYS_RESOURCE, which containers are often without.
const NOT_ALWAYS: &[&str] = &["lower_oom_score"];
/// What a kernel says that was built without what is asked for.
const ABSENT: &[&str] =
    &["Function not implemented", "not supported", "No such file", "No such device"];

/// Of one that is never made with a layer off: whether the unconfined one gets through. Nothing for others, and
/// for the same script of a check.
pub(crate) fn of_never(scene: &Scene, attack: &Attack) -> Option<Verdict> {
    if attack.bare != Bare::Never || attack.name.starts_with("check_") {
        return None;
    }
    if let Some((_, why)) = NOT_HERE.iter().find(|(name, _)| *name == attack.name) {
        return Some(Verdict::Bit(format!("none: {why}")));
    }
    // In a file system of its own, which is gone with its namespace.
    let script = attack
        .script
        .replace("wr(\"/usr/flyball-attack\");", "")
        .replace("wr(\"/flyball-attack\");", "");
    let enter = "mount -t tmpfs none /etc && exec 9</dev/zero && exec perl -e \"$SCRIPT\"";
    let mut child = Command::new("unshare");
    child.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    child.args(["--net", "--ipc", "--uts", "--", "sh", "-c", enter]);
    child.envs(scene.environment()).env("SCRIPT", format!("{PRELUDE}{script}\nprint \"done\\n\";"));
    let done = child.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let said = String::from_utf8_lossy(&done.ok()?.stdout).into_owned();
    let through = said.lines().find(|line| line.starts_with("GOT "));
    Some(match through {
        Some(how) => Verdict::Bit(format!("bites unconfined ({how})")),
        None if NOT_ALWAYS.contains(&attack.name.as_str()) => {
            Verdict::Bit(format!("none: root is not allowed to here: {}", said.replace('\n', " ")))
        }
        None if ABSENT.iter().any(|word| said.contains(word)) => Verdict::Bit(format!(
            "none: this kernel has it for nobody: {}",
            said.replace('\n', " ")
        )),
        None => Verdict::Broken(format!("the control does not bite: {said}")),
    })
}
