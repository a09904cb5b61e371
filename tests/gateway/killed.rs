//! A gateway that is killed in mid-stream: what it had drawn counts as spent, so nothing the provider did is missing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_core::model::{Amount, DEFAULT_PRICE, Later, Limits, Protocol, SliceError, Slices};
use flyball_gateway::Gateway;
use flyball_tests::provider::{Provider, Reply};

use crate::client;
use crate::rig::{Bank, KEY, Setup, body, calls, dollars, models};

const PROVIDER: &str = "FLYBALL_TEST_GATEWAY_PROVIDER";
const BANK: &str = "FLYBALL_TEST_GATEWAY_BANK";

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

/// Not a test by itself: the gateway's process, which serves until it is killed.
#[test]
fn process_that_is_killed() {
    let (Ok(provider), Ok(bank)) = (std::env::var(PROVIDER), std::env::var(BANK)) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let teller = Teller(Mutex::new(BufReader::new(TcpStream::connect(bank).unwrap())));
    let setup = Setup::default();
    let models = models(&[("one", provider, Protocol::Anthropic)], &setup);
    let run = calls(models, &setup, Arc::new(teller), Arc::default(), Arc::default());
    let gate = Gateway::new(setup.config).open(run);
    let _inside = runtime.enter();
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
    let bank = Bank::new(Limits { money: dollars(100), ..Limits::default() });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::process_that_is_killed", "--nocapture"])
        .env(PROVIDER, provider.url())
        .env(BANK, listener.local_addr().unwrap().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::scope(|scope| {
        scope.spawn(|| answer(&bank, &listener));
        let address: SocketAddr = loop {
            let line = lines.next().unwrap().unwrap();
            if let Some((_, address)) = line.split_once("listens on ") {
                break address.parse().unwrap();
            }
        };
        let asked = body(Protocol::Anthropic, true).to_string();
        let mut answer =
            client::send(address, "POST", "/v1/messages", &[("x-api-key", KEY)], &asked);
        answer.until("word");
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, whole) = answer.rest();
        assert!(!whole);
    });
    let served =
        flyball_tests::poll::until("the provider notices", Duration::from_secs(20), || {
            provider.served().first().cloned()
        });
    let debited = bank.debited();
    assert!(debited.money >= DEFAULT_PRICE.cost(&served.usage), "{debited:?} {served:?}");
    assert!(debited.tokens >= served.usage.tokens() && debited.calls >= 1);
}
