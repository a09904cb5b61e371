//! The committer: one transaction at a time; mutations that arrive meanwhile go together into the
//! next one. At idle nothing waits.

use std::time::Duration;

use flyball_store::{
    CommitError, Leadership, Mutation, MutationResult, Resolution, Store, StoreError,
};
use tokio::sync::{mpsc, watch};

use super::core::{CommitRequest, Handle};
use super::{costs, keeper};
use crate::findings::{Findings, STORE_FULL, Severity};
use crate::reactor::{CommitId, CommitResult, Event};

/// Mutations per call of the store, which splits them into transactions of a size that etcd takes.
const BATCH_MAX: usize = 256;

/// Pauses between tries to find out what became of a commit.
const RESOLVE_PAUSE_MIN: Duration = Duration::from_millis(20);
const RESOLVE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Pause after a commit that a full store refused: it stays full until somebody acts.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// Commits for as long as the core task lives.
pub(crate) struct Committer {
    pub(crate) store: Store,
    pub(crate) requests: mpsc::UnboundedReceiver<CommitRequest>,
    pub(crate) leadership: watch::Receiver<Option<Leadership>>,
    /// Told when a transaction found another leader.
    pub(crate) fenced: mpsc::Sender<i64>,
    pub(crate) core: Handle,
    pub(crate) findings: Findings,
}

impl Committer {
    pub(crate) async fn run(mut self) {
        let mut requests = Vec::with_capacity(BATCH_MAX);
        while self.requests.recv_many(&mut requests, BATCH_MAX).await > 0 {
            let mut ids = Vec::with_capacity(requests.len());
            let mut mutations = Vec::with_capacity(requests.len());
            let leadership = self.leadership.borrow().clone();
            let term = leadership.as_ref().map(|leadership| leadership.create_revision);
            let mut results = Vec::new();
            for request in requests.drain(..) {
                match &leadership {
                    Some(leadership) if term == request.term => {
                        if request.resolve {
                            self.resolve(request, leadership.clone());
                        } else {
                            ids.push(request.commit);
                            mutations.push(request.mutation);
                        }
                    }
                    // The reactor knows that it does not lead any more, or is about to be told.
                    _ => tracing::debug!(commit = request.commit.0, "of an earlier term"),
                }
            }
            if let Some(leadership) = &leadership {
                results = self.commit(leadership, &mutations).await;
            }
            for ((commit, result), mutation) in ids.into_iter().zip(results).zip(&mutations) {
                costs::tell(&self.store, mutation, &result);
                if self.core.tell(Event::Committed { commit, result }).await.is_err() {
                    return;
                }
            }
        }
    }

    #[tracing::instrument(name = "commit", skip_all, fields(mutations = mutations.len()))]
    async fn commit(&self, leadership: &Leadership, mutations: &[Mutation]) -> Vec<CommitResult> {
        if mutations.is_empty() {
            return Vec::new();
        }
        let mut commit = self.store.commit(leadership, mutations).await;
        if let Some(error) = &commit.error {
            tracing::warn!(%error, "a commit did not go through");
            if matches!(error, CommitError::Fenced { .. }) {
                // Full only if it was told already.
                let _ = self.fenced.try_send(leadership.create_revision);
            }
            if matches!(error, CommitError::Store(StoreError::OutOfSpace { .. })) {
                self.on_full(leadership, mutations, &mut commit.results).await;
            }
        }
        commit.results.into_iter().map(result_of).collect()
    }

    /// The store is full: what only deletes is taken all the same if it goes alone, and makes room.
    async fn on_full(
        &self,
        leadership: &Leadership,
        mutations: &[Mutation],
        results: &mut [MutationResult],
    ) {
        let at = (STORE_FULL, "");
        self.findings.raise(Severity::Error, at, keeper::FULL.to_owned(), keeper::FULL_STEP);
        let deletes = |mutation: &Mutation| match mutation {
            Mutation::RemoveLoop(remove) => remove.duty.is_none(),
            Mutation::RemoveOrphan(remove) => remove.duty.is_none(),
            Mutation::PutDuty(put) => put.duty.is_none(),
            _ => false,
        };
        let open = |index: &usize| results[*index] == MutationResult::NotApplied;
        let indices: Vec<usize> =
            (0..mutations.len()).filter(open).filter(|index| deletes(&mutations[*index])).collect();
        if indices.is_empty() || indices.len() == mutations.len() {
            tokio::time::sleep(FULL_PAUSE).await;
            return;
        }
        let alone: Vec<Mutation> = indices.iter().map(|index| mutations[*index].clone()).collect();
        let commit = self.store.commit(leadership, &alone).await;
        for (index, result) in indices.into_iter().zip(commit.results) {
            results[index] = result;
        }
    }

    /// Finds out what became of a commit, in a task of its own: others need not wait for it.
    fn resolve(&self, request: CommitRequest, leadership: Leadership) {
        let (store, core, fenced) = (self.store.clone(), self.core.clone(), self.fenced.clone());
        let commit = request.commit;
        tokio::spawn(async move {
            let result = resolve(&store, &leadership, &request.mutation, &fenced).await;
            if let Some(result) = &result {
                costs::tell(&store, &request.mutation, result);
            }
            answer(&core, commit, result).await;
        });
    }
}

async fn answer(core: &Handle, commit: CommitId, result: Option<CommitResult>) {
    if let Some(result) = result {
        // Nobody needs it any more at shutdown.
        let _ = core.tell(Event::Committed { commit, result }).await;
    }
}

/// Asks until the store answers; `None` when this scheduler leads no more, so that it does not
/// matter to it.
async fn resolve(
    store: &Store,
    leadership: &Leadership,
    mutation: &Mutation,
    fenced: &mpsc::Sender<i64>,
) -> Option<CommitResult> {
    let mut pause = RESOLVE_PAUSE_MIN;
    loop {
        match store.resolve(leadership, mutation).await {
            Ok(Resolution::Applied { revision }) => {
                return Some(CommitResult::Committed { revision });
            }
            Ok(Resolution::NotApplied { .. }) => {
                return Some(CommitResult::Unavailable);
            }
            // It may be repeated as it is: planned again, it is the same.
            Ok(Resolution::CommitAgain) => return Some(CommitResult::Unavailable),
            Err(CommitError::Fenced { .. }) => {
                let _ = fenced.try_send(leadership.create_revision);
                return None;
            }
            Err(CommitError::Store(error)) => {
                tracing::warn!(%error, "cannot find out yet what became of a commit");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RESOLVE_PAUSE_MAX);
            }
        }
    }
}

fn result_of(result: MutationResult) -> CommitResult {
    match result {
        MutationResult::Committed { revision } => CommitResult::Committed { revision },
        MutationResult::Refused(found) => CommitResult::Refused { found },
        MutationResult::NotApplied => CommitResult::Unavailable,
        MutationResult::Unknown => CommitResult::Unknown,
        MutationResult::TooLarge { why } => CommitResult::Invalid { message: why },
    }
}
