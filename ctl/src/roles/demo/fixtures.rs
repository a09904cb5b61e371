//! What the demo works on: the files of `examples/`, carried in the binary so that it runs anywhere.

use std::path::{Path, PathBuf};

use anyhow::Context;

macro_rules! example {
    ($path:literal) => {
        ($path, include_str!(concat!("../../../../examples/", $path)))
    };
}

/// Files of the two repositories, of the agents and of their known changes.
const FILES: [(&str, &str); 24] = [
    example!("ledger/.gitignore"),
    example!("ledger/Cargo.lock"),
    example!("ledger/Cargo.toml"),
    example!("ledger/docs/guide.md"),
    example!("ledger/src/lib.rs"),
    example!("ledger/src/core/mod.rs"),
    example!("ledger/src/core/parse.rs"),
    example!("ledger/src/core/report.rs"),
    example!("ledger/src/core/totals.rs"),
    example!("gauge/README.md"),
    example!("gauge/tuning/gauge.conf"),
    example!("gauge/tuning/measure.sh"),
    example!("gauge/valve/opening"),
    example!("agents/add-average.sh"),
    example!("agents/fix-one.sh"),
    example!("agents/guess.sh"),
    example!("agents/see-saw.sh"),
    example!("agents/write-section.sh"),
    example!("patches/keeps_the_sign.patch"),
    example!("patches/pads_cents.patch"),
    example!("patches/puts_the_largest_first.patch"),
    example!("patches/reads_cents.patch"),
    example!("patches/sums_a_category.patch"),
    example!("patches/sums_a_month.patch"),
];

/// The last one stands alone because arrays of a round number hide a missing file.
const TRIMS_FIELDS: (&str, &str) = example!("patches/trims_fields.patch");

/// The manifests, in the order they are applied.
const LOOPS: [(&str, &str); 5] = [
    example!("loops/fix-ledger.yaml"),
    example!("loops/add-average.yaml"),
    example!("loops/write-guide.yaml"),
    example!("loops/beat-physics.yaml"),
    example!("loops/see-saw.yaml"),
];

/// The demo's material on disk.
#[derive(Debug)]
pub(super) struct Material {
    /// Manifests with their paths filled in.
    pub(super) manifests: Vec<String>,
    /// The bare repository of the ledger.
    pub(super) ledger: PathBuf,
}

/// Writes the fixtures below `root` and makes two bare repositories of them.
pub(super) async fn prepare(root: &Path, think_seconds: f64) -> anyhow::Result<Material> {
    let examples = root.join("examples");
    for (path, text) in FILES.iter().chain([&TRIMS_FIELDS]) {
        let file = examples.join(path);
        let dir = file.parent().context("a fixture has a directory")?;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let ledger = bare_repository(&examples, root, "ledger").await?;
    let gauge = bare_repository(&examples, root, "gauge").await?;
    let fill = |text: &str| {
        text.replace("${LEDGER}", &ledger.display().to_string())
            .replace("${GAUGE}", &gauge.display().to_string())
            .replace("${AGENTS}", &examples.join("agents").display().to_string())
            .replace("${PATCHES}", &examples.join("patches").display().to_string())
            .replace("${THINK}", &think_seconds.to_string())
    };
    let manifests: Vec<String> = LOOPS.iter().map(|(_, text)| fill(text)).collect();
    for ((path, _), manifest) in LOOPS.iter().zip(&manifests) {
        let file = root.join(Path::new(path).file_name().context("a manifest has a name")?);
        std::fs::write(&file, manifest)?;
    }
    Ok(Material { manifests, ledger })
}

async fn bare_repository(examples: &Path, root: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let (work, bare) = (examples.join(name), root.join(format!("{name}.git")));
    git(&work, &["init", "--quiet", "--initial-branch=main", "."]).await?;
    git(&work, &["add", "--all"]).await?;
    let message = format!("The {name}, as it was found");
    git(&work, &["commit", "--quiet", "--message", &message]).await?;
    let bare_text = bare.to_str().context("the data directory's path is not UTF-8")?;
    git(&work, &["clone", "--quiet", "--bare", ".", bare_text]).await?;
    Ok(bare)
}

async fn git(dir: &Path, args: &[&str]) -> anyhow::Result<()> {
    let output = tokio::process::Command::new("git")
        .current_dir(dir)
        // The user's own settings (hooks, signing) are not for the demo's repositories.
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .args(["-c", "user.name=Demo", "-c", "user.email=demo@localhost"])
        .args(args)
        .output()
        .await
        .context("cannot start git; install it first")?;
    anyhow::ensure!(
        output.status.success(),
        "git {}: {}",
        args.join(" "),
        match String::from_utf8_lossy(&output.stderr).trim() {
            // Some complaints of git, such as "nothing to commit", are on its standard output.
            "" => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            text => text.to_owned(),
        }
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    /// Every file of the fixtures is carried; a new one that is forgotten here fails.
    #[test]
    fn no_example_is_missing() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut found = Vec::new();
        let mut dirs = vec![root.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() && entry.file_name() != "target" {
                    dirs.push(path);
                } else if path.is_file() {
                    found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let carried = super::FILES.iter().chain([&super::TRIMS_FIELDS]).chain(&super::LOOPS);
        let mut carried: Vec<String> = carried.map(|(path, _)| (*path).to_owned()).collect();
        // Definitions for model calls are documentation; the demo calls no model.
        found.retain(|path| path.contains('/') && !path.starts_with("models/"));
        found.sort();
        carried.sort();
        assert_eq!(found, carried);
    }
}
