//! A control plane in the machine, as an ordinary user's, and loops on it.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::guest::{Ended, USER, read, say, sh};

/// Longest wait for something to be told: emulated, a program starts in a second.
const PATIENCE: Duration = Duration::from_secs(180);
const DATA: &str = "/var/tmp/cases/up";

/// Asks again and again until all of this is said.
pub(crate) fn wait_for(ask: impl Fn() -> String, parts: &[&str]) -> Result<(), String> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let heard = Ended { success: true, said: ask() }.says(parts);
        if heard.is_ok() || Instant::now() > give_up {
            return heard;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// `flyball up` in a service with delegation; stopped with this.
pub(crate) struct Up;

impl Up {
    pub(crate) fn start() -> Result<Self, String> {
        sh(&format!("rm -rf {DATA}"))?;
        background("case-up", &format!("up --workers=1 --data-dir={DATA}"))?;
        Ok(Self)
    }

    pub(crate) fn said(&self) -> String {
        read("/run/case-up.out")
    }

    /// A worker that goes without these layers.
    pub(crate) fn named_worker(&self, without: &str) -> Result<(), String> {
        let (scheduler, data) = (format!("unix://{}", socket()), format!("{DATA}-named"));
        let worker = format!(
            "worker --scheduler={scheduler} --node=named --data-dir={data} --allow-weaker={without}"
        );
        background("case-named", &worker)
    }

    pub(crate) fn apply(&self, name: &str, spec: &str) -> Result<(), String> {
        let path = format!("/run/{name}.yaml");
        let manifest = format!(
            "apiVersion: flyball.dev/v1\nkind: Loop\nmetadata: {{name: {name}}}\nspec:\n  goal: be tried\n  owns: ['case:{name}']\n  {spec}\n"
        );
        std::fs::write(&path, manifest).map_err(|error| error.to_string())?;
        let said = self.ask(&format!("apply -f {path}"));
        if said.contains("created") { Ok(()) } else { Err(said) }
    }

    /// What a client verb says.
    pub(crate) fn ask(&self, words: &str) -> String {
        let mut client = Command::new("runuser");
        client
            .args(["-u", USER, "--", "/usr/local/bin/flyball", "--addr"])
            .arg(format!("unix://{}", socket()));
        let done = client.args(words.split(' ')).output();
        done.map_or_else(|error| error.to_string(), |done| Ended::of(done).said)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = sh("systemctl stop case-named case-up; systemctl reset-failed");
    }
}

fn socket() -> String {
    format!("{DATA}/scheduler.sock")
}

fn background(unit: &str, words: &str) -> Result<(), String> {
    // What an earlier one said is not this one's.
    sh(&format!(
        "rm -f /run/{unit}.out; systemd-run --quiet --collect --unit={unit} -p Delegate=yes -p User={USER} -p KillMode=mixed \
         -p StandardOutput=truncate:/run/{unit}.out -p StandardError=inherit /usr/local/bin/flyball {words}"
    ))
    .map(|_| ())
}

/// A loop that takes too much memory is told so by the kernel's own word, and others go on.
pub(crate) fn too_much_memory() -> Result<(), String> {
    let up = Up::start()?;
    wait_for(|| up.said(), &["Flyball is up"])?;
    if up.said().contains("WARNING") {
        return Err(up.said());
    }
    let hog = "needs: {memory: 64Mi}\n  checks: [{name: c, run: 'perl -e \"\\$a=q(x) x 300_000_000; print length \\$a\"'}]\n  \
               governor: {iterations: 1}";
    up.apply("hog", hog)?;
    up.apply("modest", "checks: [{name: c, run: 'true'}]")?;
    wait_for(|| up.ask("get loop modest -o json"), &["\"Converged\""])?;
    wait_for(|| up.ask("describe loop hog"), &["Evidence:"])?;
    let told = up.ask("describe loop hog");
    say(&told);
    Ended { success: true, said: told }.says(&["over its limit: memory: all of 64 MiB"])
}
