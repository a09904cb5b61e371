//! Other gateways beside ours: nginx as a pure pass-through, sglang-router, TensorZero and LiteLLM, each on a port of
//! its own. `--install` fetches what is not there; what is lacking is left out, and said.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flyball_tests::{etcd, poll};

use super::Role;
use super::load::Target;

/// Python takes its time to start.
const START_MAX: Duration = Duration::from_secs(180);
/// The key of those that want one of a certain form.
const KEY: &str = "sk-bench-0123456789";

/// A peer that comes as a Python package, in the version that it was tried with.
struct Peer {
    name: &'static str,
    package: &'static str,
    start: fn(&Path, SocketAddr) -> (Child, Target),
}

const PEERS: [Peer; 3] = [
    Peer { name: "sglang-router", package: "sglang-router==0.3.2", start: router },
    Peer { name: "tensorzero", package: "tensorzero==2026.6.0", start: tensorzero },
    Peer { name: "litellm", package: "litellm[proxy]==1.106.2", start: litellm },
];

/// Where they are installed.
fn cache() -> PathBuf {
    let named = std::env::var_os("FLYBALL_CACHE").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    named.unwrap_or_else(|| cache.unwrap_or_else(home).join("flyball")).join("gateway-peers")
}

fn venv(peer: &Peer) -> PathBuf {
    cache().join(peer.package.replace(['[', ']'], "-").replace("==", "-"))
}

/// Installs what is not there. One that cannot be had is told of, and left out.
pub(crate) fn install() {
    for peer in &PEERS {
        let venv = venv(peer);
        if venv.join("ready").exists() {
            continue;
        }
        println!("installing {} into {}", peer.package, venv.display());
        let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
            && run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", peer.package]));
        if made {
            std::fs::write(venv.join("ready"), "").unwrap();
        }
    }
    if nginx_program().is_none()
        && let Err(why) = etcd::fetch_file("nginx", "usr/sbin/nginx")
    {
        println!("!!! {why}");
    }
}

fn run(command: &mut Command) -> bool {
    let status = command.status();
    let done = status.as_ref().is_ok_and(std::process::ExitStatus::success);
    if !done {
        println!("!!! {command:?}: {status:?}");
    }
    done
}

/// Starts all that are there.
pub(crate) fn start(stand_in: SocketAddr) -> Vec<(Role, Target)> {
    let mut started = Vec::new();
    let mut lacking = Vec::new();
    match nginx_program() {
        Some(program) => started.push(nginx(&program, stand_in)),
        None => lacking.push("nginx"),
    }
    for peer in &PEERS {
        let venv = venv(peer);
        if !venv.join("ready").exists() {
            lacking.push(peer.name);
            continue;
        }
        let (child, target) = (peer.start)(&venv, stand_in);
        started.push((Role { child, address: target.address() }, target));
    }
    if !lacking.is_empty() {
        println!(
            "!!! LEFT OUT, since they are not installed: {}. To install and measure them:",
            lacking.join(", ")
        );
        println!("!!!     cargo bench -p flyball-tests --bench gateway -- --install");
    }
    started
}

/// An address that nobody listens on; whoever is told to takes it soon.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn quiet(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Rust; one worker behind it.
fn router(venv: &Path, stand_in: SocketAddr) -> (Child, Target) {
    let address = free();
    let child = quiet(
        Command::new(venv.join("bin/python"))
            .args(["-m", "sglang_router.launch_router", "--host", "127.0.0.1"])
            .args(["--policy", "round_robin", "--port", &address.port().to_string()])
            .args(["--worker-urls", &format!("http://{stand_in}")]),
    );
    (child, Target::new("sglang-router", address, KEY))
}

/// Rust; its gateway as the package starts it, without observability.
fn tensorzero(venv: &Path, stand_in: SocketAddr) -> (Child, Target) {
    let config = venv.join("bench.toml");
    let text = format!(
        "[gateway]\nobservability.enabled = false\n[models.bench]\nrouting = [\"up\"]\n[models.bench.providers.up]\n\
         type = \"openai\"\nmodel_name = \"bench\"\napi_base = \"http://{stand_in}/v1/\"\napi_key_location = \"none\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let program = "import sys, time\nfrom tensorzero import _start_http_gateway as start\n\
                   gateway = start(config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, \
                   async_setup=False)\nprint('at', gateway.base_url, flush=True)\ntime.sleep(1e6)\n";
    let mut child = Command::new(venv.join("bin/python"))
        .args(["-c", program])
        .arg(&config)
        .env("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let base = lines.into_iter().find_map(|line| Some(line.strip_prefix("at http://")?.to_owned()));
    let base = base.unwrap();
    let (address, path) = base.split_once('/').unwrap();
    let target = Target::new("tensorzero", address.parse().unwrap(), KEY);
    let path = format!("/{path}/chat/completions");
    (child, target.asking(&path, "tensorzero::model_name::bench"))
}

/// Python; one worker, a master key, no database.
fn litellm(venv: &Path, stand_in: SocketAddr) -> (Child, Target) {
    let (address, config) = (free(), venv.join("bench.yaml"));
    let text = format!(
        "model_list:\n  - model_name: bench\n    litellm_params: {{ model: openai/bench, api_base: \
         \"http://{stand_in}/v1\", api_key: none }}\ngeneral_settings: {{ master_key: {KEY} }}\n"
    );
    std::fs::write(&config, text).unwrap();
    let child = quiet(
        Command::new(venv.join("bin/litellm"))
            .args(["--host", "127.0.0.1", "--num_workers", "1", "--telemetry", "False"])
            .args(["--port", &address.port().to_string(), "--config"])
            .arg(&config),
    );
    (child, Target::new("litellm", address, KEY))
}

/// Waits until a peer answers.
pub(crate) fn wait(runtime: &tokio::runtime::Runtime, target: &Target) {
    poll::until(&target.name, START_MAX, || {
        runtime.block_on(super::load::answers(target)).then_some(())
    });
}

/// nginx from `FLYBALL_BENCH_NGINX`, the usual places, or the build directory.
fn nginx_program() -> Option<PathBuf> {
    let named = std::env::var_os("FLYBALL_BENCH_NGINX").map(PathBuf::from);
    let fetched =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/nginx/usr/sbin/nginx");
    let usual = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].map(PathBuf::from);
    named.into_iter().chain(usual).chain([fetched]).find(|path| path.exists())
}

fn nginx(program: &Path, upstream: SocketAddr) -> (Role, Target) {
    let dir = tempfile::tempdir().unwrap().keep();
    let address = free();
    let config = format!(
        "worker_processes 2; daemon off; pid {dir}/pid; error_log {dir}/log crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {dir}/a; proxy_temp_path {dir}/b;\n\
         fastcgi_temp_path {dir}/c; uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n\
         upstream up {{ server {upstream}; keepalive 64; keepalive_requests 100000000; }}\n\
         server {{ listen {address}; keepalive_requests 100000000; tcp_nodelay on;\n\
         location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_buffering off; }} }} }}\n",
        dir = dir.display()
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let child = quiet(Command::new(program).arg("-c").arg(&file).arg("-p").arg(&dir));
    poll::until("nginx listens", Duration::from_secs(10), || TcpStream::connect(address).ok());
    (Role { child, address }, Target::new("nginx", address, super::roles::KEY))
}
