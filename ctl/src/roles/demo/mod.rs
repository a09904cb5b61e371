//! `flyball demo`: five loops on two repositories, one worker killed half-way, no key and no network
//! needed.

mod board;
mod expect;
mod fixtures;
mod ready;
mod screen;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use flyball_core::spec::DEFAULT_NAMESPACE;
use flyball_proto::transport::Connection;
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::{ApplyRequest, GetLoopRequest, LoopChange, WatchLoopsRequest};
use tokio::time::Instant;
use tonic::Streaming;

use self::board::Board;
use self::screen::Screen;
use super::fleet::{Fleet, Plan};
use super::{dirs, signals};

/// Options of `flyball demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Use this etcd cluster instead of the embedded store
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    etcd: Vec<String>,
    /// Where to put everything; a new directory below the system's temporary one if absent
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Stay up at the end, to look around, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Seconds that each agent pretends to think
    #[arg(long, value_name = "SECONDS", default_value_t = 0.6, hide = true)]
    think: f64,
}

/// Lease of the demo's workers: short, so that the killed one is missed soon.
const TTL_SECONDS: i64 = 3;
/// The demo gives up after this; it takes well under two minutes.
const DEMO_MAX: Duration = Duration::from_secs(300);
/// The loop whose worker is killed, and after how many kept iterations.
const VICTIM: (&str, u32) = ("fix-ledger", 3);
/// The loop that waits for another.
const WAITER: &str = "add-average";
/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(120);

/// Runs the demo; an error when a loop did not end as it should.
pub(super) async fn run(args: DemoArgs, json: bool) -> anyhow::Result<()> {
    let root = match args.data_dir {
        Some(dir) => dir,
        None => std::env::temp_dir().join(format!("flyball-demo-{}", std::process::id())),
    };
    ready::empty(&root)?;
    ready::cargo().await?;
    dirs::private_dir(&root)?;
    let root = root.canonicalize()?;
    let material = fixtures::prepare(&root, args.think).await?;
    let plan = Plan {
        // The agents of the demo are scripts there, and no part of the repositories.
        worker_args: vec![format!("--show={}", root.join("examples").display())],
        data_dir: root,
        workers: 2,
        slots: 4,
        ttl_seconds: TTL_SECONDS,
        etcd: args.etcd,
        listen: Vec::new(),
        token_file: None,
        identity: None,
    };
    // A shared etcd may hold other loops, also of other demos.
    let namespace = match plan.etcd.as_slice() {
        [] => DEFAULT_NAMESPACE.to_owned(),
        _ => format!("demo-{}", std::process::id()),
    };
    let mut screen = Screen::new(json);
    screen.line("starting one scheduler and two workers …")?;
    let mut demo = Demo {
        fleet: Fleet::start(plan).await?,
        board: Board::default(),
        namespace,
        begun: Instant::now(),
        killed: None,
    };
    for line in demo.fleet.isolation_warning().iter().flat_map(|warning| warning.lines()) {
        screen.line(line)?;
    }
    let played = tokio::select! {
        played = tokio::time::timeout(DEMO_MAX, demo.play(&material.manifests, &mut screen)) => {
            played.unwrap_or_else(|_| Err(anyhow::anyhow!(
                "the demo is not over after {} s", DEMO_MAX.as_secs()
            )))
        }
        () = signals::shutdown(false) => Err(anyhow::anyhow!("interrupted")),
    };
    // The summary tells what happened so far, also where that is not the end.
    let finished = demo.finish(&mut screen, &material, args.keep);
    let ended = played.and(finished);
    if args.keep && ended.is_ok() {
        signals::shutdown(false).await;
    }
    demo.fleet.stop().await;
    ended
}

struct Demo {
    fleet: Fleet,
    namespace: String,
    board: Board,
    begun: Instant,
    /// The worker that was killed, and when.
    killed: Option<(String, u64)>,
}

impl Demo {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn play(&mut self, manifests: &[String], screen: &mut Screen) -> anyhow::Result<()> {
        let connection = self.fleet.connect().await?;
        let mut loops = LoopsClient::new(connection.clone());
        let watch = WatchLoopsRequest {
            namespace: self.namespace.clone(),
            labels: [("demo".to_owned(), "true".to_owned())].into(),
            ..WatchLoopsRequest::default()
        };
        let mut changes = loops.watch(watch).await?.into_inner();
        for (index, manifest) in manifests.iter().enumerate() {
            self.apply(&mut loops, manifest, screen).await?;
            if index == 0 {
                // The overlapping loop must come second.
                self.until(&mut changes, screen, |board| {
                    board.rows.values().all(|row| !row.nodes.is_empty() || row.has_ended())
                })
                .await?;
            }
        }
        self.explain_waiter(&connection, &mut changes, screen).await?;
        self.until(&mut changes, screen, |board| {
            let victim = board.rows.get(VICTIM.0);
            victim.is_some_and(|row| row.status.progress.accepted >= VICTIM.1 || row.has_ended())
        })
        .await?;
        // One that has ended without getting that far has no worker to kill.
        if self.board.rows.get(VICTIM.0).is_some_and(|row| !row.has_ended()) {
            self.kill_worker(screen).await?;
        }
        self.until(&mut changes, screen, Board::all_ended).await
    }

    async fn apply(
        &mut self,
        loops: &mut LoopsClient<Connection>,
        manifest: &str,
        screen: &mut Screen,
    ) -> anyhow::Result<()> {
        let mut document: serde_json::Value =
            serde_saphyr::from_str(manifest).context("the demo's own manifest")?;
        document["metadata"]["namespace"] = self.namespace.clone().into();
        let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.board.on_applied(&name, self.now_ms());
        let request = ApplyRequest {
            manifest_json: serde_json::to_vec(&document)?.into(),
            traceparent: flyball_telemetry::new_traceparent(rand::random(), rand::random()),
            ..ApplyRequest::default()
        };
        loops.apply(request).await.with_context(|| format!("apply {name}"))?;
        screen.event(self.now_ms(), &name, "applied")
    }

    /// Follows the stream until `done`, drawing on the way.
    async fn until(
        &mut self,
        changes: &mut Streaming<LoopChange>,
        screen: &mut Screen,
        done: impl Fn(&Board) -> bool,
    ) -> anyhow::Result<()> {
        let mut frame = tokio::time::interval(FRAME);
        while !done(&self.board) {
            tokio::select! {
                change = changes.message() => {
                    let change = change.context("the scheduler's stream")?;
                    let change = change.context("the scheduler closed its stream")?;
                    self.on_change(&change, screen)?;
                }
                _ = frame.tick() => screen.draw(&self.board, self.now_ms())?,
            }
        }
        screen.draw(&self.board, self.now_ms())
    }

    fn on_change(&mut self, change: &LoopChange, screen: &mut Screen) -> anyhow::Result<()> {
        let Some(object) = &change.object else { return Ok(()) };
        let now_ms = self.now_ms();
        if let Some(event) = self.board.on_object(&object.name, &object.object_json, now_ms) {
            screen.event(now_ms, &object.name, &event)?;
            if let Some(row) = self.board.rows.get_mut(&object.name) {
                row.last_event = event;
            }
        }
        Ok(())
    }

    async fn explain_waiter(
        &mut self,
        connection: &Connection,
        changes: &mut Streaming<LoopChange>,
        screen: &mut Screen,
    ) -> anyhow::Result<()> {
        self.until(changes, screen, |board| {
            board
                .rows
                .get(WAITER)
                .is_some_and(|row| !row.status.message.is_empty() || row.has_ended())
        })
        .await?;
        let request = GetLoopRequest { namespace: self.namespace.clone(), name: WAITER.to_owned() };
        let answer = LoopsClient::new(connection.clone()).explain(request).await?.into_inner();
        let finding = answer.findings.first().cloned().unwrap_or(answer.headline);
        screen.event(self.now_ms(), WAITER, &format!("explain: {finding}"))?;
        if let Some(row) = self.board.rows.get_mut(WAITER) {
            row.waited_for = Some(finding);
        }
        Ok(())
    }

    async fn kill_worker(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        let row = self.board.rows.get(VICTIM.0);
        let node = row.and_then(|row| row.nodes.last()).context("the loop has no node")?.clone();
        let worker = self.fleet.workers.iter_mut().find(|role| role.spec.name == node.as_str());
        let worker = worker.with_context(|| format!("{node} is not one of our workers"))?;
        worker.crash().await;
        let now_ms = self.now_ms();
        self.killed = Some((node.to_string(), now_ms));
        screen.event(now_ms, node.as_str(), "killed with SIGKILL")
    }

    /// Tells what happened; an error says which loop did not end as it should.
    fn finish(
        &self,
        screen: &mut Screen,
        material: &fixtures::Material,
        keep: bool,
    ) -> anyhow::Result<()> {
        let killed = self.killed.as_ref().map(|(node, _)| node.as_str());
        let missed = expect::missed(&self.board, killed);
        let report = screen::Report {
            board: &self.board,
            killed: self.killed.as_ref(),
            elapsed_ms: self.now_ms(),
            missed: &missed,
            plan: &self.fleet.plan,
            namespace: &self.namespace,
            ledger: &material.ledger,
            keep,
        };
        screen.finish(&report)?;
        anyhow::ensure!(
            missed.is_empty(),
            "the demo did not go as it should: {}",
            missed.join("; ")
        );
        Ok(())
    }
}
