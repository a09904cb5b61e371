//! Observing a checkpoint and judging a trial against it.

use std::time::Duration;

use super::changes::{Changes, changes, short_hash, signature};
use super::memory::{Attempt, Best, Visit};
use super::verdict::PROOFS_MAX;
use super::words::{advice, clip_line, list, reason};
use super::{Governor, Hint, Judgement, Next, Observation, Trial};
use crate::quantity::Distance;
use crate::record::Decision;
use crate::score::ExitKind;
use crate::spec::Accept;
use crate::status::{Outcome, Phase, Reason};

/// What was decided about a trial, with what led to it.
pub(super) struct Ruling {
    pub(super) decision: Decision,
    pub(super) found: Changes,
    /// What is out of bounds.
    pub(super) over: Vec<String>,
    /// What had to be beaten.
    pub(super) bar: Distance,
    /// The best distance shrank.
    improved: bool,
    /// It came back to where it had been.
    circle: Circle,
}

/// Whether a trial came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Circle {
    None,
    /// To a tree that had been left, without a visible trade.
    Return,
    /// The same trade again, or an earlier checkpoint.
    Flap,
}

impl Governor {
    /// The checkpoint as it is now, at the start of a run or an iteration. May be told the same
    /// again without harm.
    pub fn observe(&mut self, seen: &Observation<'_>) -> Next {
        self.has_agent = seen.has_agent;
        self.observed = seen.checks.to_vec();
        if let Some(outcome) = self.check_cannot_start(seen.checks) {
            return Next::Stop(outcome);
        }
        self.take_checkpoint(seen);
        if seen.distance.is_zero() && !self.is_disproven(seen.tree) {
            return Next::Verify;
        }
        if !seen.has_agent {
            return self.act_or_give_up(seen.checks, Duration::ZERO);
        }
        match self.verdict(seen.checks, seen.iterations, seen.run_ms) {
            Some(outcome) => Next::Stop(outcome),
            None => self.act_or_give_up(seen.checks, Duration::ZERO),
        }
    }

    fn take_checkpoint(&mut self, seen: &Observation<'_>) {
        let proof_failed = self.memory.unproven.as_ref().is_some_and(|u| u.tree == seen.tree);
        let memory = &mut self.memory;
        memory.initial.get_or_insert(seen.distance);
        match &mut memory.best {
            Some(best) if !seen.tree.is_empty() && best.tree == seen.tree => {
                // Measured again. A proof outweighs it; otherwise the bar only goes down.
                if !proof_failed {
                    best.distance = best.distance.min(seen.distance);
                }
            }
            best => {
                // The first look, or the base moved: this is what there is now.
                let better = best.as_ref().is_some_and(|best| seen.distance < best.distance);
                *best = Some(Best { tree: seen.tree.to_owned(), distance: seen.distance });
                if better {
                    memory.on_improvement();
                }
                let after = signature(seen.checks);
                if !seen.tree.is_empty() {
                    let tree = short_hash(seen.tree);
                    memory.visit(Visit { tree, before: after, after, kept: true });
                }
            }
        }
    }

    /// The tree failed its proofs: its zero is not believed any more.
    fn is_disproven(&self, tree: &str) -> bool {
        let unproven = self.memory.unproven.as_ref();
        unproven.is_some_and(|u| u.tree == tree && u.times >= PROOFS_MAX)
    }

    /// What the agent made of the checkpoint. `jitter`, from 0 to 1, spreads the pauses.
    pub fn judge(&mut self, trial: &Trial<'_>, jitter: f64) -> Judgement {
        match trial.agent {
            ExitKind::CouldNotStart(why) => return agent_cannot_start(why),
            ExitKind::Killed | ExitKind::GuardLost | ExitKind::NoRoom(_) => {
                return self.judge_nothing(trial, jitter);
            }
            ExitKind::Exited(_)
            | ExitKind::Signaled(_)
            | ExitKind::TimedOut
            | ExitKind::OverLimit(_) => {}
        }
        let ruling = self.rule(trial);
        let reason = reason(trial, &ruling);
        self.remember(trial, &ruling, &reason);
        let next = self.next(trial, &ruling, jitter);
        Judgement { decision: ruling.decision, reason, improved: ruling.improved, next }
    }

    /// The agent was killed by us or lost with its guard: that says nothing about its work.
    fn judge_nothing(&mut self, trial: &Trial<'_>, jitter: f64) -> Judgement {
        let pause = self.pause(jitter);
        let next = match self.bound(&self.observed, trial.iterations, trial.run_ms) {
            Some(outcome) => Next::Stop(outcome),
            None => Next::Act { pause, advice: self.memory.advice.clone() },
        };
        let reason = format!("the agent was ended from outside ({}): not counted", trial.agent);
        Judgement { decision: Decision::Unchanged, reason, improved: false, next }
    }

    fn rule(&self, trial: &Trial<'_>) -> Ruling {
        let mut over = trial.violations.to_vec();
        over.extend(self.step_violations(&trial.diff));
        let mut ruling = Ruling {
            decision: Decision::Refused,
            found: Changes::default(),
            over,
            bar: self.bar(trial),
            improved: false,
            circle: Circle::None,
        };
        if !ruling.over.is_empty() {
            return ruling;
        }
        if !trial.tree.is_empty() && trial.tree == trial.base_tree {
            ruling.decision = Decision::Unchanged;
            return ruling;
        }
        ruling.found = changes(&self.observed, trial.checks);
        ruling.improved = trial.distance_after < ruling.bar;
        if ruling.improved {
            ruling.decision = Decision::Kept;
            return ruling;
        }
        ruling.circle = self.circle(trial, &ruling.found);
        let seen = self.memory.visits.iter().any(|visit| visit.tree == short_hash(trial.tree));
        let equal = trial.distance_after == ruling.bar && self.spec.accept == Accept::Equal;
        ruling.decision = if equal && !seen && ruling.circle == Circle::None {
            Decision::Kept
        } else {
            Decision::Reverted
        };
        ruling
    }

    /// What a trial must beat: the best distance, if that is of the tree it started from.
    fn bar(&self, trial: &Trial<'_>) -> Distance {
        match &self.memory.best {
            Some(best) if !best.tree.is_empty() && best.tree == trial.base_tree => best.distance,
            _ => trial.distance_before,
        }
    }

    fn circle(&self, trial: &Trial<'_>, found: &Changes) -> Circle {
        let visits = &self.memory.visits;
        let tree = (!trial.tree.is_empty()).then(|| short_hash(trial.tree));
        let (before, after) = (signature(&self.observed), signature(trial.checks));
        let same_tree = |visit: &Visit| Some(visit.tree) == tree;
        if visits.iter().any(|visit| visit.kept && same_tree(visit)) {
            return Circle::Flap;
        }
        if found.is_trade() {
            let same_trade = |visit: &Visit| visit.before == before && visit.after == after;
            // The failures of an earlier checkpoint are back, after having been fixed.
            let back = |visit: &Visit| visit.kept && visit.after == after;
            let known = |visit: &Visit| same_tree(visit) || same_trade(visit) || back(visit);
            if visits.iter().any(known) {
                return Circle::Flap;
            }
        }
        // The newest visit is the trial before this one: the same again is standing still.
        match visits.split_last() {
            Some((newest, older)) if !same_tree(newest) && older.iter().any(same_tree) => {
                Circle::Return
            }
            _ => Circle::None,
        }
    }

    fn remember(&mut self, trial: &Trial<'_>, ruling: &Ruling, reason: &str) {
        let tree = short_hash(trial.tree);
        let kept = ruling.decision == Decision::Kept;
        let measured = matches!(ruling.decision, Decision::Kept | Decision::Reverted);
        let (before, after) = (signature(&self.observed), signature(trial.checks));
        let repeated = self.memory.times_tried(tree);
        let memory = &mut self.memory;
        // A zero that follows a failed proof is no gain before it is proven itself.
        let hollow = trial.distance_after.is_zero() && memory.unproven.is_some();
        if ruling.improved && !hollow {
            memory.on_improvement();
        } else if !ruling.improved {
            memory.stalled = memory.stalled.saturating_add(1);
        }
        memory.not_kept = if kept { 0 } else { memory.not_kept.saturating_add(1) };
        match ruling.circle {
            Circle::Flap => memory.flaps = memory.flaps.saturating_add(1),
            Circle::Return => memory.returns = memory.returns.saturating_add(1),
            Circle::None => {}
        }
        if ruling.circle != Circle::None {
            memory.circle = circle_line(&ruling.found);
        }
        remember_declaration(memory, trial.hint, ruling.improved);
        if measured && !trial.tree.is_empty() {
            memory.visit(Visit { tree, before, after, kept });
        }
        let verb = verb(ruling.decision);
        memory.note_attempt(Attempt {
            number: trial.iterations,
            last: trial.iterations,
            times: 1,
            tree,
            decision: ruling.decision,
            text: clip_line(&format!("{verb}: {reason}")),
        });
        if kept {
            let tree = trial.tree.to_owned();
            memory.best = Some(Best { tree, distance: trial.distance_after });
        }
        let mut lines = circle_advice(ruling, repeated, trial);
        lines.extend(advice(trial, ruling));
        if memory.stalled > 0 {
            let left = self.spec.patience.saturating_sub(memory.stalled);
            lines.push(format!("{left} more iterations without improvement end this loop."));
        }
        lines.truncate(super::ADVICE_LINES_MAX);
        memory.advice = lines.iter().map(|line| clip_line(line)).collect();
        if kept {
            self.observed = trial.checks.to_vec();
        }
    }

    fn next(&mut self, trial: &Trial<'_>, ruling: &Ruling, jitter: f64) -> Next {
        let kept = ruling.decision == Decision::Kept;
        // Before any bound: success on the last allowed iteration is success.
        if kept && trial.distance_after.is_zero() {
            return Next::Verify;
        }
        // `observed` is the checkpoint that is left, whatever became of the trial.
        let bound = self.bound(&self.observed, trial.iterations, trial.run_ms);
        if let (Hint::NeedsHuman(why), None) = (trial.hint, &bound) {
            return Next::Stop(self.park_for_human(why));
        }
        if let Some(outcome) = self.verdict(&self.observed, trial.iterations, trial.run_ms) {
            return Next::Stop(outcome);
        }
        let pause = if kept { Duration::ZERO } else { self.pause(jitter) };
        // Waiting beyond the last moment would only delay the verdict.
        let left = self.spec.wall_time.0.saturating_sub(Duration::from_millis(trial.run_ms));
        Next::Act { pause: pause.min(left), advice: self.memory.advice.clone() }
    }

    /// A human will know more than all that was tried: patience starts anew after the resume.
    fn park_for_human(&mut self, why: &str) -> Outcome {
        self.memory.on_improvement();
        Outcome {
            phase: Phase::Parked,
            reason: Reason::Hold,
            message: clip_line(&format!("the agent asks for a human: {why}")),
            evidence: Vec::new(),
            retry_after_ms: 0,
            need: None,
        }
    }
}

fn remember_declaration(memory: &mut super::Memory, hint: &Hint, improved: bool) {
    match hint {
        Hint::Unreachable(why) if !improved => {
            memory.declared = memory.declared.saturating_add(1);
            memory.declared_why = clip_line(why);
        }
        _ => {
            memory.declared = 0;
            memory.declared_why.clear();
        }
    }
}

fn agent_cannot_start(why: &str) -> Judgement {
    let reason = clip_line(&format!("the agent could not start: {why}"));
    let outcome = Outcome {
        phase: Phase::Failed,
        reason: Reason::AgentCannotStart,
        message: reason.clone(),
        evidence: Vec::new(),
        retry_after_ms: 0,
        need: None,
    };
    let next = Next::Stop(outcome);
    Judgement { decision: Decision::Unchanged, reason, improved: false, next }
}

fn verb(decision: Decision) -> &'static str {
    match decision {
        Decision::Kept => "kept",
        Decision::Reverted => "reverted",
        Decision::Refused => "refused",
        Decision::Unchanged => "unchanged",
    }
}

fn circle_line(found: &Changes) -> String {
    if found.is_trade() {
        clip_line(&format!("fixing {} breaks {}", list(&found.fixed), list(&found.broken)))
    } else {
        "the same trees come back in turn".to_owned()
    }
}

/// What to tell an agent that goes in circles or repeats itself.
fn circle_advice(ruling: &Ruling, repeated: u32, trial: &Trial<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let Changes { fixed, broken } = &ruling.found;
    if ruling.circle == Circle::Flap && ruling.found.is_trade() {
        lines.push(format!(
            "You are going in circles: fixing {} breaks {}. Both must pass at the same time.",
            list(fixed),
            list(broken)
        ));
    }
    if ruling.decision == Decision::Reverted && repeated > 0 && !trial.tree.is_empty() {
        lines.push(format!(
            "This very change was tried {} times and reverted each time: do something else.",
            repeated.saturating_add(1)
        ));
    } else if ruling.circle != Circle::None && !ruling.found.is_trade() {
        lines.push("You came back to a state that was left before: do something else.".to_owned());
    }
    lines
}
