//! Measuring a tree: every check in turn, each with a verdict and a share of the distance.

use std::path::Path;

use flyball_core::quantity::Distance;
use flyball_core::record::CheckResult;
use flyball_core::score::{self, CaseMemory};
use flyball_core::spec::CheckSpec;
use flyball_sandbox::Who;
use tracing::Instrument;

use super::Run;
use super::confine::Area;
use super::halt::Halt;
use super::steps::{Extra, StepRequest, StepResult};

/// What the checks said of a tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    pub(super) checks: Vec<CheckResult>,
    /// Output of each check, in the same order.
    pub(super) outputs: Vec<String>,
    pub(super) distance: Distance,
    pub(super) duration_ms: u64,
    /// Test cases seen so far, these included. A dropped change takes them with it.
    pub(super) cases: CaseMemory,
}

impl Measured {
    /// Names of the checks that fail.
    pub(super) fn failing(&self) -> Vec<String> {
        let failing = self.checks.iter().filter(|check| !check.passed);
        failing.map(|check| check.name.clone()).collect()
    }
}

impl Run {
    /// Runs every check in `dir`; `kind` names the output streams: `check` or `proof`.
    pub(super) async fn measure(
        &mut self,
        dir: &Path,
        iteration: u32,
        kind: &str,
    ) -> Result<Measured, Halt> {
        // Nothing that an earlier measurement has left behind may take part in this one.
        self.rooms(Who::Check)
            .make_anew()
            .map_err(|error| Halt::node_fault(&format!("cannot prepare checks: {error}")))?;
        let mut measured = Measured { cases: self.cases.clone(), ..Measured::default() };
        for check in self.spec.checks.clone() {
            let span = tracing::info_span!("check", otel.name = format!("check {}", check.name));
            let result = self.check(&check, dir, iteration, kind).instrument(span).await?;
            let mut verdict =
                score::evaluate(&check, &result.end.exit, &result.output, &mut measured.cases);
            let wall_ms = u64::try_from(result.end.wall.as_millis()).unwrap_or(u64::MAX);
            verdict.duration_ms = wall_ms;
            measured.duration_ms = measured.duration_ms.saturating_add(wall_ms);
            measured.checks.push(verdict);
            measured.outputs.push(result.output);
        }
        measured.distance = score::distance(&measured.checks);
        Ok(measured)
    }

    async fn check(
        &mut self,
        check: &CheckSpec,
        dir: &Path,
        iteration: u32,
        kind: &str,
    ) -> Result<StepResult, Halt> {
        self.step(StepRequest {
            stream: format!("{kind}/{}", check.name),
            iteration,
            argv: check.run.argv(),
            area: Area::Check(dir.to_owned()),
            env: self.base_env(Who::Check, iteration),
            timeout: check.timeout.0,
            extra: Extra::default(),
        })
        .await
    }
}
