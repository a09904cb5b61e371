//! One attempt of an agent: its definition with the values of this run, a home of its own, and what is asked of it.

use std::fs;
use std::io;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use flyball_core::model::{
    AgentDefinition, AgentValues, Filled, MODEL_LARGE, Protocol, fill, is_cleared, preset,
};
use flyball_core::spec::AgentSpec;
use flyball_sandbox::Who;

use super::Run;
use super::brief::BriefFiles;
use super::halt::Halt;
use crate::git::remove_any;

/// Largest file that an agent leaves about itself and that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How an agent reaches models: what the run's gateway gives it.
#[derive(Debug, Clone, Default)]
pub(super) struct ModelAccess {
    /// `http://127.0.0.1:PORT`, as the agent sees it.
    pub(super) url: String,
    /// The run's key.
    pub(super) key: String,
    /// What the providers behind its routes speak; empty if that is not known.
    pub(super) served: Vec<Protocol>,
    /// Whether some of them is not the vendor's own.
    pub(super) routed_elsewhere: bool,
}

/// An agent that is ready to be run once.
pub(super) struct Attempt {
    /// Its name in records: that of the definition; for a plain command, nothing.
    pub(super) name: String,
    pub(super) definition: AgentDefinition,
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) stdin: Option<Vec<u8>>,
    /// The program `flyball`, if the agent is a part of it.
    pub(super) show: Vec<PathBuf>,
    /// Its own home, if it has one.
    pub(super) home: Option<PathBuf>,
}

impl Run {
    /// The definition of an agent: a command is one of which nothing is known.
    fn definition(&self, agent: &AgentSpec) -> Result<AgentDefinition, Halt> {
        let Some(name) = &agent.uses else {
            return Ok(AgentDefinition::plain(agent.argv()));
        };
        let given = self.definition.clone().or_else(|| preset(name));
        let mut definition = given.ok_or_else(|| Halt::no_agent(name))?;
        definition.command.extend(agent.args.iter().cloned());
        Ok(definition)
    }

    /// Makes what one attempt needs.
    pub(super) async fn attempt(
        &self,
        agent: &AgentSpec,
        number: u32,
        files: &BriefFiles,
    ) -> Result<Attempt, Halt> {
        let definition = self.definition(agent)?;
        let own = agent.uses.is_some();
        let access = self.model_access().cloned();
        if definition.protocol.is_some() && access.is_none() {
            return Err(Halt::no_route(&self.id.key));
        }
        let access = access.unwrap_or_default();
        let home = self.rooms(Who::Agent).home().join("attempt");
        let values = self.values(agent, &definition, &access, &home, files)?;
        let Filled { argv, env, files: texts, stdin } = fill(&definition, &values);
        let mut all = self.base_env(Who::Agent, number);
        if own {
            all.retain(|(name, _)| !is_cleared(name));
            make_home(home.clone(), texts).await.map_err(|error| {
                Halt::node_fault(&format!("cannot make {}: {error}", home.display()))
            })?;
            set(&mut all, [("HOME".to_owned(), values.home.clone())]);
        }
        set(&mut all, env);
        set(&mut all, agent.env.clone());
        set(&mut all, brief_env(files));
        let flyball = argv.first().is_some_and(|program| *program == values.flyball);
        Ok(Attempt {
            name: agent.uses.clone().unwrap_or_default(),
            definition,
            argv,
            env: all,
            stdin: stdin.map(String::into_bytes),
            show: flyball.then(|| PathBuf::from(&values.flyball)).into_iter().collect(),
            home: own.then_some(home),
        })
    }

    fn values(
        &self,
        agent: &AgentSpec,
        definition: &AgentDefinition,
        access: &ModelAccess,
        home: &Path,
        files: &BriefFiles,
    ) -> Result<AgentValues, Halt> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let prompt = fs::read_to_string(&files.text)
            .map_err(|error| Halt::node_fault(&format!("cannot read the brief: {error}")))?;
        let model = agent.model.clone().or_else(|| definition.model.clone());
        let span = tracing::Span::current();
        let trace = flyball_telemetry::current_traceparent(&span);
        Ok(AgentValues {
            gateway: access.url.clone(),
            key: access.key.clone(),
            protocol: protocol(definition, &access.served),
            model: model.unwrap_or_else(|| MODEL_LARGE.to_owned()),
            prompt,
            prompt_file: text(&files.text),
            session: uuid::Uuid::new_v4().to_string(),
            home: text(home),
            report: text(&files.report),
            // The guard is the same program, of the same build.
            flyball: self.context.config.guard_command.first().cloned().unwrap_or_default(),
            traceparent: trace.unwrap_or_else(|| self.traceparent.clone()),
            routed_elsewhere: access.routed_elsewhere,
        })
    }
}

/// What an agent speaks: its own protocol, or, of the built-in one that speaks them all, one that is served.
fn protocol(definition: &AgentDefinition, served: &[Protocol]) -> Option<Protocol> {
    let own = definition.protocol?;
    let any = definition.output == "builtin" && !served.contains(&own);
    served.first().copied().filter(|_| any).or(Some(own))
}

/// Sets variables, in place of what was set under their names.
fn set(env: &mut Vec<(String, String)>, new: impl IntoIterator<Item = (String, String)>) {
    for (name, value) in new {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
}

/// Where the brief is and the report goes.
fn brief_env(files: &BriefFiles) -> [(String, String); 4] {
    let paths = [
        ("FLYBALL_BRIEF", &files.json),
        ("FLYBALL_BRIEF_TEXT", &files.text),
        ("FLYBALL_FAILING", &files.failing),
        ("FLYBALL_REPORT", &files.report),
    ];
    paths.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned()))
}

/// An empty home with these files, whatever an earlier attempt left there.
async fn make_home(home: PathBuf, files: Vec<(String, String)>) -> io::Result<()> {
    let make = move || {
        remove_any(&home)?;
        fs::create_dir(&home)?;
        for (path, text) in files {
            let inside =
                Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)));
            if !inside {
                return Err(io::Error::other(format!("{path:?} is no path below a home")));
            }
            let path = home.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&home))?;
            fs::write(path, text)?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(make).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A file that an agent left about itself in its home, if it is an ordinary one of a bearable size. Nothing of the
/// agent runs any more; a link that it left is not followed.
pub(super) fn read_left(home: &Path, name: &str) -> Option<Vec<u8>> {
    if !fs::symlink_metadata(home).ok()?.is_dir() {
        return None;
    }
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(home.join(name));
    let file = file.ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_built_in_agent_speaks_what_is_served() {
        use Protocol::{Anthropic, Chat, Responses};
        let builtin = preset("builtin").unwrap();
        assert_eq!(protocol(&builtin, &[]), Some(Anthropic));
        assert_eq!(protocol(&builtin, &[Chat, Anthropic]), Some(Anthropic));
        assert_eq!(protocol(&builtin, &[Responses]), Some(Responses));
        assert_eq!(protocol(&preset("codex").unwrap(), &[Chat]), Some(Responses));
        assert_eq!(protocol(&AgentDefinition::plain(Vec::new()), &[Chat]), None);
    }

    #[tokio::test]
    async fn every_attempt_has_a_home_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("attempt");
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        // What an earlier attempt put in its place leads nowhere.
        symlink(&outside, &home).unwrap();
        let files = vec![("a/b.toml".to_owned(), "x = 1".to_owned())];
        make_home(home.clone(), files.clone()).await.unwrap();
        assert!(outside.join("kept").exists() && !outside.join("a").exists());
        fs::write(home.join("left"), "").unwrap();
        make_home(home.clone(), files).await.unwrap();
        assert_eq!(fs::read_to_string(home.join("a/b.toml")).unwrap(), "x = 1");
        assert!(!home.join("left").exists());
        for bad in ["../x", "/etc/x", "a/../../x"] {
            let files = vec![(bad.to_owned(), String::new())];
            assert!(make_home(home.clone(), files).await.is_err(), "{bad}");
        }
    }

    #[test]
    fn what_an_agent_left_is_read_only_if_it_is_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        assert_eq!(read_left(&home, "t"), None);
        fs::create_dir(&home).unwrap();
        fs::write(home.join("t"), "1").unwrap();
        assert_eq!(read_left(&home, "t"), Some(b"1".to_vec()));
        symlink("/etc/hostname", home.join("link")).unwrap();
        assert_eq!(read_left(&home, "link"), None);
        symlink(&home, dir.path().join("other")).unwrap();
        assert_eq!(read_left(&dir.path().join("other"), "t"), None);
        nix::unistd::mkfifo(&home.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_left(&home, "pipe"), None);
    }
}
