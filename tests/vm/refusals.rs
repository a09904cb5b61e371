//! Hosts that refuse user namespaces to ordinary users, in each of the ways that are known.

use crate::guest::{USER, say, service, sh};
use crate::loops::{Up, wait_for};

/// One way to refuse.
struct Refusal {
    what: &'static str,
    on: &'static str,
    off: &'static str,
    /// What the worker names as the reason.
    named: &'static str,
}

const BY_DEBIAN: Refusal = Refusal {
    what: "Debian's setting",
    on: "sysctl -q -w kernel.unprivileged_userns_clone=0",
    off: "sysctl -q -w kernel.unprivileged_userns_clone=1",
    named: "kernel.unprivileged_userns_clone is 0",
};
const BY_NUMBER: Refusal = Refusal {
    what: "the kernel's own setting",
    on: "sysctl -n user.max_user_namespaces >/run/namespaces; sysctl -q -w user.max_user_namespaces=0",
    off: "sysctl -q -w user.max_user_namespaces=$(cat /run/namespaces)",
    named: "user.max_user_namespaces is 0",
};
/// A profile denies them, as where AppArmor's restriction has no profile to go to.
const BY_APPARMOR: Refusal = Refusal {
    what: "AppArmor",
    on: "printf 'abi <abi/4.0>,\\nprofile flyball-case /usr/local/bin/flyball { allow all, deny userns, }\\n' \
         >/etc/apparmor.d/flyball-case; apparmor_parser -r /etc/apparmor.d/flyball-case",
    off: "apparmor_parser -R /etc/apparmor.d/flyball-case",
    named: "AppArmor profile flyball-case",
};
/// They can be made, but nothing may be done in them: what Ubuntu 24.04 does to programs without a profile.
const LIKE_UBUNTU: Refusal = Refusal {
    what: "AppArmor, like Ubuntu 24.04",
    on: "printf 'abi <abi/4.0>,\\nprofile flyball-case /usr/local/bin/flyball { allow all, deny capability, }\\n' \
         >/etc/apparmor.d/flyball-case; apparmor_parser -r /etc/apparmor.d/flyball-case",
    ..BY_APPARMOR
};

/// The layers that are missing then.
const WITHOUT: &str = "user,mount,pid,ipc,uts,network";

pub(crate) fn all() -> Result<(), String> {
    let mut wrong = Vec::new();
    for refusal in [BY_DEBIAN, BY_NUMBER, BY_APPARMOR, LIKE_UBUNTU] {
        say(&format!("refused by {}", refusal.what));
        sh(refusal.on)?;
        let tried = worker_refuses(&refusal).and_then(|()| up_goes_on(&refusal));
        sh(refusal.off)?;
        if let Err(why) = tried {
            say(&why);
            wrong.push(refusal.what);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("wrong: {wrong:?}")) }
}

fn worker_refuses(refusal: &Refusal) -> Result<(), String> {
    let command = "timeout 60 /usr/local/bin/flyball worker --scheduler=unix:///var/tmp/cases/nobody \
                   --data-dir=/var/tmp/cases/refused";
    let ended = service(USER, true, &command.split_whitespace().collect::<Vec<_>>())?;
    let accept = format!("--allow-weaker={WITHOUT}");
    ended.says(&[
        "this host does not let runs be confined",
        refusal.named,
        "to fix it, allow",
        &accept,
    ])?;
    if ended.success { Err(ended.said) } else { Ok(()) }
}

/// `up` accepts what is weaker and says so; so does a worker whose operator named it. A strict loop stays away.
fn up_goes_on(refusal: &Refusal) -> Result<(), String> {
    let up = Up::start()?;
    wait_for(
        || up.said(),
        &[
            "Flyball is up",
            "WARNING: this machine does not let runs be isolated fully",
            refusal.named,
        ],
    )?;
    up.apply("plain", "checks: [{name: c, run: 'true'}]")?;
    up.apply("strict", "sandbox: {isolation: strict}\n  checks: [{name: c, run: 'true'}]")?;
    wait_for(|| up.ask("get loop plain -o json"), &["\"Converged\""])?;
    wait_for(|| up.ask("explain strict"), &["without user"])?;
    up.ask("get loop strict")
        .contains("Pending")
        .then_some(())
        .ok_or("the strict loop is not pending")?;
    up.named_worker(WITHOUT)?;
    wait_for(
        || up.ask("describe node named"),
        &["landlock, seccomp (weaker than it should be)", refusal.named],
    )?;
    wait_for(|| up.ask("doctor -o json"), &["IsolationWeak"])?;
    say(&up.ask("describe node named"));
    Ok(())
}
