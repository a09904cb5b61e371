//! Asking schedulers over a connection that is kept. What may be repeated is sent again, to the next one, for a bounded
//! time; what a run needs to begin is asked of each once, and the run waits or ends by what they say.

use std::future::Future;
use std::time::Duration;

use flyball_proto::transport::{self, Address, Connection, Credential};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::{Code, Response, Status};

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// First and longest pause between tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The schedulers of a worker. Any of them answers.
#[derive(Debug)]
pub struct Schedulers {
    addresses: Vec<Address>,
    credential: Credential,
    current: Mutex<Current>,
}

/// Nothing was handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// Something that is named does not exist or cannot be opened: somebody has to set it, and the loop waits.
    #[error("{0}")]
    Missing(String),
    /// This node does not own the loop under this token.
    #[error("{0}")]
    NotOwner(String),
    /// Nobody answered, or with something that cannot be read; another try may help.
    #[error("cannot get what the loop needs: {0}")]
    Unavailable(String),
}

impl From<Status> for AskError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::NotFound | Code::FailedPrecondition => Self::Missing(message),
            Code::PermissionDenied => Self::NotOwner(message),
            _ => Self::Unavailable(message),
        }
    }
}

#[derive(Debug, Default)]
struct Current {
    connection: Option<Connection>,
    /// Which address is next.
    at: usize,
    /// Generation of the certificate that the connection was made with.
    shown: u64,
    /// Counts connections, so that a broken one is dropped once.
    number: u64,
}

impl Schedulers {
    /// Those of a worker's configuration; connected when first asked.
    pub fn new(addresses: Vec<Address>, credential: Credential) -> Self {
        Self { addresses, credential, current: Mutex::default() }
    }

    /// Sends a request that may be repeated until it is answered or refused for good.
    ///
    /// # Errors
    /// The refusal, or after `bound` the last reason why there is no answer.
    pub(super) async fn ask<T, F>(
        &self,
        bound: Duration,
        send: impl Fn(Connection) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let until = Instant::now() + bound;
        let mut pause = PAUSE.0;
        loop {
            let status = match self.once(&send).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            if !may_repeat(status.code()) || Instant::now() + pause >= until {
                return Err(status);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Asks each scheduler once at most, the one that answered last first. What all of them would say ends it; of the
    /// others' refusals the one that names what is missing is told rather than that somebody could not be reached.
    ///
    /// # Errors
    /// [`AskError`]: whether to wait, to go away or to try again.
    pub(crate) async fn ask_each<T, F>(&self, send: impl Fn(Connection) -> F) -> Result<T, AskError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut refusals = Refusals::default();
        // Once more: the connection that is kept may be broken, which says nothing about its scheduler.
        for _ in 0..=self.addresses.len() {
            match self.once(&send).await {
                Ok(answer) => return Ok(answer),
                Err(status) => {
                    if status.code() == Code::FailedPrecondition {
                        // Another one may have the key, or the store.
                        self.pass_on().await;
                    }
                    if refusals.add(status) {
                        break;
                    }
                }
            }
        }
        Err(refusals.told().into())
    }

    async fn once<T, F>(&self, send: &impl Fn(Connection) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let late = |_| Status::unavailable("no scheduler answered in time");
        let (number, connection) =
            tokio::time::timeout(ANSWER_MAX, self.connection()).await.map_err(late)??;
        let answer = tokio::time::timeout(ANSWER_MAX, send(connection)).await;
        let answer = answer.map_err(late).and_then(|answer| answer);
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                if may_repeat(status.code()) {
                    self.give_up(number).await;
                }
                Err(status)
            }
        }
    }

    async fn connection(&self) -> Result<(u64, Connection), Status> {
        let mut current = self.current.lock().await;
        // A renewed certificate is shown before the old one ends.
        let newest = self.credential.identity().map_or(0, |one| one.current().generation);
        if let Some(connection) = current.connection.clone().filter(|_| current.shown == newest) {
            return Ok((current.number, connection));
        }
        let address = self.addresses.get(current.at % self.addresses.len().max(1));
        let address = address.ok_or_else(|| Status::unavailable("no scheduler is known"))?;
        match transport::connect(address, self.credential.clone()).await {
            Ok(connection) => {
                current.shown = newest;
                current.number += 1;
                current.connection = Some(connection.clone());
                Ok((current.number, connection))
            }
            Err(error) => {
                current.at += 1;
                Err(Status::unavailable(error.to_string()))
            }
        }
    }

    async fn pass_on(&self) {
        let number = self.current.lock().await.number;
        self.give_up(number).await;
    }

    /// The next request goes to the next scheduler, unless another request has seen to that.
    async fn give_up(&self, number: u64) {
        let mut current = self.current.lock().await;
        if current.number == number && current.connection.take().is_some() {
            current.at += 1;
        }
    }
}

/// Answers after which the same request may be sent again: nobody knows, or not now.
fn may_repeat(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal
            | Code::Aborted
    )
}

/// What schedulers said that were asked one after another; only the one that counts is kept.
#[derive(Debug, Default)]
struct Refusals(Option<Status>);

impl Refusals {
    /// True if all others would say the same.
    fn add(&mut self, status: Status) -> bool {
        let is = |one: &Option<Status>, code| one.as_ref().is_some_and(|one| one.code() == code);
        let last = matches!(status.code(), Code::NotFound | Code::PermissionDenied);
        if last || !is(&self.0, Code::FailedPrecondition) {
            self.0 = Some(status);
        }
        last
    }

    fn told(self) -> Status {
        self.0.unwrap_or_else(|| Status::unavailable("no scheduler is known"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_scheduler_is_asked_where_it_may_help() {
        let told = |said: &[Status]| {
            let mut refusals = Refusals::default();
            let asked = said.iter().position(|one| refusals.add(one.clone()));
            let told = refusals.told();
            (told.code(), told.message().to_owned(), asked.map_or(said.len(), |last| last + 1))
        };
        let gone = || Status::unavailable("gone");
        let keyless = || Status::failed_precondition("no key");
        let of = |code, message: &str, asked| (code, message.to_owned(), asked);
        let expected = of(Code::FailedPrecondition, "no key", 3);
        assert_eq!(told(&[keyless(), gone(), gone()]), expected);
        assert_eq!(told(&[gone(), keyless(), gone()]), expected);
        assert_eq!(told(&[gone(), gone(), gone()]), of(Code::Unavailable, "gone", 3));
        assert_eq!(told(&[]), of(Code::Unavailable, "no scheduler is known", 0));
        let missing = [keyless(), Status::not_found("no secret"), gone()];
        assert_eq!(told(&missing), of(Code::NotFound, "no secret", 2));
        let denied = [Status::permission_denied("not its run"), gone(), gone()];
        assert_eq!(told(&denied), of(Code::PermissionDenied, "not its run", 1));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let of = |status: Status| AskError::from(status);
        assert_eq!(of(Status::not_found("x")), AskError::Missing("x".to_owned()));
        assert_eq!(of(Status::failed_precondition("x")), AskError::Missing("x".to_owned()));
        assert_eq!(of(Status::permission_denied("x")), AskError::NotOwner("x".to_owned()));
        assert_eq!(of(Status::internal("x")), AskError::Unavailable("x".to_owned()));
    }
}
