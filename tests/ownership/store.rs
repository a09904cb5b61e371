//! A model of the store: revisions, leases that may end early or late, and the transactions of a leader.

use std::collections::BTreeMap;

use flyball_core::planted::{self, Bug};

use crate::sets::Owned;

/// Everything the store knows of a loop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// Revision of the status.
    pub(crate) status: i64,
    /// Revision of the last change of anything here.
    pub(crate) changed: i64,
    /// The status says that it is assigned: to this node's life, by this attempt, under this token.
    pub(crate) assigned: Option<Claim>,
    /// The attempt that the status was last written by.
    pub(crate) attempt: u64,
    /// Runs without a proven end: their tokens.
    pub(crate) unsealed: Vec<i64>,
    pub(crate) claim: Option<Claim>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Its create revision.
    pub(crate) token: i64,
    pub(crate) lease: i64,
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) attempt: u64,
}

/// A live session of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) create: i64,
    pub(crate) lease: i64,
    pub(crate) life: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) ends_at: u64,
    pub(crate) ttl_ms: u64,
}

/// A write of a leader.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Assign {
        session: Session,
        node: usize,
        attempt: u64,
    },
    /// The claim is gone. A run that is proven to have stopped needs no seal.
    Lost {
        proven: bool,
    },
    Release {
        token: i64,
    },
    /// Somebody sealed the journal of the run with this token.
    Sealed {
        token: i64,
    },
    /// Changes nothing; what was sent before and has not been applied by now never will be.
    Ask,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Refused,
    Fenced,
}

pub(crate) struct Store {
    pub(crate) revision: i64,
    pub(crate) rows: Vec<Row>,
    pub(crate) sessions: Vec<Option<Session>>,
    /// Create revision, scheduler, lease.
    pub(crate) leader: Option<(i64, usize, i64)>,
    pub(crate) leases: BTreeMap<i64, Lease>,
    /// Owner keys with the revision of their creation and their lease.
    owners: BTreeMap<String, (i64, i64)>,
    lease_last: i64,
    /// Claims committed.
    pub(crate) claims: u64,
}

impl Store {
    pub(crate) fn new(loops: usize, nodes: usize) -> Self {
        Self {
            revision: 1,
            rows: vec![Row { status: 1, changed: 1, ..Row::default() }; loops],
            sessions: vec![None; nodes],
            leader: None,
            leases: BTreeMap::new(),
            owners: BTreeMap::new(),
            lease_last: 0,
            claims: 0,
        }
    }

    pub(crate) fn grant(&mut self, now: u64, ttl_ms: u64) -> i64 {
        self.lease_last += 1;
        self.leases.insert(self.lease_last, Lease { ends_at: now + ttl_ms, ttl_ms });
        self.lease_last
    }

    /// True if there was something to renew.
    pub(crate) fn renew(&mut self, now: u64, lease: i64) -> bool {
        let Some(found) = self.leases.get_mut(&lease) else { return false };
        found.ends_at = found.ends_at.max(now + found.ttl_ms);
        true
    }

    /// Ends leases whose time is over; answers which.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<i64> {
        let over = self.leases.iter().filter(|(_, lease)| lease.ends_at <= now);
        let over: Vec<i64> = over.map(|(id, _)| *id).collect();
        over.iter().for_each(|id| self.revoke(*id));
        over
    }

    /// Deletes everything bound to a lease in one step.
    pub(crate) fn revoke(&mut self, lease: i64) {
        if self.leases.remove(&lease).is_none() {
            return;
        }
        self.revision += 1;
        let revision = self.revision;
        for row in self.rows.iter_mut().filter(|r| r.claim.is_some_and(|c| c.lease == lease)) {
            row.claim = None;
            row.changed = revision;
        }
        self.owners.retain(|_, (_, bound)| *bound != lease);
        for session in &mut self.sessions {
            session.take_if(|session| session.lease == lease);
        }
        self.leader.take_if(|(_, _, bound)| *bound == lease);
    }

    pub(crate) fn lead(&mut self, scheduler: usize, lease: i64) -> i64 {
        self.revision += 1;
        self.leader = Some((self.revision, scheduler, lease));
        self.revision
    }

    pub(crate) fn open_session(&mut self, node: usize, life: u64, lease: i64) {
        self.revision += 1;
        self.sessions[node] = Some(Session { create: self.revision, lease, life });
    }

    /// One transaction of the leader of the given term on the loop whose status was at `status`.
    pub(crate) fn commit(
        &mut self,
        term: i64,
        at: usize,
        status: i64,
        write: &Write,
        owned: &Owned,
    ) -> Outcome {
        let leads = self.leader.is_some_and(|(create, _, _)| create == term);
        if !leads && !planted::is(Bug::LeaderUnfenced) {
            return Outcome::Fenced;
        }
        if self.rows[at].status != status {
            return Outcome::Refused;
        }
        let (row, next) = (&self.rows[at], self.revision + 1);
        let mut row = Row { status: next, changed: next, ..row.clone() };
        match write {
            Write::Assign { session, node, attempt } => {
                if self.sessions[*node] != Some(*session) || row.claim.is_some() {
                    return Outcome::Refused;
                }
                if !self.own(at, session.lease, owned) {
                    return Outcome::Refused;
                }
                let (lease, life) = (session.lease, session.life);
                let claim = Claim { token: next, lease, node: *node, life, attempt: *attempt };
                (row.claim, row.assigned, row.attempt) = (Some(claim), Some(claim), *attempt);
                self.claims += 1;
            }
            Write::Lost { proven } => {
                if let Some(claim) = row.assigned.take().filter(|_| !proven) {
                    row.unsealed.push(claim.token);
                }
            }
            Write::Release { token } => {
                if row.claim.is_none_or(|claim| claim.token != *token) {
                    return Outcome::Refused;
                }
                (row.claim, row.assigned) = (None, None);
                self.owners.retain(|_, (created, _)| created != token);
            }
            Write::Sealed { token } => row.unsealed.retain(|found| found != token),
            Write::Ask => {}
        }
        self.revision = next;
        self.rows[at] = row;
        Outcome::Committed
    }

    /// Creates the owner keys if no exclusive one of them is there.
    fn own(&mut self, at: usize, lease: i64, owned: &Owned) -> bool {
        let compared = if planted::is(Bug::ClaimNotAtomic) { 1 } else { owned.keys.len() };
        let mut compares = owned.keys.iter().take(compared);
        if compares.any(|(_, key)| self.owners.contains_key(&format!("x/{key}"))) {
            return false;
        }
        for (exclusive, key) in &owned.keys {
            let key = if *exclusive { format!("x/{key}") } else { format!("r/{key}/{at}") };
            self.owners.insert(key, (self.revision + 1, lease));
        }
        true
    }
}
