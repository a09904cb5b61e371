//! The attempts: what each tries, which layers are in its way, and when it must get through without them.

use flyball_core::isolation::Layer::{self, Seccomp};
use flyball_sandbox::Who;
use nix::libc;

use crate::scripts::{FILES, LEFT, NEIGHBOUR, PROCESSES, SOCKETS};

/// When an attempt must get through with every layer off, which shows that it can.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bare {
    /// Whoever runs it.
    Any,
    /// As root; others are refused by the kernel anyway.
    Root,
    /// It is not tried: it would touch what is not the test's own.
    Never,
}

/// One attempt.
pub(crate) struct Attack {
    pub(crate) name: String,
    /// Whose step it is.
    pub(crate) who: Who,
    /// The layers of which each, taken away, may let it through.
    pub(crate) layers: &'static [Layer],
    pub(crate) bare: Bare,
    /// Perl.
    pub(crate) script: String,
    /// Perl of the check behind it, which is to fall for what was left; its word counts then.
    pub(crate) then: Option<&'static str>,
}

/// What all scripts begin with. `ready` is said once Perl has understood all of the script.
pub(crate) const PRELUDE: &str = r#"use Socket; use Fcntl; use POSIX (); $|=1; %E=%ENV;
$P="/nonexistent/flyball\0"; $B="\0"x4096;
print "ready\n";
sub got { print "GOT $_[0]\n" }
sub refused { print "refused: $_[0]\n" }
sub try { my($what,$ok)=@_; my $why="$!"; $ok ? got($what) : refused("$what: $why") }
sub op { my($f,$mode)=@_; try("open $f", open(my $h,$mode||'<',$f)) }
sub rd { my $f=shift; if(open(my $h,'<',$f)){ my $t=<$h>; got("read $f: $t") } else { refused("$f: $!") } }
sub wr { my $f=shift; my $h; try("write $f", open($h,'>>',$f) && (print $h "bad") && close($h)) }
sub dir { my $f=shift; try("list $f", opendir(my $h,$f)) }
sub sc { my @a=@_; my $r=syscall(shift @a,@a); my $n=$!+0; my $e="$!";
  ($r==-1 && ($n==1||$n==13||$n==38)) ? refused($e) : got("the kernel took the call: ".($r==-1?$e:$r)) }
"#;

/// Name, layers, when it bites, Perl.
pub(crate) type Row = (&'static str, &'static [Layer], Bare, &'static str);

/// What of [`FILES`] a check may do, as that is its own.
const CHECKS_OWN: &[&str] = &["tamper_with_checks_home"];

/// Calls with arguments that do nothing even where they are allowed, so that only who answers differs.
const CALLS: &[(&str, libc::c_long, Bare, &str)] = &[
    ("ptrace", libc::SYS_ptrace, Bare::Any, "0,0,0,0"),
    ("process_vm_readv", libc::SYS_process_vm_readv, Bare::Any, "$$,0,0,0,0,0"),
    ("process_vm_writev", libc::SYS_process_vm_writev, Bare::Any, "$$,0,0,0,0,0"),
    ("io_uring_setup", libc::SYS_io_uring_setup, Bare::Never, "0,0"),
    ("keyctl", libc::SYS_keyctl, Bare::Any, "9999,0,0,0,0"),
    ("add_key", libc::SYS_add_key, Bare::Any, "0,0,0,0,0"),
    ("bpf", libc::SYS_bpf, Bare::Root, "9999,0,0"),
    ("userfaultfd", libc::SYS_userfaultfd, Bare::Never, "1"),
    ("perf_event_open", libc::SYS_perf_event_open, Bare::Never, "0,0,-1,-1,0"),
    ("mount", libc::SYS_mount, Bare::Any, "$P,$P,$P,0,0"),
    ("bind_mount", libc::SYS_mount, Bare::Any, "$P,$P,0,4096,0"),
    ("umount", libc::SYS_umount2, Bare::Root, "$P,0"),
    ("pivot_root", libc::SYS_pivot_root, Bare::Root, "$P,$P"),
    ("chroot", libc::SYS_chroot, Bare::Any, "$P"),
    ("open_tree", libc::SYS_open_tree, Bare::Any, "-100,$P,0"),
    ("setns", libc::SYS_setns, Bare::Any, "-1,0"),
    ("unshare_user", libc::SYS_unshare, Bare::Never, "0x10000000"),
    ("clone3", libc::SYS_clone3, Bare::Any, "0,0"),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, Bare::Any, "-1,0,0"),
    ("name_to_handle_at", libc::SYS_name_to_handle_at, Bare::Any, "-100,$P,0,0,0"),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, Bare::Root, "-1,$B,0"),
    ("kexec_load", libc::SYS_kexec_load, Bare::Never, "0,0,0,0xffff"),
    ("init_module", libc::SYS_init_module, Bare::Never, "0,0,$P"),
    ("reboot", libc::SYS_reboot, Bare::Never, "0,0,0,0"),
    ("swapon", libc::SYS_swapon, Bare::Never, "$P,0"),
    ("settimeofday", libc::SYS_settimeofday, Bare::Never, "0,0"),
    ("sethostname", libc::SYS_sethostname, Bare::Root, "$P,-1"),
    ("quotactl", libc::SYS_quotactl, Bare::Any, "-1,$P,0,0"),
    ("kernel_log", libc::SYS_syslog, Bare::Root, "9999,0,0"),
    ("type_into_terminal", libc::SYS_ioctl, Bare::Any, "0,0x5412,$B"),
];

/// All of them: those of an agent, of an agent and the check behind it, and what an agent tries tried by a check.
pub(crate) fn all() -> Vec<Attack> {
    let rows = FILES.iter().chain(PROCESSES).chain(NEIGHBOUR).chain(SOCKETS);
    let mut all: Vec<Attack> =
        rows.map(|(name, layers, bare, script)| of(name, layers, *bare, script)).collect();
    all.extend(CALLS.iter().map(|(name, number, bare, arguments)| {
        let layers: &[Layer] = if *bare == Bare::Any { &[Seccomp] } else { &[] };
        of(&format!("call_{name}"), layers, *bare, &format!("sc({number},{arguments});"))
    }));
    let checks: Vec<Attack> = all
        .iter()
        .filter(|attack| !CHECKS_OWN.contains(&attack.name.as_str()))
        // That it could succeed is shown by the agent's.
        .map(|attack| Attack {
            who: Who::Check,
            ..of(&format!("check_{}", attack.name), &[], Bare::Never, &attack.script)
        })
        .collect();
    all.extend(LEFT.iter().map(|(name, layers, bare, script, then)| Attack {
        then: Some(then),
        ..of(name, layers, *bare, script)
    }));
    all.extend(checks);
    all
}

/// One of an agent.
pub(crate) fn of(name: &str, layers: &'static [Layer], bare: Bare, script: &str) -> Attack {
    let (name, script) = (name.to_owned(), script.to_owned());
    Attack { name, who: Who::Agent, layers, bare, script, then: None }
}
