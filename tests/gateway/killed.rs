//! A gateway in a process of its own, and what is left when it is killed in mid-stream: what it had drawn counts as
//! spent, so nothing the provider did is missing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_core::model::{Amount, DEFAULT_PRICE, Later, Limits, Protocol, SliceError, Slices};
use flyball_gateway::Gateway;
use flyball_tests::provider::{Provider, Reply};
use serde_json::json;

use crate::client;
use crate::rig::{Bank, KEY, Pool, Setup, body, calls, dollars, models};

const PROVIDER: &str = "FLYBALL_TEST_GATEWAY_PROVIDER";
const BANK: &str = "FLYBALL_TEST_GATEWAY_BANK";
/// So many requests are all that the provider's account has, and one failure is enough to leave it alone.
pub(crate) const SCARCE: &str = "FLYBALL_TEST_GATEWAY_SCARCE";

/// A bank in another process, asked line by line.
struct Teller(Mutex<BufReader<TcpStream>>);

impl Teller {
    fn ask(&self, line: &str) -> String {
        let mut stream = self.0.lock().unwrap();
        writeln!(stream.get_mut(), "{line}").unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        answer
    }
}

impl Slices for Teller {
    fn draw(
        &self,
        id: String,
        least: Amount,
        want: Amount,
    ) -> Later<'_, Result<Amount, SliceError>> {
        let question = serde_json::to_string(&(id, least, Some(want))).unwrap();
        let answer = serde_json::from_str(&self.ask(&question)).unwrap();
        Box::pin(async move { Ok(answer) })
    }

    fn settle(&self, id: String, used: Amount) -> Later<'_, Result<(), SliceError>> {
        let question = serde_json::to_string(&(id, used, None::<Amount>)).unwrap();
        self.ask(&question);
        Box::pin(async { Ok(()) })
    }
}

/// A gateway's process, killed when it is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    pub(crate) address: SocketAddr,
    pub(crate) bank: Arc<Bank>,
}

impl Child {
    /// Starts it before a provider, with further variables of its environment.
    pub(crate) fn start(provider: &Provider, env: &[(&str, String)]) -> Self {
        Self::start_at(&provider.url(), env)
    }

    /// The same with the provider's address.
    pub(crate) fn start_at(provider: &str, env: &[(&str, String)]) -> Self {
        let bank = Bank::new(Limits { money: dollars(100), ..Limits::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::process_that_is_killed", "--nocapture"])
            .env(PROVIDER, provider)
            .env(BANK, listener.local_addr().unwrap().to_string())
            .envs(env.iter().map(|(name, value)| (*name, value.as_str())))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let teller = Arc::clone(&bank);
        std::thread::spawn(move || answer(&teller, &listener));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().unwrap().unwrap();
            if let Some((_, address)) = line.split_once("listens on ") {
                break address.parse().unwrap();
            }
        };
        Self { process, address, bank }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not a test by itself: the gateway's process, which serves until it is killed.
#[test]
fn process_that_is_killed() {
    let (Ok(provider), Ok(bank)) = (std::env::var(PROVIDER), std::env::var(BANK)) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let options = flyball_telemetry::Options {
        service: "flyball-worker",
        instance: "test".to_owned(),
        default_filter: "info",
    };
    let _telemetry = flyball_telemetry::init(&options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let teller = Teller(Mutex::new(BufReader::new(TcpStream::connect(bank).unwrap())));
    let traceparent = Some(flyball_telemetry::new_traceparent(0x77, 0x77));
    let mut setup = Setup { traceparent, ..Setup::default() };
    let pool = Arc::<Pool>::default();
    if let Ok(requests) = std::env::var(SCARCE) {
        pool.requests.store(requests.parse().unwrap(), Ordering::SeqCst);
        setup.quota.requests_per_minute = Some(50);
        setup.config.quota_wait = Duration::from_millis(500);
        setup.on_error = json!({ "tries": 3, "failures": 1, "coolDown": "50ms" });
    }
    let models = models(&[("one", provider, Protocol::Anthropic)], &setup);
    let run = calls(models, &setup, Arc::new(teller), pool, Arc::default());
    let gate = Gateway::new(setup.config).open(run);
    let _serving = gate.serve(listener).unwrap();
    writeln!(std::io::stdout().lock(), "\nlistens on {address}").unwrap();
    loop {
        std::thread::park();
    }
}

/// Answers a teller until it goes away.
fn answer(bank: &Bank, listener: &TcpListener) {
    let (stream, _) = listener.accept().unwrap();
    let mut out = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let (id, amount, want): (String, Amount, Option<Amount>) =
            serde_json::from_str(&line).unwrap();
        let granted = match want {
            Some(want) => bank.draw_now(id, amount, want).unwrap(),
            None => {
                bank.settle_now(&id, amount);
                amount
            }
        };
        writeln!(out, "{}", serde_json::to_string(&granted).unwrap()).unwrap();
    }
}

#[test]
fn what_a_killed_gateway_had_drawn_counts_as_spent() {
    let slow = Reply::text(&"word ".repeat(200)).paced(Duration::from_millis(20));
    let provider = Provider::start(move |_| slow.clone());
    let mut child = Child::start(&provider, &[]);
    let asked = body(Protocol::Anthropic, true).to_string();
    let key = [("x-api-key", KEY)];
    let mut answer = client::send(child.address, "POST", "/v1/messages", &key, &asked);
    answer.until("word");
    child.kill();
    let (_, whole) = answer.rest();
    assert!(!whole);
    let served =
        flyball_tests::poll::until("the provider notices", Duration::from_secs(20), || {
            provider.served().first().cloned()
        });
    let debited = child.bank.debited();
    assert!(debited.money >= DEFAULT_PRICE.cost(&served.usage), "{debited:?} {served:?}");
    assert!(debited.tokens >= served.usage.tokens() && debited.calls >= 1);
}
