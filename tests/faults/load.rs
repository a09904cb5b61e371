//! What a fleet is asked to do: loops to run, and clients that read them all the time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use flyball_tests::history::Answer;
use serde_json::{Value, json};

use super::dice::Dice;
use super::fleet::{Fleet, NOTICE_MAX};
use super::secrets::CHECKS_VARIABLE;

/// Pause between two questions of a reader.
const ASK_PAUSE: Duration = Duration::from_millis(250);

impl Fleet {
    /// The manifest of a loop. Loops 1 and 2, 3 and 4, … overlap: the second of a pair owns a part of what the first does,
    /// under another owner key, so that only whoever understands paths keeps them apart.
    pub(crate) fn manifest(&self, number: usize) -> Value {
        let name = format!("l{number}");
        let list = format!("{name}.txt");
        let program = std::env::current_exe().expect("a program knows its own file");
        let (program, beats) = (program.display(), self.dir().join("beats.jsonl"));
        let agent = format!(
            "'{program}' {} '{}' {list} {}",
            self.shape.agent,
            beats.display(),
            self.shape.agent_ms
        );
        let check = format!(
            "sed -n 's/ done$//p' {list} | sed 's/^/ok /'; sed -n 's/ open$//p' {list} | \
             sed 's/^/open /'; ! grep -q ' open$' {list}"
        );
        let check = match self.shape.secret {
            // It says what it has in every way, as a careless check may.
            true => format!(
                "test -n \"${CHECKS_VARIABLE}\" || exit 9; echo \"has ${CHECKS_VARIABLE}\"; \
                 printf %s \"${CHECKS_VARIABLE}\" | base64; printf %s \"${CHECKS_VARIABLE}\" | \
                 od -An -v -tx1 | tr -d ' \\n'; echo; {check}"
            ),
            false => check,
        };
        let part = if number.is_multiple_of(2) { "part/" } else { "" };
        let common = format!("common-{}/{part}**", number.div_ceil(2));
        let mut manifest = json!({
            "apiVersion": "flyball.dev/v1",
            "kind": "Loop",
            "metadata": {"name": name},
            "spec": {
                "goal": format!("Finish every item of {list}."),
                "workspace": {"git": {"url": self.site.url(), "ref": "main"}},
                "owns": [list, common],
                "checks": [{
                    "name": "list",
                    "run": check,
                    "score": {"regex": {
                        "pass": r"^ok (?P<name>\w+)",
                        "fail": r"^open (?P<name>\w+)",
                    }},
                }],
                "agent": {"command": agent},
                "governor": {"backoff": {"initial": "50ms", "max": "1s"}},
            },
        });
        if self.shape.secret {
            manifest["spec"]["secrets"] = self.secrets_of_loop();
        }
        manifest
    }

    /// Submits a loop through some scheduler, and again until one has taken it, as clients may.
    pub(crate) fn submit(&mut self, number: usize) -> String {
        let key = format!("default/l{number}");
        let (client, manifest) = (self.client("submitter"), self.manifest(number));
        if !self.loops.contains(&key) {
            self.loops.push(key.clone());
        }
        let begun = std::time::Instant::now();
        loop {
            // Past the proxies: this is about the store, not about the way of clients.
            let up: Vec<_> =
                self.schedulers.keys().map(|name| self.addresses[name].clone()).collect();
            let address = self.dice.pick(&up);
            match self.runtime.block_on(client.apply(address, &key, &manifest)) {
                Answer::Object { .. } => return key,
                Answer::Unknown { .. } => {}
                other => panic!("{key} cannot be submitted: {other:?}"),
            }
            assert!(begun.elapsed() < NOTICE_MAX, "nobody takes {key}");
        }
    }

    /// Lets a reader per scheduler ask for random loops.
    pub(super) fn ask_all_the_time(&mut self) {
        for name in self.schedulers.keys().cloned().collect::<Vec<_>>() {
            let address = self.runtime.block_on(self.net.add("c", &name));
            self.net.lead_to(&name, &self.target(&name));
            let client = self.client(&format!("reader-{name}"));
            let (loops, enough) = (self.loops.clone(), self.enough.clone());
            let mut dice = Dice::new(self.dice.range(0, u64::MAX - 1));
            self.readers.push(self.runtime.spawn(async move {
                while !enough.load(Ordering::SeqCst) {
                    let key: &String = dice.pick(&loops);
                    client.get(&address, key).await;
                    tokio::time::sleep(ASK_PAUSE).await;
                }
            }));
        }
    }

    /// Ends the readers, so that no call is under way when the history ends.
    pub(super) fn stop_asking(&mut self) {
        self.enough.store(true, Ordering::SeqCst);
        let readers = std::mem::take(&mut self.readers);
        self.runtime.block_on(async {
            for reader in readers {
                reader.await.expect("readers do not panic");
            }
        });
    }
}
