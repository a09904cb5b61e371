//! `flyball events`: what happened to loops.

use std::time::Duration;

use clap::Args;
use flyball_proto::v1::{Event, ListEventsRequest};
use jiff::Timestamp;
use tonic::Code;

use super::context::Context;
use super::target::{Noun, name_of};
use crate::output::{Format, Table};
use crate::view::events::When;
use crate::{Exit, Failure, Outcome, view};

/// Pause before a broken stream is opened again, and how often in a row: longer in all than a
/// restart of the scheduler takes.
const RETRY: (Duration, u32) = (Duration::from_secs(1), 30);

/// Arguments of `events`.
#[derive(Debug, Clone, Args)]
pub struct Events {
    /// Only events of this loop.
    #[arg(value_name = "LOOP")]
    name: Option<String>,
    /// Go on and print every new event.
    #[arg(short, long)]
    watch: bool,
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

impl Events {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let name = self.name.as_deref().map(|name| name_of(Noun::Loops, name)).transpose()?;
        let request = ListEventsRequest {
            namespace: context.namespaces(self.all_namespaces),
            r#loop: name.unwrap_or_default(),
            follow: self.watch,
        };
        let mut printer = Printer::new(&self, context.now());
        let mut failures = 0;
        loop {
            let failure = match self.stream(context, &request, &mut printer).await {
                Ok(()) if !self.watch => break,
                Ok(()) => Failure::new("unavailable", "the stream of events was closed"),
                Err(failure) if failure.code == "unavailable" && self.watch => failure,
                Err(failure) => return Err(failure),
            };
            failures = if std::mem::take(&mut printer.fresh) { 1 } else { failures + 1 };
            if failures > RETRY.1 {
                return Err(failure);
            }
            tokio::time::sleep(RETRY.0).await;
        }
        printer.finish(context)?;
        Ok(Exit::Ok)
    }

    async fn stream(
        &self,
        context: &mut Context<'_>,
        request: &ListEventsRequest,
        printer: &mut Printer,
    ) -> Result<(), Failure> {
        let mut clients = context.clients().await?;
        let mut events = clients.events.list(request.clone()).await?.into_inner();
        loop {
            match events.message().await {
                Ok(Some(event)) => printer.event(context, event)?,
                Ok(None) => return Ok(()),
                Err(status) if matches!(status.code(), Code::Unknown | Code::Internal) => {
                    return Err(Failure::new("unavailable", status.message()));
                }
                Err(status) => return Err(status.into()),
            }
        }
    }
}

/// Prints events as they come, or all at the end where columns can then be as narrow as they may.
struct Printer {
    table: Table,
    namespace: bool,
    when: When,
    watch: bool,
    /// The newest moment told and the events of that moment: after a break the list comes again.
    told: (i64, Vec<Event>),
    fresh: bool,
}

impl Printer {
    fn new(events: &Events, now: Timestamp) -> Self {
        let namespace = events.all_namespaces;
        let when = match events.watch {
            true => When::Clock,
            false => When::Age(now),
        };
        let table = view::events::table(namespace, when);
        Self {
            table,
            namespace,
            when,
            watch: events.watch,
            told: (i64::MIN, Vec::new()),
            fresh: false,
        }
    }

    fn event(&mut self, context: &mut Context<'_>, event: Event) -> Result<(), Failure> {
        if !self.is_new(&event) {
            return Ok(());
        }
        self.fresh = true;
        match context.format() {
            Format::Json | Format::Yaml => {
                return context.out.stream_document(&view::events::document(&event));
            }
            Format::Name => return context.out.line(format!("loop/{}", event.r#loop)),
            Format::Table | Format::Wide => {}
        }
        self.table.row(view::events::row(&event, self.namespace, self.when));
        if self.watch { context.out.table(&mut self.table) } else { Ok(()) }
    }

    fn is_new(&mut self, event: &Event) -> bool {
        if event.unix_ms < self.told.0 || self.told.1.contains(event) {
            return false;
        }
        if event.unix_ms > self.told.0 {
            self.told = (event.unix_ms, Vec::new());
        }
        self.told.1.push(event.clone());
        true
    }

    fn finish(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        if self.table.is_empty() && !self.fresh && !context.format().is_structured() {
            context.out.note("no events");
        }
        context.out.table(&mut self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_after_a_break_is_told_once() {
        let events = Events { name: None, watch: true, all_namespaces: false };
        let mut printer = Printer::new(&events, Timestamp::UNIX_EPOCH);
        let event =
            |unix_ms, reason: &str| Event { unix_ms, reason: reason.into(), ..Event::default() };
        let seen = [event(1, "a"), event(2, "b"), event(1, "a"), event(2, "b"), event(2, "c")];
        let new: Vec<_> = seen.iter().map(|event| printer.is_new(event)).collect();
        assert_eq!(new, [true, true, false, false, true]);
    }
}
