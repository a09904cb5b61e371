//! Letting the agent act once: brief in, process run, report out.

use std::path::Path;

use flyball_core::governor::Hint;
use flyball_core::score::ExitKind;
use flyball_core::spec::AgentSpec;
use flyball_sandbox::Who;
use tracing::Instrument;

use super::Run;
use super::brief::{Brief, BriefFiles, BriefInput, Claim, Report, read_report, tail};
use super::checks::Measured;
use super::confine::Area;
use super::halt::Halt;
use super::steps::StepRequest;

/// Longest note of an agent that is kept.
const NOTE_BYTES_MAX: usize = 400;

/// What became of the agent.
pub(super) struct Acted {
    pub(super) end: ExitKind,
    pub(super) hint: Hint,
    pub(super) note: String,
    pub(super) exit: String,
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
        let brief_digest = digest(&files.json);
        let span = tracing::info_span!("agent", otel.name = "invoke_agent command");
        let result = self
            .step(StepRequest {
                stream: "agent".to_owned(),
                iteration: number,
                argv: agent.argv(),
                area,
                env: self.agent_env(agent, number, &files),
                timeout: agent
                    .timeout
                    .unwrap_or(AgentSpec::TIMEOUT_DEFAULT)
                    .0
                    .min(self.time_left()),
            })
            .instrument(span)
            .await?;
        let report = read_report(&files.report)
            .unwrap_or_else(|wrong| Some(Report { note: wrong, claim: Claim::None }));
        let mut report = report.unwrap_or_default();
        // An agent may repeat what it was given; its note goes into the journal and the status.
        report.note = self.secrets.redact(&report.note);
        Ok(Acted {
            hint: hint(report.claim, &report.note),
            note: tail(&report.note, NOTE_BYTES_MAX).to_owned(),
            exit: result.end.exit.to_string(),
            end: result.end.exit,
            brief_digest,
            duration_ms: u64::try_from(result.end.wall.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn agent_env(
        &self,
        agent: &AgentSpec,
        number: u32,
        files: &BriefFiles,
    ) -> Vec<(String, String)> {
        let mut env = self.base_env(Who::Agent, number);
        // The agent's own variables win over those passed on, and ours over both.
        env.retain(|(name, _)| !agent.env.contains_key(name));
        env.extend(agent.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let paths = [
            ("FLYBALL_BRIEF", &files.json),
            ("FLYBALL_BRIEF_TEXT", &files.text),
            ("FLYBALL_FAILING", &files.failing),
            ("FLYBALL_REPORT", &files.report),
        ];
        env.retain(|(name, _)| !paths.iter().any(|(ours, _)| ours == name));
        let path = |(name, path): (&str, &std::path::PathBuf)| {
            (name.to_owned(), path.to_string_lossy().into_owned())
        };
        env.extend(paths.map(path));
        env
    }
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
