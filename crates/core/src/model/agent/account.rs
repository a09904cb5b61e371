//! How an attempt of an agent ended and what it said of itself, for the record of its iteration.

use serde::{Deserialize, Serialize};

use crate::model::{Money, Usage};
use crate::score::ExitKind;

/// The last word of an agent whose output has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastWord {
    /// Whether it says that it went well.
    pub ok: bool,
    /// What kind of end it names, such as `success` or `error_max_turns`.
    pub kind: String,
    /// What it says besides.
    pub message: String,
}

/// Why we ended it, if we did before its time limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentCut {
    /// It was still there so long after its last word: in words.
    Hung(String),
    /// It said nothing for so long while none of its tools ran: in words.
    Stalled(String),
}

/// How an attempt ended, of its last word, its exit and our own signal; the verdict of the checks stands beside
/// it in the record. Never the exit code alone: command line agents end with 0 after failures and hang after
/// success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AgentEnding {
    /// It said that it was through; without a last word, it exited with 0.
    #[default]
    Finished,
    /// It said that it was through and had to be killed.
    Hung,
    /// It said that it failed; without a last word, it exited with something else.
    Failed,
    /// It exited with 0 and without the last word that it always has.
    Silent,
    /// It broke off without its last word.
    Broken,
    /// It said nothing for too long.
    Stalled,
    /// Its time was up.
    TimedOut,
    /// It took too much of something.
    OverLimit,
}

impl AgentEnding {
    /// Of `word`, if its kind of output has one (`speaks`), its exit, and whether we cut it off.
    pub fn of(
        word: Option<&LastWord>,
        speaks: bool,
        exit: &ExitKind,
        cut: Option<&AgentCut>,
    ) -> Self {
        match (cut, word.map(|word| word.ok)) {
            (Some(AgentCut::Stalled(_)), _) => return Self::Stalled,
            (Some(AgentCut::Hung(_)), Some(true)) => return Self::Hung,
            (Some(AgentCut::Hung(_)), _) | (None, Some(false)) => return Self::Failed,
            (None, Some(true)) => {
                let hung = !matches!(exit, ExitKind::Exited(_));
                return if hung { Self::Hung } else { Self::Finished };
            }
            (None, None) => {}
        }
        match exit {
            ExitKind::TimedOut => Self::TimedOut,
            ExitKind::OverLimit(_) => Self::OverLimit,
            ExitKind::Exited(0) if speaks => Self::Silent,
            ExitKind::Exited(0) => Self::Finished,
            ExitKind::Exited(_) if !speaks => Self::Failed,
            ExitKind::Exited(_)
            | ExitKind::Signaled(_)
            | ExitKind::Killed
            | ExitKind::CouldNotStart(_)
            | ExitKind::NoRoom(_)
            | ExitKind::GuardLost => Self::Broken,
        }
    }

    /// The exit that the governor is to see: of a process that we ended, what it would have been.
    pub fn as_exit(self, exit: &ExitKind, cut: Option<&AgentCut>) -> ExitKind {
        match (self, cut) {
            (Self::Hung, _) => ExitKind::Exited(0),
            (_, Some(AgentCut::Stalled(why))) => ExitKind::OverLimit(why.clone()),
            (_, Some(AgentCut::Hung(_))) => ExitKind::Exited(1),
            (_, None) => exit.clone(),
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Hung => "finished, and had to be killed",
            Self::Failed => "failed",
            Self::Silent => "ended without a last word",
            Self::Broken => "broke off",
            Self::Stalled => "stalled",
            Self::TimedOut => "timed out",
            Self::OverLimit => "took too much",
        }
    }
}

/// What an agent said of itself in one attempt, beside what the gateway metered. Counts are of its output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentAccount {
    /// Name of its definition; empty for a plain command.
    pub name: String,
    /// Version of its definition.
    pub version: String,
    /// What the program says of its own version, or nothing.
    pub program: String,
    /// How it ended.
    pub ending: AgentEnding,
    /// The kind of end that it named itself, or nothing.
    pub word: String,
    /// Turns that it reports; 0 if it does not.
    pub turns: u32,
    /// Tools that it began.
    pub tools: u32,
    /// Times that it said it repeats a model call.
    pub retries: u32,
    /// Lines of its output that its parser did not understand.
    pub unread: u32,
    /// Tokens that it reports. The gateway's meter is what counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<Usage>,
    /// Cost that it reports; mostly an estimate by a price list of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_cost: Option<Money>,
    /// Tokens that the gateway metered for it; absent if it had no gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metered: Option<Usage>,
    /// What that cost; absent if it had no gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// Model calls of it that were answered.
    pub calls: u64,
}

impl AgentAccount {
    /// Tokens by which its own count is above (or, negative, below) the gateway's; `None` without both.
    pub fn tokens_off(&self) -> Option<i64> {
        let (reported, metered) = (self.reported?.tokens(), self.metered?.tokens());
        let bounded = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        Some(bounded(reported) - bounded(metered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_never_the_exit_code_alone() {
        use AgentEnding as E;
        let ok = LastWord { ok: true, ..LastWord::default() };
        let bad = LastWord { ok: false, ..LastWord::default() };
        let hung = AgentCut::Hung("30s".to_owned());
        let stalled = AgentCut::Stalled("10m".to_owned());
        let (zero, one, killed) = (ExitKind::Exited(0), ExitKind::Exited(1), ExitKind::Killed);
        for (word, speaks, exit, cut, expected) in [
            (Some(&ok), true, &zero, None, E::Finished),
            (Some(&ok), true, &one, None, E::Finished),
            (Some(&bad), true, &zero, None, E::Failed),
            (Some(&ok), true, &killed, Some(&hung), E::Hung),
            (Some(&bad), true, &killed, Some(&hung), E::Failed),
            (Some(&ok), true, &ExitKind::TimedOut, None, E::Hung),
            (Some(&bad), true, &ExitKind::TimedOut, None, E::Failed),
            (None, true, &killed, Some(&stalled), E::Stalled),
            (None, true, &zero, None, E::Silent),
            (None, true, &one, None, E::Broken),
            (None, true, &ExitKind::Signaled(11), None, E::Broken),
            (None, true, &ExitKind::TimedOut, None, E::TimedOut),
            (None, false, &zero, None, E::Finished),
            (None, false, &one, None, E::Failed),
            (None, false, &ExitKind::Signaled(9), None, E::Broken),
            (None, false, &ExitKind::OverLimit("disk".to_owned()), None, E::OverLimit),
        ] {
            let found = AgentEnding::of(word, speaks, exit, cut);
            assert_eq!(found, expected, "{word:?} {speaks} {exit} {cut:?}");
        }
    }

    #[test]
    fn what_we_ended_ourselves_may_be_judged() {
        let hung = AgentCut::Hung("30s".to_owned());
        let stalled = AgentCut::Stalled("nothing for 10m".to_owned());
        let exit = |ending: AgentEnding, cut| ending.as_exit(&ExitKind::Killed, cut).to_string();
        assert_eq!(exit(AgentEnding::Hung, Some(&hung)), "exit 0");
        assert_eq!(exit(AgentEnding::Failed, Some(&hung)), "exit 1");
        assert_eq!(exit(AgentEnding::Stalled, Some(&stalled)), "over its limit: nothing for 10m");
        let seven = ExitKind::Exited(7);
        assert_eq!(AgentEnding::Broken.as_exit(&seven, None), seven);
    }

    #[test]
    fn the_difference_has_a_sign() {
        let tokens = |input_total| Some(Usage { input_total, ..Usage::default() });
        let mut account = AgentAccount { reported: tokens(90), ..AgentAccount::default() };
        assert_eq!(account.tokens_off(), None);
        account.metered = tokens(100);
        assert_eq!(account.tokens_off(), Some(-10));
    }
}
