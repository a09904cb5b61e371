//! Asking schedulers over a connection that is kept: what may be repeated is sent again, to the next one, for a
//! bounded time.

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
