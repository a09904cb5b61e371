//! Measuring a tree: every check in turn, each with a verdict and a share of the distance.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use flyball_core::quantity::Distance;
use flyball_core::record::CheckResult;
use flyball_core::score::{self, CaseMemory, Judge};
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

/// The checks of a loop, made ready to be judged once for a run.
#[derive(Clone)]
pub(super) struct Judges(Arc<Preparing>);

struct Preparing {
    checks: Vec<CheckSpec>,
    ready: OnceLock<Vec<Judge>>,
}

impl Judges {
    /// Begins to make them ready, beside the run's first steps.
    pub(super) fn prepare(checks: &[CheckSpec]) -> Self {
        let preparing = Preparing { checks: checks.to_vec(), ready: OnceLock::new() };
        let judges = Self(Arc::new(preparing));
        let ahead = judges.clone();
        tokio::task::spawn_blocking(move || ahead.ready().len());
        judges
    }

    /// Waits for the rest of it, some milliseconds at most.
    fn ready(&self) -> &[Judge] {
        self.0.ready.get_or_init(|| self.0.checks.iter().cloned().map(Judge::new).collect())
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
        let judges = self.judges.clone();
        for judge in judges.ready() {
            let check = judge.check();
            let span = tracing::info_span!("check", otel.name = format!("check {}", check.name));
            let result = self.check(check, dir, iteration, kind).instrument(span).await?;
            let (exit, output) = (&result.end.exit, &result.output);
            let mut verdict = judge.evaluate(exit, output, &mut measured.cases);
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
