//! The rules of a manifest whose shape is right: names, bounds, addresses, patterns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::error::{FieldError, child_path};
use super::gitnames::{check_branch, check_reference, check_repository_url, masked};
use crate::ids::check_name;
use crate::quantity::Span;
use crate::resource::{EntryError, EntryProblem, PinSet, RepoId, ResourceSet, canonical_repo_id};
use crate::score::compile_one;
use crate::spec::{
    AgentSpec, Backoff, CheckSpec, Command, GitWorkspace, GovernorSpec, LoopSpec, Manifest,
    Metadata, Score,
};

/// Longest goal, in bytes: it is repeated in every brief, so it must stay readable.
pub(super) const GOAL_BYTES_MAX: usize = 16 * 1024;
/// Most checks: each one's verdict is part of the status, which must stay small.
pub(super) const CHECKS_MAX: usize = 32;
/// Most labels, environment variables or custom needs: far above use, keeps requests small.
pub(super) const ENTRIES_MAX: usize = 64;
/// Longest label value, in bytes.
pub(super) const LABEL_BYTES_MAX: usize = 256;
/// Most iterations of one loop: its journal and logs grow with each.
pub(super) const ITERATIONS_MAX: u32 = 10_000;
/// Most iterations in a row without improvement.
pub(super) const PATIENCE_MAX: u32 = 1_000;
/// Longest timeout of one check or agent call: a run must come to an iteration's edge once a day.
pub(super) const TIMEOUT_MAX: Span = Span::from_secs(24 * 3600);
/// Longest time in runs.
pub(super) const WALL_TIME_MAX: Span = Span::from_secs(30 * 24 * 3600);
/// Longest stay of a finished loop.
pub(super) const TTL_MAX: Span = Span::from_secs(365 * 24 * 3600);
/// Most secrets of one loop: each is looked for in everything that its steps write.
pub(super) const SECRETS_OF_LOOP_MAX: usize = 16;
/// Environment names with this prefix are the platform's.
const ENV_PREFIX_RESERVED: &str = "FLYBALL_";

/// Applies every rule that can be decided from the manifest alone, and answers the resource set. A
/// local repository is taken by the path as written; whoever can resolve symbolic links does so.
///
/// # Errors
/// Everything that is wrong, in the order of the document.
pub fn validate(manifest: &Manifest) -> Result<ResourceSet, Vec<FieldError>> {
    let mut errors = Errors(Vec::new());
    let spec = &manifest.spec;
    errors.metadata(&manifest.metadata);
    errors.goal(&spec.goal);
    let repository = spec.workspace.as_ref().and_then(|workspace| errors.git(&workspace.git));
    let set = errors.owns(spec, repository.as_ref());
    errors.custom_needs(&spec.needs.custom);
    errors.labels("spec.placement.requiredLabels", &spec.placement.required_labels);
    errors.sandbox(&spec.sandbox);
    errors.checks(&spec.checks);
    errors.pins(spec);
    if let Some(agent) = &spec.agent {
        errors.agent(agent);
    }
    errors.secrets(spec);
    errors.governor(&spec.governor);
    errors.loop_budget("spec.budget", &spec.budget);
    if let Some(ttl) = spec.ttl_after_finished {
        errors.span("spec.ttlAfterFinished", ttl, Span::from_secs(0), TTL_MAX);
    }
    if errors.0.is_empty() { Ok(set) } else { Err(errors.0) }
}

/// The shortest timeout or bound in time that makes sense.
pub(super) const SPAN_MIN: Span = Span(Duration::from_millis(1));

pub(super) struct Errors(pub(super) Vec<FieldError>);

impl Errors {
    pub(super) fn add(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.0.push(FieldError::new(path, message).found(found));
    }

    pub(super) fn name(&mut self, path: &str, name: &str) {
        if check_name(name).is_err() {
            let rule = "must be 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a \
                        letter or digit";
            self.add(path, rule, format!("{name:?}"));
        }
    }

    pub(super) fn count(&mut self, path: &str, count: usize, most: usize) {
        if count > most {
            self.add(path, format!("must have at most {most} entries"), count.to_string());
        }
    }

    pub(super) fn span(&mut self, path: &str, span: Span, least: Span, most: Span) {
        if span < least {
            self.add(path, "must be longer than zero", span.to_string());
        } else if span > most {
            self.add(path, format!("must be at most {most}"), span.to_string());
        }
    }

    pub(super) fn range(&mut self, path: &str, number: u32, most: u32) {
        if number == 0 || number > most {
            let rule = match most {
                u32::MAX => "must be at least 1".to_owned(),
                most => format!("must be 1 to {most}"),
            };
            self.add(path, rule, number.to_string());
        }
    }

    fn metadata(&mut self, metadata: &Metadata) {
        self.name("metadata.name", &metadata.name);
        self.name("metadata.namespace", &metadata.namespace);
        self.labels("metadata.labels", &metadata.labels);
    }

    pub(super) fn labels(&mut self, path: &str, labels: &BTreeMap<String, String>) {
        self.count(path, labels.len(), ENTRIES_MAX);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        for (key, value) in labels {
            if key.is_empty() || key.len() > LABEL_BYTES_MAX || !key.bytes().all(allowed) {
                let rule = "a label's key must be 1 to 256 letters, digits and - _ . /";
                self.add(child_path(path, key), rule, format!("{key:?}"));
            }
            if value.len() > LABEL_BYTES_MAX || value.contains(|c: char| c.is_control()) {
                let rule = "a label's value must be at most 256 bytes without control characters";
                self.add(child_path(path, key), rule, format!("{value:?}"));
            }
        }
    }

    fn goal(&mut self, goal: &str) {
        if goal.trim().is_empty() {
            self.0.push(FieldError::new("spec.goal", "must say what is to be reached"));
        } else if goal.len() > GOAL_BYTES_MAX {
            let message = format!("must be at most {GOAL_BYTES_MAX} bytes");
            self.add("spec.goal", message, format!("{} bytes", goal.len()));
        }
    }

    /// The canonical id of the repository, if its address is right.
    fn git(&mut self, git: &GitWorkspace) -> Option<RepoId> {
        let id = check_repository_url(&git.url)
            .and_then(|()| canonical_repo_id(&git.url).map_err(|invalid| invalid.problem));
        if let Err(rule) = &id {
            self.add("spec.workspace.git.url", rule, format!("{:?}", masked(&git.url)));
        }
        if let Err(rule) = check_reference(&git.reference) {
            self.add("spec.workspace.git.ref", rule, format!("{:?}", git.reference));
        }
        if let Some(publish) = &git.publish
            && let Err(rule) = check_branch(&publish.branch)
        {
            self.add("spec.workspace.git.publish.branch", rule, format!("{:?}", publish.branch));
        }
        id.ok()
    }

    /// The resource set; an empty one where it is wrong or hangs on a wrong repository address.
    fn owns(&mut self, spec: &LoopSpec, repository: Option<&RepoId>) -> ResourceSet {
        if spec.owns.is_empty() && spec.workspace.is_some() {
            let rule = "a loop with a workspace must own at least one path, such as src/**";
            self.0.push(FieldError::new("spec.owns", rule));
        }
        if spec.workspace.is_some() && repository.is_none() {
            return ResourceSet::default();
        }
        let parsed = ResourceSet::parse(&spec.owns, repository);
        parsed.unwrap_or_else(|errors| {
            self.entries("spec.owns", &errors);
            ResourceSet::default()
        })
    }

    fn entries(&mut self, path: &str, errors: &[EntryError]) {
        for error in errors {
            let path = match error.problem {
                EntryProblem::TooMany { .. } => path.to_owned(),
                _ => format!("{path}[{}]", error.index),
            };
            self.0.push(FieldError::new(path, error.problem.to_string()));
        }
    }

    fn custom_needs(&mut self, custom: &BTreeMap<String, u64>) {
        self.count("spec.needs.custom", custom.len(), ENTRIES_MAX);
        for name in custom.keys() {
            self.name(&child_path("spec.needs.custom", name), name);
        }
    }

    fn checks(&mut self, checks: &[CheckSpec]) {
        if checks.is_empty() {
            let rule = "at least one check is needed: without one nobody knows when it is done";
            self.0.push(FieldError::new("spec.checks", rule));
        }
        self.count("spec.checks", checks.len(), CHECKS_MAX);
        let mut names = BTreeMap::new();
        for (index, check) in checks.iter().enumerate() {
            let path = format!("spec.checks[{index}]");
            self.name(&format!("{path}.name"), &check.name);
            if let Some(first) = names.insert(&check.name, index) {
                let rule = format!("must be unique; spec.checks[{first}] has the same name");
                self.add(format!("{path}.name"), rule, format!("{:?}", check.name));
            }
            self.command(&format!("{path}.run"), &check.run);
            self.span(&format!("{path}.timeout"), check.timeout, SPAN_MIN, TIMEOUT_MAX);
            if let Some(Score::Regex(score)) = &check.score {
                self.pattern(&path, "pass", &score.pass);
                self.pattern(&path, "fail", &score.fail);
            }
        }
    }

    fn pattern(&mut self, path: &str, field: &'static str, pattern: &str) {
        let problem = match compile_one(field, pattern) {
            Ok(regex) if regex.is_match("") => "must not match the empty line".to_owned(),
            Ok(_) => return,
            Err(invalid) => format!("is not a valid regular expression: {}", invalid.message),
        };
        self.add(format!("{path}.score.regex.{field}"), problem, format!("{pattern:?}"));
    }

    pub(super) fn command(&mut self, path: &str, command: &Command) {
        let (empty, text) = match command {
            Command::Shell(line) => (line.trim().is_empty(), line.clone()),
            Command::Argv(argv) => (argv.first().is_none_or(String::is_empty), argv.join(" ")),
        };
        if empty {
            self.0.push(FieldError::new(path, "must name a program"));
        }
        if text.contains('\0') {
            self.0.push(FieldError::new(path, "must not contain NUL characters"));
        }
    }

    fn pins(&mut self, spec: &LoopSpec) {
        if let Err(errors) = PinSet::parse(&spec.pins) {
            self.entries("spec.pins", &errors);
        }
        if !spec.pins.is_empty() && spec.workspace.is_none() {
            self.0.push(FieldError::new("spec.pins", "pins need a workspace to be restored from"));
        }
    }

    fn agent(&mut self, agent: &AgentSpec) {
        match (&agent.command, &agent.uses) {
            (Some(command), None) => self.command("spec.agent.command", command),
            (None, Some(name)) => self.name("spec.agent.use", name),
            (None, None) => {
                let rule = "must have command, or use with the name of an agent";
                self.0.push(FieldError::new("spec.agent", rule));
            }
            (Some(_), Some(name)) => {
                let rule = "must be left out with spec.agent.command: one of them acts";
                self.add("spec.agent.use", rule, format!("{name:?}"));
            }
        }
        if matches!(agent.command, Some(Command::Shell(_))) && !agent.args.is_empty() {
            let rule =
                "go with use, or with a command that is a list; a line for the shell has its own";
            self.0.push(FieldError::new("spec.agent.args", rule));
        }
        self.args("spec.agent.args", &agent.args);
        if let Some(model) = &agent.model {
            self.model_name("spec.agent.model", model);
        }
        if let Some(timeout) = agent.timeout {
            self.span("spec.agent.timeout", timeout, SPAN_MIN, TIMEOUT_MAX);
        }
        self.environment("spec.agent.env", &agent.env);
    }

    pub(super) fn variable(&mut self, path: &str, name: &str) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let digit = name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || digit || !name.bytes().all(plain) {
            let rule = "a variable's name must be letters, digits and _, not starting with a digit";
            self.add(path, rule, format!("{name:?}"));
        } else if name.starts_with(ENV_PREFIX_RESERVED) {
            self.0.push(FieldError::new(path, "names with FLYBALL_ are set by the platform"));
        }
    }

    fn secrets(&mut self, spec: &LoopSpec) {
        self.count("spec.secrets", spec.secrets.len(), SECRETS_OF_LOOP_MAX);
        let mut seen = BTreeSet::new();
        for (index, secret) in spec.secrets.iter().enumerate() {
            let path = format!("spec.secrets[{index}]");
            self.name(&format!("{path}.name"), &secret.name);
            self.variable(&format!("{path}.env"), &secret.env);
            if secret.to.is_empty() {
                self.0.push(FieldError::new(format!("{path}.to"), "must say who gets it"));
            }
            for (at, to) in secret.to.iter().enumerate() {
                let path = format!("{path}.to[{at}]");
                let check = to.strip_prefix("check/");
                let known =
                    check.is_some_and(|name| spec.checks.iter().any(|one| one.name == name));
                match to.as_str() {
                    "agent" if spec.agent.is_some() => {}
                    "agent" => self.add(path.clone(), "the loop has no agent", "agent"),
                    _ if known => {}
                    _ => {
                        let rule = "must be agent, or check/NAME of a check of this loop";
                        self.add(path.clone(), rule, format!("{to:?}"));
                    }
                }
                if !seen.insert((to, &secret.env)) {
                    let rule = "gets another secret in the same variable already";
                    self.add(path, rule, format!("{to} {}", secret.env));
                }
            }
            let own = spec.agent.as_ref().is_some_and(|agent| agent.env.contains_key(&secret.env));
            if own && secret.to.iter().any(|to| to == "agent") {
                let rule = "stands in spec.agent.env too; one of the two would be lost";
                self.add(format!("{path}.env"), rule, &secret.env);
            }
        }
    }

    fn governor(&mut self, governor: &GovernorSpec) {
        self.range("spec.governor.iterations", governor.iterations, ITERATIONS_MAX);
        self.span("spec.governor.wallTime", governor.wall_time, SPAN_MIN, WALL_TIME_MAX);
        self.range("spec.governor.patience", governor.patience, PATIENCE_MAX);
        self.range("spec.governor.maxFiles", governor.max_files, u32::MAX);
        self.range("spec.governor.maxLines", governor.max_lines, u32::MAX);
        self.backoff(&governor.backoff);
    }

    fn backoff(&mut self, backoff: &Backoff) {
        self.span("spec.governor.backoff.max", backoff.max, Span::from_secs(0), TIMEOUT_MAX);
        if backoff.initial > backoff.max {
            let rule = format!("must be at most spec.governor.backoff.max, {}", backoff.max);
            self.add("spec.governor.backoff.initial", rule, backoff.initial.to_string());
        }
    }
}
