//! The address at which clouds tell machines their credentials, in a network that the suite makes itself and in
//! which nothing else is: the real one is never asked.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, ExitCode};

use flyball_core::isolation::Layer::{Landlock, Network};

use crate::list::{Attack, Bare, of};
use crate::scene::Scene;
use crate::{THROUGH, Verdict, attempt, ordinary};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The network of whoever runs the suite, so that nothing is done in it by mistake.
const NOT_IN: &str = "FLYBALL_HOST_NETWORK";
/// The layers that are off in turn, and what must get through then.
const OFF: &[(&str, &[&str])] = &[
    ("", &[]),
    ("network", &["metadata_address_udp"]),
    ("network,landlock", &["metadata_address", "metadata_address_udp"]),
];

fn attacks() -> [Attack; 2] {
    let tcp = r#"socket(my $s,AF_INET,SOCK_STREAM,0) or die; try("connect", connect($s,pack_sockaddr_in($E{TCP},inet_aton($E{ADDRESS}))));"#;
    let udp = r#"socket(my $s,AF_INET,SOCK_DGRAM,0) or refused("$!"); send($s,"bad",0,pack_sockaddr_in($E{UDP},inet_aton($E{ADDRESS}))) if $s; refused("nobody hears it");"#;
    [
        of("metadata_address", &[Network, Landlock], Bare::Any, tcp),
        of("metadata_address_udp", &[Network], Bare::Any, udp),
    ]
}

fn network() -> String {
    fs::read_link("/proc/self/ns/net").map(|name| name.display().to_string()).unwrap_or_default()
}

/// As root and as the ordinary user, with layers on and off, each in a network of its own.
pub(crate) fn suite() -> (usize, Vec<String>) {
    let (mut passed, mut failed) = (0, Vec::new());
    let this = std::env::current_exe().unwrap();
    for user in ["root", "ordinary user"] {
        let mut child = Command::new("unshare");
        child.args(["--net", "--"]).arg(&this).args(["metadata", "network", user]);
        let done = child.env(NOT_IN, network()).output();
        let said = done.map(|done| {
            format!(
                "{}{}",
                String::from_utf8_lossy(&done.stdout),
                String::from_utf8_lossy(&done.stderr)
            )
        });
        let said = said.unwrap_or_else(|error| error.to_string());
        if let Some(why) = said.lines().find_map(|line| line.strip_prefix("no network: ")) {
            println!("SKIPPED metadata_address as {user}: {why}");
            continue;
        }
        for (off, through) in OFF {
            let wanted = format!("without [{off}]: {}", through.join(" "));
            if said.lines().any(|line| line.trim_end() == wanted.trim_end()) {
                println!("attack metadata_address as {user} {wanted}");
                passed += 1;
            } else {
                failed.push(format!("metadata_address as {user}, not {wanted:?}: {said}"));
            }
        }
    }
    (passed, failed)
}

/// What this program does in the new network: makes the address there, or tries to reach it.
pub(crate) fn role(arguments: &[String]) -> ExitCode {
    let forbidden = std::env::var(NOT_IN).unwrap_or_default();
    if forbidden.is_empty() || forbidden == network() {
        println!("no network: this is the host's");
        return ExitCode::FAILURE;
    }
    if arguments.first().map(String::as_str) == Some("attempts") {
        attempts();
        return ExitCode::SUCCESS;
    }
    let ip = |words: &str| {
        let done = Command::new("ip").args(words.split(' ')).output();
        done.is_ok_and(|done| done.status.success())
    };
    // What the kernel has: a dummy, or one end of a pair that both stay in here.
    let made = ip("link add meta0 type dummy") || ip("link add meta0 type veth peer name meta1");
    let set = [&format!("addr add {ADDRESS}/32 dev meta0"), "link set meta0 up", "link set lo up"];
    if !made || !set.into_iter().all(ip) {
        println!("no network: `ip` cannot make an interface with that address");
        return ExitCode::FAILURE;
    }
    for (off, _) in OFF {
        let (_dir, mut child) = match arguments.get(1).map(String::as_str) {
            Some("root") => (None, Command::new(std::env::current_exe().unwrap())),
            _ => {
                let (dir, child) = ordinary();
                (Some(dir), child)
            }
        };
        child.args(["metadata", "attempts"]).env(NOT_IN, &forbidden).env("FLYBALL_LAYERS_OFF", off);
        let done = child.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let through: Vec<&str> =
            said.lines().filter_map(|line| line.strip_prefix(THROUGH)).collect();
        if done.status.success() {
            println!("without [{off}]: {}", through.join(" "));
        }
        println!("{said}{}", String::from_utf8_lossy(&done.stderr));
    }
    ExitCode::SUCCESS
}

fn attempts() {
    let mut scene = Scene::at(ADDRESS);
    for attack in attacks() {
        match attempt(&mut scene, &attack) {
            Verdict::Through(_) => println!("{THROUGH}{}", attack.name),
            Verdict::Refused(how) | Verdict::Bit(how) => {
                println!("{}: refused: {how}", attack.name)
            }
            Verdict::Broken(how) => panic!("{}: {how}", attack.name),
        }
    }
}
