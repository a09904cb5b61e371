//! The protocol of controllers against a model of the kernel's rules, and against the kernel where it can be had.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::*;

/// A group of the model.
#[derive(Default, Clone)]
struct Group {
    root: bool,
    has: BTreeSet<String>,
    on: BTreeSet<String>,
    processes: BTreeSet<u32>,
}

/// The kernel's rules (cgroups(7)), as far as they matter here.
#[derive(Default)]
struct Model {
    groups: RefCell<BTreeMap<PathBuf, Group>>,
    /// Files that cannot be written to.
    read_only: BTreeSet<PathBuf>,
    /// A process that is born whenever one is moved.
    forks: bool,
}

fn error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

impl Model {
    /// A group `/s` that has these controllers and these processes.
    fn new(has: &[&str], processes: &[u32]) -> Self {
        let group = Group {
            has: has.iter().map(|name| (*name).to_owned()).collect(),
            processes: processes.iter().copied().collect(),
            ..Group::default()
        };
        let model = Self::default();
        model.groups.borrow_mut().insert("/s".into(), group);
        model
    }

    fn group(&self, path: &str) -> Group {
        self.groups.borrow().get(Path::new(path)).cloned().unwrap_or_default()
    }

    fn split(path: &Path) -> (PathBuf, &str) {
        let file = path.file_name().unwrap().to_str().unwrap();
        (path.parent().unwrap().to_owned(), file)
    }
}

impl Tree for Model {
    fn read(&self, path: &Path) -> io::Result<String> {
        let (dir, file) = Self::split(path);
        let groups = self.groups.borrow();
        let group = groups.get(&dir).ok_or_else(|| error(Errno::ENOENT))?;
        let words = |names: &BTreeSet<String>| {
            format!("{}\n", names.iter().cloned().collect::<Vec<_>>().join(" "))
        };
        match file {
            "cgroup.controllers" => Ok(words(&group.has)),
            "cgroup.subtree_control" => Ok(words(&group.on)),
            "cgroup.type" if !group.root => Ok("domain\n".into()),
            "cgroup.procs" => Ok(group.processes.iter().map(|pid| format!("{pid}\n")).collect()),
            _ => Err(error(Errno::ENOENT)),
        }
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        if self.read_only.contains(path) {
            return Err(error(Errno::EACCES));
        }
        let (dir, file) = Self::split(path);
        let mut groups = self.groups.borrow_mut();
        if file == "cgroup.procs" {
            let pid: u32 = text.parse().unwrap();
            let from = groups.values_mut().find(|group| group.processes.contains(&pid));
            let from = from.ok_or_else(|| error(Errno::ESRCH))?;
            from.processes.remove(&pid);
            if self.forks {
                from.processes.insert(pid + 1);
            }
            groups.get_mut(&dir).unwrap().processes.insert(pid);
            return Ok(());
        }
        assert_eq!(file, "cgroup.subtree_control");
        let name = text.strip_prefix('+').unwrap().to_owned();
        let group = groups.get_mut(&dir).ok_or_else(|| error(Errno::ENOENT))?;
        if !group.has.contains(&name) {
            return Err(error(Errno::ENOENT));
        }
        if !group.root && !group.processes.is_empty() {
            return Err(error(Errno::EBUSY));
        }
        group.on.insert(name);
        Ok(())
    }

    fn make(&self, dir: &Path) -> io::Result<()> {
        let mut groups = self.groups.borrow_mut();
        if groups.contains_key(dir) {
            return Err(error(Errno::EEXIST));
        }
        let has = groups.get(dir.parent().unwrap()).unwrap().on.clone();
        groups.insert(dir.to_owned(), Group { has, ..Group::default() });
        Ok(())
    }
}

fn pass(model: &Model, ours: &[u32]) -> Passed {
    pass_on(model, Path::new("/s"), &WANTED, |pid| ours.contains(&pid))
}

#[test]
fn own_processes_make_room_and_the_controllers_are_passed_on() {
    let model = Model::new(&["cpu", "io", "memory", "pids"], &[7, 8]);
    let passed = pass(&model, &[7, 8]);
    assert_eq!(passed, Passed { on: WANTED_SORTED.map(str::to_owned).into(), lacks: vec![] });
    assert_eq!(model.group("/s").processes, BTreeSet::new());
    assert_eq!(model.group("/s/flyball-main").processes, [7, 8].into());
    // Not more than is wanted.
    assert!(!model.group("/s").on.contains("io"));
    // The next guard, of a worker that is in there by now, finds it done and moves nobody.
    assert_eq!(parent_of(Path::new("/s/flyball-main")), Path::new("/s"));
    assert_eq!(parent_of(Path::new("/s")), Path::new("/s"));
    assert_eq!(pass(&model, &[]), passed);
}

/// In the order in which the kernel tells them.
const WANTED_SORTED: [&str; 3] = ["cpu", "memory", "pids"];

#[test]
fn processes_of_others_are_left_where_they_are() {
    let model = Model::new(&["memory", "pids"], &[7, 100]);
    let passed = pass(&model, &[7]);
    assert_eq!(passed.on, [""; 0]);
    assert_eq!(model.group("/s").processes, [7, 100].into());
    assert!(passed.lacks.iter().any(|why| why.contains("process 100")), "{passed:?}");
    assert!(passed.lacks.iter().any(|why| why.starts_with("cpu: not given to /s")), "{passed:?}");
}

#[test]
fn what_stands_in_the_way_is_said() {
    let mut model = Model::new(&["memory", "pids", "cpu"], &[7]);
    model.read_only.insert("/s/cgroup.subtree_control".into());
    let passed = pass(&model, &[7]);
    assert!(passed.on.is_empty());
    assert!(passed.lacks.iter().all(|why| why.contains("Permission denied")), "{passed:?}");
    assert_eq!(passed.lacks.len(), 3);

    let mut model = Model::new(&["memory"], &[7]);
    model.read_only.insert("/s/flyball-main/cgroup.procs".into());
    let passed = pass(&model, &[7]);
    assert!(passed.lacks.iter().any(|why| why.contains("process 7: Permission")), "{passed:?}");

    let mut model = Model::new(&["memory"], &[7]);
    model.forks = true;
    let passed = pass_on(&model, Path::new("/s"), &WANTED, |_| true);
    assert!(passed.on.is_empty());
    assert!(passed.lacks.iter().any(|why| why.contains("faster")), "{passed:?}");

    let none = pass_on(&Model::default(), Path::new("/s"), &WANTED, |_| true);
    assert!(none.on.is_empty() && none.lacks.len() == 1, "{none:?}");
}

#[test]
fn the_root_of_the_machine_keeps_its_processes() {
    let model = Model::new(&["memory"], &[1, 2, 3]);
    model.groups.borrow_mut().get_mut(Path::new("/s")).unwrap().root = true;
    let passed = pass(&model, &[]);
    assert_eq!(passed.controllers(), Controllers { memory: true, ..Controllers::default() });
    assert_eq!(model.group("/s").processes, [1, 2, 3].into());
}

/// A group on the real tree, removed with all that is in it.
struct Real {
    dir: PathBuf,
    /// Controller that was not passed on before, and where.
    switched: Option<(PathBuf, String)>,
}

impl Real {
    /// Skips loudly where this test may make none, or there is no domain controller to try it with.
    fn make() -> Option<(Self, String)> {
        let own = super::super::own_group().ok();
        let made = own.and_then(|own| {
            let own = parent_of(&own);
            let has = Kernel.read(&own.join("cgroup.controllers")).ok()?;
            // Any domain controller will do; at the machine's root, or one that can be passed on here.
            let root = Kernel.read(&own.join("cgroup.type")).is_err();
            let mut wanted =
                ["memory", "io", "hugetlb"].into_iter().filter(|name| has.contains(name));
            if !root {
                pass_on(&Kernel, &own, &wanted.clone().collect::<Vec<_>>(), is_ours);
            }
            let on = Kernel.read(&own.join("cgroup.subtree_control")).ok()?;
            let usable = |name: &&str| root || on.split_whitespace().any(|one| one == *name);
            let name = wanted.find(usable)?.to_owned();
            let dir = own.join(format!("flyball-test-{}", std::process::id()));
            std::fs::create_dir(&dir).ok()?;
            let mut real = Self { dir, switched: None };
            if root && !on.contains(&name) {
                switch_on(&Kernel, &own, &name).ok()?;
                real.switched = Some((own, name.clone()));
            }
            Some((real, name))
        });
        if made.is_none() {
            // Not by a macro, whose output is shown of failed tests only.
            let text = "SKIPPED: no cgroup v2 group with a domain controller can be made here\n";
            let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        }
        made
    }

    fn procs(&self, group: &str) -> String {
        Kernel
            .read(&self.dir.join(group).join("cgroup.procs"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = Kernel.write(&self.dir.join("cgroup.kill"), "1");
        for _ in 0..1000 {
            super::super::remove_tree(&self.dir, 2);
            if !self.dir.exists() {
                break;
            }
            std::thread::yield_now();
        }
        if let Some((own, name)) = &self.switched {
            let _ = Kernel.write(&own.join("cgroup.subtree_control"), &format!("-{name}"));
        }
    }
}

#[test]
fn the_kernel_agrees_with_the_model() {
    let Some((real, name)) = Real::make() else { return };
    let name = name.as_str();
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let pid = child.id();
    Kernel.write(&real.dir.join("cgroup.procs"), &pid.to_string()).unwrap();
    // With a process in it the kernel refuses, as the model does.
    let busy = switch_on(&Kernel, &real.dir, name).unwrap_err();
    assert_eq!(busy.raw_os_error(), Some(Errno::EBUSY as i32), "{busy}");
    let refused = pass_on(&Kernel, &real.dir, &[name], |_| false);
    assert!(refused.on.is_empty() && refused.lacks[0].contains("others"), "{refused:?}");
    assert_eq!(real.procs(""), pid.to_string());
    let passed = pass_on(&Kernel, &real.dir, &[name], |found| found == pid);
    assert_eq!(passed, Passed { on: vec![name.to_owned()], lacks: vec![] });
    assert_eq!((real.procs("").as_str(), real.procs(MAIN)), ("", pid.to_string()));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn only_processes_of_this_program_and_their_children_are_ours() {
    assert!(is_ours(std::process::id()));
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    assert!(is_ours(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!is_ours(1));
}
