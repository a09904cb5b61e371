//! Manifests and repositories that several cases use.

use flyball_tests::repo::Repo;

/// A repository with a list of items, of which a check wants each to be `done`.
pub(crate) fn list(items: &[&str]) -> Repo {
    let text: String = items.iter().map(|item| format!("{item} open\n")).collect();
    Repo::with(&[("list.txt", &text), ("other/file.txt", "other\n")])
}

/// A loop whose agent finishes one item of the list per iteration.
pub(crate) fn finish_list(name: &str, repo: &Repo, agent: &str, extra: &str) -> String {
    let url = repo.path().display().to_string();
    format!(
        r#"apiVersion: flyball.dev/v1
kind: Loop
metadata: {{name: {name}}}
spec:
  goal: Finish every item of the list.
  workspace: {{git: {{url: {url}, ref: main, publish: {{branch: main}}}}}}
  owns: [list.txt]
  checks:
    - name: list
      run: |
        sed -n 's/ done$//p' list.txt | sed 's/^/ok /'
        sed -n 's/ open$//p' list.txt | sed 's/^/open /'
        ! grep -q ' open$' list.txt
      score: {{regex: {{pass: '^ok (?P<name>\w+)', fail: '^open (?P<name>\w+)'}}}}
  agent:
    command: |
      {agent}
{extra}"#
    )
}

/// The agent of [`finish_list`]: one item per iteration.
pub(crate) const FINISH_ONE: &str = "sed -i '0,/ open$/s// done/' list.txt";
