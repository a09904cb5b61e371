//! The scripts of attempts at files, processes, other runs and sockets, and what is left behind for a check.

use flyball_core::isolation::Layer::{
    self, Ipc, Landlock, Mount, Network, Pid, Seccomp, User, Uts,
};

use crate::list::{Bare, Row};

pub(crate) const FILES: &[Row] = &[
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
        r#"my $h; try("open", 0) unless open($h,'<',"$E{WORK}/others/file"); wr("/proc/self/fd/".fileno($h)) if $h;"#,
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
    (
        "make_a_set_id_program",
        &[Seccomp],
        Bare::Any,
        r#"open(my $h,'>',"$E{OWN}/su") or die; close $h; try("chmod", chmod(04755,"$E{OWN}/su")||chmod(02755,"$E{OWN}/su"));"#,
    ),
    (
        "create_a_set_id_program",
        &[Seccomp],
        Bare::Any,
        r#"my $h; umask 0; my $r=0; for my $m (04755,02755){ $r=1 if sysopen($h,"$E{OWN}/su$m",O_CREAT|O_WRONLY,$m) } try("open", $r);"#,
    ),
    (
        "create_a_set_id_program_by_a_structure",
        &[Seccomp],
        Bare::Any,
        r#"my $n="$E{OWN}/su\0"; my $how=pack('QQQ',O_CREAT|O_WRONLY,04755,0); my $r=syscall($E{SYS_OPENAT2},-100,$n,$how,24); try("openat2", $r>=0);"#,
    ),
    (
        "make_a_device",
        &[User],
        Bare::Root,
        r#"my $r=0; for my $d ("$E{OWN}","$E{HOME}/../tmp"){ $r=1 if !syscall($E{SYS_MKNODAT},-100,"$d/null\0",0020666,0x103) } try("mknod", $r);"#,
    ),
    (
        "be_another_program_in_memory",
        &[Mount, Landlock],
        Bare::Any,
        r#"my $n="x\0"; my $f=syscall($E{SYS_MEMFD_CREATE},$n,0); open(my $o,">&=",$f) or die; open(my $i,'<','/usr/bin/perl') or die; binmode $_ for $i,$o; { local $/; my $t=<$i>; print $o $t; } $o->flush;
        my $s='print "ready\n"; my $h; print((open($h,"<","'."$E{OUTSIDE}/canary".'") ? "GOT it: ".<$h> : "refused: $!")."\ndone\n");'; exec {"/proc/self/fd/$f"} 'perl','-e',$s; refused("exec: $!");"#,
    ),
    ("read_other_runs_file_now", &[Mount, Landlock], Bare::Any, r#"rd("$E{NEIGHBOURS}/file");"#),
    ("write_other_runs_file_now", &[Mount, Landlock], Bare::Any, r#"wr("$E{NEIGHBOURS}/file");"#),
];

/// A run beside this one, under the same guard.
pub(crate) const NEIGHBOUR: &[Row] = &[
    ("see_another_run", &[Pid], Bare::Any, r#"rd("/proc/$E{NEIGHBOUR}/cmdline");"#),
    ("signal_another_run", &[Pid], Bare::Any, r#"try("kill", kill(0,$E{NEIGHBOUR}));"#),
    (
        "trace_another_run",
        &[],
        Bare::Root,
        r#"my $r=syscall($E{SYS_PTRACE},0x4206,$E{NEIGHBOUR}+0,0,0); try("ptrace", $r==0);"#,
    ),
    ("read_another_runs_memory", &[], Bare::Root, r#"op("/proc/$E{NEIGHBOUR}/mem");"#),
    ("read_another_runs_environment", &[], Bare::Root, r#"rd("/proc/$E{NEIGHBOUR}/environ");"#),
    (
        "read_another_run_through_its_root",
        &[],
        Bare::Root,
        r#"rd("/proc/$E{NEIGHBOUR}/root$E{NEIGHBOURS}/file");"#,
    ),
    (
        "enter_another_runs_network",
        &[],
        Bare::Root,
        r#"my $h; open($h,'<',"/proc/$E{NEIGHBOUR}/ns/net") ? try("setns", !syscall($E{SYS_SETNS},fileno($h),0)) : refused("$!");"#,
    ),
];

/// What an agent leaves behind, and the check that is to fall for it.
pub(crate) const LEFT: &[(&str, &[Layer], Bare, &str, &str)] = &[
    (
        "leave_a_tool_in_a_cache",
        &[],
        Bare::Any,
        r#"open(my $h,'>',"$E{CACHE}/tool") or die "$!"; print $h 'bad'; close $h; refused("left");"#,
        r#"open(my $h,'<',"$E{CACHE}/tool") or die "$!"; my $t=<$h>; $t eq 'bad' ? got("the tool") : refused("it has the old one");"#,
    ),
    (
        "leave_settings_in_the_home",
        &[Mount, Landlock],
        Bare::Any,
        r#"open(my $h,'>',"$E{HOME}/.gitconfig") or die "$!"; print $h 'bad'; close $h; refused("left");"#,
        r#"-e "$E{HOME}/.gitconfig" ? got("it is in its home") : rd("$E{AGENT}/home/.gitconfig");"#,
    ),
    (
        "leave_a_file_in_tmp",
        &[],
        Bare::Any,
        r#"open(my $h,'>',"/tmp/flyball-left-$E{WORKER}") or die "$!"; print $h 'bad'; close $h; refused("left");"#,
        r#"my $f="/tmp/flyball-left-$E{WORKER}"; my $r=-e $f; unlink $f; try("stat", $r);"#,
    ),
    (
        "leave_a_link_to_what_is_hidden",
        &[Mount, Landlock],
        Bare::Any,
        r#"symlink("$E{OUTSIDE}/canary","$E{OWN}/../../verify/own/l") or symlink("$E{OUTSIDE}/canary","$E{OWN}/l"); refused("left");"#,
        r#"rd(-l "$E{OWN}/l" ? "$E{OWN}/l" : "$E{WORK}/own/l");"#,
    ),
    (
        "leave_a_process",
        &[],
        Bare::Never,
        r#"pipe(my $r,my $w); if(!fork){ POSIX::setsid(); exit if fork; $0="left-$E{WORKER}"; close $r; syswrite($w,'x'); close $w; sleep 15; exit } close $w; sysread($r,my $x,1); refused("left");"#,
        r#"my $n=grep { open(my $h,'<',$_) && (<$h>//'')=~/^left-$E{WORKER}/ } glob('/proc/[0-9]*/cmdline'); try("look for it", $n);"#,
    ),
    (
        "leave_shared_memory",
        &[],
        Bare::Any,
        r#"my $i=shmget($E{WORKER},4096,0666|01000); defined $i or die "$!"; refused("left");"#,
        r#"my $i=shmget($E{WORKER},4096,0); my $why="$!"; shmctl($i,0,0) if defined $i; $!=0; defined $i ? got("it is there") : refused($why);"#,
    ),
];

pub(crate) const PROCESSES: &[Row] = &[
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

pub(crate) const SOCKETS: &[Row] = &[
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
