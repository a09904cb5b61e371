//! `flyball pki issue`.

use std::path::PathBuf;

use clap::Args;
use flyball_core::identity::Identity;
use flyball_core::ids::{NodeName, check_name};
use flyball_core::quantity::Span;
use flyball_pki::{Authority, KEY, KeyOf, Order, Subject, write_identity};
use jiff::Timestamp;

use super::super::context::Context;
use super::{Place, failed};
use crate::{Exit, Failure, Outcome};

/// Arguments of `pki issue`.
#[derive(Debug, Clone, Args)]
pub(super) struct Issue {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    subject: Named,
    /// Names and addresses that a scheduler or etcd member is reached at
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    host: Vec<String>,
    /// How long it counts [default: 30d for users and nodes, 90d for schedulers and etcd]
    #[arg(long, value_name = "DURATION")]
    lifetime: Option<Span>,
    /// Directory to write ca.pem, cert.pem and key.pem to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace an identity that is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Named {
    /// For a person or program; roles are given to it by role bindings
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// For a worker: it may act as that node only
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// For a scheduler
    #[arg(long, value_name = "NAME")]
    scheduler: Option<String>,
    /// For a member of an etcd cluster, by the authority for etcd
    #[arg(long, value_name = "NAME")]
    etcd: Option<String>,
    /// For a scheduler as a client of etcd, by the authority for etcd
    #[arg(long, value_name = "NAME")]
    etcd_client: Option<String>,
}

impl Named {
    fn subject(&self) -> Result<Subject, Failure> {
        let name = |name: &String| {
            let checked = check_name(name).map(|()| name.clone());
            checked.map_err(|invalid| Failure::usage(invalid.to_string()))
        };
        Ok(match self {
            Self { user: Some(user), .. } => Subject::Caller(Identity::User(name(user)?)),
            Self { node: Some(node), .. } => Subject::Caller(Identity::Node(NodeName(name(node)?))),
            Self { scheduler: Some(one), .. } => Subject::Caller(Identity::Scheduler(name(one)?)),
            Self { etcd: Some(member), .. } => Subject::EtcdMember(name(member)?),
            Self { etcd_client: Some(client), .. } => Subject::EtcdClient(name(client)?),
            _ => return Err(Failure::usage("say for whom: --user, --node, --scheduler, --etcd")),
        })
    }
}

impl Issue {
    pub(super) fn run(self, context: &mut Context<'_>) -> Outcome {
        let subject = self.subject.subject()?;
        let etcd = matches!(subject, Subject::EtcdMember(_) | Subject::EtcdClient(_));
        if self.out.join(KEY).exists() && !self.force {
            let why = format!("{} has an identity already", self.out.display());
            return Err(Failure::new("already-exists", why).hint("replace it with --force"));
        }
        let authority = Authority::load(&self.place.authority(etcd)?).map_err(failed)?;
        let lifetime = self.lifetime.map_or_else(|| subject.lifetime(), |span| span.0);
        let order =
            Order { subject, hosts: self.host, lifetime, key: KeyOf::New, not_before: None };
        let issued = authority.issue(&order, Timestamp::now()).map_err(failed)?;
        let key = issued.key.as_deref().unwrap_or_default();
        write_identity(&self.out, &issued.bundle, &issued.chain, key).map_err(failed)?;
        let (name, out) = (order.subject.common_name(), self.out.display());
        context.out.line(format!("{name}: {out}, until {}", issued.facts.not_after))?;
        if let Subject::Caller(Identity::User(_)) = order.subject {
            context
                .out
                .note(format!("{name} may do nothing yet: give it a role with a RoleBinding"));
        }
        Ok(Exit::Ok)
    }
}
