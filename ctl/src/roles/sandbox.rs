//! The options of `flyball worker` that say how runs are confined.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use flyball_core::ids::check_name;
use flyball_core::isolation::Layer;
use flyball_core::quantity::ByteSize;
use flyball_worker::{OUTPUT_RATE_DEFAULT, SandboxConfig};

use super::worker::pair;

/// Options about the sandbox.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sandbox")]
pub(super) struct SandboxArgs {
    /// Let runs go without these layers where this host does not allow them: user, mount, pid, ipc, uts,
    /// network, landlock, seccomp, or all. Without it the worker refuses to start there
    #[arg(long, value_name = "LAYERS", value_delimiter = ',')]
    allow_weaker: Vec<String>,
    #[command(flatten)]
    offers: OfferArgs,
}

/// What runs see, and what loops may ask for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sandbox")]
pub(super) struct OfferArgs {
    /// File or directory that every run can read
    #[arg(long, value_name = "PATH")]
    show: Vec<PathBuf>,
    /// Directory below which loops can ask for paths to read (spec.sandbox.readOnly)
    #[arg(long, value_name = "DIR")]
    offer_path: Vec<PathBuf>,
    /// Cache that loops can ask for (spec.sandbox.caches): seen by all, changed by each for itself
    #[arg(long, value_name = "NAME=DIR")]
    cache: Vec<String>,
    /// HTTP proxy that loops can ask for (spec.sandbox.egress): HOST:PORT or unix:/path
    #[arg(long, value_name = "NAME=ADDRESS")]
    egress: Vec<String>,
    /// Most output of a command that is read in a second, e.g. 32Mi; one that writes faster waits [default: 32Mi]
    #[arg(long, value_name = "BYTES")]
    output_rate: Option<ByteSize>,
}

impl SandboxArgs {
    pub(super) fn config(self) -> anyhow::Result<SandboxConfig> {
        let mut exceptions = Vec::new();
        for name in &self.allow_weaker {
            match name.as_str() {
                "all" => exceptions.extend(Layer::ALL),
                name => exceptions.push(name.parse().context("--allow-weaker")?),
            }
        }
        self.offers.config(exceptions)
    }
}

impl OfferArgs {
    /// The same options, for a worker that is started.
    pub(super) fn to_arguments(&self) -> Vec<String> {
        let path = |flag: &str, path: &PathBuf| format!("--{flag}={}", path.display());
        let show = self.show.iter().map(|dir| path("show", dir));
        let offer = self.offer_path.iter().map(|dir| path("offer-path", dir));
        let cache = self.cache.iter().map(|text| format!("--cache={text}"));
        let egress = self.egress.iter().map(|text| format!("--egress={text}"));
        let rate = self.output_rate.iter().map(|rate| format!("--output-rate={rate}"));
        show.chain(offer).chain(cache).chain(egress).chain(rate).collect()
    }

    fn config(self, exceptions: Vec<Layer>) -> anyhow::Result<SandboxConfig> {
        for path in self.show.iter().chain(&self.offer_path) {
            absolute("--show and --offer-path", path)?;
        }
        let (mut caches, mut egress) = (BTreeMap::new(), BTreeMap::new());
        for text in &self.cache {
            let (name, dir) = pair("--cache", text)?;
            check_name(name).context("--cache")?;
            let dir = PathBuf::from(dir);
            absolute("--cache", &dir)?;
            anyhow::ensure!(dir.is_dir(), "--cache {text:?}: {} is no directory", dir.display());
            caches.insert(name.to_owned(), dir);
        }
        for text in &self.egress {
            let (name, address) = pair("--egress", text)?;
            check_name(name).context("--egress")?;
            egress.insert(name.to_owned(), address.parse().context("--egress")?);
        }
        let output_rate = self.output_rate.unwrap_or(OUTPUT_RATE_DEFAULT);
        anyhow::ensure!(output_rate.0 > 0, "--output-rate 0: must be at least 1 byte in a second");
        let (show, paths) = (self.show, self.offer_path);
        Ok(SandboxConfig { exceptions, show, paths, caches, egress, output_rate })
    }
}

fn absolute(flag: &str, path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(path.is_absolute(), "{flag} {}: must be an absolute path", path.display());
    Ok(())
}
