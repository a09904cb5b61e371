//! What a script can do to the world that it plays in: submit loops, set traps, cut links, crash hosts,
//! and wait for what can be seen.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flyball_tests::history::{Answer, Call, Event};

use crate::chance::Chance;
use crate::client::{self, Loops};
use crate::git;
use crate::site::{Order, Site, now};
use crate::traps::{Passing, Then, Trap};
use crate::view::{Revoke, View};
use crate::{SCHEDULERS, WORKERS};

/// Longest wait for one thing to be seen: several times what the slowest takes, which is the end of a lease
/// and then of the leader's.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
const HEARTBEAT: &str = "/flyball.v1.Sessions/Heartbeat";
const ATTACH: &str = "/flyball.v1.Sessions/Attach";

/// A script's hold on its world.
pub(crate) struct Stage {
    pub(crate) site: Arc<Site>,
    chance: Chance,
    cut: RefCell<BTreeSet<(&'static str, &'static str)>>,
    crashed: RefCell<BTreeSet<&'static str>>,
    /// Names of loops that have to end.
    submitted: RefCell<Vec<String>>,
    fault: RefCell<Option<String>>,
}

/// The name that a loop has in the store and the history.
pub(crate) fn key(name: &str) -> String {
    format!("default/{name}")
}

impl Stage {
    pub(crate) fn new(site: &Arc<Site>) -> Self {
        Self {
            site: site.clone(),
            chance: Chance::new(site.seed, "script"),
            cut: RefCell::default(),
            crashed: RefCell::default(),
            submitted: RefCell::default(),
            fault: RefCell::default(),
        }
    }

    /// From here on things go wrong.
    pub(crate) fn begins(&self, fault: &str) {
        self.fault.replace(Some(fault.to_owned()));
        self.site.saw(Event::FaultBegins { fault: fault.to_owned() });
    }

    /// Everything is mended, and all loops end.
    pub(crate) async fn ends(&self) {
        self.site.traps.open_all();
        for (a, b) in self.cut.take() {
            turmoil::repair(a, b);
        }
        self.crashed.take().into_iter().for_each(|host| self.site.order(Order::Bounce(host)));
        if let Some(fault) = self.fault.take() {
            self.site.saw(Event::FaultEnds { fault });
        }
        for name in self.submitted.take() {
            self.follow(&name).await;
        }
    }

    /// Waits until this is so.
    ///
    /// # Errors
    /// When it is not in time, which the script names.
    pub(crate) async fn until(
        &self,
        what: &str,
        is_so: impl Fn(&View) -> bool,
    ) -> Result<(), String> {
        self.within(WAIT_MAX, is_so).await.then_some(()).ok_or_else(|| format!("not seen: {what}"))
    }

    /// Waits until this is so or the time is over; answers which.
    pub(crate) async fn within(&self, longest: Duration, is_so: impl Fn(&View) -> bool) -> bool {
        let end = now() + longest;
        while now() < end {
            if is_so(&self.site.view()) {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// Who leads, and the other scheduler.
    ///
    /// # Errors
    /// When nobody leads in time.
    pub(crate) async fn leaders(&self) -> Result<(&'static str, &'static str), String> {
        self.until("a leader", |view| view.leader.is_some()).await?;
        let id = self.site.view().leader.clone().map(|leader| leader.0).unwrap_or_default();
        let [one, two] = SCHEDULERS;
        Ok(if id == one { (one, two) } else { (two, one) })
    }

    /// Submits a loop, to be run on this node if one is named; answers its uid.
    pub(crate) async fn submit(
        &self,
        via: &str,
        name: &str,
        owns: &[&str],
        node: Option<&str>,
    ) -> String {
        let manifest = client::manifest(name, owns, node);
        let digest = manifest.to_string().len().to_string();
        loop {
            let call = Call::Apply { key: key(name), digest: digest.clone() };
            let manifest = &manifest;
            let ask = |mut loops: Loops| async move { client::apply(&mut loops, manifest).await };
            if let Answer::Object { uid, .. } = self.call(via, call, ask).await {
                self.site.view().acknowledged.insert(key(name));
                self.submitted.borrow_mut().push(name.to_owned());
                return uid;
            }
            tokio::time::sleep(LOOK * 10).await;
        }
    }

    /// Asks for the loop's end, until somebody has heard it.
    pub(crate) async fn cancel(&self, name: &str) {
        loop {
            let via = *self.chance.pick(&SCHEDULERS);
            let call = Call::Cancel { key: key(name) };
            let ask = |mut loops: Loops| async move { client::cancel(&mut loops, name).await };
            if let Answer::Object { .. } = self.call(via, call, ask).await {
                return;
            }
            tokio::time::sleep(LOOK * 10).await;
        }
    }

    /// Asks for the loop to be removed, until somebody has heard it.
    pub(crate) async fn delete(&self, name: &str) {
        self.submitted.borrow_mut().retain(|other| other != name);
        self.site.view().acknowledged.remove(&key(name));
        loop {
            let via = *self.chance.pick(&SCHEDULERS);
            let call = Call::Delete { key: key(name) };
            let ask = |mut loops: Loops| async move { client::delete(&mut loops, name).await };
            if !matches!(self.call(via, call, ask).await, Answer::Unknown { .. }) {
                return;
            }
            tokio::time::sleep(LOOK * 10).await;
        }
    }

    /// Asks for a loop until it has ended. The world ends the wait if it never does.
    async fn follow(&self, name: &str) {
        loop {
            let via = *self.chance.pick(&SCHEDULERS);
            let call = Call::Get { key: key(name) };
            let ask = |mut loops: Loops| async move { client::get(&mut loops, name).await };
            if let Answer::Object { phase, .. } = self.call(via, call, ask).await
                && ["Converged", "Cancelled"].contains(&phase.as_str())
            {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn call<F: Future<Output = Answer>>(
        &self,
        via: &str,
        call: Call,
        ask: impl FnOnce(Loops) -> F,
    ) -> Answer {
        let op = self.site.next_op();
        self.site.saw(Event::Invoke { op, client: "script".to_owned(), call });
        let answer = ask(client::connect(via)).await;
        self.site.saw(Event::Return { op, answer: answer.clone() });
        answer
    }

    /// Nothing passes between this worker and the schedulers.
    pub(crate) fn cut_worker(&self, worker: &'static str) {
        SCHEDULERS.iter().for_each(|scheduler| self.cut(worker, scheduler));
    }

    pub(crate) fn cut(&self, a: &'static str, b: &'static str) {
        turmoil::partition(a, b);
        self.cut.borrow_mut().insert((a, b));
    }

    pub(crate) fn crash(&self, host: &'static str) {
        self.crashed.borrow_mut().insert(host);
        self.site.order(Order::Crash(host));
    }

    /// A host that was crashed starts again.
    pub(crate) fn bounce(&self, host: &'static str) {
        self.crashed.borrow_mut().remove(host);
        self.site.order(Order::Bounce(host));
    }

    /// The store ends a lease that is alive.
    pub(crate) fn revoke(&self, whose: Revoke) {
        self.site.view().revoke = Some(whose);
    }

    /// The name of this world's worker with this name.
    pub(crate) fn worker(&self, name: &str) -> Result<&'static str, String> {
        let found = WORKERS.into_iter().find(|worker| *worker == name);
        found.ok_or_else(|| format!("no worker {name:?}"))
    }

    /// Pushes of this kind of record; of one loop if its uid is given.
    pub(crate) fn trap_push(&self, then: Then, kind: &'static str, uid: &str) -> Arc<Trap> {
        let uid = uid.as_bytes().to_vec();
        let matches = move |it: &Passing<'_>| {
            it.at == git::HOST && it.what == kind && (uid.is_empty() || it.bytes == uid)
        };
        self.site.traps.set(then, 1, Box::new(matches))
    }

    /// Heartbeats of a worker, at every scheduler.
    pub(crate) fn trap_heartbeats(
        &self,
        then: Then,
        most: usize,
        worker: &'static str,
    ) -> Arc<Trap> {
        let matches = move |it: &Passing<'_>| it.what == HEARTBEAT && it.from == worker;
        self.site.traps.set(then, most, Box::new(matches))
    }

    /// A worker's tries to open a session at a scheduler.
    pub(crate) fn trap_attach(
        &self,
        then: Then,
        worker: &'static str,
        at: &'static str,
    ) -> Arc<Trap> {
        let matches = move |it: &Passing<'_>| it.what == ATTACH && it.from == worker && it.at == at;
        self.site.traps.set(then, usize::MAX, Box::new(matches))
    }

    /// What passes between etcd and a scheduler: calls of this path whose message has these bytes.
    pub(crate) fn trap_store(
        &self,
        then: Then,
        most: usize,
        path: &'static str,
        from: Option<&'static str>,
        bytes: Vec<u8>,
    ) -> Arc<Trap> {
        let matches = move |it: &Passing<'_>| {
            let has = bytes.is_empty() || it.bytes.windows(bytes.len()).any(|part| part == bytes);
            it.at == "etcd" && it.what == path && from.is_none_or(|from| it.from == from) && has
        };
        self.site.traps.set(then, most, Box::new(matches))
    }
}
