//! The cases.

use crate::guest::{Ended, PLACE, USER, say, service, sh, shipped_unit};

/// One case: an error says what went wrong.
type Case = (&'static str, fn() -> Result<(), String>);

/// Short ones first; the last four are whole suites, of minutes each.
pub(crate) const ALL: &[Case] = &[
    ("delegation_by_the_shipped_unit", delegation_by_the_shipped_unit),
    ("delegation_by_systemd_run", delegation_by_systemd_run),
    ("no_delegation_is_told", no_delegation_is_told),
    ("the_kernel_agrees_with_the_model", the_kernel_agrees_with_the_model),
    ("groups_as_root", groups_as_root),
    ("groups_by_the_shipped_unit", groups_by_the_shipped_unit),
    ("user_namespaces_are_refused", crate::refusals::all),
    ("too_much_memory", crate::loops::too_much_memory),
    ("bombs_by_the_shipped_unit", bombs_by_the_shipped_unit),
    ("guard_as_root", guard_as_root),
    ("guard_by_the_shipped_unit", guard_by_the_shipped_unit),
    ("attacks_as_root", attacks_as_root),
];

/// What `doctor` says where everything is passed on.
const HELD: &str = "limits of a run are held by: memory, processes, processors cgroup; ";
const DOCTOR: &str = "/usr/local/bin/flyball doctor --local -o json";

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

fn delegation_by_the_shipped_unit() -> Result<(), String> {
    let ended = shipped_unit(DOCTOR)?;
    say(&ended.said);
    ended.says(&[
        HELD,
        "memory locked yes, priority raised yes, protected from the memory killer yes",
    ])
}

fn delegation_by_systemd_run() -> Result<(), String> {
    for user in ["root", USER] {
        service(user, true, &words(DOCTOR))?.says(&[HELD])?;
    }
    // As the documentation has it, in the user's own manager.
    let scope = format!(
        "systemctl start user@$(id -u {USER}).service; runuser -u {USER} -- env XDG_RUNTIME_DIR=/run/user/$(id -u {USER}) \
         systemd-run --quiet --user --scope -p Delegate=yes {DOCTOR}"
    );
    Ended { success: true, said: sh(&scope)? }.says(&[HELD])
}

fn no_delegation_is_told() -> Result<(), String> {
    let ended = service(USER, false, &words(DOCTOR))?;
    say(&ended.said);
    ended.says(&[
        "memory, disk watched (weaker); processes per-user (weaker); processors affinity (weaker)",
    ])?;
    ended.says(&["not stronger because of", "cgroup"])
}

/// The suite of a program in the place, which must not skip anything for want of controllers.
fn whole(ended: Ended) -> Result<(), String> {
    let skipped: Vec<&str> = ended.said.lines().filter(|line| line.contains("SKIPPED")).collect();
    match skipped.is_empty() {
        true => ended.succeeded().map(|said| say(said.lines().last().unwrap_or_default())),
        false => Err(format!("{skipped:#?}\n{}", ended.said)),
    }
}

fn the_kernel_agrees_with_the_model() -> Result<(), String> {
    whole(service("root", true, &[&format!("{PLACE}/flyball_sandbox"), "cgroup"])?)?;
    whole(service(USER, true, &[&format!("{PLACE}/flyball_sandbox"), "cgroup"])?)
}

fn groups_as_root() -> Result<(), String> {
    whole(service("root", true, &[&format!("{PLACE}/guard"), "group", "fork_bomb"])?)
}

fn groups_by_the_shipped_unit() -> Result<(), String> {
    whole(shipped_unit(&format!("{PLACE}/guard group fork_bomb"))?)
}

fn guard_as_root() -> Result<(), String> {
    whole(service("root", true, &[&format!("{PLACE}/guard")])?)
}

fn guard_by_the_shipped_unit() -> Result<(), String> {
    whole(shipped_unit(&format!("{PLACE}/guard"))?)
}

fn bombs_by_the_shipped_unit() -> Result<(), String> {
    whole(shipped_unit(&format!("{PLACE}/attacks bomb"))?)
}

fn attacks_as_root() -> Result<(), String> {
    let ended = service("root", true, &[&format!("{PLACE}/attacks")])?;
    say(&ended.said);
    ended.succeeded().map(|_| ())
}
