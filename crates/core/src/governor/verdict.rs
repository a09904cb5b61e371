//! When a loop ends, and with which verdict: bounds, patience, circles, proofs.

use std::time::Duration;

use super::memory::{Best, Unproven};
use super::words::{clip_line, failing_lines, failing_names};
use super::{Governor, Next, Proof};
use crate::record::CheckResult;
use crate::status::{Outcome, Phase, Reason};

/// Proofs of one tree in a fresh clone. A second one tells a flaky check from a tree that only passes
/// where it was made.
pub const PROOFS_MAX: u32 = 2;

/// Times in a row that a repository may be out of reach before the loop fails. With pauses from 1 s
/// doubling to 10 minutes that is about eight hours: a server may be down for a night.
pub const REPOSITORY_TRIES_MAX: u32 = 70;

/// Iterations in a row that cost something and may be taken back: what is outside may end each of them, but their money
/// is spent.
pub const TAKEN_BACK_MAX: u32 = 10;

/// Pauses between tries at a repository, or at models that do not answer: first and longest.
const OUTAGE_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Iterations in a row in which the agent must say "unreachable", without improving anything, to be
/// believed: once can be a bad sample.
const DECLARED_MAX: u32 = 2;

/// No pause is longer, whatever was declared: beyond a day a person should look.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Trades seen again that end a loop as flapping: half of its patience, so that flapping is
/// recognised before patience ends; at least 2, as the first one is only damped, and at most 8, as
/// a circle does not get better by going round.
pub fn flaps_max(patience: u32) -> u32 {
    (patience / 2).clamp(2, 8)
}

impl Governor {
    /// The verdict that is due, if any, most telling first.
    pub(super) fn verdict(
        &self,
        checks: &[CheckResult],
        iterations: u32,
        run_ms: u64,
    ) -> Option<Outcome> {
        let memory = &self.memory;
        let flaps_max = flaps_max(self.spec.patience);
        let out_of_patience = memory.stalled >= self.spec.patience;
        // A return without a visible trade weighs half: it may be an agent short of ideas.
        let circling = memory.flaps >= flaps_max || memory.returns >= flaps_max.saturating_mul(2);
        if circling || (out_of_patience && memory.flaps > 0) {
            let times = memory.flaps.max(memory.returns);
            let message = format!(
                "goes in circles: came back to the same failures {times} times without improvement; {}",
                memory.circle
            );
            return Some(self.unreachable(Reason::Flapping, &message, checks));
        }
        if memory.declared >= DECLARED_MAX {
            let message = format!(
                "the agent declared it unreachable in {} iterations in a row without improvement: {}",
                memory.declared, memory.declared_why
            );
            return Some(self.unreachable(Reason::Declared, &message, checks));
        }
        if out_of_patience {
            let message = format!(
                "no improvement in {} iterations in a row (patience {})",
                memory.stalled, self.spec.patience
            );
            return Some(self.unreachable(Reason::NoProgress, &message, checks));
        }
        self.bound(checks, iterations, run_ms)
    }

    /// The bound that is reached, if any.
    pub(super) fn bound(
        &self,
        checks: &[CheckResult],
        iterations: u32,
        run_ms: u64,
    ) -> Option<Outcome> {
        let wall_ms = u64::try_from(self.spec.wall_time.0.as_millis()).unwrap_or(u64::MAX);
        let (reason, message) = if iterations >= self.spec.iterations {
            let allowed = self.spec.iterations;
            (Reason::Iterations, format!("all {allowed} iterations are used"))
        } else if run_ms >= wall_ms {
            let allowed = self.spec.wall_time;
            (Reason::WallTime, format!("all of {allowed} in runs is used"))
        } else {
            return None;
        };
        Some(self.stop(Phase::Exhausted, reason, &message, checks))
    }

    pub(super) fn unreachable(
        &self,
        reason: Reason,
        message: &str,
        checks: &[CheckResult],
    ) -> Outcome {
        self.stop(Phase::Unreachable, reason, message, checks)
    }

    /// An outcome with everything that speaks for it.
    fn stop(&self, phase: Phase, reason: Reason, why: &str, checks: &[CheckResult]) -> Outcome {
        let mut message = why.to_owned();
        if let Some(best) = &self.memory.best {
            let initial = self.memory.initial.unwrap_or(best.distance);
            message.push_str(&format!("; best distance {} of first {initial}", best.distance));
        }
        if checks.iter().any(|check| !check.passed) {
            message.push_str(&format!("; failing: {}", failing_names(checks)));
        }
        let mut evidence = failing_lines(checks);
        if !self.memory.circle.is_empty() {
            evidence.push(self.memory.circle.clone());
        }
        if !self.memory.declared_why.is_empty() {
            evidence.push(clip_line(&format!("the agent says: {}", self.memory.declared_why)));
        }
        evidence.extend(self.tried().into_iter().map(|line| format!("tried {line}")));
        Outcome { phase, reason, message, evidence, retry_after_ms: 0, need: None }
    }

    /// The answer of a fresh clone to [`Next::Verify`]. A checkpoint that fails there is not done,
    /// whatever it did where it was made: its distance is what the proof says.
    pub fn prove(&mut self, proof: &Proof<'_>, jitter: f64) -> Next {
        if let Some(outcome) = self.check_cannot_start(proof.checks) {
            return Next::Stop(outcome);
        }
        if proof.distance.is_zero() {
            return Next::Stop(self.converged(proof));
        }
        let memory = &mut self.memory;
        let unproven = memory.unproven.take().filter(|unproven| unproven.tree == proof.tree);
        let times = unproven.map_or(0, |unproven| unproven.times).saturating_add(1);
        memory.unproven = Some(Unproven { tree: proof.tree.to_owned(), times });
        if times < PROOFS_MAX {
            return Next::Verify;
        }
        memory.best = Some(Best { tree: proof.tree.to_owned(), distance: proof.distance });
        memory.stalled = memory.stalled.saturating_add(1);
        memory.not_kept = memory.not_kept.saturating_add(1);
        let failing = failing_names(proof.checks);
        memory.advice = vec![
            clip_line(&format!(
                "All checks pass in your working tree, but in a fresh clone of it these fail: {failing}."
            )),
            "Something that is needed is ignored by git, generated, or outside the repository."
                .to_owned(),
        ];
        self.observed = proof.checks.to_vec();
        match self.verdict(proof.checks, proof.iterations, proof.run_ms) {
            Some(outcome) => Next::Stop(outcome),
            None => self.act_or_give_up(proof.checks, self.pause(jitter)),
        }
    }

    fn converged(&self, proof: &Proof<'_>) -> Outcome {
        let message = format!(
            "every check passes ({} of {}), proven in a fresh start after {} iteration{}",
            proof.checks.len(),
            proof.checks.len(),
            proof.iterations,
            if proof.iterations == 1 { "" } else { "s" }
        );
        let phase = Phase::Converged;
        Outcome {
            phase,
            reason: Reason::None,
            message,
            evidence: Vec::new(),
            retry_after_ms: 0,
            need: None,
        }
    }

    /// Without an agent nothing can change: whatever fails now fails for good.
    pub(super) fn act_or_give_up(&self, checks: &[CheckResult], pause: Duration) -> Next {
        if self.has_agent {
            return Next::Act { pause, advice: self.memory.advice.clone() };
        }
        let message = "checks fail and the loop has no agent that could change that";
        Next::Stop(self.unreachable(Reason::NoProgress, message, checks))
    }

    /// A check that cannot even be started on the checkpoint is a wrong declaration, not distance.
    pub(super) fn check_cannot_start(&self, checks: &[CheckResult]) -> Option<Outcome> {
        let broken = checks.iter().find(|check| crate::score::could_not_start(check))?;
        let message = clip_line(&format!("check {}: {}", broken.name, broken.exit));
        Some(Outcome {
            phase: Phase::Failed,
            reason: Reason::CheckCannotStart,
            message,
            evidence: failing_lines(checks),
            retry_after_ms: 0,
            need: None,
        })
    }

    /// The pause after an iteration that was not kept: doubling with each in a row, and by four with
    /// each flap; between half of that and all of it, as `jitter` (0 to 1) says.
    pub(super) fn pause(&self, jitter: f64) -> Duration {
        let memory = &self.memory;
        let damping = memory.flaps.saturating_add(memory.returns).saturating_mul(2);
        self.backoff(memory.not_kept.saturating_add(damping), jitter)
    }

    fn backoff(&self, times: u32, jitter: f64) -> Duration {
        let Some(doublings) = times.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let full = self.spec.backoff.initial.0.saturating_mul(factor).min(self.spec.backoff.max.0);
        spread(full.min(PAUSE_MAX), jitter)
    }

    /// The repository did not answer: how the run ends. `Parked` with a growing pause, and after
    /// [`REPOSITORY_TRIES_MAX`] in a row `Failed`.
    pub fn on_repository_unreachable(&mut self, what: &str, jitter: f64) -> Outcome {
        let memory = &mut self.memory;
        memory.repository_failures = memory.repository_failures.saturating_add(1);
        let times = memory.repository_failures;
        let what = clip_line(what);
        let (phase, reason, pause_ms) = if times >= REPOSITORY_TRIES_MAX {
            (Phase::Failed, Reason::RepositoryUnreachable, 0)
        } else {
            (Phase::Parked, Reason::Backoff, outage_pause_ms(times, jitter))
        };
        let message = format!(
            "the repository cannot be reached (try {times} of {REPOSITORY_TRIES_MAX}): {what}"
        );
        Outcome {
            phase,
            reason,
            message,
            evidence: Vec::new(),
            retry_after_ms: pause_ms,
            need: None,
        }
    }

    /// The repository took an iteration: failures are counted anew.
    pub fn on_repository_reached(&mut self) {
        self.memory.repository_failures = 0;
    }

    /// Nobody answered the agent's model calls, which says nothing about its work: how the run ends. `Parked` with a
    /// growing pause, however often: what is wrong is outside the loop, and it costs nothing meanwhile.
    pub fn on_models_unreachable(&mut self, what: &str, jitter: f64) -> Outcome {
        let memory = &mut self.memory;
        memory.model_failures = memory.model_failures.saturating_add(1);
        let times = memory.model_failures;
        Outcome {
            phase: Phase::Parked,
            reason: Reason::Backoff,
            message: format!("no model answered its agent (try {times}): {}", clip_line(what)),
            evidence: Vec::new(),
            retry_after_ms: outage_pause_ms(times, jitter),
            need: None,
        }
    }

    /// Whether an iteration that something outside has ended is taken back, as if it had not been. One that cost
    /// something is only [`TAKEN_BACK_MAX`] times in a row: then it counts, so that bounds of the loop hold.
    pub fn take_back(&mut self, cost: bool) -> bool {
        let most = TAKEN_BACK_MAX;
        let taken_back = self.memory.taken_back < most || !cost;
        self.memory.taken_back = self.memory.taken_back.saturating_add(cost.into()).min(most);
        taken_back
    }

    /// An iteration counts. `hindered`: something outside ended it; else failures of models are counted anew.
    pub fn on_counted(&mut self, hindered: bool) {
        self.memory.taken_back = 0;
        if !hindered {
            self.memory.model_failures = 0;
        }
    }
}

/// The pause after so many failures in a row, at least one.
fn outage_pause_ms(times: u32, jitter: f64) -> u64 {
    let (first, longest) = OUTAGE_PAUSES;
    let factor = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = spread(first.saturating_mul(factor).min(longest), jitter);
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

/// Between half of a pause and all of it, as `jitter` (0 to 1) says.
fn spread(pause: Duration, jitter: f64) -> Duration {
    let jitter = if jitter.is_nan() { 1.0 } else { jitter.clamp(0.0, 1.0) };
    pause.mul_f64(0.5 + jitter / 2.0)
}
