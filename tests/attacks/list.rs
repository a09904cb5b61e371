//! The attempts: what each tries, which layers are in its way, and when it must get through without them.

use flyball_core::isolation::Layer::{
    self, Ipc, Landlock, Mount, Network, Pid, Seccomp, User, Uts,
};
use nix::libc;

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
    /// The layers of which each, taken away, may let it through.
    pub(crate) layers: &'static [Layer],
    pub(crate) bare: Bare,
    /// Perl.
    pub(crate) script: String,
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

type Row = (&'static str, &'static [Layer], Bare, &'static str);

const FILES: &[Row] = &[
    ("read_host_file", &[Mount, Landlock], Bare::Any, r#"rd("$E{OUTSIDE}/canary");"#),
    ("read_shadow", &[Mount, Landlock, User], Bare::Root, r#"op("/etc/shadow");"#),
    ("read_other_runs_workspace", &[Mount, Landlock], Bare::Any, r#"rd("$E{OTHER}/file");"#),
    ("list_roots_home", &[Mount, Landlock], Bare::Root, r#"dir("/root");"#),
    ("list_workers_data", &[Mount, Landlock], Bare::Any, r#"dir("$E{STATE}");"#),
    ("see_a_host_file", &[Mount], Bare::Any, r#"try("stat", -e "$E{OUTSIDE}/canary");"#),
    ("read_roots_file_in_sight", &[User], Bare::Root, r#"rd("$E{SHOWN}/rootonly");"#),
    (
        "read_through_symlink",
        &[Mount, Landlock],
        Bare::Any,
        r#"symlink("$E{OUTSIDE}/canary","$E{OWN}/l"); rd("$E{OWN}/l");"#,
    ),
    ("read_through_dotdot", &[Mount, Landlock], Bare::Any, r#"rd("$E{WORK}/../outside/canary");"#),
    (
        "read_through_init_root",
        &[Mount, User],
        Bare::Never,
        r#"rd("/proc/1/root$E{OUTSIDE}/canary");"#,
    ),
    ("write_host_file", &[Mount, Landlock], Bare::Any, r#"wr("$E{OUTSIDE}/canary");"#),
    (
        "write_system",
        &[],
        Bare::Never,
        r#"wr("/usr/flyball-attack"); wr("/etc/flyball-attack"); wr("/flyball-attack");"#,
    ),
    ("write_other_runs_workspace", &[Mount, Landlock], Bare::Any, r#"wr("$E{OTHER}/file");"#),
    ("write_unowned_file", &[Mount, Landlock], Bare::Any, r#"wr("$E{WORK}/others/file");"#),
    ("create_unowned_file", &[Mount, Landlock], Bare::Any, r#"wr("$E{WORK}/new");"#),
    (
        "write_through_symlink",
        &[Mount, Landlock],
        Bare::Any,
        r#"symlink("../others/file","$E{OWN}/l"); wr("$E{OWN}/l");"#,
    ),
    (
        "write_through_hard_link",
        &[Mount, Landlock],
        Bare::Any,
        r#"try("link", link("$E{WORK}/others/file","$E{OWN}/h")); wr("$E{OWN}/h") if -e "$E{OWN}/h";"#,
    ),
    (
        "rename_out_of_unowned",
        &[Mount, Landlock],
        Bare::Any,
        r#"try("rename", rename("$E{WORK}/others/file","$E{OWN}/f"));"#,
    ),
    (
        "rename_over_unowned",
        &[Mount, Landlock],
        Bare::Any,
        r#"open(my $h,'>',"$E{OWN}/x") or die; try("rename", rename("$E{OWN}/x","$E{WORK}/others/file"));"#,
    ),
    ("write_through_dotdot", &[Mount, Landlock], Bare::Any, r#"wr("$E{OWN}/../others/new");"#),
    (
        "write_through_descriptor",
        &[Mount, Landlock],
        Bare::Any,
        r#"open(my $h,'<',"$E{WORK}/others/file") or die; wr("/proc/self/fd/".fileno($h));"#,
    ),
    (
        "unlink_unowned",
        &[Mount, Landlock],
        Bare::Any,
        r#"try("unlink", unlink("$E{WORK}/others/file"));"#,
    ),
    (
        "truncate_unowned",
        &[Mount, Landlock],
        Bare::Any,
        r#"try("truncate", truncate("$E{WORK}/others/file",0));"#,
    ),
    (
        "mkdir_in_unowned",
        &[Mount, Landlock],
        Bare::Any,
        r#"try("mkdir", mkdir("$E{WORK}/others/dir"));"#,
    ),
    (
        "swap_owned_directory",
        &[Mount, Landlock],
        Bare::Any,
        r#"try("rename", rename($E{OWN},"$E{WORK}/own2"));"#,
    ),
    ("chmod_host_file", &[Mount], Bare::Any, r#"try("chmod", chmod(0777,"$E{OUTSIDE}/canary"));"#),
    (
        "chown_host_file",
        &[Mount, User],
        Bare::Root,
        r#"try("chown", chown(12345,12345,"$E{OUTSIDE}/canary"));"#,
    ),
    ("write_git_hook", &[], Bare::Any, r#"wr("$E{WORK}/.git/hooks/post-checkout");"#),
    ("write_git_config", &[], Bare::Any, r#"wr("$E{WORK}/.git/config");"#),
    ("write_worktree_config", &[], Bare::Any, r#"wr("$E{WORK}/.git/config.worktree");"#),
    (
        "replace_git_directory",
        &[],
        Bare::Any,
        r#"try("rename", rename("$E{WORK}/.git","$E{WORK}/.got"));"#,
    ),
    ("tamper_with_brief", &[], Bare::Any, r#"wr("$E{SHOWN}/brief");"#),
    (
        "tamper_with_checks_home",
        &[Mount, Landlock],
        Bare::Any,
        r#"wr("$E{CHECK}/home/.gitconfig");"#,
    ),
    (
        "write_to_pipe_in_sight",
        &[Landlock],
        Bare::Any,
        r#"my $h; try("open", sysopen($h,"$E{SHOWN}/pipe",O_WRONLY|O_NONBLOCK) && syswrite($h,"bad"));"#,
    ),
    (
        "poison_cache",
        &[],
        Bare::Any,
        r#"if(open(my $h,'>>',"$E{CACHE}/tool")){print $h "bad"} refused("no change of the shared cache");"#,
    ),
    ("setuid_zero", &[User], Bare::Root, r#"POSIX::setuid(0); try("setuid", $<==0);"#),
];

const PROCESSES: &[Row] = &[
    ("read_init_memory", &[], Bare::Never, r#"op("/proc/1/mem");"#),
    ("read_init_environment", &[], Bare::Never, r#"op("/proc/1/environ");"#),
    ("list_init_descriptors", &[], Bare::Never, r#"dir("/proc/1/fd");"#),
    ("follow_init_directory", &[], Bare::Never, r#"try("readlink", readlink("/proc/1/cwd"));"#),
    ("read_worker_memory", &[Pid], Bare::Root, r#"op("/proc/$E{WORKER}/mem");"#),
    ("read_worker_environment", &[Pid], Bare::Root, r#"op("/proc/$E{WORKER}/environ");"#),
    ("list_worker_descriptors", &[Pid], Bare::Root, r#"dir("/proc/$E{WORKER}/fd");"#),
    ("see_a_host_process", &[Pid], Bare::Any, r#"rd("/proc/$E{VICTIM}/cmdline");"#),
    ("signal_a_host_process", &[Pid], Bare::Any, r#"try("kill", kill(0,$E{VICTIM}));"#),
    (
        "inherited_descriptors",
        &[],
        Bare::Never,
        r#"for(3..200){ if(open(my $h,"<&=",$_)){ my $t=readlink("/proc/self/fd/$_"); got("$_ $t") if defined $t && $t!~m{^(/proc|/dev/null)} } } refused("none");"#,
    ),
    (
        "capabilities",
        &[User],
        Bare::Root,
        r#"open(my $h,'<',"/proc/self/status") or die; my $c=join '',grep {/^Cap(Prm|Eff|Inh|Amb)/} <$h>; $c=~s/\s+/ /g; $c=~/[1-9a-f]\b|[1-9a-f]0/ && $c=~/:\s*0*[1-9a-f]/ ? got($c) : refused("sets are empty");"#,
    ),
    (
        "lower_oom_score",
        &[],
        Bare::Never,
        r#"my $h; my $ok=open($h,'>',"/proc/self/oom_score_adj") && syswrite($h,"-1000"); try("oom_score_adj", $ok);"#,
    ),
    (
        "be_the_workers_user",
        &[User],
        Bare::Any,
        r#"$< == $E{USER_ID} ? got("user $<") : refused("user $<");"#,
    ),
    (
        "map_more_users",
        &[],
        Bare::Never,
        r#"my $h; my $ok=open($h,'>',"/proc/self/uid_map") && syswrite($h,"0 0 1"); try("uid_map", $ok);"#,
    ),
    ("change_a_sysctl", &[], Bare::Never, r#"op("/proc/sys/kernel/core_pattern",'+<');"#),
    ("sysrq", &[], Bare::Never, r#"op("/proc/sysrq-trigger",'>>');"#),
    (
        "host_shared_memory",
        &[Ipc],
        Bare::Any,
        r#"my $t=''; try("shmread", shmread($E{SHM},$t,0,5)); print "$t\n";"#,
    ),
    (
        "host_name",
        &[Uts],
        Bare::Any,
        r#"my $n=(POSIX::uname())[1]; $n eq $E{HOST} ? got($n) : refused("told $n");"#,
    ),
    (
        "clone_new_user",
        &[Seccomp],
        Bare::Any,
        r#"my $r=syscall($E{SYS_CLONE},0x10000000|17,0,0,0,0); POSIX::_exit(0) if $r==0; try("clone", $r>0);"#,
    ),
];

const SOCKETS: &[Row] = &[
    (
        "host_loopback_tcp",
        &[Network],
        Bare::Any,
        r#"socket(my $s,AF_INET,SOCK_STREAM,0) or die; try("connect", connect($s,pack_sockaddr_in($E{TCP},INADDR_LOOPBACK)));"#,
    ),
    (
        "host_loopback_udp",
        &[Network],
        Bare::Any,
        r#"try("socket", 0) unless socket(my $s,AF_INET,SOCK_DGRAM,0); send($s,"bad",0,pack_sockaddr_in($E{UDP},INADDR_LOOPBACK)); refused("nobody hears it");"#,
    ),
    (
        "dns",
        &[Network],
        Bare::Any,
        r#"socket(my $s,AF_INET,SOCK_DGRAM,0) or refused("$!"); send($s,"\x12\x34\1\0\0\1\0\0\0\0\0\0\4leak\0\0\1\0\1",0,pack_sockaddr_in($E{UDP},INADDR_LOOPBACK)); refused("nobody hears it");"#,
    ),
    (
        "abstract_socket",
        &[Network, Landlock],
        Bare::Any,
        r#"socket(my $s,AF_UNIX,SOCK_STREAM,0) or die; try("connect", connect($s,pack('Sa*',AF_UNIX,"\0$E{ABSTRACT}")));"#,
    ),
    (
        "unix_socket_outside",
        &[Mount],
        Bare::Any,
        r#"socket(my $s,AF_UNIX,SOCK_STREAM,0) or die; try("connect", connect($s,pack_sockaddr_un("$E{OUTSIDE}/socket")));"#,
    ),
    ("raw_socket", &[], Bare::Root, r#"try("socket", socket(my $s,AF_INET,SOCK_RAW,1));"#),
    ("packet_socket", &[], Bare::Root, r#"try("socket", socket(my $s,17,SOCK_RAW,0));"#),
    ("netlink_audit", &[Seccomp], Bare::Any, r#"try("socket", socket(my $s,16,SOCK_RAW,9));"#),
    ("netlink_uevent", &[Seccomp], Bare::Any, r#"try("socket", socket(my $s,16,SOCK_RAW,15));"#),
    ("vsock", &[], Bare::Never, r#"try("socket", socket(my $s,40,SOCK_STREAM,0));"#),
    ("kernel_crypto", &[], Bare::Never, r#"try("socket", socket(my $s,38,SOCK_SEQPACKET,0));"#),
];

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

/// All of them.
pub(crate) fn all() -> Vec<Attack> {
    let rows = FILES.iter().chain(PROCESSES).chain(SOCKETS);
    let mut all: Vec<Attack> = rows
        .map(|(name, layers, bare, script)| Attack {
            name: (*name).to_owned(),
            layers,
            bare: *bare,
            script: (*script).to_owned(),
        })
        .collect();
    all.extend(CALLS.iter().map(|(name, number, bare, arguments)| Attack {
        name: format!("call_{name}"),
        layers: if *bare == Bare::Any { &[Seccomp] } else { &[] },
        bare: *bare,
        script: format!("sc({number},{arguments});"),
    }));
    all
}
