//! Landlock: the kernel's own rules for files, which say where in the workspace a step may write.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::{Confinement, tree};

/// Newest interface whose rights are handled; on an older kernel what it has of them.
const NEWEST: ABI = ABI::V6;

/// Restricts this process and its descendants. `own_tree`: only what the step may see is there to be
/// seen; `own_network`: its network leads nowhere.
pub(super) fn restrict(
    plan: &Confinement,
    own_tree: bool,
    own_network: bool,
) -> Result<(), String> {
    let status = build(plan, own_tree, own_network).map_err(|error| error.to_string())?;
    match status {
        RulesetStatus::NotEnforced => Err("the kernel does not enforce it".to_owned()),
        _ => Ok(()),
    }
}

fn build(
    plan: &Confinement,
    own_tree: bool,
    own_network: bool,
) -> Result<RulesetStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    if !own_network {
        // With no rule for any port: no TCP at all.
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    let all = AccessFs::from_all(NEWEST);
    let mut rules = ruleset.create()?;
    if own_tree {
        rules = allow(rules, Path::new("/"), read)?;
        rules = allow(rules, Path::new("/tmp"), all)?;
        rules = allow(rules, Path::new("/dev"), all)?;
    } else {
        for path in tree::SYSTEM.iter().chain(&tree::ETC).chain(&tree::ETC_OF_HOST) {
            rules = allow(rules, Path::new(path), read)?;
        }
        for path in &plan.show {
            rules = allow(rules, path, read)?;
        }
        for node in tree::DEVICES {
            rules = allow(rules, &Path::new("/dev").join(node), all)?;
        }
    }
    let writes = read | AccessFs::WriteFile | AccessFs::Truncate;
    rules = allow(rules, Path::new("/proc"), writes)?;
    for one in &plan.write {
        match &one.only {
            None => rules = allow(rules, &one.path, all)?,
            Some(only) => {
                rules = allow(rules, &one.path, read)?;
                for path in only {
                    rules = allow(rules, path, all)?;
                }
            }
        }
    }
    for overlay in &plan.overlays {
        let (path, access) = if own_tree { (&overlay.at, all) } else { (&overlay.from, read) };
        rules = allow(rules, path, access)?;
    }
    for socket in &plan.sockets {
        rules = allow(rules, socket, AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// What is not there needs no rule: it cannot appear later, but where its parent may be written to.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(fd) = PathFd::new(path) else { return Ok(rules) };
    let file = !path.is_dir();
    let access = if file { access & AccessFs::from_file(NEWEST) } else { access };
    rules.add_rule(PathBeneath::new(fd, access))
}
