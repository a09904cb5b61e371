//! Carries accepted commits over to a base that moved, without a worktree.

use std::collections::BTreeSet;

use super::commit::commit_text;
use super::error::{GitError, message_of};
use super::oid::Oid;
use super::repo::RunRepo;

/// Longest chain that is carried over; the bound of a loop's iterations.
const CHAIN_MAX: usize = 10_000;
/// Most bytes of the list of its commits: records are short, messages are ours.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most conflicting paths that are named.
const PATHS_MAX: usize = 50;

/// What became of a rebase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebased {
    /// The chain on the new base; the new base itself if nothing of it was left to do.
    Done {
        /// Its last commit.
        commit: Oid,
    },
    /// A commit of the chain does not apply.
    Conflict {
        /// Where, at most 50 paths.
        paths: Vec<String>,
    },
}

/// One commit of the chain.
struct Step {
    tree: Oid,
    author: String,
    message: String,
}

impl RunRepo {
    /// Applies the commits after `old_base` up to `tip` to `new_base`, one by one, keeping author
    /// and message. Commits whose change is already there vanish. A change never lands on a
    /// path that it was not made to: where the new base renamed a file, that is a conflict.
    ///
    /// # Errors
    /// `Local`; a conflict is not an error.
    pub async fn rebase(
        &self,
        old_base: &Oid,
        tip: &Oid,
        new_base: &Oid,
    ) -> Result<Rebased, GitError> {
        let mut parent_tree = self.tree_of(old_base).await?;
        let mut onto = new_base.clone();
        let mut onto_tree = self.tree_of(new_base).await?;
        for step in self.chain(old_base, tip).await? {
            let merged = match self.merge(&parent_tree, &onto_tree, &step.tree).await? {
                Ok(tree) => tree,
                Err(paths) => return Ok(Rebased::Conflict { paths }),
            };
            parent_tree = step.tree;
            if merged == onto_tree {
                continue;
            }
            let text = commit_text(&merged, &[onto], &step.author, &step.message);
            onto = self.write_commit(text).await?;
            onto_tree = merged;
        }
        let strayed = self.strayed(old_base, tip, new_base, &onto).await?;
        if strayed.is_empty() {
            Ok(Rebased::Done { commit: onto })
        } else {
            Ok(Rebased::Conflict { paths: strayed })
        }
    }

    /// Paths that the carried-over chain changes and the original does not: the merge followed a
    /// rename of the new base. Git before 2.49 cannot be told not to (`merge.renames` is ignored
    /// by `merge-tree`), so the result is checked.
    async fn strayed(
        &self,
        old_base: &Oid,
        tip: &Oid,
        new_base: &Oid,
        rebased: &Oid,
    ) -> Result<Vec<String>, GitError> {
        let before: BTreeSet<String> =
            self.diff(old_base, tip).await?.into_iter().map(|change| change.path).collect();
        let after = self.diff(new_base, rebased).await?.into_iter().map(|change| change.path);
        Ok(after.filter(|path| !before.contains(path)).take(PATHS_MAX).collect())
    }

    /// The commits from `old_base` (exclusive) to `tip`, oldest first.
    async fn chain(&self, old_base: &Oid, tip: &Oid) -> Result<Vec<Step>, GitError> {
        let range = format!("{old_base}..{tip}");
        let options = [
            "log",
            "--first-parent",
            "--topo-order",
            "--reverse",
            "-z",
            "--encoding=UTF-8",
            "--date=raw",
            "--format=%T%n%an <%ae> %ad%n%B",
            &range,
        ];
        let output = self.call(options).stdout_bytes_max(LIST_BYTES_MAX).ok().await?;
        let text = output.text();
        let mut steps = Vec::new();
        for entry in text.split('\0').filter(|entry| !entry.trim().is_empty()) {
            let mut parts = entry.splitn(3, '\n');
            let tree = parts.next().unwrap_or_default().parse()?;
            let author = parts.next().unwrap_or_default().to_owned();
            let message = parts.next().unwrap_or_default().to_owned();
            steps.push(Step { tree, author, message });
        }
        if steps.len() > CHAIN_MAX {
            return Err(GitError::local("rebase", format!("more than {CHAIN_MAX} commits")));
        }
        Ok(steps)
    }

    /// Three-way merge of trees: what `theirs` did to `base`, done to `ours`. `Err` holds the
    /// conflicting paths.
    async fn merge(
        &self,
        base: &Oid,
        ours: &Oid,
        theirs: &Oid,
    ) -> Result<Result<Oid, Vec<String>>, GitError> {
        if base == ours {
            return Ok(Ok(theirs.clone()));
        }
        // `merge-tree --merge-base` came with git 2.40 only; commits made for the purpose say the
        // same to 2.38.
        let epoch = jiff::Timestamp::UNIX_EPOCH;
        let base = self.commit_tree(base, &[], "base", epoch).await?;
        let parents = [base];
        let ours = self.commit_tree(ours, &parents, "ours", epoch).await?;
        let theirs = self.commit_tree(theirs, &parents, "theirs", epoch).await?;
        let options = [
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            "--no-messages",
            ours.as_str(),
            theirs.as_str(),
        ];
        let output = self.call(options).stdout_bytes_max(LIST_BYTES_MAX).output().await?;
        let text = output.text();
        let mut fields = text.split('\0').filter(|field| !field.is_empty());
        match output.code {
            Some(0) => Ok(Ok(fields.next().unwrap_or_default().trim().parse()?)),
            Some(1) => Ok(Err(fields.skip(1).take(PATHS_MAX).map(str::to_owned).collect())),
            _ => Err(GitError::local("merge-tree", message_of(&output.stderr))),
        }
    }
}
