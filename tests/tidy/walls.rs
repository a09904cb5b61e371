//! The walls between our crates, and which crate owns which foreign library.

use crate::manifests::Package;
use crate::offence::Offence;

/// Which of our crates each crate may depend on, also for its tests. The suites in `tests/` may use them all.
const EDGES: &[(&str, &[&str])] = &[
    ("flyball-core", &[]),
    ("flyball-telemetry", &[]),
    ("flyball-embedded", &[]),
    ("flyball-pki", &["flyball-core"]),
    ("flyball-proto", &["flyball-core", "flyball-pki"]),
    ("flyball-store", &["flyball-core", "flyball-pki"]),
    ("flyball-sandbox", &["flyball-core"]),
    ("flyball-gateway", &["flyball-core", "flyball-telemetry"]),
    // What runs inside the sandbox knows nothing of what is outside.
    ("flyball-agent", &["flyball-core"]),
    (
        "flyball-scheduler",
        &[
            "flyball-core",
            "flyball-pki",
            "flyball-proto",
            "flyball-store",
            "flyball-embedded",
            "flyball-telemetry",
        ],
    ),
    (
        "flyball-worker",
        &[
            "flyball-core",
            "flyball-pki",
            "flyball-proto",
            "flyball-sandbox",
            "flyball-gateway",
            "flyball-telemetry",
        ],
    ),
    (
        "flyball",
        &[
            "flyball-core",
            "flyball-pki",
            "flyball-proto",
            "flyball-telemetry",
            "flyball-scheduler",
            "flyball-worker",
            "flyball-agent",
        ],
    ),
];

/// The crate that may use every other one.
const SUITES: &str = "flyball-tests";

/// Foreign libraries that only some crates may name. A trailing `*` stands for any ending. Elsewhere the
/// library's types would leak through a wall: that is how a worker learns of etcd.
const OWNERS: &[(&str, &[&str])] = &[
    ("etcd-client", &["flyball-store", "flyball-embedded", SUITES]),
    ("redb", &["flyball-embedded"]),
    ("opentelemetry*", &["flyball-telemetry", SUITES]), // the suites play the collector
    ("tracing-opentelemetry", &["flyball-telemetry"]),
    ("tracing-subscriber", &["flyball-telemetry"]),
    // The suites decode what strangers send.
    ("prost*", &["flyball-proto", "flyball-store", "flyball-embedded", SUITES]),
    ("tonic-prost*", &["flyball-proto", "flyball-store"]),
    ("protox", &["flyball-proto"]),
    ("nix", &["flyball-sandbox", "flyball-worker", "flyball-agent", "flyball", SUITES]),
    ("clap*", &["flyball"]),
    ("crossterm", &["flyball"]),
    ("serde-saphyr", &["flyball"]),
    ("anyhow", &["flyball", SUITES]),
    ("landlock", &["flyball-sandbox"]),
    ("seccompiler", &["flyball-sandbox"]),
    ("turmoil", &[SUITES]),
    ("rustls", &["flyball-pki"]),
    ("tokio-rustls", &["flyball-pki"]),
    // What speaks HTTP to agents and providers.
    ("hyper", &["flyball-gateway"]),
    ("hyper-rustls", &["flyball-gateway"]),
    ("rcgen", &["flyball-pki"]),
    ("x509-parser", &["flyball-pki"]),
    ("regex", &["flyball-core", SUITES]),
    ("schemars", &["flyball-core"]),
    ("hpke", &["flyball-scheduler"]),
    ("sha2", &["flyball-core"]),
    ("strsim", &["flyball-core"]),
    ("todc-utils", &[SUITES]),
];

/// What the core crate may use: nothing that does I/O, has a clock, or draws random numbers.
const CORE_MAY_USE: &[&str] = &[
    "insta",
    "jiff",
    "proptest",
    "regex",
    "schemars",
    "serde",
    "serde_json",
    "sha2",
    "strsim",
    "thiserror",
    "zeroize",
];

/// Dependencies between our crates that the table does not allow.
pub(crate) fn edges(packages: &[Package]) -> Vec<Offence> {
    let mut found = Vec::new();
    for package in packages.iter().filter(|package| package.name != SUITES) {
        let allowed =
            EDGES.iter().find(|(name, _)| *name == package.name).map_or(&[][..], |row| row.1);
        for dependency in package.dependencies.iter().filter(|d| d.ours) {
            if !allowed.contains(&dependency.name.as_str()) {
                let message = format!("{} must not depend on {}", package.name, dependency.name);
                found.push(Offence::new(&package.manifest, 0, message));
            }
        }
    }
    found
}

/// Foreign libraries named by a crate that does not own them.
pub(crate) fn libraries(packages: &[Package]) -> Vec<Offence> {
    let mut found = Vec::new();
    for package in packages {
        for dependency in package.dependencies.iter().filter(|d| !d.ours) {
            if !may_use(&package.name, &dependency.name) {
                let message = format!("{} must not name {}", package.name, dependency.name);
                found.push(Offence::new(&package.manifest, 0, message));
            }
        }
    }
    found
}

fn may_use(package: &str, library: &str) -> bool {
    let is_named = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => library.starts_with(start),
        None => library == pattern,
    };
    let owned = OWNERS
        .iter()
        .filter(|(pattern, _)| is_named(pattern))
        .all(|(_, owners)| owners.contains(&package));
    owned && (package != "flyball-core" || CORE_MAY_USE.contains(&library))
}

/// Crates that the table of edges does not know: a new crate needs a place in the walls first.
pub(crate) fn unlisted(packages: &[Package]) -> Vec<Offence> {
    let listed = |name: &str| name == SUITES || EDGES.iter().any(|(known, _)| *known == name);
    let unknown = packages.iter().filter(|package| !listed(&package.name));
    unknown.map(|p| Offence::new(&p.manifest, 0, format!("{} is not in EDGES", p.name))).collect()
}

#[test]
fn a_forbidden_edge_is_found() {
    let bad = Package::sample("flyball-worker", &["flyball-core", "flyball-store"], &[]);
    let message = "flyball-worker must not depend on flyball-store";
    assert_eq!(edges(&[bad]), [Offence::new("flyball-worker/Cargo.toml", 0, message)]);
    assert!(edges(&[Package::sample("flyball-store", &["flyball-core"], &[])]).is_empty());
    assert!(edges(&[Package::sample("flyball-tests", &["flyball-store"], &[])]).is_empty());
}

#[test]
fn a_library_outside_its_owner_is_found() {
    let count = |name, library: &str| libraries(&[Package::sample(name, &[], &[library])]).len();
    assert_eq!(count("flyball-worker", "etcd-client"), 1);
    assert_eq!(count("flyball-scheduler", "opentelemetry-otlp"), 1);
    assert_eq!(count("flyball-core", "tokio"), 1);
    assert_eq!(count("flyball-store", "etcd-client"), 0);
    assert_eq!(count("flyball-scheduler", "tokio"), 0);
}

#[test]
fn an_unknown_crate_is_found() {
    assert_eq!(unlisted(&[Package::sample("flyball-extra", &[], &[])]).len(), 1);
    assert!(unlisted(&[Package::sample("flyball-core", &[], &[])]).is_empty());
}
