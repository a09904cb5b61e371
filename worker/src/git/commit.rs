//! Commits, and trees with pinned paths put back.

use flyball_core::resource::PinSet;

use super::error::GitError;
use super::files::blocking;
use super::loose::write_object;
use super::objects::Object;
use super::oid::Oid;
use super::repo::RunRepo;
use super::runner::{IDENTITY_EMAIL, IDENTITY_NAME};

/// The content of a commit by one author and committer, NUL-free by force.
pub(super) fn commit_text(tree: &Oid, parents: &[Oid], who: &str, message: &str) -> String {
    use std::fmt::Write;
    let mut text = format!("tree {tree}\n");
    for parent in parents {
        let _ = writeln!(text, "parent {parent}");
    }
    let _ = write!(text, "author {who}\ncommitter {who}\n\n{}", message.trim_end());
    text.replace('\0', " ") + "\n"
}

/// Flyball as an author, at a time.
pub(super) fn flyball_at(at: jiff::Timestamp) -> String {
    format!("{IDENTITY_NAME} <{IDENTITY_EMAIL}> {} +0000", at.as_second().max(0))
}

impl RunRepo {
    /// Makes a commit by Flyball. The same arguments give the same id.
    ///
    /// # Errors
    /// `Local`.
    pub async fn commit_tree(
        &self,
        tree: &Oid,
        parents: &[Oid],
        message: &str,
        at: jiff::Timestamp,
    ) -> Result<Oid, GitError> {
        self.write_commit(commit_text(tree, parents, &flyball_at(at), message)).await
    }

    /// Writes a commit object as it is.
    pub(super) async fn write_commit(&self, text: String) -> Result<Oid, GitError> {
        let objects = self.git_dir().join("objects");
        let written = move || Ok(write_object(&objects, "commit", text.as_bytes()));
        blocking("write commit", written).await?
    }

    /// The tree of a commit.
    ///
    /// # Errors
    /// `Local` if there is no such commit.
    pub async fn tree_of(&self, commit: &Oid) -> Result<Oid, GitError> {
        let object = self.object(commit).await?;
        let tree = object.as_ref().and_then(Object::commit).map(|commit| commit.tree);
        let is_tree = object.is_some_and(|object| object.kind == "tree");
        let tree = tree.or_else(|| is_tree.then(|| commit.clone()));
        tree.ok_or_else(|| GitError::local("cat-file", format!("{commit} is not a commit here")))
    }

    /// The first of these objects that is not a commit here; `None` if all are.
    ///
    /// # Errors
    /// `Local`.
    pub async fn missing_commit(&self, commits: &[&Oid]) -> Result<Option<Oid>, GitError> {
        for commit in commits {
            if self.object(commit).await?.is_none_or(|object| object.kind != "commit") {
                return Ok(Some((*commit).clone()));
            }
        }
        Ok(None)
    }

    /// True if `ancestor` is `commit` or one of its ancestors.
    ///
    /// # Errors
    /// `Local`, also if one of them is not here.
    pub async fn is_ancestor(&self, ancestor: &Oid, commit: &Oid) -> Result<bool, GitError> {
        let call = self.call(["merge-base", "--is-ancestor", ancestor.as_str(), commit.as_str()]);
        let output = call.output().await?;
        match output.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(GitError::local("merge-base", super::error::message_of(&output.stderr))),
        }
    }

    /// The tree with every pinned path as it is in `base_tree`: edits undone, removed files back,
    /// added ones gone. The tree itself if no pinned path differs.
    ///
    /// # Errors
    /// `Local`.
    pub async fn restore_pins(
        &self,
        tree: &Oid,
        base_tree: &Oid,
        pins: &PinSet,
    ) -> Result<Oid, GitError> {
        if pins.is_empty() || tree == base_tree {
            return Ok(tree.clone());
        }
        let changes = self.diff(base_tree, tree).await?;
        let mut info = Vec::new();
        for change in changes.iter().filter(|change| pins.is_pinned(&change.path)) {
            let (mode, oid) = &change.old;
            let mode = if mode == "000000" { "0" } else { mode };
            info.extend_from_slice(format!("{mode} {oid}\t{}\0", change.path).as_bytes());
        }
        if info.is_empty() {
            return Ok(tree.clone());
        }
        let index = self.git_dir().join("pins.index");
        self.call(["read-tree", tree.as_str()]).index(&index).ok().await?;
        let options = ["update-index", "--add", "--replace", "-z", "--index-info"];
        self.call(options).index(&index).stdin(info).ok().await?;
        self.call(["write-tree"]).index(&index).oid().await
    }
}
