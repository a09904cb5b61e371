//! What cases prove of their own fault, beyond what the checker judges of every history: who leads now,
//! who was alive when, when a claim was lost, what a process said of it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use etcd_client::GetOptions;
use flyball_tests::binary::flyball;
use flyball_tests::history::Entry;
use flyball_tests::poll::until;

use super::fleet::{Fleet, NOTICE_MAX};
use super::hands::Victim;

/// How much earlier than reckoned a claim may go: a busy machine sends heartbeats late.
const LOSS_SLACK: Duration = Duration::from_millis(350);

/// Longest wait for keys that nobody owns any more to be gone, once all loops are over.
const ORPHANS_MAX: Duration = Duration::from_secs(10);

impl Fleet {
    /// The scheduler that leads.
    #[track_caller]
    pub(crate) fn leader(&self) -> String {
        self.until("somebody leads", NOTICE_MAX, |view| {
            (!view.leader.is_empty()).then(|| view.leader.clone())
        })
    }

    /// A scheduler that has come to lead after this revision, and since when: the key of one that was
    /// killed is there until its lease ends.
    #[track_caller]
    pub(crate) fn leader_after(&self, since: i64) -> (String, i64) {
        self.until("somebody else comes to lead", NOTICE_MAX, |view| {
            let newer = !view.leader.is_empty() && view.led_since > since;
            newer.then(|| (view.leader.clone(), view.led_since))
        })
    }

    /// From now on leases may end before their time, by the fault and not by their workers.
    pub(crate) fn leases_end_unfairly(&self) {
        self.record.view.lock().unwrap().all_unfair = true;
    }

    /// The same for one lease.
    pub(crate) fn ends_unfairly(&self, lease: i64) {
        self.record.view.lock().unwrap().unfair.insert(lease);
    }

    /// The lease that a victim's claims hang on.
    #[track_caller]
    pub(crate) fn lease_of(&self, victim: &Victim) -> i64 {
        let (key, _) = victim.owned.first().expect("it owns something");
        self.record.see(|view| view.claims[key].lease)
    }

    /// The newest sign of life under a token, microseconds.
    pub(crate) fn last_sign_us(&self, token: i64) -> Option<u64> {
        let beats = std::fs::read_to_string(self.dir().join("beats.jsonl")).unwrap_or_default();
        let mark = format!("\"token\":{token},");
        let lines = beats.lines().rev().filter(|line| line.contains(&mark));
        lines.filter_map(|line| serde_json::from_str::<Entry>(line).ok()).map(|it| it.at_us).max()
    }

    /// Waits until something that runs under this token shows that it is alive after this time.
    #[track_caller]
    pub(crate) fn alive_after(&self, token: i64, at_us: u64) {
        until(&format!("token {token} shows a sign of life"), NOTICE_MAX, || {
            self.last_sign_us(token).filter(|last| *last > at_us)
        });
    }

    /// Says how long after a fault the victim's agents lived, who must have been at work when it began
    /// and dead a TTL later.
    #[track_caller]
    pub(crate) fn fenced_after(&self, victim: &Victim, begun_us: u64) -> String {
        let signs = victim.owned.iter().filter_map(|(_, token)| self.last_sign_us(*token));
        let last_us = signs.max().expect("its agents leave signs of life");
        let ttl_us = u64::try_from(self.shape.ttl().as_micros()).expect("a short time");
        assert!(last_us > begun_us, "{} was not at work when the fault began", victim.node);
        assert!(last_us < begun_us + ttl_us, "{} lived beyond its deadline", victim.node);
        let lived = Duration::from_micros(last_us - begun_us);
        format!("{} worked for {lived:?} more and was fenced", victim.node)
    }

    /// Nothing that the victim owned went before its lease can have ended, when its last renewal was
    /// sent at most one interval of heartbeats before `cut_us`.
    #[track_caller]
    pub(crate) fn not_lost_early(&mut self, victim: &Victim, cut_us: u64) {
        let least = self.shape.ttl() - self.shape.ttl() / 3 - LOSS_SLACK;
        let least_us = u64::try_from(least.as_micros()).expect("a short time");
        let lost = self.record.see(|view| {
            let owned = victim.owned.iter();
            owned.filter_map(|claim| view.lost_at_us.get(claim).copied()).min()
        });
        let lost_us = lost.unwrap_or_else(|| panic!("nothing of {} was lost", victim.node));
        let after = Duration::from_micros(lost_us.saturating_sub(cut_us));
        assert!(
            lost_us >= cut_us + least_us,
            "{} lost a claim {after:?} after the cut, while its lease was valid for {least:?}",
            victim.node
        );
        self.bite(&format!(
            "{} lost its claims {after:?} after the cut, not before {least:?}",
            victim.node
        ));
    }

    /// Nobody has been given a claim since then.
    #[track_caller]
    pub(crate) fn none_given_since(&self, before: u32) {
        assert_eq!(self.given(), before, "claims were given");
    }

    /// How many claims were given so far.
    pub(crate) fn given(&self) -> u32 {
        self.record.see(|view| view.owners.values().sum())
    }

    /// Nothing that the victim owned is owned by anybody, though all of it waits for somebody: whoever
    /// could give something to a node would give this.
    #[track_caller]
    pub(crate) fn is_free(&self, victim: &Victim) {
        self.record.see(|view| {
            for (key, _) in &victim.owned {
                let claim = view.claims.get(key);
                assert!(claim.is_none(), "{key} is owned: {claim:?}");
                let phase = view.statuses[key].phase;
                assert!(!phase.is_terminal(), "{key} waits for nobody: {phase}");
            }
        });
    }

    /// The victim owns what it owned, but for loops that have ended.
    #[track_caller]
    pub(crate) fn keeps(&self, victim: &Victim) {
        let lost = self.record.see(|view| {
            let lost = victim.owned.iter().filter(|claim| view.lost_at_us.contains_key(*claim));
            lost.cloned().collect::<Vec<_>>()
        });
        assert!(lost.is_empty(), "{} has lost {lost:?}", victim.node);
    }

    /// Waits until a process has logged something with all these words, beyond the first `from` bytes.
    #[track_caller]
    pub(crate) fn logs(&self, name: &str, from: usize, words: &[&str]) -> String {
        until(&format!("{name} logs {words:?}"), NOTICE_MAX, || self.logged(name, from, words))
    }

    /// What a process has logged so far with all these words, beyond the first `from` bytes.
    pub(crate) fn logged(&self, name: &str, from: usize, words: &[&str]) -> Option<String> {
        let log = self.log(name);
        let mut lines = log.get(from..)?.lines();
        lines.find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    }

    /// What the command line says, asked of the leader.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let asked = Command::new(flyball())
            .args(args)
            .env("FLYBALL_ADDR", &self.addresses[&self.leader()])
            .env("FLYBALL_TOKEN", self.secrets.token())
            .env("NO_COLOR", "1")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .output()
            .expect("the binary can be started");
        String::from_utf8_lossy(&[asked.stdout, asked.stderr].concat()).into_owned()
    }

    /// Waits until the leader explains a loop with these words.
    #[track_caller]
    pub(crate) fn explains(&self, name: &str, words: &str) {
        until(&format!("{name} is explained by: {words}"), NOTICE_MAX, || {
            self.cli(&["explain", name]).contains(words).then_some(())
        });
    }

    /// Once all loops are over nothing may be owned: a key that nobody's end removes would shut its
    /// resource for ever.
    #[track_caller]
    pub(crate) fn nothing_is_owned(&self) {
        let begun = Instant::now();
        loop {
            let left = self.runtime.block_on(self.owner_and_claim_keys());
            if left.as_ref().is_ok_and(Vec::is_empty) {
                return;
            }
            assert!(
                begun.elapsed() < ORPHANS_MAX,
                "all loops are over, and this is left: {left:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    async fn owner_and_claim_keys(&self) -> Result<Vec<String>, String> {
        let mut client = self.raw().await;
        let mut left = Vec::new();
        for family in ["/flyball/v1/owners/", "/flyball/v1/claims/"] {
            let all = Some(GetOptions::new().with_prefix().with_keys_only());
            let found = client.get(family, all).await.map_err(|error| error.to_string())?;
            let names = found.kvs().iter().map(|kv| String::from_utf8_lossy(kv.key()));
            left.extend(names.map(std::borrow::Cow::into_owned));
        }
        Ok(left)
    }

    /// Processes anywhere on this host with these last words on their command line.
    pub(crate) fn processes_of(&self, words: &[&str]) -> Vec<i32> {
        let program = std::env::current_exe().expect("a program knows its own file");
        let mut wanted: Vec<PathBuf> = vec![program];
        wanted.extend(words.iter().map(PathBuf::from));
        let wanted: Vec<String> = wanted.iter().map(|word| word.display().to_string()).collect();
        let fits = |pid: &i32| {
            let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cmdline = String::from_utf8_lossy(&cmdline);
            cmdline.trim_end_matches('\0').split('\0').eq(wanted.iter().map(String::as_str))
        };
        super::hands::processes().into_iter().filter(fits).collect()
    }
}
