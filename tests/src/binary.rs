//! The `flyball` binary under test, built once per test process.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Path of the binary. `cargo test` of one package does not build another package's binaries, so
/// this asks cargo, which answers at once when it is fresh.
///
/// # Panics
/// When it cannot be built: no test can go on then.
pub fn flyball() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let mut dir = std::env::current_exe().expect("a test knows its own file");
        dir.pop();
        if dir.ends_with("deps") {
            dir.pop();
        }
        let release = dir.ends_with("release");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--bin", "flyball"]);
        // Both packages, so that the binary has what the tests' features ask for: planted bugs.
        build.args(["--package", "flyball", "--package", "flyball-tests"]);
        build.arg("--target-dir").arg(dir.parent().expect("a profile has a directory"));
        // As the test was started, not as this library was compiled: a copied target directory keeps
        // a library that was compiled elsewhere.
        let package = std::env::var_os("CARGO_MANIFEST_DIR");
        let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        build.current_dir(PathBuf::from(package).join(".."));
        forget_package(&mut build);
        if release {
            build.arg("--release");
        }
        let status = build.status().expect("cargo can be started");
        assert!(status.success(), "the binary cannot be built: {status}");
        dir.join("flyball")
    })
}

/// Takes out of a cargo's environment what the cargo above it said of the test's own package: build scripts that look at
/// such variables (ring's) would run anew, and with them half of the workspace, each time that it changes.
pub fn forget_package(cargo: &mut Command) {
    let of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        cargo.env_remove(name);
    }
}
