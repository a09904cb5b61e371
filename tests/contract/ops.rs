//! Random requests: making them, sending them, writing their answers down for comparison.

use etcd_client::proto::{PbResponseHeader, PbResponseOp, PbTxnOpResponse};
use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
};

/// Few keys, so that requests meet. Below 12 also because Go's sort, which etcd uses, is stable up
/// to there and answers to ties can be compared.
const KEYS: [&str; 9] = ["a", "a/1", "a/2", "a/2/x", "b", "b0", "c", "c\0", "d"];
const VALUES: [&str; 4] = ["", "v", "w", "longer value"];
/// Lease ids, chosen by the client so that both servers have the same.
const LEASES: [i64; 3] = [11, 12, 13];

/// A small reproducible source of choices (splitmix64).
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % bound as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A revision around the known ones: mostly valid, sometimes compacted or in the future.
    fn revision(&mut self, newest: i64) -> i64 {
        newest + 2 - i64::try_from(self.below(40)).unwrap()
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put(&'static str, &'static str, PutOptions),
    Get(&'static str, GetOptions),
    Delete(&'static str, DeleteOptions),
    Txn(Txn),
    Compact(i64, CompactionOptions),
    Grant(i64, i64),
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive(i64),
    Leases,
}

/// Makes a request. `newest` is about the newest revision.
pub(crate) fn random(dice: &mut Dice, newest: i64) -> Op {
    match dice.below(100) {
        0..25 => {
            let (key, value, options) = put(dice, Mix::Keep);
            Op::Put(key, value, options)
        }
        25..50 => {
            let (key, options) = get(dice, newest);
            Op::Get(key, options)
        }
        50..57 => {
            let (key, options) = delete(dice, Mix::Sweep);
            Op::Delete(key, options)
        }
        57..82 => {
            let mix = dice.pick(&[Mix::Keep, Mix::Sweep]);
            Op::Txn(txn(dice, newest, 2, mix))
        }
        82..84 => Op::Compact(dice.revision(newest) - 15, CompactionOptions::new().with_physical()),
        84..89 => Op::Grant(dice.pick(&LEASES), dice.pick(&[1000, 2000, 9_000_000_001])),
        89..92 => Op::Revoke(dice.pick(&LEASES)),
        92..95 => Op::KeepAlive(dice.pick(&LEASES)),
        95..98 => Op::TimeToLive(dice.pick(&LEASES)),
        _ => Op::Leases,
    }
}

/// What one request may contain. Deletes that have no end escape etcd 3.4's check for keys that are
/// put and deleted at once, and a later put that keeps the value of a key that is gone then makes
/// the whole server panic. So one request never has both.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mix {
    /// Puts that keep value or lease.
    Keep,
    /// Deletes of all keys from one on.
    Sweep,
}

fn put(dice: &mut Dice, mix: Mix) -> (&'static str, &'static str, PutOptions) {
    let mut options = PutOptions::new();
    let mut value = dice.pick(&VALUES);
    if dice.chance(30) {
        options = options.with_lease(dice.pick(&LEASES));
    }
    if dice.chance(30) {
        options = options.with_prev_key();
    }
    if mix == Mix::Keep && dice.chance(8) {
        options = options.with_ignore_lease();
    }
    if mix == Mix::Keep && dice.chance(8) {
        options = options.with_ignore_value();
        value = dice.pick(&["", "", "v"]);
    }
    (dice.pick(&KEYS), value, options)
}

fn get(dice: &mut Dice, newest: i64) -> (&'static str, GetOptions) {
    let mut options = GetOptions::new();
    options = match dice.below(6) {
        0 => options.with_prefix(),
        1 => options.with_from_key(),
        2 => options.with_range(dice.pick(&KEYS)),
        3 => options.with_all_keys(),
        _ => options,
    };
    if dice.chance(25) {
        options = options.with_revision(dice.revision(newest).max(0));
    }
    if dice.chance(20) {
        options = options.with_limit(1 + i64::try_from(dice.below(4)).unwrap());
    }
    if dice.chance(25) {
        use SortTarget::{Create, Key, Mod, Value, Version};
        let target = dice.pick(&[Key, Version, Create, Mod, Value]);
        let order = dice.pick(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
        options = options.with_sort(target, order);
    }
    match dice.below(12) {
        0 => options = options.with_keys_only(),
        1 => options = options.with_count_only(),
        2 => options = options.with_min_mod_revision(dice.revision(newest)),
        3 => options = options.with_max_mod_revision(dice.revision(newest)),
        4 => options = options.with_min_create_revision(dice.revision(newest)),
        5 => options = options.with_max_create_revision(dice.revision(newest)),
        _ => {}
    }
    (dice.pick(&KEYS), options)
}

fn delete(dice: &mut Dice, mix: Mix) -> (&'static str, DeleteOptions) {
    let mut options = DeleteOptions::new();
    options = match dice.below(12) {
        0 => options.with_prefix(),
        1 if mix == Mix::Sweep => options.with_from_key(),
        2 => options.with_range(dice.pick(&KEYS)),
        3 if mix == Mix::Sweep => options.with_all_keys(),
        _ => options,
    };
    if dice.chance(40) {
        options = options.with_prev_key();
    }
    (dice.pick(&KEYS), options)
}

fn compare(dice: &mut Dice, newest: i64) -> Compare {
    use CompareOp::{Equal, Greater, Less, NotEqual};
    let op = dice.pick(&[Equal, Equal, Greater, Less, NotEqual]);
    let key = dice.pick(&KEYS);
    let number = i64::try_from(dice.below(4)).unwrap();
    let revision = if dice.chance(40) { 0 } else { dice.revision(newest) };
    let compare = match dice.below(5) {
        0 => Compare::value(key, op, dice.pick(&VALUES)),
        1 => Compare::version(key, op, number),
        2 => Compare::create_revision(key, op, revision),
        3 => Compare::mod_revision(key, op, revision),
        _ => Compare::lease(key, op, dice.pick(&[0, 11, 12])),
    };
    match dice.below(10) {
        0 => compare.with_prefix(),
        1 => compare.with_range(dice.pick(&KEYS)),
        _ => compare,
    }
}

fn txn(dice: &mut Dice, newest: i64, depth: usize, mix: Mix) -> Txn {
    let compares: Vec<_> = (0..dice.below(3)).map(|_| compare(dice, newest)).collect();
    let branch = |dice: &mut Dice| -> Vec<TxnOp> {
        (0..dice.below(4)).map(|_| operation(dice, newest, depth, mix)).collect()
    };
    let success = branch(dice);
    let failure = branch(dice);
    Txn::new().when(compares).and_then(success).or_else(failure)
}

fn operation(dice: &mut Dice, newest: i64, depth: usize, mix: Mix) -> TxnOp {
    match dice.below(if depth > 0 { 10 } else { 8 }) {
        0..4 => {
            let (key, value, options) = put(dice, mix);
            TxnOp::put(key, value, Some(options))
        }
        4..6 => {
            let (key, options) = get(dice, newest);
            TxnOp::get(key, Some(options))
        }
        6..8 => {
            let (key, options) = delete(dice, mix);
            TxnOp::delete(key, Some(options))
        }
        _ => TxnOp::txn(txn(dice, newest, depth - 1, mix)),
    }
}

/// Sends a request and writes its answer down. What may differ between two servers (their ids, the
/// seconds left of a lease) is left out; revisions are not.
pub(crate) async fn answer(client: &mut Client, op: &Op) -> String {
    match send(client, op).await {
        Ok(text) => text,
        Err(Error::GRpcStatus(status)) => format!("{:?}: {}", status.code(), status.message()),
        Err(other) => format!("client: {other}"),
    }
}

async fn send(client: &mut Client, op: &Op) -> Result<String, Error> {
    Ok(match op.clone() {
        Op::Put(key, value, options) => {
            let mut answer = client.put(key, value, Some(options)).await?.0;
            anonymous(&mut answer.header);
            format!("{answer:?}")
        }
        Op::Get(key, options) => {
            let mut answer = client.get(key, Some(options)).await?.0;
            anonymous(&mut answer.header);
            format!("{answer:?}")
        }
        Op::Delete(key, options) => {
            let mut answer = client.delete(key, Some(options)).await?.0;
            anonymous(&mut answer.header);
            format!("{answer:?}")
        }
        Op::Txn(txn) => {
            let mut answer = client.txn(txn).await?.0;
            anonymous(&mut answer.header);
            answer.responses.iter_mut().for_each(anonymous_response);
            format!("{answer:?}")
        }
        Op::Compact(at, options) => {
            let mut answer = client.compact(at, Some(options)).await?.0;
            anonymous(&mut answer.header);
            format!("{answer:?}")
        }
        other => send_lease(client, other).await?,
    })
}

async fn send_lease(client: &mut Client, op: Op) -> Result<String, Error> {
    Ok(match op {
        Op::Grant(id, ttl) => {
            let options = LeaseGrantOptions::new().with_id(id);
            let answer = client.lease_grant(ttl, Some(options)).await?;
            format!("granted {} {}", answer.id(), answer.ttl())
        }
        Op::Revoke(id) => {
            let answer = client.lease_revoke(id).await?;
            format!("revoked at {:?}", answer.header().map(PbHeader::revision))
        }
        Op::KeepAlive(id) => {
            let (_, mut answers) = client.lease_keep_alive(id).await?;
            let answer = answers.message().await?;
            format!("kept {:?}", answer.map(|answer| (answer.id(), answer.ttl())))
        }
        Op::TimeToLive(id) => {
            let options = LeaseTimeToLiveOptions::new().with_keys();
            let answer = client.lease_time_to_live(id, Some(options)).await?;
            let mut keys = answer.keys().to_vec();
            keys.sort();
            format!("{} of {} for {keys:?}", answer.ttl().signum(), answer.granted_ttl())
        }
        _ => {
            let answer = client.leases().await?;
            let mut ids: Vec<_> = answer.leases().iter().map(|lease| lease.id()).collect();
            ids.sort_unstable();
            format!("{ids:?}")
        }
    })
}

type PbHeader = etcd_client::ResponseHeader;

fn anonymous(header: &mut Option<PbResponseHeader>) {
    if let Some(header) = header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
}

fn anonymous_response(response: &mut PbResponseOp) {
    match &mut response.response {
        Some(PbTxnOpResponse::ResponseRange(answer)) => anonymous(&mut answer.header),
        Some(PbTxnOpResponse::ResponsePut(answer)) => anonymous(&mut answer.header),
        Some(PbTxnOpResponse::ResponseDeleteRange(answer)) => anonymous(&mut answer.header),
        Some(PbTxnOpResponse::ResponseTxn(answer)) => {
            anonymous(&mut answer.header);
            answer.responses.iter_mut().for_each(anonymous_response);
        }
        None => {}
    }
}
