//! Letting the agent act once: brief in, process run, report out.

use std::path::Path;
use std::time::Duration;

use flyball_core::governor::Hint;
use flyball_core::model::{AgentAccount, AgentCut};
use flyball_core::report::{Claim, Report};
use flyball_core::score::ExitKind;
use flyball_core::spec::AgentSpec;
use flyball_sandbox::{StepEnd, Who};
use flyball_telemetry::{IterationSpending, record_iteration};
use tracing::Instrument;

use super::Run;
use super::attempt::{Attempt, read_left};
use super::brief::{Brief, BriefFiles, BriefInput, read_report, tail};
use super::checks::Measured;
use super::confine::Area;
use super::halt::Halt;
use super::steps::{Extra, StepRequest};
use super::watching::{Calls, Watch};
use crate::agent::{Conclusion, Rules, Supervisor};
use crate::logs::{AGENT_BYTES_MAX, STREAM_BYTES_MAX};

/// Longest note of an agent that is kept.
const NOTE_BYTES_MAX: usize = 400;
/// Longest text of a version that is kept.
const VERSION_BYTES_MAX: usize = 100;
/// Longest time that a program may take to say its version: Node starts slowly on a busy machine.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// What became of the agent.
pub(super) struct Acted {
    pub(super) end: ExitKind,
    pub(super) hint: Hint,
    pub(super) note: String,
    pub(super) exit: String,
    pub(super) account: AgentAccount,
    pub(super) brief_digest: String,
    pub(super) duration_ms: u64,
}

impl Run {
    /// Runs the agent in `area` on what was measured.
    pub(super) async fn act(
        &mut self,
        agent: &AgentSpec,
        area: Area,
        number: u32,
        before: &Measured,
        advice: Vec<String>,
    ) -> Result<Acted, Halt> {
        let files = self.write_brief(number, before, advice)?;
        let brief_digest = digest(&files.json);
        let span = span(agent);
        // In the span, which is what the agent's own spans and calls belong to.
        let mut attempt = self.attempt(agent, number, &files).instrument(span.clone()).await?;
        let program = self.program_version(&attempt, &area, number).await?;
        span.record("gen_ai.agent.version", &attempt.definition.version);
        let result = self
            .step(StepRequest {
                stream: "agent".to_owned(),
                iteration: number,
                argv: std::mem::take(&mut attempt.argv),
                area,
                env: std::mem::take(&mut attempt.env),
                timeout: self.agent_timeout(agent, &attempt),
                extra: Extra {
                    stdin: attempt.stdin.take(),
                    show: std::mem::take(&mut attempt.show),
                    watch: Some(watch(&attempt, self.model_activity())),
                },
            })
            .instrument(span.clone())
            .await?;
        let mut conclusion = conclude(&attempt, &result.end, result.watched);
        let account = &mut conclusion.account;
        account.name.clone_from(&attempt.name);
        account.version.clone_from(&attempt.definition.version);
        if account.program.is_empty() {
            account.program = program;
        }
        let metered = self.metered();
        account.metered = metered.as_ref().map(|spent| spent.usage);
        account.cost = metered.as_ref().map(|spent| spent.amount.money);
        account.calls = metered.as_ref().map_or(0, |spent| spent.answered);
        told(&span, account);
        if let Some(spent) = metered {
            record_iteration(&IterationSpending {
                agent: &account.name,
                micro_dollars: spent.amount.money.0,
                answered: spent.answered,
                escalated: spent.escalated,
                tokens_off: account.tokens_off(),
            });
        }
        let report = read_report(&files.report)
            .unwrap_or_else(|wrong| Some(Report { note: wrong, claim: Claim::None }));
        let mut report = report.unwrap_or_else(|| Report {
            note: first_line(&conclusion.said).to_owned(),
            claim: Claim::None,
        });
        // An agent may repeat what it was given; its note goes into the journal and the status.
        report.note = self.secrets.redact(&report.note);
        Ok(Acted {
            hint: hint(report.claim, &report.note),
            note: tail(&report.note, NOTE_BYTES_MAX).to_owned(),
            exit: self.secrets.redact(&conclusion.words),
            end: conclusion.exit,
            account: conclusion.account,
            brief_digest,
            duration_ms: u64::try_from(result.end.wall.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Writes the brief of an iteration.
    fn write_brief(
        &self,
        number: u32,
        before: &Measured,
        advice: Vec<String>,
    ) -> Result<BriefFiles, Halt> {
        let files = BriefFiles::in_dirs(&self.brief_dir(), &self.rooms(Who::Agent).report());
        let brief = Brief::new(
            &BriefInput {
                key: &self.id.key,
                spec: &self.spec,
                iteration: number,
                checks: &before.checks,
                outputs: &before.outputs,
                distance: before.distance,
                tried: self.governor.tried(),
                advice,
            },
            &files,
        );
        brief
            .write(&files)
            .map_err(|error| Halt::node_fault(&format!("cannot write the brief: {error}")))?;
        Ok(files)
    }

    /// What the agent's program says of its version; asked once for each run. Nothing that it says fails the run.
    async fn program_version(
        &mut self,
        attempt: &Attempt,
        area: &Area,
        number: u32,
    ) -> Result<String, Halt> {
        if attempt.definition.probe.is_empty() {
            return Ok(String::new());
        }
        if let Some(known) = &self.program {
            return Ok(known.clone());
        }
        let program = attempt.argv.iter().take(1).chain(&attempt.definition.probe);
        let result = self
            .step(StepRequest {
                stream: "agent-version".to_owned(),
                iteration: number,
                argv: program.cloned().collect(),
                area: area.clone(),
                env: attempt.env.clone(),
                timeout: PROBE_MAX,
                extra: Extra { show: attempt.show.clone(), ..Extra::default() },
            })
            .await?;
        let line = first_line(&result.output);
        let line = if result.end.exit.is_success() { line } else { "" };
        let version = line[..line.floor_char_boundary(VERSION_BYTES_MAX)].to_owned();
        self.program = Some(version.clone());
        Ok(version)
    }

    fn agent_timeout(&self, agent: &AgentSpec, attempt: &Attempt) -> Duration {
        let wanted = agent.timeout.unwrap_or(attempt.definition.timeout);
        wanted.0.min(self.time_left())
    }
}

/// The span of an attempt, by the conventions for agents.
fn span(agent: &AgentSpec) -> tracing::Span {
    let name = agent.uses.as_deref().unwrap_or("command");
    tracing::info_span!(
        "agent",
        otel.name = format!("invoke_agent {name}"),
        gen_ai.operation.name = "invoke_agent",
        gen_ai.agent.name = name,
        gen_ai.agent.version = tracing::field::Empty,
        flyball.agent.ending = tracing::field::Empty,
        flyball.agent.reported_tokens = tracing::field::Empty,
        flyball.agent.tokens_off = tracing::field::Empty,
    )
}

/// What is known at the end goes into the span and, where the agent's count is not the gateway's, into the log.
fn told(span: &tracing::Span, account: &AgentAccount) {
    span.record("flyball.agent.ending", account.ending.words());
    if let Some(usage) = &account.reported {
        span.record("flyball.agent.reported_tokens", usage.tokens());
    }
    if let Some(off) = account.tokens_off() {
        span.record("flyball.agent.tokens_off", off);
        if off != 0 {
            let agent = &account.name;
            tracing::info!(
                agent,
                off,
                "its own count of tokens is not the gateway's, which counts"
            );
        }
    }
}

fn watch(attempt: &Attempt, calls: Option<Calls>) -> Watch {
    let rules = Rules::of(&attempt.definition);
    let supervisor = Supervisor::new(rules, &attempt.definition.output);
    // Of a plain command nothing is read from its output, so it is bounded like a check's.
    let speaks = attempt.definition.output != "lines";
    let bytes_max = if speaks { AGENT_BYTES_MAX } else { STREAM_BYTES_MAX };
    Watch::new(supervisor, bytes_max, calls)
}

/// The verdict about an attempt whose step has ended.
fn conclude(
    attempt: &Attempt,
    end: &StepEnd,
    watched: Option<(Supervisor, Option<AgentCut>)>,
) -> Conclusion {
    // It was watched, as it was asked to be; without that its exit says all.
    let (supervisor, cut) =
        watched.unwrap_or_else(|| (Supervisor::new(Rules::of(&attempt.definition), "lines"), None));
    let file = attempt.home.as_deref().zip(supervisor.file());
    let file = file.and_then(|(home, name)| read_left(home, name));
    supervisor.conclude(&end.exit, cut.as_ref(), file.as_deref())
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

fn hint(claim: Claim, note: &str) -> Hint {
    match claim {
        Claim::None => Hint::None,
        Claim::Done => Hint::Done,
        Claim::Unreachable => Hint::Unreachable(note.to_owned()),
        Claim::NeedsHuman => Hint::NeedsHuman(note.to_owned()),
    }
}

/// A short digest for telling briefs apart in the journal; not for security.
fn digest(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    // FNV-1a, 64 bits: stable over versions, which the standard hasher is not.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("fnv1a:{hash:016x}")
}
