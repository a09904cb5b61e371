//! The probe for lost workers, on the leader: a node that has no session here and whose lease goes on all the same is
//! asked for, by a key that every scheduler sees. If nobody has renewed its lease for a whole time to live after
//! that, its worker's own deadline has passed, and the lease is ended. etcd does that by itself but while its leaders
//! change faster than leases last; then no lease ends, and what a machine owned that stopped without a word would
//! stay with it.
//!
//! No safety rests on it: a lease that is ended too early costs work, and the next owner seals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flyball_core::ids::NodeName;
use flyball_core::lease::TTL_SECONDS_MIN;
use flyball_store::{Leadership, SessionRecord, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::core::Handle;
use super::heard::Heard;
use crate::findings::{Findings, NODE_SILENT, Severity};

/// Pause between two looks: small beside the shortest lease.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a lease has beyond its time before it is asked for: etcd looks every half second for leases that have
/// ended, and what ends in the ordinary way shall cost no question.
const ORDINARY: Duration = Duration::from_secs(1);

/// How long a question stands beyond a lease's time: a scheduler whose watch is silent has noticed by then, and has
/// listed anew (`WatchOptions`).
const NOTICED: Duration = Duration::from_secs(5);

/// Most calls of a look; the others have theirs in the next.
const CALLS_MAX: usize = 64;

/// Shortest lease; a node is not looked at before that much silence.
const SHORTEST: Duration = Duration::from_secs(TTL_SECONDS_MIN.unsigned_abs());

const SILENT_STEP: &str = "nothing if its machine is gone, its loops go on elsewhere; otherwise see its worker's log and \
                           its way to the schedulers";

/// Looks for silent nodes.
pub(crate) struct Prober {
    pub(crate) store: Store,
    pub(crate) core: Handle,
    pub(crate) heard: Heard,
    pub(crate) findings: Findings,
    pub(crate) leadership: watch::Receiver<Option<Leadership>>,
}

impl Prober {
    /// Looks for as long as the process lives.
    pub(crate) async fn run(self) {
        let mut suspects = Suspects::default();
        let mut term = None;
        loop {
            tokio::time::sleep(PAUSE).await;
            let leadership = self.leadership.borrow().clone();
            let Ok(silent) = self.core.ask(|reactor, _| reactor.silent_sessions()).await else {
                return;
            };
            let now = leadership.as_ref().map(|leadership| leadership.create_revision);
            if std::mem::replace(&mut term, now) != now {
                suspects = Suspects::default();
            }
            // While the view is not current, as where etcd changes its leaders, what was found out stays true.
            if let (Some(leadership), Some(silent)) = (leadership, silent) {
                self.look(&mut suspects, &leadership, silent).await;
            }
            let asked = suspects.asked();
            self.findings.retain(NODE_SILENT, |node| asked.contains(node));
        }
    }

    async fn look(
        &self,
        suspects: &mut Suspects,
        leadership: &Leadership,
        silent: Vec<SessionRecord>,
    ) {
        let heard = |session: &SessionRecord| self.heard.last(&session.node, session.lease);
        for due in suspects.look(silent, heard, Instant::now()) {
            if let Err(error) = self.act(suspects, leadership, due).await {
                tracing::debug!(%error, "a silent node cannot be asked for");
                if !matches!(error, StoreError::Refused { .. }) {
                    // A store that does not answer now is asked at the next look.
                    break;
                }
            }
        }
    }

    async fn act(
        &self,
        suspects: &mut Suspects,
        leadership: &Leadership,
        due: Due,
    ) -> Result<(), StoreError> {
        match due {
            Due::Measure(session) => {
                let times = self.store.lease_times(session.lease).await?;
                suspects.on_granted(&session, times.map(|(_, granted)| granted));
            }
            Due::Ask(session, away) => {
                let asked = self.store.ask_for_node(leadership, &session).await?;
                if asked.is_some() {
                    self.raise(&session, away);
                }
                suspects.on_asked(&session, asked, Instant::now());
            }
            Due::End(session, asked) => {
                let SessionRecord { node, incarnation, .. } = &session;
                if self.store.stands(leadership, &session, asked).await? {
                    tracing::warn!(%node, %incarnation, "no scheduler hears from it: its lease is ended");
                    self.store.revoke(session.lease).await?;
                }
                suspects.on_asked(&session, None, Instant::now());
            }
        }
        Ok(())
    }

    fn raise(&self, session: &SessionRecord, away: Duration) {
        let message = format!(
            "node {} has had no session with the leader for {} s, and its lease goes on; if no scheduler renews it, it \
             is ended",
            session.node,
            away.as_secs()
        );
        let at = (NODE_SILENT, session.node.as_str());
        self.findings.raise(Severity::Warning, at, message, SILENT_STEP);
    }
}

/// A call that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Due {
    /// Find out what its lease was granted for.
    Measure(SessionRecord),
    /// Ask who hears from it; it has had no session for so long.
    Ask(SessionRecord, Duration),
    /// End its lease, if the question of this revision stands.
    End(SessionRecord, i64),
}

/// Nodes that have a lease and no session with this leader.
#[derive(Debug, Default)]
struct Suspects(BTreeMap<NodeName, Suspect>);

#[derive(Debug)]
struct Suspect {
    lease: i64,
    /// It has had no session since.
    away: Instant,
    /// Nothing was heard of it since.
    since: Instant,
    /// What its lease was granted for, once known.
    granted: Option<Duration>,
    /// The question that stands, by revision, and when that was known to be put.
    asked: Option<(i64, Instant)>,
    /// It was asked for once.
    told: bool,
}

impl Suspects {
    /// One look: what is to be done about these sessions. `heard` says when this scheduler last renewed one.
    fn look(
        &mut self,
        silent: Vec<SessionRecord>,
        heard: impl Fn(&SessionRecord) -> Option<Instant>,
        now: Instant,
    ) -> Vec<Due> {
        let leases: BTreeMap<&NodeName, i64> =
            silent.iter().map(|session| (&session.node, session.lease)).collect();
        self.0.retain(|node, suspect| leases.get(node) == Some(&suspect.lease));
        let mut due = Vec::new();
        for session in silent {
            let lease = session.lease;
            let new = || Suspect {
                lease,
                away: now,
                since: now,
                granted: None,
                asked: None,
                told: false,
            };
            let suspect = self.0.entry(session.node.clone()).or_insert_with(new);
            if let Some(at) = heard(&session) {
                suspect.since = suspect.since.max(at);
                suspect.asked = suspect.asked.filter(|(_, asked_at)| *asked_at > at);
            }
            due.extend(suspect.due(session, now));
        }
        // What ends something first; a store that is full takes no questions, but ends leases.
        due.sort_by_key(|one| match one {
            Due::End(..) => 0,
            Due::Ask(..) => 1,
            Due::Measure(_) => 2,
        });
        due.truncate(CALLS_MAX);
        due
    }

    fn on_granted(&mut self, session: &SessionRecord, granted: Option<Duration>) {
        if let Some(suspect) = self.0.get_mut(&session.node) {
            suspect.granted = granted;
        }
    }

    /// A question was put; or, without a revision, none stands: somebody has answered, or there is nothing to ask for.
    fn on_asked(&mut self, session: &SessionRecord, asked: Option<i64>, now: Instant) {
        if let Some(suspect) = self.0.get_mut(&session.node) {
            suspect.asked = asked.map(|revision| (revision, now));
            suspect.told |= asked.is_some();
            if asked.is_none() {
                suspect.since = now;
            }
        }
    }

    /// Those that were asked for, and are still away: also while a stand-by hears from them.
    fn asked(&self) -> BTreeSet<String> {
        let asked = self.0.iter().filter(|(_, suspect)| suspect.told);
        asked.map(|(node, _)| node.to_string()).collect()
    }
}

impl Suspect {
    fn due(&self, session: SessionRecord, now: Instant) -> Option<Due> {
        let silent = now.duration_since(self.since);
        let Some(granted) = self.granted else {
            return (silent >= SHORTEST).then_some(Due::Measure(session));
        };
        match self.asked {
            None if silent >= granted + ORDINARY => {
                Some(Due::Ask(session, now.duration_since(self.away)))
            }
            None => None,
            Some((revision, at)) => {
                let stood = now.duration_since(at);
                (stood >= granted + NOTICED).then_some(Due::End(session, revision))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(lease: i64) -> SessionRecord {
        SessionRecord { node: "n1".into(), incarnation: "life".into(), lease }
    }

    /// Suspects, driven by seconds of one clock.
    struct Scene {
        suspects: Suspects,
        begun: Instant,
        heard: Option<Instant>,
    }

    impl Scene {
        fn new() -> Self {
            Self { suspects: Suspects::default(), begun: Instant::now(), heard: None }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.begun + Duration::from_secs(seconds)
        }

        fn look(&mut self, seconds: u64, silent: &[i64]) -> Vec<Due> {
            let (now, heard) = (self.at(seconds), self.heard);
            let silent = silent.iter().copied().map(session).collect();
            self.suspects.look(silent, |_| heard, now)
        }

        /// Silent since 0, with a lease of 6 s, asked for at 7 s.
        fn asked() -> Self {
            let mut scene = Self::new();
            assert_eq!(scene.look(0, &[1]), []);
            assert_eq!(scene.look(2, &[1]), [Due::Measure(session(1))]);
            scene.suspects.on_granted(&session(1), Some(Duration::from_secs(6)));
            assert_eq!(scene.look(6, &[1]), [], "an ordinary end may be on its way");
            assert_eq!(scene.look(7, &[1]), [Due::Ask(session(1), Duration::from_secs(7))]);
            let now = scene.at(7);
            scene.suspects.on_asked(&session(1), Some(40), now);
            scene
        }
    }

    #[test]
    fn a_node_of_which_nobody_hears_is_ended_a_lease_after_it_was_asked_for() {
        let mut scene = Scene::asked();
        assert_eq!(scene.look(17, &[1]), [], "a scheduler may not have seen the question yet");
        assert_eq!(scene.look(18, &[1]), [Due::End(session(1), 40)]);
        assert_eq!(scene.look(19, &[1]), [Due::End(session(1), 40)], "the store did not answer");
    }

    #[test]
    fn a_node_that_another_scheduler_hears_is_left_for_another_lease() {
        let mut scene = Scene::asked();
        assert_eq!(scene.look(18, &[1]), [Due::End(session(1), 40)]);
        // The transaction found the question answered.
        let now = scene.at(18);
        scene.suspects.on_asked(&session(1), None, now);
        assert_eq!(scene.look(24, &[1]), []);
        assert_eq!(scene.look(25, &[1]), [Due::Ask(session(1), Duration::from_secs(25))]);
    }

    #[test]
    fn a_node_that_this_scheduler_hears_is_not_asked_for() {
        let mut scene = Scene::asked();
        scene.heard = Some(scene.at(17));
        assert_eq!(scene.look(18, &[1]), []);
        assert_eq!(scene.look(23, &[1]), []);
        assert_eq!(scene.look(24, &[1]), [Due::Ask(session(1), Duration::from_secs(24))]);
        assert!(scene.suspects.asked().contains("n1"), "it is away all the time");
    }

    #[test]
    fn a_node_that_came_back_or_lives_anew_begins_anew() {
        let mut scene = Scene::asked();
        assert_eq!(scene.look(12, &[]), []);
        assert!(scene.suspects.asked().is_empty());
        assert_eq!(scene.look(18, &[1]), [], "silent again, since just now");
        let mut scene = Scene::asked();
        assert_eq!(scene.look(18, &[2]), [], "another lease");
    }

    #[test]
    fn a_look_makes_a_bounded_number_of_calls() {
        let mut suspects = Suspects::default();
        let begun = Instant::now();
        let many = |_: u64| -> Vec<SessionRecord> {
            (0..200).map(|n| SessionRecord { node: format!("n{n}").into(), ..session(n) }).collect()
        };
        assert!(suspects.look(many(0), |_| None, begun).is_empty());
        let due = suspects.look(many(1), |_| None, begun + SHORTEST);
        assert_eq!(due.len(), CALLS_MAX);
    }
}
