//! `flyball node join`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use flyball_core::ids::check_name;
use flyball_pki::{
    CERTIFICATE, JoinToken, KEY, LiveIdentity, PinnedRoot, request_for, write_certificates,
    write_identity,
};
use flyball_proto::transport::{self, Address};
use flyball_proto::v1::join_client::JoinClient;
use flyball_proto::v1::{AuthoritiesRequest, IssuedCertificate, JoinRequest};
use serde_json::json;
use tonic::Code;

use super::super::context::Context;
use crate::output::Format;
use crate::{Exit, Failure, Outcome};

/// Longest wait for an answer: the scheduler reads and writes its store.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Beside an identity that is to be replaced: the key of the new one.
const JOINING: &str = "joining";
/// Most bytes of a token on standard input.
const TOKEN_BYTES_MAX: u64 = 1024;

/// Arguments of `node join`.
#[derive(Debug, Clone, Args)]
pub(super) struct Join {
    /// A scheduler that signs, as `flyball node token create` names it: https://host:port
    #[arg(long, value_name = "ADDRESS")]
    scheduler: Address,
    /// The join token; - reads it from standard input, so that it is in no list of processes
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// Where the identity is kept: ca.pem, cert.pem and key.pem
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Name of the node [default: that of the token, else of this host]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Replace an identity that is there, with a new key
    #[arg(long)]
    force: bool,
}

impl Join {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let token: JoinToken = self
            .token()?
            .parse()
            .map_err(|error: flyball_pki::InvalidToken| Failure::usage(error.to_string()))?;
        if let Some(node) = &self.node {
            check_name(node).map_err(|invalid| Failure::usage(format!("--node: {invalid}")))?;
        }
        if !matches!(self.scheduler, Address::Https(_)) {
            let message = format!("--scheduler {} is not https://host:port", self.scheduler);
            return Err(Failure::usage(message));
        }
        if self.dir.join(CERTIFICATE).exists() && !self.force {
            let why = format!("{} has an identity already", self.dir.display());
            return Err(Failure::new("already-exists", why).hint("replace it with --force"));
        }
        let root = self.pinned(&token).await?;
        let issued = self.ask(token, root).await?;
        self.install(&issued)?;
        // Key and certificate have to fit, or the scheduler has answered for another key.
        let identity = LiveIdentity::open(&self.dir).map_err(failed)?;
        self.tell(context, &identity)
    }

    fn token(&self) -> Result<String, Failure> {
        use std::io::Read;
        if self.token != "-" {
            return Ok(self.token.clone());
        }
        let mut text = String::new();
        let read = std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| Failure::new("unreadable-file", format!("no token: {error}")))?;
        Ok(text)
    }

    /// The authority that the token names. Whoever answers is asked for it, and proves nothing by that.
    async fn pinned(&self, token: &JoinToken) -> Result<PinnedRoot, Failure> {
        let ask = async {
            let channel = transport::connect_to_join(&self.scheduler, None).await;
            let channel = channel.map_err(|error| self.unreachable(&error))?;
            let mut client = JoinClient::new(channel);
            let answer = client.authorities(AuthoritiesRequest {}).await;
            answer.map_err(|status| self.refused(status))
        };
        let pem = bounded(ask).await?.into_inner().authorities_pem;
        PinnedRoot::find(&pem, &token.pin).map_err(failed)
    }

    async fn ask(&self, token: JoinToken, root: PinnedRoot) -> Result<IssuedCertificate, Failure> {
        let request_der = request_for(&self.place()).map_err(failed)?;
        let request = JoinRequest {
            token_id: token.id,
            secret: token.secret,
            node: self.node.clone().unwrap_or_default(),
            suggested: host_name(),
            request_der: request_der.into(),
        };
        let ask = async {
            // Only here the other side has proven to be of the authority.
            let channel = transport::connect_to_join(&self.scheduler, Some(root)).await;
            let channel = channel.map_err(|error| self.unreachable(&error))?;
            let answer = JoinClient::new(channel).join(request).await;
            answer.map_err(|status| self.refused(status))
        };
        Ok(bounded(ask).await?.into_inner())
    }

    /// Where the new key is made: not over one that is in use. One that an earlier try left is taken again.
    fn place(&self) -> PathBuf {
        if self.dir.join(CERTIFICATE).exists() { self.dir.join(JOINING) } else { self.dir.clone() }
    }

    fn install(&self, issued: &IssuedCertificate) -> Result<(), Failure> {
        let (place, ca, chain) = (self.place(), &issued.authorities_pem, &issued.chain_pem);
        if place == self.dir {
            return write_certificates(&self.dir, ca, chain).map_err(failed);
        }
        let key = std::fs::read_to_string(place.join(KEY));
        let key = key.map_err(|error| {
            Failure::new("pki", format!("{} cannot be read: {error}", place.join(KEY).display()))
        })?;
        write_identity(&self.dir, ca, chain, &key).map_err(failed)?;
        // The key is in its place; what is left would only be taken again.
        let _ = std::fs::remove_dir_all(place);
        Ok(())
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> Failure {
        let mut cause = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Failure::new("unreachable", format!("cannot join at {}: {cause}", self.scheduler))
            .hint("name a scheduler that signs: flyball node token create shows its address")
    }

    fn refused(&self, status: tonic::Status) -> Failure {
        let (code, broken) = (status.code(), std::error::Error::source(&status).is_some());
        if broken || matches!(code, Code::Unknown | Code::Internal) {
            // With TLS 1.3 a refusal of the connection comes with the first answer.
            return self.unreachable(&status).hint(
                "a scheduler without --sign-with takes nobody who has no certificate; if the connection broke \
                 later, the token may be used up: make another",
            );
        }
        let failure = Failure::from(status);
        match code {
            Code::PermissionDenied => Failure { hints: Vec::new(), ..failure }
                .hint("make another token: flyball node token create"),
            _ => failure,
        }
    }

    fn tell(&self, context: &mut Context<'_>, identity: &LiveIdentity) -> Outcome {
        let who = identity.identity().map_err(failed)?.to_string();
        let facts = &identity.current().facts;
        let dir = self.dir.display();
        match context.format() {
            Format::Json | Format::Yaml => context.out.document(&json!({
                "identity": who, "dir": dir.to_string(), "serial": facts.serial,
                "notAfter": facts.not_after.to_string(), "renewalDue": facts.renewal_due().to_string(),
            }))?,
            Format::Name => context.out.line(&who)?,
            Format::Table | Format::Wide => {
                context.out.line(format!("{who}: {dir}, until {}", facts.not_after))?;
            }
        }
        let address = &self.scheduler;
        context.out.note(format!("next: flyball worker --scheduler {address} --identity {dir}"));
        Ok(Exit::Ok)
    }
}

async fn bounded<T>(ask: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::new("timeout", format!("no answer within {ANSWER_MAX:?}"));
    tokio::time::timeout(ANSWER_MAX, ask).await.map_err(late)?
}

/// This host's name without its domain, or nothing where it cannot be a node's.
fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy().to_lowercase();
    let name = name.split('.').next().unwrap_or_default().to_owned();
    if check_name(&name).is_ok() { name } else { String::new() }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: flyball_pki::PkiError) -> Failure {
    Failure::new("pki", error.to_string())
}
