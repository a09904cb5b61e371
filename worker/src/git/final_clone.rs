//! A fresh clone that has seen nothing of how its content was made: where convergence is proven.

use std::path::PathBuf;

use super::error::{GitError, message_of};
use super::files::{Kind, blocking, init_git_dir, remove_any};
use super::oid::Oid;
use super::repo::RunRepo;

impl RunRepo {
    /// Clones one commit with its history into `<run>/final`, without alternates or links to
    /// other object stores, and checks out `tree` there: the tree of the commit with pins restored
    /// (see [`RunRepo::restore_pins`]). Whatever was there before is removed. Gives the path.
    ///
    /// # Errors
    /// `Local`.
    pub async fn final_clone(&self, commit: &Oid, tree: &Oid) -> Result<PathBuf, GitError> {
        let path = self.dir().join("final");
        let git_dir = path.join(".git");
        let (root, made) = (path.clone(), git_dir.clone());
        blocking("prepare final clone", move || {
            remove_any(&root)?;
            init_git_dir(&made, Kind::Lent, &[])
        })
        .await?;
        let mut wanted = vec![commit.clone()];
        if self.tree_of(commit).await? != *tree {
            let epoch = jiff::Timestamp::UNIX_EPOCH;
            let parents = std::slice::from_ref(commit);
            wanted.push(self.commit_tree(tree, parents, "pins restored", epoch).await?);
        }
        let options = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"];
        let call = self.git().call(&git_dir, options).arg(self.git_dir());
        let call = wanted.iter().fold(call, |call, oid| call.arg(oid.as_str()));
        let output = call.output().await?;
        if output.code != Some(0) {
            return Err(GitError::local("fetch", message_of(&output.stderr)));
        }
        let (head, oid) = (git_dir.join("refs/heads/flyball"), commit.clone());
        blocking("write head", move || std::fs::write(head, format!("{oid}\n"))).await?;
        self.git()
            .call(&git_dir, ["read-tree", "--reset", "-u", tree.as_str()])
            .work_tree(&path, &git_dir.join("index"))
            .ok()
            .await?;
        Ok(path)
    }
}
