//! The files under version control, and those about to be (untracked, not ignored), as text.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One text file of the tree.
pub(crate) struct File {
    /// Relative to the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    #[cfg(test)]
    pub(crate) fn sample(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Programs under `examples/` are what demo loops work on: broken on purpose, in their own style.
    pub(crate) fn is_fixture(&self) -> bool {
        self.path.starts_with("examples/") || self.path.contains("/fixtures/")
    }

    /// Code that ships, as opposed to code that tests, measures or builds it.
    pub(crate) fn is_product_code(&self) -> bool {
        let aside = ["tests", "benches", "examples", "fuzz"];
        let in_aside = self.path.split('/').any(|part| aside.contains(&part));
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.is_rust() && !in_aside && name != "tests.rs" && name != "build.rs"
    }
}

/// All text files; binary ones are left out.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    listed: Vec<String>,
}

impl Tree {
    pub(crate) fn read() -> Tree {
        let root = root();
        let listed = list(&root);
        let files = listed.iter().filter_map(|path| read_text(&root, path)).collect();
        Tree { files, listed }
    }

    /// True for a file of the tree and for a directory that holds one.
    pub(crate) fn has(&self, path: &str) -> bool {
        let directory = format!("{}/", path.trim_end_matches('/'));
        path.is_empty() || self.listed.iter().any(|f| f == path || f.starts_with(&directory))
    }

    /// The text of a file that must exist.
    pub(crate) fn text(&self, path: &str) -> &str {
        let found = self.files.iter().find(|file| file.path == path);
        &found.unwrap_or_else(|| panic!("{path} is missing")).text
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn list(root: &Path) -> Vec<String> {
    let output = Command::new("git")
        .current_dir(root)
        // The clone may belong to another user than the one who runs its tests (a container, a CI runner).
        .args(["-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"])
        .output()
        .expect("git must be installed");
    assert!(
        output.status.success(),
        "the tidy rules need a git clone: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).unwrap();
    let mut listed: Vec<String> =
        names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    listed.sort();
    listed.dedup();
    assert!(listed.len() > 50, "only {} files are listed", listed.len());
    listed
}

/// Nothing for binary files, symbolic links to nowhere, and files deleted but still in the index.
fn read_text(root: &Path, path: &str) -> Option<File> {
    let bytes = std::fs::read(root.join(path)).ok()?;
    if bytes.contains(&0) {
        return None;
    }
    String::from_utf8(bytes).ok().map(|text| File { path: path.to_owned(), text })
}

#[test]
fn the_tree_holds_this_file() {
    let tree = Tree::read();
    assert!(tree.text("tests/tidy/tree.rs").starts_with("//! The files under version control"));
    assert!(tree.has("tests/tidy") && tree.has("tests/tidy/") && !tree.has("tests/tid"));
}

#[test]
fn test_code_is_told_from_product_code() {
    let product = |path| File::sample(path, "").is_product_code();
    assert!(product("crates/core/src/ids.rs"));
    assert!(!product("crates/core/src/lease/tests.rs"));
    assert!(!product("tests/tidy/tree.rs"));
    assert!(!product("worker/src/git/tests/fixture.rs"));
    assert!(!product("proto/build.rs"));
    assert!(!product("README.md"));
}
