//! Why a loop is where it is: findings with numbers, from the view and core's own decisions.

use std::fmt::Write as _;

use flyball_core::ids::{LoopKey, Token};
use flyball_core::placement::{Placement, place};
use flyball_core::status::{LoopStatus, Phase, Reason};
use jiff::Timestamp;

use super::Reactor;
use super::derived::set_of_entries;
use super::next_steps;
use super::placement::Waiting;
use super::view::LoopEntry;

/// How the message of a run begins that could not seal what another one left behind.
const UNSEALED: &str = "Unsealed: ";

/// Most findings in one answer; enough for every blocker and node of a small fleet.
const FINDINGS_MAX: usize = 40;

/// The answer to "why is it there?".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The phase.
    pub phase: Phase,
    /// One line.
    pub headline: String,
    /// Most decisive first.
    pub findings: Vec<String>,
    /// What the user can do.
    pub next_steps: Vec<String>,
}

impl Reactor {
    /// Explains a loop; `None` if it is not known.
    pub fn explain(&self, key: &LoopKey, now: Timestamp) -> Option<Explanation> {
        let entry = self.view.loops.get(key)?;
        entry.record.get()?;
        let status = entry.status.get()?;
        let mut told = Explanation {
            phase: status.phase,
            headline: headline(status),
            ..Explanation::default()
        };
        match status.phase {
            Phase::Pending => self.explain_pending(key, entry, status, now, &mut told),
            Phase::Assigned | Phase::Running => self.explain_owned(entry, status, now, &mut told),
            Phase::Parked => {
                explain_parked(status, now, &mut told);
                if let Some(record) = entry.record.get().filter(|_| status.reason == Reason::Budget)
                {
                    let (findings, steps) = self.explain_budget(key, record, status);
                    told.findings.extend(findings);
                    told.next_steps.extend(steps);
                }
                self.explain_unsealed(key, entry, status, &mut told);
            }
            _ => explain_ended(entry, status, &mut told),
        }
        explain_progress(entry, status, &mut told);
        for unsealed in &status.unsealed {
            told.findings.push(format!(
                "a run with token {} was never proven to have stopped; the next owner seals its \
                 journal in {} before it starts ({} resources blocked until then)",
                unsealed.token,
                unsealed.repository,
                unsealed.resources.len()
            ));
        }
        if status.phase.is_terminal()
            && let Some(run) = status.unsealed.first()
        {
            told.next_steps.push(
                "the next loop that owns some of its resources seals the journal; deleting the loop \
                 does not change that"
                    .to_owned(),
            );
            told.next_steps.push(next_steps::abandon(run));
        }
        if told.next_steps.is_empty() {
            told.next_steps.push(next_steps::of_reason(key, &self.shown(key, status)));
        }
        drop_repeated(&mut told);
        told.findings.truncate(FINDINGS_MAX);
        Some(told)
    }

    /// The journals that a loop could not seal, and the way out if they can never be.
    fn explain_unsealed(
        &self,
        key: &LoopKey,
        entry: &LoopEntry,
        status: &LoopStatus,
        told: &mut Explanation,
    ) {
        if !status.message.starts_with(UNSEALED) {
            return;
        }
        for run in self.blocking(key, &entry.set).iter().chain(&status.unsealed) {
            told.findings.push(format!(
                "to be sealed: runs up to token {} of {} (uid {}) in {}",
                run.token, run.loop_key, run.loop_uid, run.repository
            ));
            told.next_steps.push(next_steps::abandon(run));
        }
    }

    /// The status with the reason a waiting loop is shown with.
    fn shown(&self, key: &LoopKey, status: &LoopStatus) -> LoopStatus {
        let view = self.loop_view(key);
        view.map_or_else(|| status.clone(), |view| LoopStatus::clone(&view.status))
    }

    fn explain_pending(
        &self,
        key: &LoopKey,
        entry: &LoopEntry,
        status: &LoopStatus,
        now: Timestamp,
        told: &mut Explanation,
    ) {
        if !self.is_leading() {
            let leader = self.leader().map_or("nobody yet", |leader| leader.address.as_str());
            told.findings.push(format!(
                "this scheduler stands by and does not know all reasons; {leader} leads (--addr)"
            ));
        } else if !self.is_acting() {
            told.findings.push("the scheduler reads its state anew and decides nothing".to_owned());
        }
        if self.full {
            told.findings
                .push("the store is full: nothing is assigned until there is room".to_owned());
            told.next_steps.push(
                "etcdctl compact, defrag --cluster and alarm disarm (docs/troubleshooting.md)"
                    .to_owned(),
            );
        }
        self.explain_unheard(told);
        if let Some(in_flight) = &entry.in_flight {
            told.findings.push(if in_flight.unresolved {
                "the store's answer to the last transaction was lost; it is being read back, and \
                 the resources stay blocked until then"
                    .to_owned()
            } else {
                "a transaction for it is under way".to_owned()
            });
        }
        let blockers = self.view.derived.index.blockers(&entry.set);
        for blocker in &blockers {
            told.findings.push(self.describe_blocker(blocker, now));
        }
        if blockers.is_empty() {
            self.explain_room(key, entry, told);
        } else {
            let first = blockers.first().and_then(|blocker| self.holder(blocker));
            if let Some((holder, _)) = first {
                told.headline = format!("waits for {holder}, which owns what it needs");
                told.next_steps.push(next_steps::command("explain", &holder, key));
            }
        }
        if entry.passed_over > 0 {
            told.findings.push(format!(
                "passed over {} times by later loops (at most {} times)",
                entry.passed_over,
                super::PASSED_OVER_MAX
            ));
        }
        if matches!(status.reason, Reason::RunLost | Reason::CannotStart) {
            told.findings.push(status.message.clone());
        }
        if let Some(at) = entry.retry_at.filter(|_| status.reason == Reason::CannotStart) {
            let left = at.duration_since(now).as_secs().max(0);
            told.headline = format!("waits {left} s before it is started again");
        }
    }

    fn describe_blocker(
        &self,
        blocker: &flyball_core::resource::Blocker,
        now: Timestamp,
    ) -> String {
        let Some((key, token)) = self.holder(blocker) else {
            return format!("{} is held by loop uid {}", blocker.held, blocker.uid);
        };
        let mut line =
            format!("{} (wanted) overlaps {} held by {key}", blocker.wanted, blocker.held);
        let claim = self.view.loops.get(&key).and_then(|entry| entry.claim.get());
        match claim {
            Some(claim) => {
                let held = span(claim.since, now);
                let _ = write!(line, " on node {} with token {token} for {held}", claim.node);
            }
            None => line.push_str(", whose assignment is not confirmed yet"),
        }
        line
    }

    fn explain_room(&self, key: &LoopKey, entry: &LoopEntry, told: &mut Explanation) {
        let Some(record) = entry.record.get() else { return };
        if let Some(Waiting::Behind(first)) = &entry.waiting {
            told.headline = format!("waits behind {first}");
            told.findings.push(format!(
                "its resources are free, but {first} was passed over {} times and goes first",
                super::PASSED_OVER_MAX
            ));
            told.next_steps.push(next_steps::command("explain", first, key));
            return;
        }
        if let Some(waiting @ Waiting::Unreadable(_)) = &entry.waiting {
            told.headline = "waits for a claim that cannot be read".to_owned();
            told.findings.push(waiting.to_string());
            told.next_steps
                .push("see UnreadableKey in flyball doctor: it names the key".to_owned());
            return;
        }
        let nodes = self.node_views();
        if nodes.is_empty() {
            told.headline = "waits for a first node".to_owned();
            told.findings.push("no node has ever registered".to_owned());
            told.next_steps.push("start a worker: flyball worker --scheduler …".to_owned());
            return;
        }
        let (summary, reasons) = match place(&record.spec, &nodes, None) {
            Placement::On { node, .. } => {
                told.findings.push(format!("{node} has room; it is about to be assigned"));
                let ahead = self.ahead_of(key);
                told.findings.push(format!("{ahead} loops were submitted earlier and still wait"));
                return;
            }
            Placement::Wait { summary, reasons } => (summary, reasons),
            Placement::Never { summary, reasons, .. } => {
                told.next_steps.push("change its needs or labels, or add a node".to_owned());
                (summary, reasons)
            }
        };
        told.headline.clone_from(&summary);
        told.findings.extend(reasons.iter().map(ToString::to_string));
    }

    fn ahead_of(&self, key: &LoopKey) -> usize {
        self.view.derived.queue.iter().take_while(|(_, other)| other != key).count()
    }

    fn explain_owned(
        &self,
        entry: &LoopEntry,
        status: &LoopStatus,
        now: Timestamp,
        told: &mut Explanation,
    ) {
        let Some(claim) = entry.claim.stored() else {
            told.findings.push("its claim is gone: the run counts as lost".to_owned());
            return;
        };
        let held = span(claim.value.since, now);
        told.findings.push(format!(
            "node {} owns {} with token {} for {held} (run {} of this loop)",
            claim.value.node,
            resources(&claim.value.resources),
            Token(claim.create_revision),
            status.runs,
        ));
        let node = self.view.nodes.get(&claim.value.node);
        // Only the leader has the nodes' streams.
        if self.is_leading() && node.is_none_or(|node| node.stream.is_none()) {
            told.findings.push(format!(
                "node {} is not attached; if its lease ends, the loop goes elsewhere",
                claim.value.node
            ));
        }
        let waiting = self.view.derived.queue.iter().filter(|(_, other)| {
            let other = self.view.loops.get(other);
            other.is_some_and(|other| other.set.conflicts(&set_of_entries(&claim.value.resources)))
        });
        let waiting = waiting.count();
        if waiting > 0 {
            let (loops, wait) = if waiting == 1 { ("loop", "waits") } else { ("loops", "wait") };
            told.findings.push(format!("{waiting} {loops} {wait} for what it owns"));
        }
        if let Some((_, _, reason)) = entry.stopping {
            told.findings.push(format!("asked to stop: {}", reason.as_str()));
        }
    }
}

/// Nothing is said twice, neither below the headline nor among the findings.
fn drop_repeated(told: &mut Explanation) {
    let mut said = std::collections::BTreeSet::new();
    let headline = told.headline.clone();
    told.findings.retain(|finding| {
        let new = said.insert(finding.clone());
        new && !headline.ends_with(finding.as_str())
    });
    let mut said = std::collections::BTreeSet::new();
    told.next_steps.retain(|step| said.insert(step.clone()));
}

fn headline(status: &LoopStatus) -> String {
    match (status.reason, status.message.is_empty()) {
        (Reason::None, true) => status.phase.to_string(),
        (Reason::None, false) => status.message.clone(),
        (reason, true) => format!("{} ({reason:?})", status.phase),
        (reason, false) => format!("{reason:?}: {}", status.message),
    }
}

fn explain_parked(status: &LoopStatus, now: Timestamp, told: &mut Explanation) {
    if let Some(until) = status.parked_until {
        let left = until.duration_since(now).as_secs().max(0);
        told.findings.push(format!("parked until {until}, in {left} s"));
    }
    if status.reason == Reason::StoreBehindJournal {
        told.next_steps.push(
            "restore the store with raised revisions (etcdutl snapshot restore --bump-revision), or \
             raise its revision past the journal's token; then it goes on by itself"
                .to_owned(),
        );
    }
    if status.reason == Reason::Hold {
        told.next_steps.push("remove the cause, then apply a changed spec to go on".to_owned());
    }
    if status.message.starts_with(UNSEALED) {
        told.findings.push(
            "a lost run of that loop may still write there, so nobody works on its resources before \
             the journal is sealed; this loop holds nothing while it waits"
                .to_owned(),
        );
        if status.reason == Reason::Backoff {
            let step = "make that repository reachable from the nodes; it is tried again by itself";
            told.next_steps.push(step.to_owned());
        }
    }
    if status.reason == Reason::RunsLost {
        told.findings.push(format!("{} runs lost in a row", status.runs_lost));
    }
}

fn explain_ended(entry: &LoopEntry, status: &LoopStatus, told: &mut Explanation) {
    told.findings.extend(status.evidence.iter().cloned());
    if let Some(published) = &status.progress.published {
        told.findings.push(format!("published as {published}"));
    }
    if entry.record.get().is_some_and(|record| record.delete) {
        told.findings.push("it is being deleted".to_owned());
    }
}

fn explain_progress(entry: &LoopEntry, status: &LoopStatus, told: &mut Explanation) {
    let progress = &status.progress;
    let Some(distance) = progress.distance else { return };
    let spec = entry.record.get().map(|record| &record.spec);
    let bound = spec.map_or(0, |spec| spec.governor.iterations);
    let initial = progress.initial_distance.unwrap_or(distance);
    let best = progress.best_distance.unwrap_or(distance);
    told.findings.push(format!(
        "iteration {} of {bound}, {} kept; distance {distance} (best {best}, at first {initial})",
        progress.iterations, progress.accepted
    ));
    if !progress.failing.is_empty() {
        told.findings.push(format!("failing checks: {}", progress.failing.join(", ")));
    }
    if let Some(last) = progress.recent.last() {
        told.findings.push(format!(
            "last iteration {}: {:?}, distance {} to {}: {}",
            last.number, last.decision, last.before, last.after, last.reason
        ));
    }
}

fn resources(entries: &[String]) -> String {
    match entries {
        [] => "no resources".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// How long ago something began, for people, in seconds or minutes.
fn span(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}
