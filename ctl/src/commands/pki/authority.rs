//! `flyball pki init` and `rotate`.

use clap::Args;
use flyball_core::quantity::Span;
use flyball_pki::{Authority, CA_DAYS, DAY, SCHEDULER_DAYS, facts_of_pem};
use jiff::{SignedDuration, Timestamp};

use super::super::context::Context;
use super::{Place, failed};
use crate::{Exit, Failure, Outcome};

/// Arguments of `pki init`.
#[derive(Debug, Clone, Args)]
pub(super) struct Init {
    #[command(flatten)]
    place: Place,
    /// Name of the authorities, for people.
    #[arg(long, value_name = "NAME", default_value = "flyball")]
    name: String,
    /// How long they count [default: 730d].
    #[arg(long, value_name = "DURATION")]
    lifetime: Option<Span>,
}

/// Arguments of `pki rotate`.
#[derive(Debug, Clone, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    place: Place,
    /// The authority for etcd, not that for Flyball.
    #[arg(long)]
    etcd: bool,
    /// Stop trusting the earlier ones.
    #[arg(long)]
    retire: bool,
    /// Retire though certificates of the earlier ones may still be in use.
    #[arg(long, requires = "retire")]
    force: bool,
    /// How long the new one counts [default: 730d].
    #[arg(long, value_name = "DURATION", conflicts_with = "retire")]
    lifetime: Option<Span>,
}

fn life(asked: Option<Span>) -> std::time::Duration {
    asked.map_or_else(|| DAY * u32::try_from(CA_DAYS).unwrap_or(1), |span| span.0)
}

impl Init {
    pub(super) fn run(self, context: &mut Context<'_>) -> Outcome {
        let life = life(self.lifetime);
        let dir = self.place.dir()?;
        for (place, name) in [
            (dir.clone(), self.name.clone()),
            (self.place.authority(true)?, format!("{} etcd", self.name)),
        ] {
            let made = Authority::init(&place, &name, life, Timestamp::now()).map_err(failed)?;
            let (place, until) = (place.display(), made.facts().not_after);
            context.out.line(format!("{}: {place}, until {until}", made.facts().name))?;
        }
        context
            .out
            .note("who can read the keys there can be anybody: keep a copy where nothing else is");
        context.out.note("next, for each scheduler:");
        context.out.note("  flyball pki issue --scheduler NAME --host NAME-OR-ADDRESS --out DIR");
        Ok(Exit::Ok)
    }
}

impl Rotate {
    pub(super) fn run(self, context: &mut Context<'_>) -> Outcome {
        let dir = self.place.authority(self.etcd)?;
        let authority = Authority::load(&dir).map_err(failed)?;
        let trusted = facts_of_pem(authority.bundle()).map_err(failed)?;
        if self.retire {
            if trusted.len() == 1 {
                context.out.line(format!("{} is the only one already", authority.facts().name))?;
                return Ok(Exit::Ok);
            }
            self.may_retire(authority.facts().not_before)?;
            let kept = authority.retire().map_err(failed)?;
            context.out.line(format!("only {} is trusted now", kept.facts().name))?;
            context.out.note(format!(
                "put {}/ca.pem into every identity directory; a scheduler that has it ends what the old one let in",
                dir.display()
            ));
            return Ok(Exit::Ok);
        }
        if trusted.len() > 1 {
            let why = format!("{} authorities are trusted already", trusted.len());
            return Err(
                Failure::new("pki", why).hint("end that first: flyball pki rotate --retire")
            );
        }
        let new = authority.rotate(life(self.lifetime), Timestamp::now()).map_err(failed)?;
        let facts = new.facts();
        context.out.line(format!("{} signs from now on, until {}", facts.name, facts.not_after))?;
        context.out.note(format!(
            "{} is trusted too, until: flyball pki rotate --retire",
            authority.facts().name
        ));
        context.out.note("issue every identity anew, in any order: flyball pki issue --force");
        Ok(Exit::Ok)
    }

    /// Whoever still shows a certificate of an earlier one would be shut out.
    fn may_retire(&self, since: Timestamp) -> Result<(), Failure> {
        let days = i64::try_from(SCHEDULER_DAYS).unwrap_or(i64::MAX);
        let until = since.saturating_add(SignedDuration::from_hours(24 * days));
        let until = until.unwrap_or(Timestamp::MAX);
        if self.force || Timestamp::now() >= until {
            return Ok(());
        }
        let why = format!("certificates of the earlier authority may be in use until {until}");
        Err(Failure::new("pki", why)
            .hint("look at each identity: flyball pki show DIR")
            .hint("if all are of the new one: flyball pki rotate --retire --force"))
    }
}
