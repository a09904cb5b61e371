//! Slices of budgets: drawn, settled and extended by transactions that compare everything they were decided on, so
//! that a run which lost its claim gets nothing, two never get the same unit, and each request is done once.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};
use flyball_core::ids::{Incarnation, LoopKey, LoopUid, NodeName, Token};
use flyball_core::model::{
    Accounts, Amount, BudgetEnded, Definition, DefinitionKey, DefinitionKind, DrawRefused,
    DrawSlice, Extension, Limits, LoopAccount, NamespaceAccount, NamespaceBudget, remember,
};

use crate::client::ranges;
use crate::error::StoreError;
use crate::keys::{self, Key};
use crate::loops::stored;
use crate::store::Store;
use crate::values::{self, ClaimRecord, LoopRecord, Stored};

/// Tries against others who write the same accounts: a namespace's may be drawn from by many loops at once.
pub(crate) const TRIES_MAX: u32 = 32;

/// Who a worker says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunProof {
    /// The loop.
    pub key: LoopKey,
    /// Its life.
    pub uid: LoopUid,
    /// The node.
    pub node: NodeName,
    /// Its life.
    pub incarnation: Incarnation,
    /// The run's token.
    pub token: Token,
}

/// What became of a request for a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrewSlice {
    /// Debited, now or by an earlier try of the same request.
    Granted(Amount),
    /// There is no room.
    Ended(BudgetEnded),
    /// A slice of that name was closed before.
    Closed,
    /// The run does not own its loop.
    NotItsRun,
}

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettledSlice {
    /// Done, now or before.
    Done,
    /// The run does not own its loop; the slice counts as spent.
    NotItsRun,
}

/// A budget with what is spent of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopBudgetState {
    /// What is wanted of the loop, with its bounds.
    pub record: Arc<LoopRecord>,
    /// Its account.
    pub account: LoopAccount,
    /// Budget and account of its namespace, if it has one.
    pub namespace: Option<(NamespaceBudget, NamespaceAccount)>,
}

/// What became of an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extended {
    /// Done, now or by an earlier try of the same request.
    Done,
    /// There is no such loop, or no budget of that namespace.
    Missing,
    /// Something that is not bounded cannot be raised.
    Unbounded(Limits),
}

/// What a draw or settlement is decided on, with the revisions to compare.
pub(crate) struct Read {
    claim: Option<Stored<ClaimRecord>>,
    pub(crate) record: Option<Stored<LoopRecord>>,
    account: Option<Stored<LoopAccount>>,
    budget: Option<Stored<NamespaceBudget>>,
    namespace: Option<Stored<NamespaceAccount>>,
}

impl Read {
    pub(crate) fn accounts(&self, uid: &LoopUid) -> Accounts {
        let account = self.account.as_ref().map(|found| &found.value);
        let budget = self.budget.as_ref().map(|found| &found.value);
        Accounts::of(uid, account, budget, self.namespace.as_ref().map(|found| &found.value))
    }

    /// Whether the claim is the one of this run.
    fn is_of(&self, run: &RunProof) -> bool {
        self.claim.as_ref().is_some_and(|claim| {
            let owner = &claim.value;
            Token(claim.create_revision) == run.token
                && owner.node == run.node
                && owner.incarnation == run.incarnation
                && owner.uid == run.uid
        })
    }
}

impl Store {
    /// Takes a slice of the budgets of a run's loop and namespace, debited in both before this returns.
    ///
    /// # Errors
    /// Those of the transport. After [`StoreError::Unknown`] the same request may be repeated: it is done once.
    pub async fn draw_slice(
        &self,
        run: &RunProof,
        wish: &DrawSlice,
    ) -> Result<DrewSlice, StoreError> {
        for _ in 0..TRIES_MAX {
            let read = self.read_accounts(&run.key).await?;
            let Some(record) = read.record.as_ref().filter(|_| read.is_of(run)) else {
                return Ok(DrewSlice::NotItsRun);
            };
            let total = record.value.spec.budget.total;
            let drawn = match read.accounts(&run.uid).draw(&total, wish) {
                Ok(drawn) => drawn,
                Err(DrawRefused::Ended(ended)) => return Ok(DrewSlice::Ended(ended)),
                Err(DrawRefused::Closed) => return Ok(DrewSlice::Closed),
            };
            let Some(accounts) = drawn.accounts else {
                return Ok(DrewSlice::Granted(drawn.granted));
            };
            if self.write_accounts(&run.key, Some(run.token), &read, &accounts).await? {
                return Ok(DrewSlice::Granted(drawn.granted));
            }
        }
        Err(contended(&run.key))
    }

    /// Gives back what was not used of a slice.
    ///
    /// # Errors
    /// Those of the transport. After [`StoreError::Unknown`] the same request may be repeated: it is done once.
    pub async fn settle_slice(
        &self,
        run: &RunProof,
        id: &str,
        used: Amount,
    ) -> Result<SettledSlice, StoreError> {
        for _ in 0..TRIES_MAX {
            let read = self.read_accounts(&run.key).await?;
            if !read.is_of(run) {
                return Ok(SettledSlice::NotItsRun);
            }
            let Some(accounts) = read.accounts(&run.uid).settle(run.token, id, used) else {
                return Ok(SettledSlice::Done);
            };
            if self.write_accounts(&run.key, Some(run.token), &read, &accounts).await? {
                return Ok(SettledSlice::Done);
            }
        }
        Err(contended(&run.key))
    }

    /// Raises a loop's budget over that of its spec.
    ///
    /// # Errors
    /// Those of the transport. After [`StoreError::Unknown`] the same request may be repeated: it is done once.
    pub async fn extend_loop(
        &self,
        key: &LoopKey,
        extension: &Extension,
    ) -> Result<Extended, StoreError> {
        for _ in 0..TRIES_MAX {
            let read = self.read_accounts(key).await?;
            let Some(record) = &read.record else { return Ok(Extended::Missing) };
            let total = record.value.spec.budget.total;
            if !is_bounded(&total, extension.amount) {
                return Ok(Extended::Unbounded(total));
            }
            let mut accounts = read.accounts(&record.value.uid);
            let LoopAccount { extensions, extended, .. } = &mut accounts.of_loop;
            let new = remember(extensions, extended, extension.clone());
            if !new || self.write_accounts(key, None, &read, &accounts).await? {
                return Ok(Extended::Done);
            }
        }
        Err(contended(key))
    }

    /// Raises a namespace's budget over that of its manifest.
    ///
    /// # Errors
    /// See [`Store::extend_loop`].
    pub async fn extend_namespace(
        &self,
        namespace: &str,
        extension: &Extension,
    ) -> Result<Extended, StoreError> {
        for _ in 0..TRIES_MAX {
            let reads = [keys::budget(namespace), keys::namespace_account(namespace)];
            let mut found = self.read_keys(&reads).await?;
            let account = decode::<NamespaceAccount>(found.pop().flatten())?;
            let Some(budget) = decode_budget(found.pop().flatten())? else {
                return Ok(Extended::Missing);
            };
            if !is_bounded(&budget.value.limits, extension.amount) {
                return Ok(Extended::Unbounded(budget.value.limits));
            }
            let before = account.as_ref().map(|found| &found.value);
            let mut after = NamespaceAccount::of(&budget.value, before);
            let new = remember(&mut after.extensions, &mut after.extended, extension.clone());
            let key = keys::namespace_account(namespace);
            let value = values::encode_document(&after, "a namespace's account")?;
            let txn = Txn::new()
                .when([
                    same(keys::budget(namespace), Some(&budget)),
                    same(key.clone(), account.as_ref()),
                ])
                .and_then([TxnOp::put(key, value, None)]);
            if !new || self.etcd.txn(txn).await?.succeeded {
                return Ok(Extended::Done);
            }
        }
        Err(contended(namespace))
    }

    /// A loop's budget, and that of its namespace.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn loop_budget(&self, key: &LoopKey) -> Result<Option<LoopBudgetState>, StoreError> {
        let read = self.read_accounts(key).await.map_err(StoreError::of_read)?;
        let Some(record) = &read.record else { return Ok(None) };
        let Accounts { of_loop: account, namespace } = read.accounts(&record.value.uid);
        let namespace = read.budget.as_ref().map(|found| found.value).zip(namespace);
        let namespace = namespace.map(|(budget, (account, _))| (budget, account));
        let record = Arc::new(record.value.clone());
        Ok(Some(LoopBudgetState { record, account, namespace }))
    }

    /// Accounts of a namespace's loops that can be read, or of all for an empty one. Loops that have called no
    /// model have none.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn list_loop_accounts(
        &self,
        namespace: &str,
    ) -> Result<Vec<(LoopKey, LoopAccount)>, StoreError> {
        let options = GetOptions::new().with_prefix();
        let found = self.etcd.range(keys::loop_accounts_of(namespace), options).await?.kvs;
        let one = |kv: PbKeyValue| match Key::decode(&kv.key) {
            Key::LoopAccount(key) => Some((key, values::decode_document(&kv.value).ok()?)),
            _ => None,
        };
        Ok(found.into_iter().filter_map(one).collect())
    }

    /// All namespaces' budgets with their accounts.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn list_namespace_budgets(
        &self,
    ) -> Result<Vec<(String, NamespaceBudget, NamespaceAccount)>, StoreError> {
        let options = GetOptions::new().with_prefix();
        let prefix = keys::definitions_of(DefinitionKind::Budget);
        let budgets = self.etcd.range(prefix, options).await?.kvs;
        let mut all = Vec::with_capacity(budgets.len());
        for kv in budgets {
            let Key::Definition(DefinitionKey { name: namespace, .. }) = Key::decode(&kv.key)
            else {
                continue;
            };
            let Some(budget) = decode_budget(Some(kv))? else { continue };
            let account = self.etcd.get(keys::namespace_account(&namespace)).await?;
            let account = decode::<NamespaceAccount>(account)?.map(|found| found.value);
            let account = NamespaceAccount::of(&budget.value, account.as_ref());
            all.push((namespace, budget.value, account));
        }
        Ok(all)
    }

    pub(crate) async fn read_accounts(&self, key: &LoopKey) -> Result<Read, StoreError> {
        let reads = [
            keys::claim(key),
            keys::spec(key),
            keys::loop_account(key),
            keys::budget(&key.namespace),
            keys::namespace_account(&key.namespace),
        ];
        let mut found = self.read_keys(&reads).await?.into_iter();
        let mut next = || found.next().flatten();
        let claim = next().map(|kv| {
            let claim = ClaimRecord::decode(key.clone(), &kv.value);
            claim.map(|claim| stored(&kv, claim)).map_err(|error| error.at(&kv.key))
        });
        let record = next().map(|kv| {
            let record = LoopRecord::decode(key.clone(), &kv.value);
            record.map(|record| stored(&kv, record)).map_err(|error| error.at(&kv.key))
        });
        Ok(Read {
            claim: claim.transpose()?,
            record: record.transpose()?,
            account: decode(next())?,
            budget: decode_budget(next())?,
            namespace: decode(next())?,
        })
    }

    /// Keys as of one moment.
    async fn read_keys(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<PbKeyValue>>, StoreError> {
        let reads: Vec<TxnOp> = keys.iter().map(|key| TxnOp::get(key.clone(), None)).collect();
        let answer =
            self.etcd.txn(Txn::new().and_then(reads)).await.map_err(StoreError::of_read)?;
        let found: Vec<_> = ranges(answer.responses).map(|mut kvs| kvs.pop()).collect();
        if found.len() == keys.len() {
            return Ok(found);
        }
        Err(StoreError::bad_answer("a read is not answered").of_read())
    }

    /// Writes both accounts if nothing that they were decided on has changed. With a token the claim has to be
    /// the one of that token.
    pub(crate) async fn write_accounts(
        &self,
        key: &LoopKey,
        token: Option<Token>,
        read: &Read,
        after: &Accounts,
    ) -> Result<bool, StoreError> {
        let account = keys::loop_account(key);
        let namespace = keys::namespace_account(&key.namespace);
        let mut compares = vec![
            same(keys::spec(key), read.record.as_ref()),
            same(account.clone(), read.account.as_ref()),
            same(keys::budget(&key.namespace), read.budget.as_ref()),
        ];
        compares
            .extend(token.map(|token| {
                Compare::create_revision(keys::claim(key), CompareOp::Equal, token.0)
            }));
        let value = values::encode_document(&after.of_loop, "a loop's account")?;
        let mut puts = vec![TxnOp::put(account, value, None)];
        if let Some((after, _)) = &after.namespace {
            compares.push(same(namespace.clone(), read.namespace.as_ref()));
            let value = values::encode_document(after, "a namespace's account")?;
            puts.push(TxnOp::put(namespace, value, None));
        }
        Ok(self.etcd.txn(Txn::new().when(compares).and_then(puts)).await?.succeeded)
    }
}

/// Still as it was read.
fn same<T>(key: Vec<u8>, found: Option<&Stored<T>>) -> Compare {
    let revision = found.map_or(0, |found| found.mod_revision);
    Compare::mod_revision(key, CompareOp::Equal, revision)
}

pub(crate) fn contended(what: impl std::fmt::Display) -> StoreError {
    let why = format!("the budget of {what} was changed at the same time, again and again");
    StoreError::Unavailable { why }
}

/// Whether each part that is to be raised has a bound.
fn is_bounded(limits: &Limits, amount: Amount) -> bool {
    (amount.tokens == 0 || limits.tokens.is_some())
        && (amount.money.0 == 0 || limits.money.is_some())
        && (amount.calls == 0 || limits.calls.is_some())
}

fn decode<T: serde::de::DeserializeOwned>(
    kv: Option<PbKeyValue>,
) -> Result<Option<Stored<T>>, StoreError> {
    let Some(kv) = kv else { return Ok(None) };
    let value = values::decode_document(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(Some(stored(&kv, value)))
}

fn decode_budget(kv: Option<PbKeyValue>) -> Result<Option<Stored<NamespaceBudget>>, StoreError> {
    let Some(kv) = kv else { return Ok(None) };
    let budget = budget_of(&kv).map_err(|error| error.at(&kv.key))?;
    Ok(Some(stored(&kv, budget)))
}

/// Reads a namespace's budget.
pub(crate) fn budget_of(kv: &PbKeyValue) -> Result<NamespaceBudget, values::DecodeError> {
    let record = values::decode_access::<Definition>(&kv.value)?;
    let Definition::Budget(manifest) = record.manifest else {
        return Err(values::DecodeError::Malformed("no budget".to_owned()));
    };
    Ok(NamespaceBudget { made: kv.create_revision, limits: manifest.spec })
}
