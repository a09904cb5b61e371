//! Running a command of the loop's under the guard, with its output in a bounded file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flyball_core::model::AgentCut;
use flyball_core::planted::{self, Bug};
use flyball_core::score::ExitKind;
use flyball_sandbox::{Step, StepEnd, Who};

use super::Run;
use super::confine::{Area, tool_home};
use super::halt::Halt;
use super::ready::unwanted;
use super::unseen::Sight;
use super::watching::Watch;
use crate::agent::Supervisor;
use crate::forward;
use crate::logs::STREAM_BYTES_MAX;
use crate::runs::Stop;

/// A command to run.
pub(super) struct StepRequest {
    /// Name of the output stream: `agent`, `check/<name>`, `proof/<name>`.
    pub(super) stream: String,
    pub(super) iteration: u32,
    pub(super) argv: Vec<String>,
    /// Where it works; also its working directory.
    pub(super) area: Area,
    pub(super) env: Vec<(String, String)>,
    pub(super) timeout: Duration,
    /// What only some steps have.
    pub(super) extra: Extra,
}

/// What only an agent's step has.
#[derive(Default)]
pub(super) struct Extra {
    /// What stands on its standard input.
    pub(super) stdin: Option<Vec<u8>>,
    /// Files that it can read besides.
    pub(super) show: Vec<PathBuf>,
    /// Follows its output and may end it.
    pub(super) watch: Option<Watch>,
}

/// A command that has ended, with everything it started.
pub(super) struct StepResult {
    pub(super) end: StepEnd,
    /// Nothing of a step that was watched.
    pub(super) output: String,
    /// Who watched it, and why it was ended by that.
    pub(super) watched: Option<(Supervisor, Option<AgentCut>)>,
}

impl StepResult {
    /// Says of a program that is there and that the step did not see what to do about it.
    fn explain(&mut self, sight: &Sight, argv: &[String], output: &Path) {
        if self.end.exit.is_success() {
            return;
        }
        let watched = self.watched.is_some().then(|| read_output(output));
        let said = watched.as_deref().unwrap_or(&self.output);
        if let Some(why) = sight.explain(&self.end.exit, argv, said) {
            self.end.exit = ExitKind::CouldNotStart(why);
        }
    }
}

impl Run {
    /// Runs a command to its end. A stop that cannot wait kills it, and so does that it is of no use any more.
    pub(super) async fn step(&mut self, request: StepRequest) -> Result<StepResult, Halt> {
        if self.is_unwanted() {
            return Err(Halt::stopped(self.stop()));
        }
        let logs = &self.context.logs;
        let output = logs
            .file(&self.id, request.iteration, &request.stream)
            .map_err(|error| Halt::node_fault(&format!("cannot keep output: {error}")))?;
        let path = request.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map(|(_, value)| value.as_str()).unwrap_or_default();
        let mut confinement = self.confinement(&request.area, path)?;
        confinement.secret_files = self.secrets.files(&request.stream);
        let Extra { stdin, show, mut watch } = request.extra;
        confinement.show.extend(show);
        let sight = Sight::of(&confinement, path);
        let who = request.area.who();
        let mut env = request.env;
        env.extend(self.secrets.env(&request.stream));
        let step = Step {
            argv: request.argv.clone(),
            cwd: request.area.dir().to_owned(),
            env,
            output: output.clone(),
            stdin,
            output_bytes_max: watch.as_ref().map_or(STREAM_BYTES_MAX, Watch::bytes_max),
            timeout: request.timeout,
            label: format!("{} {}", self.id.key, request.stream),
            confinement: Some(confinement),
        };
        let mut handle =
            self.context.guard.spawn_redacting(step, self.hidden()).map_err(|error| {
                Halt::node_fault(&format!("the guard cannot start a step: {error}"))
            })?;
        let targets = self.targets(who);
        // Held for as long as the step runs.
        let _answering = handle.take_listeners().map(|found| forward::serve(found, targets));
        let (killer, mut stop) = (handle.killer(), self.context.stop.clone());
        let mut off = std::pin::pin!(unwanted(self.wanted.clone(), self.context.stop.clone()));
        let mut wait = std::pin::pin!(handle.wait());
        let (mut cut, mut dropped) = (None, false);
        let end = tokio::select! {
            end = &mut wait => end,
            () = urgent(&mut stop) => {
                killer.kill();
                wait.await
            }
            () = &mut off => {
                killer.kill();
                dropped = true;
                wait.await
            }
            why = until_cut(&mut watch, &output) => {
                killer.kill();
                cut = Some(why);
                wait.await
            }
        };
        // A word that it is wanted comes too late for one that has been killed.
        if dropped && end.exit == ExitKind::Killed {
            return Err(Halt::stopped(self.stop()));
        }
        let mut result = self.ended(end, cut, watch, &output).await?;
        result.explain(&sight, &request.argv, &output);
        Ok(result)
    }

    /// What a step's end means for the run, and its output.
    async fn ended(
        &self,
        end: StepEnd,
        cut: Option<AgentCut>,
        watch: Option<Watch>,
        output: &Path,
    ) -> Result<StepResult, Halt> {
        if let ExitKind::NoRoom(why) = &end.exit {
            return Err(Halt::node_fault(&format!("it has no room for a process: {why}")));
        }
        // Without the guard's word nobody knows whether the step is gone, also when it was to go.
        if end.exit == ExitKind::GuardLost {
            return Err(self.cut_off(&end.detail).await);
        }
        if self.stop() >= Stop::Evict {
            return Err(Halt::stopped(self.stop()));
        }
        // One that ended by itself in the same moment was not cut off.
        let cut = cut.filter(|_| end.exit == ExitKind::Killed);
        // Nobody here asked for it: what was cut off says nothing about the work.
        if end.exit == ExitKind::Killed && cut.is_none() {
            return Err(Halt::End(Halt::fault(&format!("a step was killed: {}", end.detail))));
        }
        if let Some(watch) = watch {
            let seen = watch.finish(output, end.output_truncated);
            return Ok(StepResult { end, output: String::new(), watched: Some((seen, cut)) });
        }
        let mut text = read_output(output);
        if end.output_truncated {
            // Said where people and agents read it: cases printed later have not been seen.
            text += &format!("\n[flyball: only the first {STREAM_BYTES_MAX} bytes were kept]\n");
        }
        Ok(StepResult { end, output: text, watched: None })
    }

    /// Names and values that no output may hold.
    fn hidden(&self) -> Vec<(String, String)> {
        let mut values = self.secrets.values();
        let key = self.model_access().map(|access| access.key.clone());
        values.extend(key.map(|key| ("model-key".to_owned(), key)));
        values
    }

    /// A step was lost with its init or with the guard. Nobody saw its processes end, so this life
    /// ends: the guard kills everything and proves it, and the loop goes on elsewhere.
    async fn cut_off(&self, why: &str) -> Halt {
        self.context.guard.extender().end();
        let loss = self.context.guard.lost().await;
        Halt::Silent(format!("a step was lost ({why}): {}", loss.reason))
    }

    /// The environment of every command: what the operator passes on, private directories, and who
    /// and where it is.
    pub(super) fn base_env(&self, who: Who, iteration: u32) -> Vec<(String, String)> {
        let config = &self.context.config;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut env: Vec<(String, String)> = config
            .pass_env
            .iter()
            .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
            .collect();
        let rooms = self.rooms(who);
        // A run has a home of its own, and without these it would find no tool chain.
        let rustup = tool_home("RUSTUP_HOME", ".rustup");
        env.extend(rustup.map(|dir| ("RUSTUP_HOME".to_owned(), text(dir))));
        // The system's settings may name programs, and are not the run's business.
        env.push(("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()));
        env.push(("CARGO_HOME".to_owned(), text(rooms.home().join(".cargo"))));
        env.extend(self.sandbox_env());
        let span = tracing::Span::current();
        let trace = flyball_telemetry::current_traceparent(&span);
        env.extend([
            ("HOME".to_owned(), text(rooms.home())),
            ("TMPDIR".to_owned(), text(rooms.temp())),
            ("FLYBALL_LOOP".to_owned(), self.id.key.to_string()),
            ("FLYBALL_ITERATION".to_owned(), iteration.to_string()),
            ("FLYBALL_LOOP_UID".to_owned(), self.id.uid.to_string()),
            // For effects elsewhere that can compare it: a later owner has a higher one.
            ("FLYBALL_FENCE".to_owned(), self.id.token.to_string()),
            ("FLYBALL_NODE".to_owned(), config.node.to_string()),
            ("TRACEPARENT".to_owned(), trace.unwrap_or_else(|| self.traceparent.clone())),
        ]);
        if planted::is(Bug::EnvironmentInherited) {
            let known: BTreeSet<String> = env.iter().map(|(name, _)| name.clone()).collect();
            env.extend(std::env::vars().filter(|(name, _)| !known.contains(name)));
        }
        env
    }
}

/// Returns when whoever watches the step wants it to end.
async fn until_cut(watch: &mut Option<Watch>, output: &Path) -> AgentCut {
    match watch {
        Some(watch) => watch.until_cut(output).await,
        None => std::future::pending().await,
    }
}

/// Returns when a stop is asked for that cannot wait for the iteration's edge.
async fn urgent(stop: &mut tokio::sync::watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop >= Stop::Evict).await.is_err() {
        // Nobody can ask any more.
        std::future::pending().await
    }
}

/// The output as text; what is not UTF-8 is replaced.
fn read_output(path: &Path) -> String {
    // A file that cannot be read shows as no output; the exit still decides.
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
