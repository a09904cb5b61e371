//! What every verb that talks to a scheduler needs: flags, output, connection.

use std::sync::Arc;

use flyball_core::spec::DEFAULT_NAMESPACE;
use flyball_pki::LiveIdentity;
use flyball_proto::transport::Credential;
use jiff::Timestamp;

use crate::args::Global;
use crate::client::{self, Address, Clients, ConnectError};
use crate::output::{Format, Out};
use crate::{Exit, Failure};

/// Environment variable that holds the scheduler's token itself.
const TOKEN_VARIABLE: &str = "FLYBALL_TOKEN";

/// Flags and output of one command.
pub(super) struct Context<'a> {
    pub(super) global: &'a Global,
    pub(super) out: &'a mut Out,
}

impl<'a> Context<'a> {
    pub(super) fn new(global: &'a Global, out: &'a mut Out) -> Self {
        Self { global, out }
    }

    /// The namespace asked for, or the default one.
    pub(super) fn namespace(&self) -> String {
        self.global.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
    }

    /// The namespace to list: empty for all.
    pub(super) fn namespaces(&self, all: bool) -> String {
        if all { String::new() } else { self.namespace() }
    }

    pub(super) fn format(&self) -> Format {
        self.out.format()
    }

    /// The time for ages in tables.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The address asked for, or that of this user's `flyball up`.
    pub(super) fn address(&self) -> Result<Address, Failure> {
        let no_home = || {
            Failure::usage("no address is given and no home directory is known")
                .hint("give one: --addr unix:///path/to/scheduler.sock, or FLYBALL_ADDR")
        };
        self.global.addr.clone().or_else(client::address_of_this_user).ok_or_else(no_home)
    }

    /// Connects to the scheduler.
    pub(super) async fn clients(&self) -> Result<Clients, Failure> {
        self.clients_at(&self.address()?).await
    }

    /// Connects to this scheduler.
    pub(super) async fn clients_at(&self, address: &Address) -> Result<Clients, Failure> {
        let credential = self.credential()?;
        client::connect(address, credential).await.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &ConnectError) -> Failure {
        let failure = Failure::new("unreachable", error.to_string());
        match error {
            ConnectError::Denied { .. } => Failure { code: "not-allowed", ..failure }
                .exit(Exit::Auth)
                .hint("run this as the user whose scheduler it is: its socket is theirs alone")
                .hint("or name another one: --addr ADDRESS, or FLYBALL_ADDR"),
            ConnectError::Unreachable { .. } if self.global.addr.is_some() => {
                failure.hint("check --addr or FLYBALL_ADDR, and that a scheduler runs there")
            }
            ConnectError::Unreachable { .. } => failure
                .hint("start a control plane on this machine: flyball up")
                .hint("or name the one to use: --addr ADDRESS, or FLYBALL_ADDR"),
        }
    }

    /// What is shown to the scheduler: the token and the identity asked for.
    pub(super) fn credential(&self) -> Result<Credential, Failure> {
        let unusable = |why: String| Failure::new("unauthenticated", why).exit(Exit::Auth);
        let credential = match self.token()? {
            Some(token) => Credential::bearer(&token)
                .map_err(|error| unusable(format!("the token is not usable: {error}")))?,
            None => Credential::none(),
        };
        let identity = self.global.identity.as_deref().map(LiveIdentity::open).transpose();
        let identity = identity.map_err(|error| unusable(error.to_string()))?;
        Ok(credential.with_identity(identity.map(Arc::new)))
    }

    /// The token from the flag's file, else from the environment.
    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.global.token_file else {
            let set = std::env::var(TOKEN_VARIABLE).ok();
            return Ok(set.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()));
        };
        let token = std::fs::read_to_string(file).map_err(|error| {
            let message = format!("the token file {} cannot be read: {error}", file.display());
            Failure::new("unauthenticated", message).exit(Exit::Auth)
        })?;
        Ok(Some(token.trim().to_owned()))
    }
}
