//! Why a command was not found although it is there: what a step sees of this node is less than what its operator
//! sees, and "command not found" alone sends people the wrong way.
//!
//! Only programs that the loop's own command names are looked for, by a name that the shell did not find: what an
//! agent prints must not tell it which files there are on the node.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flyball_core::score::ExitKind;
use flyball_sandbox::Confinement;

use super::confine::SYSTEM;

/// Lines at the end of the output in which the shell's words are looked for.
const LINES_MAX: usize = 30;
/// How shells, `env` and the kernel end the line about a program that is not there.
const NOT_FOUND: [&str; 4] =
    ["command not found", "not found", "No such file or directory", "Permission denied"];
/// Longest chain of links that is followed, as in the kernel (MAXSYMLINKS in linux/namei.h).
const LINKS_MAX: usize = 40;
/// First bytes of a program that are read for its interpreter, as in the kernel (BINPRM_BUF_SIZE).
const HEAD_BYTES: u64 = 256;
/// Where programs are besides the search path, below the home of the worker's user.
const HOME_DIRS: [&str; 4] = [".local/bin", "bin", ".cargo/bin", ".npm-global/bin"];

/// What a step sees, and where this worker finds programs.
pub(super) struct Sight {
    seen: Vec<PathBuf>,
    search: Vec<PathBuf>,
}

impl Sight {
    /// Of a step that is confined so, with this search path.
    pub(super) fn of(plan: &Confinement, path: &str) -> Self {
        let mut seen: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        seen.extend(plan.show.iter().cloned());
        seen.extend(plan.write.iter().map(|one| one.path.clone()));
        seen.extend(plan.overlays.iter().map(|one| one.at.clone()));
        let own = std::env::var("PATH").unwrap_or_default();
        let mut search: Vec<PathBuf> =
            path.split(':').chain(own.split(':')).map(PathBuf::from).collect();
        if let Ok(home) = std::env::var("HOME") {
            search.extend(HOME_DIRS.map(|dir| Path::new(&home).join(dir)));
        }
        search.retain(|dir| dir.is_absolute());
        Self { seen, search }
    }

    /// What to do about a command that ended so because this node hides its program; nothing if that is not why.
    pub(super) fn explain(&self, exit: &ExitKind, argv: &[String], output: &str) -> Option<String> {
        let missing: BTreeSet<String> = match exit {
            ExitKind::CouldNotStart(_) => argv.first().cloned().into_iter().collect(),
            ExitKind::Exited(126 | 127) => {
                let named = words(argv);
                not_found(output).filter(|name| named.contains(name.as_str())).collect()
            }
            _ => return None,
        };
        missing.iter().find_map(|name| self.explain_program(name, 2))
    }

    /// `depth`: how many interpreters are asked for in turn.
    fn explain_program(&self, name: &str, depth: u32) -> Option<String> {
        let program = self.on_this_node(name)?;
        let chain = chain(&program);
        let hidden: BTreeSet<&Path> =
            chain.iter().filter(|path| !self.sees(path)).filter_map(|path| path.parent()).collect();
        if hidden.is_empty() {
            let by = interpreter(chain.last()?)?;
            return self.explain_program(&by, depth.checked_sub(1)?);
        }
        let dirs: Vec<String> = hidden.iter().map(|dir| dir.display().to_string()).collect();
        let show: Vec<String> = dirs.iter().map(|dir| format!("--show {dir}")).collect();
        // What to do comes first, as one line of a status has no room for all of it where paths are long.
        Some(format!(
            "start the worker with {} (or offer it by --offer-path and name it in spec.sandbox.readOnly): {name} is {} \
             on this node, and runs do not see {}",
            show.join(" "),
            program.display(),
            dirs.join(" and ")
        ))
    }

    fn on_this_node(&self, name: &str) -> Option<PathBuf> {
        if name.starts_with('/') {
            return Some(PathBuf::from(name)).filter(|path| is_program(path));
        }
        if name.contains('/') {
            return None;
        }
        self.search.iter().map(|dir| dir.join(name)).find(|path| is_program(path))
    }

    fn sees(&self, path: &Path) -> bool {
        self.seen.iter().any(|dir| path.starts_with(dir))
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The path and, one after the other, what it leads to.
fn chain(program: &Path) -> Vec<PathBuf> {
    let mut chain = vec![program.to_owned()];
    let mut at = program.to_owned();
    for _ in 0..LINKS_MAX {
        let (Ok(target), Some(dir)) = (fs::read_link(&at), at.parent()) else { break };
        at = dir.join(target);
        // Without the dots, which hide where it is.
        let dir = at.parent().and_then(|dir| dir.canonicalize().ok());
        if let (Some(dir), Some(name)) = (dir, at.file_name()) {
            at = dir.join(name);
        }
        chain.push(at.clone());
    }
    chain
}

/// What a script names in its first line; of `env` what that looks for.
fn interpreter(program: &Path) -> Option<String> {
    let mut head = Vec::new();
    fs::File::open(program).ok()?.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.strip_prefix("#!")?.lines().next()?.split_whitespace();
    let by = words.next()?;
    let of_env = by.ends_with("/env").then(|| words.find(|word| !word.starts_with('-'))).flatten();
    Some(of_env.unwrap_or(by).to_owned())
}

/// The words of a command, those of a script among them.
fn words(argv: &[String]) -> BTreeSet<&str> {
    let ends = |c: char| c.is_whitespace() || ";|&()<>\"'`".contains(c);
    argv.iter().flat_map(|argument| argument.split(ends)).filter(|word| !word.is_empty()).collect()
}

/// What the last lines say was not found.
fn not_found(output: &str) -> impl Iterator<Item = String> {
    let lines = output.lines().rev().take(LINES_MAX);
    lines.filter_map(|line| {
        let rest = NOT_FOUND.iter().find_map(|end| line.trim_end().strip_suffix(end))?;
        let name = rest.trim_end_matches([':', ' ']).rsplit(": ").next()?;
        Some(name.trim_matches(['\'', '"', '\u{2018}', '\u{2019}', ' ']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn program(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn shell(text: &str) -> Vec<String> {
        ["sh", "-c", text].map(str::to_owned).into()
    }

    #[test]
    fn a_program_that_is_hidden_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().canonicalize().unwrap().join(path);
        program(&at("hidden/share/agent"), "x");
        program(&at("hidden/node/bin/nodejs"), "x");
        program(&at("seen/script"), "#!/usr/bin/env -S nodejs --x\n");
        program(&at("seen/there"), "x");
        fs::create_dir_all(at("seen")).unwrap();
        symlink("../hidden/share/agent", at("seen/agent")).unwrap();
        let search = [at("seen"), at("hidden/node/bin")].into();
        let sight = Sight { seen: vec![at("seen")], search };
        let failed = ExitKind::Exited(127);
        let told = |text: &str, output: &str| sight.explain(&failed, &shell(text), output);

        let share = at("hidden/share").display().to_string();
        let why = told("cd x; agent -p 'go'", "hello\nsh: 1: agent: not found\n").unwrap();
        assert!(why.starts_with(&format!("start the worker with --show {share} (or")), "{why}");
        assert!(why.contains(&format!("agent is {} on", at("seen/agent").display())), "{why}");
        let node = at("hidden/node/bin").display().to_string();
        let why = told("script", "env: \u{2018}nodejs\u{2019}: No such file or directory\n");
        assert_eq!(why, None, "the command does not name it");
        let why = told("script", "sh: 1: script: not found\n").unwrap();
        assert!(why.contains(&format!("--show {node}")), "{why}");
        let whole = at("hidden/share/agent").display().to_string();
        let why = told(&format!("{whole} --x"), &format!("sh: 1: {whole}: not found")).unwrap();
        assert!(why.contains(&share), "{why}");
        let start = ExitKind::CouldNotStart("no such file".to_owned());
        assert!(sight.explain(&start, std::slice::from_ref(&whole), "").unwrap().contains(&share));

        // What is seen, what is nowhere, what only the output names, what ended otherwise.
        for (text, output) in [
            ("there", "sh: 1: there: not found"),
            ("nowhere", "sh: 1: nowhere: not found"),
            ("other", "sh: 1: agent: not found"),
            ("agent", "fine"),
            ("hidden/share/agent", "sh: 1: hidden/share/agent: not found"),
        ] {
            assert_eq!(told(text, output), None, "{text}");
        }
        let output = "sh: 1: agent: not found";
        assert_eq!(sight.explain(&ExitKind::Exited(1), &shell("agent"), output), None);
        assert_eq!(sight.explain(&start, &shell("agent"), ""), None);
    }
}
