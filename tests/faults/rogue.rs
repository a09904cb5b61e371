//! What somebody with direct access to etcd does to it.

use std::time::Duration;

use etcd_client::{Client, CompactionOptions, DeleteOptions};
use flyball_tests::poll::until;

use super::fleet::{Fleet, NOTICE_MAX};

/// Where the filling goes: outside of our prefix.
const FILL: &str = "/fill/";
/// Longest wait for one call.
const CALL_MAX: Duration = Duration::from_secs(5);

impl Fleet {
    /// A client of a member that answers, past all proxies.
    pub(crate) async fn raw(&self) -> Client {
        let begun = std::time::Instant::now();
        loop {
            for number in self.members.numbers() {
                if let Ok(mut client) = self.members.client(number).await {
                    let asked = tokio::time::timeout(CALL_MAX, client.get("?", None)).await;
                    if matches!(asked, Ok(Ok(_))) {
                        return client;
                    }
                }
            }
            assert!(begun.elapsed() < NOTICE_MAX, "no member answers");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Puts values until etcd takes no more; gives what it says then.
    #[track_caller]
    pub(crate) fn fill_store(&self, bytes: usize, count: usize) -> String {
        let stuck = self.runtime.block_on(async {
            let mut client = self.raw().await;
            for number in 0..count {
                let put = client.put(format!("{FILL}{number}"), vec![b'x'; bytes], None);
                match tokio::time::timeout(CALL_MAX, put).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Some(error.to_string()),
                    Err(_) => return Some("no answer".to_owned()),
                }
            }
            None
        });
        stuck.unwrap_or_else(|| panic!("etcd took {count} times {bytes} bytes"))
    }

    /// Waits until every member refuses to write: the alarm is itself written first.
    #[track_caller]
    pub(crate) fn until_all_refuse(&self) {
        let refuses = |number: usize| {
            self.runtime.block_on(async {
                let mut client = self.members.client(number).await.ok()?;
                let put = client.put(format!("{FILL}more"), "x", None);
                tokio::time::timeout(CALL_MAX, put).await.ok()?.err().map(drop)
            })
        };
        for number in self.members.numbers() {
            until(&format!("m{number} refuses"), NOTICE_MAX, || refuses(number));
        }
    }

    /// Removes the filling.
    pub(crate) fn empty_store(&self) -> i64 {
        self.runtime.block_on(async {
            let options = DeleteOptions::new().with_prefix();
            let deleted = self.raw().await.delete(FILL, Some(options)).await;
            let deleted = deleted.expect("deleting needs no room");
            deleted.header().map_or(0, etcd_client::ResponseHeader::revision)
        })
    }

    /// What an operator does after an alarm: delete, compact, defragment, disarm.
    pub(crate) fn make_room(&self) {
        let revision = self.empty_store();
        self.until("all up to here is in the history", NOTICE_MAX, |view| {
            (view.revision >= revision).then_some(())
        });
        self.runtime.block_on(async {
            let mut client = self.raw().await;
            let physical = CompactionOptions::new().with_physical();
            client.compact(revision, Some(physical)).await.expect("it can be compacted");
            for number in self.members.numbers() {
                let member = self.members.client(number).await.expect("the member answers");
                let mut maintenance = member.maintenance_client();
                maintenance.defragment().await.expect("it can be defragmented");
            }
            let mut maintenance = client.maintenance_client();
            for number in self.members.numbers() {
                let status = self.members.client(number).await.expect("the member answers");
                let status = status.maintenance_client().status().await.expect("a status");
                let member = status.header().map_or(0, etcd_client::ResponseHeader::member_id);
                let (off, kind) =
                    (etcd_client::AlarmAction::Deactivate, etcd_client::AlarmType::Nospace);
                let mut options = etcd_client::AlarmOptions::new();
                options.with_member(member);
                maintenance.alarm(off, kind, Some(options)).await.expect("it can be disarmed");
            }
        });
    }
}
