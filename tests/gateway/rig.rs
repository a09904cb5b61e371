//! A gateway with a run, a bank that counts every unit, pools, and a fence that can be let down.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flyball_core::model::{
    Amount, Auth, AuthScheme, BudgetEnded, BudgetScope, Fence, Later, Limits, LoopBudget,
    ModelPrice, Money, PriceTable, Protocol, ProviderQuota, ProviderSpec, QuotaAmount, QuotaAnswer,
    Quotas, Routing, SecretRef, SliceError, Slices,
};
use flyball_core::secret::SecretValue;
use flyball_gateway::{
    Config, Gateway, Models, OpenProvider, RunCalls, RunGate, RunIdentity, Serving,
};
use flyball_tests::provider::Provider;
use serde_json::{Value, json};

use crate::client::{self, Answer};

pub(crate) const KEY: &str = "run-key-0123456789";
pub(crate) const PROVIDER_KEY: &str = "sk-provider-0123456789";

/// A budget that is granted in slices; what is not settled is gone.
#[derive(Debug, Default)]
pub(crate) struct Bank {
    limits: Limits,
    state: Mutex<BankState>,
    pub(crate) draws: AtomicU64,
}

#[derive(Debug, Default)]
struct BankState {
    debited: Amount,
    open: BTreeMap<String, Amount>,
    closed: BTreeMap<String, Amount>,
    over: bool,
}

impl Bank {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, ..Self::default() })
    }

    /// What is spent, or granted and not given back.
    pub(crate) fn debited(&self) -> Amount {
        self.state.lock().unwrap().debited
    }

    /// Whether more was used of a slice than was granted.
    pub(crate) fn over(&self) -> bool {
        self.state.lock().unwrap().over
    }

    pub(crate) fn draw_now(
        &self,
        id: String,
        least: Amount,
        want: Amount,
    ) -> Result<Amount, SliceError> {
        self.draws.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state.lock().unwrap();
        if let Some(granted) = state.open.get(&id) {
            return Ok(*granted);
        }
        let left = self.limits.left(state.debited);
        if !least.within(left) {
            let (limits, used) = (self.limits, state.debited);
            return Err(BudgetEnded { scope: BudgetScope::Loop, limits, used }.into());
        }
        let granted = Amount {
            tokens: want.tokens.min(left.tokens),
            money: want.money.min(left.money),
            calls: want.calls.min(left.calls),
        };
        state.debited = state.debited.plus(granted);
        state.open.insert(id, granted);
        Ok(granted)
    }

    pub(crate) fn settle_now(&self, id: &str, used: Amount) {
        let mut state = self.state.lock().unwrap();
        if let Some(granted) = state.open.remove(id) {
            state.over |= !used.within(granted);
            state.debited = state.debited.minus(granted).plus(used);
            state.closed.insert(id.to_owned(), used);
        }
    }
}

impl Slices for Bank {
    fn draw(
        &self,
        id: String,
        least: Amount,
        want: Amount,
    ) -> Later<'_, Result<Amount, SliceError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.draw_now(id, least, want)
        })
    }

    fn settle(&self, id: String, used: Amount) -> Later<'_, Result<(), SliceError>> {
        Box::pin(async move {
            self.settle_now(&id, used);
            Ok(())
        })
    }
}

/// A pool that hands out a bounded number of requests, and can be filled up.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) requests: AtomicU64,
    pub(crate) asked: AtomicU64,
    /// By grant: what was taken, and what it was used for once that is known.
    pub(crate) grants: Mutex<Vec<(QuotaAmount, Option<QuotaAmount>)>>,
    pub(crate) limited: Mutex<Vec<(String, Option<Duration>)>>,
}

impl Quotas for Pool {
    fn take(&self, _: String, want: QuotaAmount, _: bool) -> Later<'_, QuotaAnswer> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let left = self.requests.load(Ordering::SeqCst);
            let granted = want.requests.min(left);
            self.requests.fetch_sub(granted, Ordering::SeqCst);
            if granted == 0 {
                return QuotaAnswer::Wait(Duration::from_millis(100));
            }
            let amount = QuotaAmount { requests: granted, ..want };
            let mut grants = self.grants.lock().unwrap();
            grants.push((amount, None));
            let grant = grants.len() as u64 - 1;
            QuotaAnswer::Granted { amount, valid: Duration::from_secs(60), grant }
        })
    }

    fn used(&self, _: &str, grant: u64, used: QuotaAmount) {
        let mut grants = self.grants.lock().unwrap();
        let told = &mut grants[usize::try_from(grant).unwrap()].1;
        assert!(told.replace(used).is_none(), "told once");
    }

    fn limited(&self, provider: String, retry_after: Option<Duration>) -> Later<'_, ()> {
        Box::pin(async move { self.limited.lock().unwrap().push((provider, retry_after)) })
    }
}

/// A fence that holds until it is let down.
#[derive(Debug, Default)]
pub(crate) struct Gatekeeper {
    down: AtomicBool,
    until: Mutex<Option<Instant>>,
}

impl Gatekeeper {
    pub(crate) fn let_down(&self) {
        self.down.store(true, Ordering::SeqCst);
    }

    pub(crate) fn until(&self, until: Instant) {
        *self.until.lock().unwrap() = Some(until);
    }
}

impl Fence for Gatekeeper {
    fn left(&self) -> Option<Duration> {
        if self.down.load(Ordering::SeqCst) {
            return None;
        }
        let until = *self.until.lock().unwrap();
        let Some(until) = until else { return Some(Duration::from_secs(1)) };
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// What a test sets up.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) budget: LoopBudget,
    pub(crate) limits: Limits,
    pub(crate) quota: ProviderQuota,
    pub(crate) on_error: Value,
    /// Of every provider, by its names of models.
    pub(crate) prices: BTreeMap<String, ModelPrice>,
    pub(crate) bills_cut_streams: bool,
    pub(crate) traceparent: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: Config::default(),
            budget: LoopBudget::default(),
            limits: Limits::default(),
            quota: ProviderQuota::default(),
            // Quick, so that tests are.
            on_error: json!({ "tries": 3, "failures": 100, "coolDown": "1s" }),
            prices: BTreeMap::new(),
            bills_cut_streams: false,
            traceparent: None,
        }
    }
}

/// A gateway that serves a run.
pub(crate) struct Rig {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) address: SocketAddr,
    gate: Option<RunGate>,
    pub(crate) bank: Arc<Bank>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) fence: Arc<Gatekeeper>,
    _serving: Serving,
}

/// Routes and providers: all of them serve the one route, in their order.
pub(crate) fn models(providers: &[(&str, String, Protocol)], setup: &Setup) -> Models {
    let deployments: Vec<Value> = providers
        .iter()
        .enumerate()
        .map(|(at, (name, _, _))| {
            json!({ "provider": name, "model": format!("{name}-model"), "weight": u32::from(at == 0) })
        })
        .collect();
    let route = json!({
        "tiers": [{ "name": "only", "deployments": deployments }],
        "onError": setup.on_error, "maxOutputTokens": 1000,
    });
    let route = serde_json::from_value(route).unwrap();
    let speak = providers.iter().map(|(name, _, protocol)| ((*name).to_owned(), vec![*protocol]));
    let routing = Routing::new([("route".to_owned(), route)], speak);
    let opened = providers.iter().map(|(name, base, protocol)| {
        let scheme = match protocol {
            Protocol::Anthropic => AuthScheme::XApiKey,
            Protocol::Chat | Protocol::Responses => AuthScheme::Bearer,
        };
        let secret = SecretRef { namespace: "default".to_owned(), name: "key".to_owned() };
        let spec = ProviderSpec {
            base_url: base.clone(),
            protocols: vec![*protocol],
            auth: Some(Auth { secret, scheme }),
            headers: BTreeMap::new(),
            query: None,
            quota: setup.quota,
            prices: setup.prices.clone(),
            bills_cut_streams: setup.bills_cut_streams,
        };
        let key = Some(SecretValue::new(PROVIDER_KEY.as_bytes().to_vec()).unwrap());
        ((*name).to_owned(), OpenProvider { spec, key })
    });
    Models { routing, providers: opened.collect(), prices: PriceTable::built_in().clone() }
}

/// A run's calls for a gateway.
pub(crate) fn calls(
    models: Models,
    setup: &Setup,
    slices: Arc<dyn Slices>,
    pool: Arc<Pool>,
    fence: Arc<Gatekeeper>,
) -> RunCalls {
    RunCalls {
        key: KEY.to_owned(),
        run: RunIdentity {
            namespace: "default".to_owned(),
            name: "loop".to_owned(),
            uid: "uid".to_owned(),
            token: 7,
            node: "node".to_owned(),
            labels: BTreeMap::new(),
        },
        models: Arc::new(models),
        budget: setup.budget,
        begun: false,
        slices,
        quotas: pool,
        fence,
        traceparent: setup.traceparent.clone(),
    }
}

impl Rig {
    /// A gateway before one provider.
    pub(crate) fn new(provider: &Provider, protocol: Protocol, setup: Setup) -> Self {
        Self::many(&[("one", provider.base(protocol), protocol)], setup)
    }

    /// A gateway before several.
    pub(crate) fn many(providers: &[(&str, String, Protocol)], setup: Setup) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (bank, pool, fence) =
            (Bank::new(setup.limits), Arc::<Pool>::default(), Arc::<Gatekeeper>::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let slices: Arc<dyn Slices> = bank.clone();
        let calls = calls(models(providers, &setup), &setup, slices, pool.clone(), fence.clone());
        let gate = Gateway::new(setup.config).open(calls);
        let serving = {
            let _inside = runtime.enter();
            gate.serve(listener).unwrap()
        };
        Self { runtime, address, gate: Some(gate), bank, pool, fence, _serving: serving }
    }

    pub(crate) fn gate(&self) -> &RunGate {
        self.gate.as_ref().unwrap()
    }

    /// Ends the run's calls.
    pub(crate) fn close(&mut self) -> flyball_gateway::Spent {
        let gate = self.gate.take().unwrap();
        self.runtime.block_on(gate.close())
    }

    /// Calls a model.
    pub(crate) fn call(&self, protocol: Protocol, body: &Value) -> Answer {
        self.call_with(protocol, body, &[])
    }

    pub(crate) fn call_with(
        &self,
        protocol: Protocol,
        body: &Value,
        more: &[(&str, &str)],
    ) -> Answer {
        let mut headers = vec![("x-api-key", KEY), ("content-type", "application/json")];
        headers.extend_from_slice(more);
        client::send(self.address, "POST", path(protocol), &headers, &body.to_string())
    }

    /// Asks for a plain answer without waiting for it; dropped, the client is gone.
    pub(crate) fn begin(&self, protocol: Protocol) -> TcpStream {
        let (path, text) = (path(protocol), body(protocol, false).to_string());
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = text.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {length}\r\n\r\n{text}"
        )
        .unwrap();
        stream
    }
}

pub(crate) fn path(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Anthropic => "/v1/messages?beta=true",
        Protocol::Chat => "/v1/chat/completions",
        Protocol::Responses => "/v1/responses",
    }
}

pub(crate) const PROTOCOLS: [Protocol; 3] =
    [Protocol::Anthropic, Protocol::Chat, Protocol::Responses];

/// A request in a protocol's form.
pub(crate) fn body(protocol: Protocol, stream: bool) -> Value {
    let messages = json!([{ "role": "user", "content": "Fix the failing test, please." }]);
    match protocol {
        Protocol::Anthropic => json!({
            "model": "one-model", "max_tokens": 500, "messages": messages, "stream": stream,
        }),
        Protocol::Chat => json!({
            "model": "one-model", "max_completion_tokens": 500, "messages": messages, "stream": stream,
        }),
        Protocol::Responses => json!({
            "model": "one-model", "max_output_tokens": 500, "input": messages, "stream": stream,
        }),
    }
}

/// Dollars as money.
pub(crate) fn dollars(dollars: u64) -> Option<Money> {
    Some(Money::from_dollars(dollars))
}
