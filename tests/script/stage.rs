//! The stage: a reactor, a model of the store, and the commands that drive both.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_core::ids::{Incarnation, LoopKey, NodeName, Token};
use flyball_core::model::Amount;
use flyball_core::node::{NodeFacts, NodeMark, NodeRecord, Resources};
use flyball_core::quantity::{CpuMillis, Span};
use flyball_core::resource::{ResourceSet, canonical_repo_id};
use flyball_core::seal::{GivenUp, SealDuty};
use flyball_core::spec::{Access, GitWorkspace, LoopSpec, Owns, OwnsWithAccess, Workspace};
use flyball_core::status::{LoopStatus, Outcome, Phase, Progress, Reason};
use flyball_scheduler::reactor::{
    Assignment, Attached, CommitId, CommitResult, Effect, Event, LiveRun, Reactor, Report,
    ReportBody, SessionId, ToNode,
};
use flyball_store::{Change, LoopRecord, Mutation};
use jiff::Timestamp;

use crate::model::Model;
use crate::parse::Command;
use crate::show;

pub(crate) struct Stage {
    pub(crate) reactor: Reactor,
    pub(crate) model: Model,
    pub(crate) now: Timestamp,
    /// Commits handed out and not answered yet.
    pub(crate) commits: BTreeMap<u64, Mutation>,
    /// The session of each node, and its incarnation.
    pub(crate) sessions: BTreeMap<NodeName, (SessionId, Incarnation)>,
    /// Writes of the API that the reactor has not been told of yet.
    delayed: Vec<Event>,
    numbers: u64,
    lines: Vec<String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            reactor: Reactor::new(),
            model: Model::default(),
            now: Timestamp::UNIX_EPOCH,
            commits: BTreeMap::new(),
            sessions: BTreeMap::new(),
            delayed: Vec::new(),
            numbers: 0,
            lines: Vec::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Runs a command and answers the lines to be seen below it.
    pub(crate) fn run(&mut self, line: &str) -> Vec<String> {
        let command = Command::parse(line);
        match command.verb.as_str() {
            "lead" => self.lead(&command),
            "follow" => self.event(Event::NotLeading),
            "list" => self.list(&command),
            "watch" => self.watch(&command),
            "submit" => self.submit(&command),
            "change" => self.change(&command),
            "budget" => self.budget(&command),
            "account" => self.account(&command),
            "namespace" => self.namespace(&command),
            "attach" => self.attach(&command),
            "alive" => self.alive(&command),
            "heard" => self.event(Event::Heard),
            "behind" => self.event(Event::StoreBehind),
            "full" => self.event(Event::StoreFull(!command.has("over"))),
            "detach" => self.detach(&command),
            "leave" => self.leave(&command),
            "expire" => self.model.expire(&command.word(0).into()),
            "rogue-delete" => self.model.delete_claim(&key(command.word(0))),
            "rogue-remove" => self.model.delete_loop(&key(command.word(0))),
            "vanish" => self.model.vanish(&key(command.word(0))),
            "abandon" => self.abandon(&command),
            "seals" => self.show_seals(),
            "garble" => self.garble(&command),
            "mark" => self.mark(&command),
            "commit" => self.commit(&command),
            "resolve" => self.resolve(&command),
            "settle" => self.settle(),
            "tell" => self.tell(),
            "update" | "ended" => self.report(&command),
            "tick" => self.tick(&command),
            "explain" => self.explain(&command),
            "wake" => self.show_wake(),
            "loops" => self.show_loops(),
            other => panic!("no command {other}"),
        }
        std::mem::take(&mut self.lines)
    }

    fn event(&mut self, event: Event) {
        for effect in self.reactor.on_event(event, self.now) {
            self.lines.push(show::effect(&effect));
            if let Effect::Send { message: ToNode::Assign(assignment), .. } = &effect {
                self.check_assignment(assignment);
            }
            if let Effect::Commit { commit, mutation } = effect {
                self.commits.insert(commit.0, mutation);
            }
        }
    }

    /// A run is started only with a spec whose resources its claim holds.
    fn check_assignment(&self, assignment: &Assignment) {
        // The claim may be gone by now; then the run is fenced.
        let Some(claim) = self.model.claims.get(&assignment.key) else { return };
        if claim.create_revision == assignment.token.0 {
            let spec = &assignment.spec;
            let repository = spec.workspace.as_ref();
            let repository = repository.map(|w| canonical_repo_id(&w.git.url).unwrap());
            let set = ResourceSet::parse(&spec.owns, repository.as_ref()).unwrap();
            assert_eq!(set.canonical(), claim.value.resources, "{}", assignment.key);
        }
    }

    fn lead(&mut self, command: &Command) {
        let create_revision = command.number("revision").unwrap_or(self.model.revision + 1);
        self.model.advance_to(create_revision);
        self.event(Event::Leading { create_revision });
    }

    fn list(&mut self, command: &Command) {
        let mut snapshot = self.model.snapshot();
        if let Some(revision) = command.number("revision") {
            snapshot.revision = revision;
        }
        self.event(Event::Snapshot(Box::new(snapshot)));
    }

    fn watch(&mut self, command: &Command) {
        if command.has("lost") {
            return self.event(Event::WatchLost);
        }
        for (revision, changes) in self.model.undelivered() {
            self.event(Event::Changes { revision, changes });
        }
    }

    /// `submit NAME owns=a,b cpu=1 [git] [ttl=60] [told]`
    fn submit(&mut self, command: &Command) {
        let key = key(command.word(0));
        let record = LoopRecord {
            uid: format!("uid-{}-{}", key.name, self.model.revision).into(),
            generation: 1,
            labels: BTreeMap::new(),
            created_at: self.now,
            spec: spec(command),
            spec_digest: String::new(),
            traceparent: String::new(),
            cancel: None,
            delete: false,
            key,
        };
        let status = LoopStatus {
            reason: Reason::Submitted,
            observed_generation: 1,
            ..LoopStatus::default()
        };
        let (revision, changes) = self.model.put_loop(record, Some(status));
        self.written(command, Event::Written { revision, changes });
    }

    /// `change NAME cancel|delete|spec [owns=…] [told]`
    fn change(&mut self, command: &Command) {
        let key = key(command.word(0));
        let mut record = LoopRecord::clone(&self.model.loops[&key].value);
        match command.word(1) {
            "cancel" => record.cancel = Some("enough".to_owned()),
            "delete" => record.delete = true,
            "spec" => {
                record.generation += 1;
                record.cancel = None;
                record.delete = false;
                let owns = record.spec.owns.clone();
                record.spec = spec(command);
                if command.get("owns").is_none() {
                    record.spec.owns = owns;
                }
            }
            other => panic!("no change {other}"),
        }
        let (revision, changes) = self.model.put_loop(record, None);
        self.written(command, Event::Written { revision, changes });
    }

    /// `abandon NAME [told]`: an operator gives the seal of its lost runs up, as the API does.
    fn abandon(&mut self, command: &Command) {
        let key = key(command.word(0));
        let view = self.reactor.duty_views("").into_iter().find(|view| view.key == key);
        let view = view.expect("there is no duty to give up");
        let through = view.runs.iter().map(|run| run.token).max().unwrap();
        let mut duty = self
            .model
            .duty(&view.uid)
            .unwrap_or_else(|| SealDuty::of(view.uid.clone(), view.key.to_string(), self.now));
        let (by, reason) = ("ann@ops".to_owned(), "its repository is gone".to_owned());
        duty.given_up = Some(GivenUp { through, by, reason, at: None });
        let (revision, changes) = self.model.give_up(duty);
        self.written(command, Event::Written { revision, changes });
    }

    fn show_seals(&mut self) {
        for view in self.reactor.duty_views("") {
            let state = if view.removed { "removed" } else { "listed" };
            let runs = view.runs.iter();
            let runs: Vec<String> =
                runs.map(|run| format!("{}@{}", run.token, run.repository)).collect();
            self.lines.push(format!("{} {} {state} {}", view.key, view.uid, runs.join(" ")));
        }
    }

    /// The API tells the reactor of a write at once (`told`), late (`delayed`, by `tell`), or never.
    pub(crate) fn written(&mut self, command: &Command, event: Event) {
        if command.has("told") {
            self.event(event);
        } else if command.has("delayed") {
            self.delayed.push(event);
        }
    }

    /// `garble KEY`: a newer scheduler writes a value that this one cannot read.
    fn garble(&mut self, command: &Command) {
        self.model.revision += 1;
        let (key, why) = (command.word(0).to_owned(), "of a newer version".to_owned());
        let held = !command.has("loose");
        let change = Change::Undecodable { key, why, held };
        let (revision, changes) = (self.model.revision, vec![change]);
        self.event(Event::Changes { revision, changes });
    }

    fn tell(&mut self) {
        for event in std::mem::take(&mut self.delayed) {
            self.event(event);
        }
    }

    /// `attach NODE INCARNATION slots=2 cpu=4 runs=a:7,b:9`
    fn attach(&mut self, command: &Command) {
        let (node, incarnation) = (command.word(0).into(), command.word(1).into());
        let (lease, session_revision) = self.model.open_session(&node, &incarnation);
        let session = SessionId(self.number());
        self.sessions.insert(node.clone(), (session, incarnation.clone()));
        let cpu = u64::try_from(command.number("cpu").unwrap_or(4)).unwrap();
        let facts = NodeFacts {
            capacity: Resources { cpu: CpuMillis(cpu * 1000), ..Resources::default() },
            slots: u32::try_from(command.number("slots").unwrap_or(2)).unwrap(),
            ..NodeFacts::default()
        };
        let runs = command.list("runs").iter().map(|run| self.live(run)).collect();
        let attached =
            Attached { session, node, incarnation, lease, session_revision, facts, runs };
        self.event(Event::Attached(Box::new(attached)));
    }

    /// `alive NODE INCARNATION`: it has its session, and its stream is with nobody.
    fn alive(&mut self, command: &Command) {
        self.model.open_session(&command.word(0).into(), &command.word(1).into());
    }

    fn live(&self, run: &str) -> LiveRun {
        let (name, token) = run.split_once(':').unwrap();
        let key = key(name);
        let uid = self.model.loops.get(&key).map(|record| record.value.uid.clone());
        let uid = uid.unwrap_or_default();
        // `a:now` is the run of the claim that is there.
        let claimed = self.model.claims.get(&key).map(|claim| claim.create_revision);
        let token = if token == "now" { claimed } else { token.parse().ok() };
        LiveRun { key, uid, token: Token(token.unwrap()) }
    }

    fn detach(&mut self, command: &Command) {
        let (session, _) = self.sessions.remove(&command.word(0).into()).unwrap();
        self.event(Event::Detached { session });
    }

    fn leave(&mut self, command: &Command) {
        let (session, _) = self.sessions[&command.word(0).into()];
        self.event(Event::Leaving { session });
    }

    fn mark(&mut self, command: &Command) {
        let name: NodeName = command.word(0).into();
        let mut record = NodeRecord::clone(&self.model.nodes[&name].value);
        record.mark = match command.word(1) {
            "draining" => NodeMark::Draining,
            "cordoned" => NodeMark::Cordoned,
            _ => NodeMark::Schedulable,
        };
        let deadline =
            command.number("deadline").map(|ms| Duration::from_millis(ms.unsigned_abs()));
        record.mark_deadline = deadline.map(|after| self.now.checked_add(after).unwrap());
        self.model.put_node(record);
    }

    /// `commit N [lost|dropped|unavailable|invalid]`: executes it, or not, and answers, or not.
    fn commit(&mut self, command: &Command) {
        let number: u64 = command.word(0).parse().unwrap();
        let Some(mutation) = self.commits.get(&number).cloned() else {
            return self.lines.push(format!("no commit {number}"));
        };
        let result = if command.has("unavailable") {
            CommitResult::Unavailable
        } else if command.has("invalid") {
            CommitResult::Invalid { message: "too large".to_owned() }
        } else if command.has("dropped") {
            CommitResult::Unknown
        } else {
            let done = self.model.commit(&mutation);
            if command.has("lost") { CommitResult::Unknown } else { result_of(done) }
        };
        self.answer(number, result);
    }

    fn answer(&mut self, number: u64, result: CommitResult) {
        if result != CommitResult::Unknown {
            self.commits.remove(&number);
        }
        self.lines.push(match &result {
            CommitResult::Committed { revision } => format!("{number} done at {revision}"),
            CommitResult::Refused { found } => format!("{number} refused: {found}"),
            CommitResult::Unknown => format!("{number} unknown"),
            CommitResult::Unavailable => format!("{number} unavailable"),
            CommitResult::Invalid { .. } => format!("{number} invalid"),
        });
        self.event(Event::Committed { commit: CommitId(number), result });
    }

    fn resolve(&mut self, command: &Command) {
        let number: u64 = command.word(0).parse().unwrap();
        if !self.commits.contains_key(&number) {
            return self.lines.push(format!("no commit {number}"));
        }
        let mutation = self.commits[&number].clone();
        let result = match self.model.was_applied(&mutation) {
            Some(revision) => CommitResult::Committed { revision },
            None => {
                self.model.touch_status(&mutation);
                CommitResult::Unavailable
            }
        };
        self.answer(number, result);
    }

    /// Executes and answers every commit, and delivers the watch, until nothing is left to do.
    fn settle(&mut self) {
        loop {
            for (revision, changes) in self.model.undelivered() {
                self.event(Event::Changes { revision, changes });
            }
            let Some((number, mutation)) = self.commits.first_key_value() else { return };
            let (number, mutation) = (*number, mutation.clone());
            let result = result_of(self.model.commit(&mutation));
            self.answer(number, result);
        }
    }

    /// `update NAME sequence=1 accepted=1 [token=7]`, `ended NAME phase=Converged [unproven]`
    fn report(&mut self, command: &Command) {
        let key = key(command.word(0));
        let claim = self.model.claims.get(&key);
        let token = command.number("token").or_else(|| claim.map(|claim| claim.create_revision));
        let node = command.get("node").map(NodeName::from);
        let node = node.or_else(|| claim.map(|claim| claim.value.node.clone()));
        let (Some(token), Some(node)) = (token, node) else {
            return self.lines.push(format!("no claim of {key}"));
        };
        let progress = Progress {
            accepted: u32::try_from(command.number("accepted").unwrap_or(0)).unwrap(),
            iterations: u32::try_from(command.number("iterations").unwrap_or(0)).unwrap(),
            ..Progress::default()
        };
        let body = if command.verb == "update" {
            ReportBody::Update { event: String::new() }
        } else {
            let outcome = Outcome {
                phase: phase(command.get("phase").unwrap()),
                reason: reason(command.get("reason").unwrap_or("None")),
                message: command.get("says").unwrap_or("said so").replace('_', " "),
                evidence: Vec::new(),
                retry_after_ms: command.number("retry").unwrap_or(0).unsigned_abs(),
                need: command
                    .number("need")
                    .map(|tokens| Amount { tokens: tokens.unsigned_abs(), ..Amount::default() }),
            };
            ReportBody::Ended { outcome, stopped: !command.has("unproven") }
        };
        let report = Report {
            from: None,
            session: self.sessions[&node].0,
            sequence: command.number("sequence").unwrap_or(1).unsigned_abs(),
            uid: self.model.loops.get(&key).map(|r| r.value.uid.clone()).unwrap_or_default(),
            key,
            token: Token(token),
            progress: Some(progress),
            body,
        };
        self.event(Event::Report(Box::new(report)));
    }

    fn tick(&mut self, command: &Command) {
        let milliseconds: u64 = command.word(0).parse().unwrap();
        self.now = self.now.checked_add(Duration::from_millis(milliseconds)).unwrap();
        self.event(Event::Tick);
    }

    fn explain(&mut self, command: &Command) {
        let told = self.reactor.explain(&key(command.word(0)), self.now).unwrap();
        self.lines.push(format!("{}: {}", told.phase, told.headline));
        self.lines.extend(told.findings.iter().map(|finding| format!("- {finding}")));
        self.lines.extend(told.next_steps.iter().map(|step| format!("> {step}")));
    }

    /// In how many milliseconds the reactor asks for a tick.
    fn show_wake(&mut self) {
        let wake = self.reactor.wake_at().map(|at| at.duration_since(self.now).as_millis());
        self.lines.push(wake.map_or_else(|| "no timer".to_owned(), |wake| format!("in {wake} ms")));
    }

    fn show_loops(&mut self) {
        for view in self.reactor.loop_views("") {
            let node = view.status.node.clone().unwrap_or_default();
            let line = format!("{} {} {node}", view.record.key, show::status(&view.status));
            self.lines.push(line.trim_end().to_owned());
        }
    }
}

fn result_of(done: Result<i64, flyball_store::Found>) -> CommitResult {
    match done {
        Ok(revision) => CommitResult::Committed { revision },
        Err(found) => CommitResult::Refused { found },
    }
}

pub(crate) fn key(text: &str) -> LoopKey {
    text.parse().unwrap()
}

fn spec(command: &Command) -> LoopSpec {
    let git = GitWorkspace {
        url: format!("https://example.org/{}", command.get("repo").unwrap_or("r")),
        reference: "main".to_owned(),
        publish: None,
    };
    LoopSpec {
        owns: owns(command),
        needs: Resources {
            cpu: CpuMillis(command.number("cpu").unwrap_or(0).unsigned_abs() * 1000),
            ..Resources::default()
        },
        workspace: command.has("git").then_some(Workspace { git }),
        ttl_after_finished: command.number("ttl").map(|ttl| Span::from_secs(ttl.unsigned_abs())),
        ..LoopSpec::default()
    }
}

fn owns(command: &Command) -> Vec<Owns> {
    let exclusive = command.list("owns").into_iter().map(Owns::Exclusive);
    let read = command
        .list("reads")
        .into_iter()
        .map(|resource| Owns::WithAccess(OwnsWithAccess { resource, access: Access::Read }));
    exclusive.chain(read).collect()
}

fn phase(text: &str) -> Phase {
    serde_json::from_value(text.into()).unwrap()
}

fn reason(text: &str) -> Reason {
    serde_json::from_value(text.into()).unwrap()
}
