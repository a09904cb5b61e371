//! The audit trail's writer: entries that arrive together are appended by one transaction. What the
//! store does not take is kept and tried again; what there is no room for is counted, said, and written
//! down itself as soon as that can be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flyball_core::access::AuditEntry;
use flyball_core::ambient::Ambient;
use flyball_store::{AUDIT_BATCH_MAX, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::findings::{AUDIT_BEHIND, AUDIT_INCOMPLETE, Findings, Severity};

/// Entries waiting: some seconds of the busiest installation, at about 600 bytes each.
const QUEUE_MAX: usize = 4096;
/// Longest wait of an answer for its entry. A store that takes longer is behind, which is said.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Refusals that are the same in everything stand as one entry for so long, so that a caller who is
/// refused again and again pushes nothing else out of the trail.
const FOLD: Duration = Duration::from_secs(10);
/// Refusals that are told apart at a time; further ones are written one by one.
const FOLDED_MAX: usize = 1000;
/// Pause after the store took nothing.
const RETRY: Duration = Duration::from_millis(500);

const BEHIND_STEP: &str =
    "look at the store: flyball doctor; entries wait in this scheduler's memory";
const INCOMPLETE_STEP: &str = "the entries are lost; the trail says how many; find out why the store \
                               took none for so long";

type Waiting = (AuditEntry, Option<oneshot::Sender<()>>);

/// The way to the writer. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Auditor {
    queue: mpsc::Sender<Waiting>,
    lost: Arc<AtomicU64>,
    findings: Findings,
    ambient: Ambient,
    scheduler: String,
}

/// Entries on their way.
pub(crate) struct AuditQueue {
    receiver: mpsc::Receiver<Waiting>,
    lost: Arc<AtomicU64>,
    findings: Findings,
}

impl Auditor {
    /// An auditor, and the queue that [`AuditQueue::run`] empties.
    pub(crate) fn new(
        findings: Findings,
        ambient: Ambient,
        scheduler: String,
    ) -> (Self, AuditQueue) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let rest = AuditQueue { receiver, lost: lost.clone(), findings: findings.clone() };
        (Self { queue, lost, findings, ambient, scheduler }, rest)
    }

    /// Hands an entry over without waiting for anything.
    pub(crate) fn note(&self, entry: AuditEntry) {
        self.offer(self.completed(entry), None);
    }

    /// Hands an entry over and waits until it is durable, bounded.
    pub(crate) async fn record(&self, entry: AuditEntry) {
        let (written, durable) = oneshot::channel();
        if self.offer(self.completed(entry), Some(written)) {
            // Late or lost: the finding says so.
            let _ = tokio::time::timeout(WAIT_MAX, durable).await;
        }
    }

    fn completed(&self, entry: AuditEntry) -> AuditEntry {
        let id = uuid::Builder::from_random_bytes(self.ambient.bytes()).into_uuid();
        let (at, scheduler) = (self.ambient.now(), self.scheduler.clone());
        AuditEntry { id: id.simple().to_string(), at, scheduler, ..entry }
    }

    fn offer(&self, entry: AuditEntry, written: Option<oneshot::Sender<()>>) -> bool {
        let taken = self.queue.try_send((entry, written)).is_ok();
        if !taken {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            let message = format!("{lost} entries of the audit trail found no room and are lost");
            let name = (AUDIT_INCOMPLETE, "");
            self.findings.raise(Severity::Error, name, message, INCOMPLETE_STEP);
        }
        taken
    }
}

impl AuditQueue {
    /// Appends entries until all auditors are gone.
    pub(crate) async fn run(mut self, store: Store) {
        let mut folded = Folded::default();
        let mut batch: Vec<Waiting> = Vec::with_capacity(AUDIT_BATCH_MAX);
        loop {
            // One place is kept for what was lost.
            let most = AUDIT_BATCH_MAX - 1;
            let came = tokio::time::timeout(FOLD, self.receiver.recv_many(&mut batch, most)).await;
            if came == Ok(0) {
                return;
            }
            let (mut entries, mut written) = (folded.over(Instant::now(), most), Vec::new());
            for (entry, waiter) in batch.drain(..) {
                written.extend(waiter);
                entries.extend(folded.take(entry, Instant::now()));
            }
            for part in entries.chunks(most) {
                self.append(&store, part).await;
            }
            for waiter in written {
                // Whoever waited may have given up.
                let _ = waiter.send(());
            }
        }
    }

    async fn append(&self, store: &Store, entries: &[AuditEntry]) {
        let mut part = entries.to_vec();
        let lost = self.lost.load(Ordering::Relaxed);
        if let Some(gap) = (lost > 0).then(|| gap(entries, lost)).flatten() {
            part.insert(0, gap);
        }
        while let Err(error) = store.append_audit(&part).await {
            let message = format!("the store takes no entries of the audit trail: {error}");
            self.findings.raise(Severity::Error, (AUDIT_BEHIND, ""), message, BEHIND_STEP);
            tokio::time::sleep(RETRY).await;
        }
        self.findings.clear(AUDIT_BEHIND, "");
        self.lost.fetch_sub(if part.len() > entries.len() { lost } else { 0 }, Ordering::Relaxed);
    }
}

/// The entry that says that there are none of some calls.
fn gap(entries: &[AuditEntry], lost: u64) -> Option<AuditEntry> {
    let like = entries.first()?;
    let entry = AuditEntry {
        id: format!("gap-{}", like.id),
        at: like.at,
        who: format!("scheduler:{}", like.scheduler),
        verb: "lose".to_owned(),
        kind: "audit".to_owned(),
        result: "DataLoss".to_owned(),
        scheduler: like.scheduler.clone(),
        repeated: lost,
        ..AuditEntry::default()
    };
    Some(entry.because(&format!("{lost} entries found no room and are lost")))
}

/// Refusals of the last seconds.
#[derive(Default)]
struct Folded(BTreeMap<[String; 7], (Instant, u64, AuditEntry)>);

impl Folded {
    /// The entry, unless it stands for one that has just been written.
    fn take(&mut self, entry: AuditEntry, now: Instant) -> Option<AuditEntry> {
        if entry.result != REFUSED {
            return Some(entry);
        }
        let key = [
            &entry.who,
            &entry.from,
            &entry.verb,
            &entry.kind,
            &entry.namespace,
            &entry.name,
            &entry.reason,
        ];
        let key = key.map(Clone::clone);
        if let Some((_, count, newest)) = self.0.get_mut(&key) {
            *count += 1;
            *newest = entry;
            return None;
        }
        if self.0.len() < FOLDED_MAX {
            self.0.insert(key, (now, 0, entry.clone()));
        }
        Some(entry)
    }

    /// What the entries written too long ago stood for since.
    fn over(&mut self, now: Instant, most: usize) -> Vec<AuditEntry> {
        let old = |since: &Instant| now.duration_since(*since) >= FOLD;
        let over = self.0.extract_if(.., |_, (since, ..)| old(since)).take(most);
        let told = over.filter(|(_, (_, count, _))| *count > 0);
        told.map(|(_, (_, count, entry))| AuditEntry { repeated: count - 1, ..entry }).collect()
    }
}

/// The result of a call that roles and bindings did not allow.
pub(crate) const REFUSED: &str = "PermissionDenied";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(who: &str) -> AuditEntry {
        let (who, result) = (who.to_owned(), REFUSED.to_owned());
        AuditEntry { who, result, ..AuditEntry::default() }
    }

    #[test]
    fn refusals_that_repeat_are_counted_and_everything_else_is_told() {
        let (mut folded, begin) = (Folded::default(), Instant::now());
        assert!(folded.take(refused("user:eve"), begin).is_some());
        for _ in 0..5 {
            assert!(folded.take(refused("user:eve"), begin).is_none());
        }
        assert!(folded.take(refused("user:ada"), begin).is_some());
        let done = AuditEntry { result: "Ok".to_owned(), ..AuditEntry::default() };
        assert!(folded.take(done.clone(), begin).is_some() && folded.take(done, begin).is_some());
        assert!(folded.over(begin, 99).is_empty());
        let over = folded.over(begin + FOLD, 99);
        assert_eq!((over.len(), over[0].who.as_str(), over[0].repeated), (1, "user:eve", 4));
        assert!(folded.take(refused("user:eve"), begin + FOLD).is_some());
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_said() {
        let (findings, ambient) = (Findings::default(), crate::config::ambient());
        let (auditor, queue) = Auditor::new(findings.clone(), ambient, "s".to_owned());
        for _ in 0..QUEUE_MAX + 3 {
            auditor.note(AuditEntry::default());
        }
        assert!(findings.holds(AUDIT_INCOMPLETE));
        assert_eq!(queue.lost.load(Ordering::Relaxed), 3);
    }
}
