//! Requests that may be repeated: what a request asks for is the same however often it arrives, at
//! whichever scheduler, so one whose answer was lost is sent again, for a bounded time.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Response, Status};

use crate::Failure;

/// How long to go on trying: longer than a restart of a scheduler or the election of a leader takes,
/// and short enough for somebody who waits at the prompt.
const TRY_MAX: Duration = Duration::from_secs(15);
/// First and longest pause between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// An answer, and whether an earlier try may have done it already.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    pub(crate) answer: Result<T, Status>,
    pub(crate) repeated: bool,
}

impl<T> Answered<T> {
    /// The answer, or what to tell the user.
    pub(crate) fn into_result(self) -> Result<T, Failure> {
        let repeated = self.repeated;
        self.answer.map_err(|status| {
            let lost = is_lost(&status);
            let failure = Failure::from(status);
            if !lost {
                return failure;
            }
            let hint = "it may have been done or not; the same command may be given again";
            let mut failure = failure.hint(hint);
            if repeated {
                let seconds = TRY_MAX.as_secs();
                failure.message = format!("{} (tried again for {seconds} s)", failure.message);
            }
            failure
        })
    }
}

/// Sends a request until it is answered, refused for good, or the time is over. `note` is told once
/// that it takes longer.
pub(crate) async fn until_answered<T, F>(
    send: impl FnMut() -> F,
    note: impl FnOnce(String),
) -> Answered<T>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    answered_within(TRY_MAX, send, note).await
}

async fn answered_within<T, F>(
    bound: Duration,
    mut send: impl FnMut() -> F,
    note: impl FnOnce(String),
) -> Answered<T>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let deadline = Instant::now() + bound;
    let (mut pause, mut note, mut repeated) = (PAUSE.0, Some(note), false);
    loop {
        let answer = match tokio::time::timeout_at(deadline, send()).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::unavailable("the scheduler does not answer")),
        };
        let lost = answer.as_ref().err().is_some_and(is_lost);
        if !lost || Instant::now() + pause >= deadline {
            return Answered { answer, repeated };
        }
        if let (Some(note), Err(status)) = (note.take(), &answer) {
            let seconds = bound.as_secs();
            note(format!("no answer ({}); trying again for {seconds} s", status.message()));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
        repeated = true;
    }
}

/// Whether the request may have been done though the answer does not say so, or may be soon.
fn is_lost(status: &Status) -> bool {
    match status.code() {
        // The scheduler or its store is away, the outcome of its commit is unknown, or the connection
        // broke in the middle.
        Code::Unavailable | Code::Unknown | Code::Cancelled => true,
        // What the transport says of a connection that broke while the answer was read.
        Code::Internal => std::error::Error::source(status).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn lost_answers_are_asked_for_again() {
        let (tries, notes) = (Cell::new(0), Cell::new(0));
        let send = || {
            tries.set(tries.get() + 1);
            let lost = tries.get() < 3;
            async move { if lost { Err(Status::unknown("lost")) } else { Ok(Response::new(7)) } }
        };
        let answered = until_answered(send, |_| notes.set(notes.get() + 1)).await;
        assert_eq!((answered.answer.unwrap(), answered.repeated), (7, true));
        assert_eq!((tries.get(), notes.get()), (3, 1));
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let tries = Cell::new(0);
        let send = || {
            tries.set(tries.get() + 1);
            async { Err::<Response<()>, _>(Status::invalid_argument("no")) }
        };
        let answered = until_answered(send, drop).await;
        assert!(!answered.repeated && answered.into_result().unwrap_err().code == "invalid");
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test]
    async fn it_ends_with_words_about_what_is_not_known() {
        let bound = Duration::from_millis(250);
        let send = || async { Err::<Response<()>, _>(Status::unavailable("gone")) };
        let failure = answered_within(bound, send, drop).await.into_result().unwrap_err();
        assert!(failure.message.contains("tried again"), "{}", failure.message);
        assert!(failure.hints.iter().any(|hint| hint.contains("may have been done")));
        // One that never answers is bounded as well.
        let silent = std::future::pending::<Result<Response<()>, Status>>;
        assert!(answered_within(bound, silent, drop).await.answer.is_err());
    }
}
