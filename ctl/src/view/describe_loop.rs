//! `describe loop`: everything about one loop on a page.

use flyball_core::model::{BudgetReport, Limits};
use flyball_core::spec::{Access, AgentSpec, CheckSpec, Command, LoopSpec, Owns, Score};
use flyball_core::status::{LoopStatus, Unsealed};
use flyball_proto::v1::Event;
use jiff::Timestamp;

use super::sheet::Sheet;
use super::{events, iterations, words};
use crate::objects::LoopDocument;

/// The page of a loop, with its newest events.
pub(crate) fn page(
    document: &LoopDocument,
    budget: Option<&BudgetReport>,
    newest: &[Event],
    now: Timestamp,
) -> String {
    let mut sheet = Sheet::default();
    let (metadata, status) = (&document.metadata, &document.status);
    sheet.field("Name", &metadata.name);
    sheet.field("Namespace", &metadata.namespace);
    sheet.field("Labels", words::labels(&metadata.labels));
    sheet.field("UID", &metadata.uid);
    sheet.field("Generation", generation(metadata.generation, status));
    sheet.field("Created", words::moment(metadata.creation_timestamp, now));
    sheet.field("Deleting", if metadata.deleting { "when it has stopped" } else { "" });
    sheet.section("Status", |sheet| state(sheet, status, now));
    sheet.section("Progress", |sheet| progress(sheet, document));
    sheet.section("Budget", |sheet| budget.into_iter().for_each(|one| spending(sheet, one)));
    sheet.section("Spec", |sheet| spec(sheet, &document.spec));
    sheet.section("Conditions", |sheet| {
        for condition in &status.conditions {
            sheet.field(&condition.kind, format!("{} {}", condition.status, condition.message));
        }
    });
    sheet.list("Evidence", &status.evidence);
    let unsealed: Vec<_> = status.unsealed.iter().map(unsealed).collect();
    sheet.list("Unsealed", &unsealed);
    sheet.section("Iterations", |sheet| sheet.table(iterations::of(document, false, now)));
    sheet.section("Events", |sheet| sheet.table(events::of(newest, false, now)));
    sheet.finish()
}

fn generation(generation: u64, status: &LoopStatus) -> String {
    match status.observed_generation {
        observed if observed == generation => generation.to_string(),
        observed => format!("{generation} (the status speaks of {observed})"),
    }
}

fn state(sheet: &mut Sheet, status: &LoopStatus, now: Timestamp) {
    sheet.field("Phase", format!("{} {}", status.phase, words::reason(status.reason)));
    sheet.field("Message", &status.message);
    sheet.field("Since", words::moment(status.since, now));
    let node = status.node.as_ref().map(ToString::to_string).unwrap_or_default();
    sheet.field(if status.phase.is_owned() { "Node" } else { "Last node" }, node);
    let lost = match status.runs_lost {
        0 => String::new(),
        lost => format!(", {lost} lost since the last accepted iteration"),
    };
    sheet.field("Runs", format!("{}{lost}", status.runs));
    sheet.field("Started", words::moment(status.started_at, now));
    sheet.field("Finished", words::moment(status.finished_at, now));
    sheet.field("Parked until", words::moment(status.parked_until, now));
}

fn progress(sheet: &mut Sheet, document: &LoopDocument) {
    let (progress, governor) = (&document.status.progress, &document.spec.governor);
    sheet.field("Activity", &progress.activity);
    sheet.field(
        "Iterations",
        format!("{} of {}, {} kept", progress.iterations, governor.iterations, progress.accepted),
    );
    let time = words::duration(progress.run_ms);
    sheet.field("Run time", format!("{time} of {}", governor.wall_time));
    if progress.initial_distance.is_some() {
        sheet.field(
            "Distance",
            format!(
                "{} (best {}, at first {})",
                words::distance(&document.status),
                words::optional_distance(progress.best_distance),
                words::optional_distance(progress.initial_distance),
            ),
        );
    }
    sheet.field("Failing", progress.failing.join(", "));
    sheet.field("Checkpoint", progress.checkpoint.as_deref().unwrap_or_default());
    sheet.field("Base", progress.base.as_deref().unwrap_or_default());
    sheet.field("Published", progress.published.as_deref().unwrap_or_default());
}

/// Nothing for a loop that is not bounded and has called no model.
fn spending(sheet: &mut Sheet, budget: &BudgetReport) {
    let bounds = [budget.limits, budget.per_run, budget.per_iteration];
    if bounds.iter().all(Limits::is_none) && budget.used().is_zero() {
        return;
    }
    let shown = |limits: &Limits| if limits.is_none() { String::new() } else { limits.to_string() };
    sheet.field("Spent", budget.spent.to_string());
    let held = budget.held;
    sheet.field("Out", if held.is_zero() { String::new() } else { held.to_string() });
    sheet.field("In all", shown(&budget.limits));
    let extended = budget.extended;
    sheet.field(
        "Extended by",
        if extended.is_zero() { String::new() } else { extended.to_string() },
    );
    sheet.field("Per run", shown(&budget.per_run));
    sheet.field("Per iteration", shown(&budget.per_iteration));
}

fn spec(sheet: &mut Sheet, spec: &LoopSpec) {
    sheet.field("Goal", &spec.goal);
    if let Some(workspace) = &spec.workspace {
        let git = &workspace.git;
        sheet.field("Repository", &git.url);
        sheet.field("Ref", &git.reference);
        let branch = git.publish.as_ref().map_or("", |publish| &publish.branch);
        sheet.field("Publishes to", branch);
    }
    let owns: Vec<_> = spec.owns.iter().map(owned).collect();
    sheet.list("Owns", &owns);
    sheet.list("Pins", &spec.pins);
    sheet.field("Needs", words::resources(&spec.needs));
    sheet.field("Node labels", words::labels(&spec.placement.required_labels));
    let checks: Vec<_> = spec.checks.iter().map(check).collect();
    sheet.list("Checks", &checks);
    if let Some(agent) = &spec.agent {
        sheet.field("Agent", agent_line(agent));
    }
    let governor = &spec.governor;
    sheet.field(
        "Governor",
        format!(
            "{} iterations, {}, patience {}, accepts {}\nat most {} files and {} lines per iteration",
            governor.iterations,
            governor.wall_time,
            governor.patience,
            format!("{:?}", governor.accept).to_lowercase(),
            governor.max_files,
            governor.max_lines,
        ),
    );
    let ttl = spec.ttl_after_finished.map(|ttl| format!("{ttl} after it finished"));
    sheet.field("Deleted", ttl.unwrap_or_default());
}

fn owned(entry: &Owns) -> String {
    match entry {
        Owns::Exclusive(resource) => resource.clone(),
        Owns::WithAccess(shared) => match shared.access {
            Access::Exclusive => shared.resource.clone(),
            Access::Read => format!("{} (read)", shared.resource),
        },
    }
}

fn check(check: &CheckSpec) -> String {
    let score = match check.score {
        Some(Score::Libtest {}) => ", scored by libtest",
        Some(Score::Regex(_)) => ", scored by regex",
        None => "",
    };
    format!("{}: {} (timeout {}{score})", check.name, command(&check.run), check.timeout)
}

fn agent_line(agent: &AgentSpec) -> String {
    let mut line = match (&agent.command, &agent.uses) {
        (Some(own), _) => command(own),
        (None, Some(name)) => format!("agent/{name}"),
        (None, None) => String::new(),
    };
    for arg in &agent.args {
        line.push(' ');
        line.push_str(arg);
    }
    let model = agent.model.iter().map(|model| format!("model {model}"));
    let default = agent.command.as_ref().map(|_| AgentSpec::TIMEOUT_DEFAULT);
    let timeout = agent.timeout.or(default).into_iter().map(|timeout| format!("timeout {timeout}"));
    let more: Vec<_> = model.chain(timeout).collect();
    if more.is_empty() { line } else { format!("{line} ({})", more.join(", ")) }
}

fn command(command: &Command) -> String {
    match command {
        Command::Shell(line) => line.trim().to_owned(),
        Command::Argv(argv) => argv.join(" "),
    }
}

fn unsealed(unsealed: &Unsealed) -> String {
    format!("run {} of {} in {}", unsealed.token, unsealed.loop_key, unsealed.repository)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures;

    #[test]
    fn the_page_of_a_running_loop() {
        let page = page(&fixtures::running(), None, &fixtures::events(), fixtures::now());
        insta::assert_snapshot!(page, @"
        Name:         fix-tests
        Namespace:    default
        Labels:       team=core
        UID:          5b0f9d52
        Generation:   1
        Created:      2026-03-01 11:57:00Z (3m ago)
        Status:
          Phase:        Running
          Message:      iteration 3: the agent works
          Since:        2026-03-01 11:58:00Z (2m ago)
          Node:         node-1
          Runs:         2, 1 lost since the last accepted iteration
          Started:      2026-03-01 11:57:05Z (2m ago)
        Progress:
          Activity:     agent
          Iterations:   2 of 20, 1 kept
          Run time:     95.5s of 1h
          Distance:     0.25 (best 0.25, at first 1.50)
          Failing:      test
          Checkpoint:   0123456789abcdef0123456789abcdef01234567
          Base:         89abcdef0123456789abcdef0123456789abcdef
        Spec:
          Goal:         All tests pass.
                        Nothing else changes.
          Repository:   https://example.org/team/app.git
          Ref:          main
          Publishes to: flyball/fix-tests
          Owns:         src/**
                        docs/* (read)
          Pins:         tests/**
          Needs:        cpu 500m, memory 1Gi, gpu 1
          Checks:       test: cargo test (timeout 5m, scored by libtest)
                        lint: cargo clippy (timeout 2m)
          Agent:        agent --once (timeout 30m)
          Governor:     20 iterations, 1h, patience 4, accepts improvements
                        at most 50 files and 2000 lines per iteration
          Deleted:      168h after it finished
        Conditions:
          AtomicPushSupported: true probed
        Iterations:
          ITER   DECISION   BEFORE   AFTER   CHANGE   FAILING     TOOK    AGE   REASON
          1      Kept       1.50     0.25    1f 12l   test        12.3s   2m    distance 1.50 to 0.25
          2      Reverted   0.25     1.00    2f 40l   lint,test   8.0s    60s   regression: distance 0.25 to 1.00
        Events:
          AGE   LOOP        REASON              NODE     MESSAGE
          2m    fix-tests   Assigned            node-1   to node-1 under token 57
          60s   fix-tests   IterationReverted   node-1   iteration 2: distance 0.25 to 1.00
        ");
    }

    #[test]
    fn the_page_of_an_unreachable_loop_shows_evidence() {
        let page = page(&fixtures::unreachable(), None, &[], fixtures::now());
        insta::assert_snapshot!(page, @"
        Name:         impossible
        Namespace:    default
        Labels:       team=core
        UID:          5b0f9d52
        Generation:   1
        Created:      2026-03-01 11:57:00Z (3m ago)
        Status:
          Phase:        Unreachable NoProgress
          Message:      4 iterations without progress
          Last node:    node-2
          Runs:         1
          Finished:     2026-03-01 11:59:30Z (30s ago)
        Progress:
          Iterations:   4 of 20, 0 kept
          Run time:     61.0s of 1h
          Distance:     0.25 (best 0.25, at first 0.25)
          Failing:      test
        Spec:
          Goal:         All tests pass.
                        Nothing else changes.
          Repository:   https://example.org/team/app.git
          Ref:          main
          Publishes to: flyball/fix-tests
          Owns:         src/**
                        docs/* (read)
          Pins:         tests/**
          Needs:        cpu 500m, memory 1Gi, gpu 1
          Checks:       test: cargo test (timeout 5m, scored by libtest)
                        lint: cargo clippy (timeout 2m)
          Agent:        agent --once (timeout 30m)
          Governor:     20 iterations, 1h, patience 4, accepts improvements
                        at most 50 files and 2000 lines per iteration
          Deleted:      168h after it finished
        Evidence:     test fails: 2 of 8 cases (a, b)
                      tried: 4 changes, none kept
        ");
    }
}
