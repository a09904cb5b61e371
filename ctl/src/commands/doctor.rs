//! `flyball doctor`: what is wrong, or could be, with schedulers, store, leases, nodes or this host.

use std::time::{Duration, Instant};

use clap::Args;
use flyball_core::diagnosis::{Area, Diagnosis, Finding, Level};
use flyball_pki::LiveIdentity;
use flyball_proto::v1::{DiagnoseRequest, InfoRequest, InfoResponse};

use super::context::Context;
use crate::client::{Address, Clients};
use crate::output::Format;
use crate::{Exit, Failure, Outcome, view};

/// Longest wait for one scheduler; it bounds its own questions to the store below that.
const ANSWER_MAX: Duration = Duration::from_secs(8);

/// Schedulers that are asked; a fleet has a handful.
const SCHEDULERS_MAX: usize = 16;

/// Difference of wall clocks that people notice in ages and times.
const CLOCK_OFFSET_MAX_MS: i64 = 2000;

/// Version of this binary.
const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// Arguments of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Look at this host instead: what it lets a worker do, and with --identity at that certificate. No scheduler
    /// is asked, and none has to be known.
    #[arg(long)]
    local: bool,
    /// With --local: look at the disk of this directory [default: where `flyball up` keeps its data].
    #[arg(long, value_name = "DIR", requires = "local")]
    data_dir: Option<std::path::PathBuf>,
    /// Ask these schedulers too, beside the one of --addr and the one that leads.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', conflicts_with = "local")]
    scheduler: Vec<Address>,
    /// Do not write to the store: no lease and no writes are measured.
    #[arg(long, conflicts_with = "local")]
    no_measure: bool,
}

impl Doctor {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let diagnosis = if self.local {
            let mut found = super::doctor_local::examine(self.data_dir).await?;
            // A worker's or scheduler's on its own machine; without any there is nothing to look at.
            found.findings.extend(own_certificate(context));
            found
        } else {
            self.of_fleet(context).await?
        };
        print(context, &diagnosis)?;
        Ok(if diagnosis.worst() == Level::Error { Exit::Error } else { Exit::Ok })
    }

    async fn of_fleet(&self, context: &Context<'_>) -> Result<Diagnosis, Failure> {
        let mut todo = vec![context.address()?];
        todo.extend(self.scheduler.iter().cloned());
        todo.truncate(SCHEDULERS_MAX);
        let mut asked: Vec<Address> = Vec::new();
        let mut findings: Vec<Finding> = Vec::new();
        let mut told = false;
        while !todo.is_empty() {
            let address = todo.remove(0);
            if asked.contains(&address) || asked.len() >= SCHEDULERS_MAX {
                continue;
            }
            asked.push(address.clone());
            let answer = self.ask(context, &address, told).await;
            told |= answer.told;
            add(&mut findings, answer.findings);
            todo.extend(answer.leader);
        }
        findings.extend(own_certificate(context));
        // Stable: within a section the order stays.
        findings.sort_by_key(|finding: &Finding| finding.area);
        Ok(Diagnosis { findings })
    }

    /// Asks one scheduler. The first that answers tells everything; the others of themselves, and of conditions that
    /// perhaps only they have met: who leads hears of nodes of which a stand-by knows nothing.
    async fn ask(&self, context: &Context<'_>, address: &Address, told: bool) -> Answer {
        let asked = async {
            let mut clients = context.clients_at(address).await?;
            let begun = Instant::now();
            let info = clients.server.info(InfoRequest {}).await?.into_inner();
            let took = begun.elapsed();
            let diagnosed = diagnose(&mut clients, !self.no_measure && !told).await?;
            Ok::<_, Failure>((info, took, diagnosed))
        };
        let late = || Failure::new("timeout", format!("no answer within {ANSWER_MAX:?}"));
        let asked = tokio::time::timeout(ANSWER_MAX, asked).await;
        match asked.unwrap_or_else(|_| Err(late())) {
            Ok((info, took, (diagnosis, offset_ms))) => {
                let mut findings = vec![connected(address, &info, took)];
                findings.push(clock_offset(address, offset_ms));
                let wanted = |one: &Finding| !told || only_itself(one) || is_met(one);
                let rest = diagnosis.findings.into_iter().filter(wanted);
                // A certificate is about its holder, if it names one.
                let itself = |one: &Finding| {
                    only_itself(one) && (one.area != Area::Certificate || one.subject.is_empty())
                };
                findings.extend(rest.map(|one| match itself(&one) {
                    true => one.about(address.to_string()),
                    false => one,
                }));
                let leader = Some(info.leader_address).filter(|_| !info.leader);
                Answer { told: true, findings, leader: leader.and_then(|text| text.parse().ok()) }
            }
            Err(failure) => {
                Answer { told: false, findings: vec![unreachable(address, failure)], leader: None }
            }
        }
    }
}

/// What a scheduler tells of itself.
fn only_itself(finding: &Finding) -> bool {
    matches!(finding.area, Area::Scheduler | Area::Clock | Area::Certificate)
        || finding.code.starts_with("Renewals")
}

/// What a scheduler has met with, and others perhaps not.
fn is_met(finding: &Finding) -> bool {
    finding.level != Level::Ok && (finding.area == Area::Condition || finding.code == "NameTaken")
}

/// Adds what another scheduler found, but for conditions that were told already, also where it has other numbers now.
fn add(findings: &mut Vec<Finding>, more: Vec<Finding>) {
    let told = |one: &Finding| {
        let same = |known: &Finding| known.code == one.code && known.subject == one.subject;
        is_met(one) && findings.iter().any(|known| is_met(known) && same(known))
    };
    let new: Vec<Finding> = more.into_iter().filter(|one| !told(one)).collect();
    if new.iter().any(|one| one.area == Area::Condition) {
        // That none holds was one scheduler's word.
        findings.retain(|one| one.area != Area::Condition || one.level != Level::Ok);
    }
    findings.extend(new);
}

/// The certificate that this client shows.
fn own_certificate(context: &Context<'_>) -> Option<Finding> {
    let dir = context.global.identity.as_deref()?;
    let area = Area::Certificate;
    let finding = match LiveIdentity::open(dir) {
        Err(error) => {
            let next = "name the directory of an identity: --identity DIR";
            Finding::error(area, "ClientIdentity", error.to_string(), next)
        }
        Ok(identity) => {
            let (facts, now) = (identity.current().facts.clone(), context.now());
            let (due, end) = (facts.renewal_due(), facts.not_after);
            let text = format!("this client is {} until {end}", facts.name);
            let next = "get a new one: flyball pki renew";
            let finding = match () {
                () if now > end => {
                    Finding::error(area, "ClientIdentity", text, "ask for a new one")
                }
                () if now > due => Finding::warning(area, "ClientIdentity", text, next),
                () => Finding::ok(area, "ClientIdentity", text),
            };
            finding.figure("secondsLeft", end.duration_since(now).as_secs())
        }
    };
    Some(finding.about(dir.display().to_string()))
}

/// What came of asking one scheduler.
struct Answer {
    /// It answered.
    told: bool,
    findings: Vec<Finding>,
    /// Another one that leads.
    leader: Option<Address>,
}

/// The diagnosis, and by how many milliseconds that machine's wall clock is ahead of this one's.
async fn diagnose(clients: &mut Clients, measure: bool) -> Result<(Diagnosis, i64), Failure> {
    let request = DiagnoseRequest { measure };
    let answer = clients.server.diagnose(request).await?.into_inner();
    let now = jiff::Timestamp::now().as_millisecond();
    let diagnosis = serde_json::from_slice(&answer.diagnosis_json)
        .map_err(|error| Failure::unreadable("diagnosis", error))?;
    Ok((diagnosis, answer.unix_ms - now))
}

fn connected(address: &Address, info: &InfoResponse, took: Duration) -> Finding {
    let proof = match address {
        Address::Unix(_) => "the socket is open to this user",
        Address::Http(_) => "the token is accepted",
        Address::Https(_) => "both sides have shown their certificates",
    };
    let tenths = took.as_micros() / 100;
    let answers = format!("answers in {}.{} ms, {proof}", tenths / 10, tenths % 10);
    let version = &info.version;
    let finding = if version == CLIENT {
        let message = format!("{answers}, version {version} like this client");
        Finding::ok(Area::Connection, "Reached", message)
    } else {
        let message = format!("{answers}, but runs version {version} and this client {CLIENT}");
        let next = "use the client of the scheduler's version; upgrade schedulers before workers";
        Finding::warning(Area::Connection, "VersionDiffers", message, next)
    };
    finding.about(address.to_string()).figure("roundTripMicros", took.as_micros())
}

fn clock_offset(address: &Address, offset_ms: i64) -> Finding {
    let ahead = if offset_ms >= 0 { "ahead of" } else { "behind" };
    let message =
        format!("its wall clock is {} ms {ahead} this client's", offset_ms.unsigned_abs());
    let finding = if offset_ms.abs() > CLOCK_OFFSET_MAX_MS {
        let next = "let a time daemon keep both; ages shown are wrong, no lease is concerned";
        Finding::warning(Area::Clock, "ClockOffset", message, next)
    } else {
        Finding::ok(Area::Clock, "ClockOffset", message)
    };
    finding.about(address.to_string()).figure("offsetMillis", offset_ms)
}

fn unreachable(address: &Address, failure: Failure) -> Finding {
    let next = failure.hints.first().cloned();
    let next = next.unwrap_or_else(|| "look at this scheduler's log".to_owned());
    let code = match failure.exit {
        Exit::Auth => "NotAllowed",
        _ => "Unreachable",
    };
    Finding::error(Area::Connection, code, failure.message, &next).about(address.to_string())
}

fn print(context: &mut Context<'_>, diagnosis: &Diagnosis) -> Result<(), Failure> {
    match context.format() {
        Format::Json | Format::Yaml => context.out.document(&view::doctor::document(diagnosis)),
        Format::Name => diagnosis
            .findings
            .iter()
            .try_for_each(|one| context.out.line(format!("{}/{}", one.level.as_str(), one.code))),
        Format::Table | Format::Wide => {
            let wide = context.format() == Format::Wide;
            let page = view::doctor::page(diagnosis, wide, context.out.has_color());
            Ok(context.out.raw(page.as_bytes())?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_leader_knows_is_added_to_what_a_standby_tells() {
        let silent = |message: &str| {
            Finding::warning(Area::Condition, "NodeSilent", message, "see it").about("n1")
        };
        let none = || Finding::ok(Area::Condition, "Conditions", "none holds");
        let mut findings = vec![Finding::ok(Area::Node, "Node", "online").about("n1"), none()];
        add(&mut findings, vec![silent("for 7 s")]);
        // A third one that sees the same tells nothing new.
        add(&mut findings, vec![silent("for 8 s")]);
        // Two schedulers see two connections of one caller.
        let (good, over) = ("until next week", "ended at noon");
        add(&mut findings, vec![Finding::ok(Area::Certificate, "Caller", good).about("n1")]);
        let ended = Finding::error(Area::Certificate, "Caller", over, "renew it").about("n1");
        add(&mut findings, vec![ended]);
        let told: Vec<_> = findings.iter().map(|one| (&*one.code, &*one.message)).collect();
        let certificates = [("Caller", good), ("Caller", over)];
        assert_eq!(told[..2], [("Node", "online"), ("NodeSilent", "for 7 s")]);
        assert_eq!(told[2..], certificates);
    }
}
