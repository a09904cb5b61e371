//! The bare side: hand-written transactions of an etcd client, without any layer of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Channel, Client, Compare, CompareOp, KvClient, PutOptions, Txn, TxnOp};
use flyball_store::{Leadership, Session};

use crate::Waiting;

const LEADER: &str = "/flyball/v1/leader";
const SESSION: &str = "/flyball/v1/sessions/n1";

fn status_key(name: &str) -> String {
    format!("/flyball/v1/loops/default/{name}/status")
}

fn claim_key(name: &str) -> String {
    format!("/flyball/v1/claims/default/{name}")
}

fn owner_key(path: &str) -> String {
    format!("/flyball/v1/owners/x/{path}")
}

/// What every assignment compares, and values like those the store writes.
pub(crate) struct Raw {
    kv: KvClient,
    leader: i64,
    session: Session,
    status: Vec<u8>,
    claim: Vec<u8>,
    owner: Vec<u8>,
}

impl Raw {
    pub(crate) async fn new(channel: Channel, leadership: &Leadership, session: &Session) -> Self {
        let client = Client::from_channel(channel, None).await.unwrap();
        Self {
            kv: client.kv_client(),
            leader: leadership.create_revision,
            session: session.clone(),
            status: Vec::new(),
            claim: Vec::new(),
            owner: Vec::new(),
        }
    }

    /// Takes the values that the store wrote for a loop, whose name is as long as all others are.
    pub(crate) async fn imitate(&mut self, name: &str, owner: &str) {
        self.status = self.value(status_key(name)).await;
        self.claim = self.value(claim_key(name)).await;
        self.owner = self.value(owner_key(owner)).await;
    }

    async fn value(&mut self, key: String) -> Vec<u8> {
        let answer = self.kv.get(key.clone(), None).await.unwrap();
        let found = answer.kvs().first().map(|kv| kv.value().to_vec());
        found.unwrap_or_else(|| panic!("{key} is missing"))
    }

    /// Assigns all of them, so many per transaction and so many transactions at a time.
    pub(crate) async fn run(&self, waiting: &[Waiting], each: usize, parallel: usize) -> Duration {
        let txns: Vec<Txn> = waiting.chunks(each).map(|some| self.transaction(some)).collect();
        let next = Arc::new(AtomicUsize::new(0));
        let txns = Arc::new(txns);
        let begun = Instant::now();
        let tasks: Vec<_> = (0..parallel)
            .map(|_| {
                let (mut kv, next, txns) = (self.kv.clone(), next.clone(), txns.clone());
                tokio::spawn(async move {
                    while let Some(txn) = txns.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let answer = kv.txn(txn.clone()).await.unwrap();
                        assert!(answer.succeeded());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        begun.elapsed()
    }

    fn transaction(&self, waiting: &[Waiting]) -> Txn {
        let leads = Compare::create_revision(LEADER, CompareOp::Equal, self.leader);
        match waiting {
            [one] => {
                let (mut compares, puts) = self.assignment(one);
                compares.push(leads);
                Txn::new().when(compares).and_then(puts)
            }
            several => {
                let nested = several.iter().map(|one| {
                    let (compares, puts) = self.assignment(one);
                    TxnOp::txn(Txn::new().when(compares).and_then(puts))
                });
                Txn::new().when([leads]).and_then(nested.collect::<Vec<_>>())
            }
        }
    }

    fn assignment(&self, waiting: &Waiting) -> (Vec<Compare>, Vec<TxnOp>) {
        let bound = || Some(PutOptions::new().with_lease(self.session.lease));
        let (status, claim) = (status_key(&waiting.name), claim_key(&waiting.name));
        let revision = self.session.create_revision;
        let mut compares = vec![
            Compare::create_revision(SESSION, CompareOp::Equal, revision),
            Compare::lease(SESSION, CompareOp::Equal, self.session.lease),
            Compare::create_revision(claim.clone(), CompareOp::Equal, 0),
            Compare::mod_revision(status.clone(), CompareOp::Equal, waiting.revision),
        ];
        let mut puts = vec![
            TxnOp::put(status, self.status.clone(), None),
            TxnOp::put(claim, self.claim.clone(), bound()),
        ];
        for (_, path) in &waiting.owners {
            let key = owner_key(path);
            compares.push(Compare::create_revision(key.clone(), CompareOp::Equal, 0));
            puts.push(TxnOp::put(key, self.owner.clone(), bound()));
        }
        (compares, puts)
    }
}
