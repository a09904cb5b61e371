//! `flyball init`: writes a manifest for the repository you stand in.

mod detect;
mod repository;
mod template;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use self::detect::Project;
use self::repository::Repository;
use crate::output::Out;
use crate::{Exit, Failure, Outcome};

/// Arguments of `init`.
#[derive(Debug, Clone, Args)]
pub struct Init {
    /// Directory inside the repository.
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// File to write; - prints the manifest instead.
    #[arg(short, long, value_name = "FILE", default_value = "flyball.yaml")]
    file: PathBuf,
    /// Name of the loop [default: from the repository's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(super) fn run(self, out: &mut Out) -> Outcome {
        let repository = Repository::around(&self.directory)?;
        let project = Project::detect(&repository.root);
        let name = match &self.name {
            Some(name) => checked(name)?,
            None => template::loop_name(&repository.root),
        };
        let text = template::manifest(&name, &repository, &project);
        if self.file.as_os_str() == "-" {
            out.raw(text.as_bytes())?;
            return Ok(Exit::Ok);
        }
        let file = self.directory.join(&self.file);
        let file = file.strip_prefix(".").unwrap_or(&file);
        self.write(file, &text)?;
        let shown = file.display();
        out.line(format!("wrote {shown} ({})", project.description()))?;
        if !repository.below.as_os_str().is_empty() {
            let (root, below) = (repository.root.display(), repository.below.display());
            out.note(format!("it is about the whole repository {root}, where its checks run; for"));
            out.note(format!(
                "{below} alone, set owns to {below}/** and the check to what tests it"
            ));
        }
        if repository.is_dirty && repository.has_commit {
            out.note("changes that are not committed are not seen: a loop starts from a commit");
        }
        out.note("next: edit its goal, owns and agent, then");
        out.note(format!("  flyball validate -f {shown}"));
        out.note(format!("  flyball apply -f {shown}"));
        Ok(Exit::Ok)
    }

    fn write(&self, file: &Path, text: &str) -> Result<(), Failure> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true);
        match self.force {
            true => options.create(true).truncate(true),
            // Never replaces a file that appeared in between either.
            false => options.create_new(true),
        };
        let written = options.open(file).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::new("already-exists", format!("{} exists already", file.display()))
                    .hint("replace it with --force, or print to the terminal: flyball init -f -")
            }
            _ => Failure::new("output", format!("{} cannot be written: {error}", file.display())),
        })
    }
}

fn checked(name: &str) -> Result<String, Failure> {
    match flyball_core::ids::check_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(invalid) => Err(Failure::usage(invalid.to_string())),
    }
}
