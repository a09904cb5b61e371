//! Seal duties: what a loop that is gone leaves to whoever works on its resources next. A run that was
//! never proven to have stopped may still push; until its journal is sealed, or an operator gives the
//! duty up, every claim that overlaps its set carries it.

use serde::{Deserialize, Serialize};

use crate::ids::{LoopUid, Token};
use crate::lifecycle::UNSEALED_MAX;
use crate::status::Unsealed;

/// The seal duty of one life of a loop, kept apart from the loop. While the loop exists its status lists
/// its unsealed runs, and a record of this kind only says that they are given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SealDuty {
    /// The life of the loop.
    pub loop_uid: LoopUid,
    /// Its namespace and name, for display.
    pub loop_key: String,
    /// The runs to be sealed, at most [`UNSEALED_MAX`] per repository.
    pub runs: Vec<Unsealed>,
    /// Since when; for display only.
    pub since: Option<jiff::Timestamp>,
    /// Set when an operator gives it up.
    pub given_up: Option<GivenUp>,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// An operator's word that nobody has to wait for a seal any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GivenUp {
    /// All runs of the loop up to this token; one that is lost later is another matter.
    pub through: Token,
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// When; for display only.
    pub at: Option<jiff::Timestamp>,
}

impl SealDuty {
    /// Of a life of a loop.
    pub fn of(loop_uid: LoopUid, loop_key: String, since: jiff::Timestamp) -> Self {
        Self { loop_uid, loop_key, since: Some(since), ..Self::default() }
    }

    /// What is left of it once these journals are sealed (the repository of each, and the token of the
    /// last run that is shut out there) and what was given up is left out.
    pub fn left(&self, sealed: &[(String, Token)]) -> Vec<Unsealed> {
        let through = self.given_up.as_ref().map(|given_up| given_up.through);
        let is_sealed = |run: &Unsealed| {
            let by = |(repository, token): &(String, Token)| {
                *repository == run.repository && run.token <= *token
            };
            sealed.iter().any(by) || through.is_some_and(|through| run.token <= through)
        };
        self.runs.iter().filter(|run| !is_sealed(run)).cloned().collect()
    }
}

/// Adds a run to a list of unsealed ones. Runs of one journal and set are one entry, and so are all of
/// them once there are [`UNSEALED_MAX`].
pub fn add_unsealed(list: &mut Vec<Unsealed>, run: &Unsealed) {
    let same = |other: &&mut Unsealed| {
        other.loop_uid == run.loop_uid && other.repository == run.repository
    };
    let full = list.len() >= UNSEALED_MAX;
    let fold = list.iter_mut().filter(same).find(|other| full || other.resources == run.resources);
    match fold {
        Some(other) => {
            other.token = other.token.max(run.token);
            other.resources.extend(run.resources.iter().cloned());
            other.resources.sort();
            other.resources.dedup();
        }
        None => list.push(run.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(repository: &str, token: i64, resource: &str) -> Unsealed {
        Unsealed {
            loop_uid: "u1".into(),
            loop_key: "default/a".to_owned(),
            token: Token(token),
            resources: vec![resource.to_owned()],
            repository: repository.to_owned(),
        }
    }

    fn duty(runs: Vec<Unsealed>) -> SealDuty {
        SealDuty { runs, ..SealDuty::of("u1".into(), "default/a".to_owned(), jiff::Timestamp::MIN) }
    }

    #[test]
    fn a_duty_tells_whose_it_is_and_since_when() {
        let duty = SealDuty::of("u1".into(), "default/a".to_owned(), jiff::Timestamp::MAX);
        assert_eq!((duty.loop_uid, duty.loop_key), ("u1".into(), "default/a".to_owned()));
        assert_eq!(duty.since, Some(jiff::Timestamp::MAX));
    }

    #[test]
    fn a_seal_counts_for_its_repository_and_up_to_its_token() {
        let duty = duty(vec![run("one", 5, "x:a"), run("one", 9, "x:b"), run("two", 5, "x:c")]);
        assert_eq!(duty.left(&[]), duty.runs);
        assert_eq!(duty.left(&[("one".to_owned(), Token(5))]), duty.runs[1..]);
        assert_eq!(duty.left(&[("one".to_owned(), Token(9))]), duty.runs[2..]);
        assert_eq!(duty.left(&[("one".to_owned(), Token(4))]), duty.runs);
    }

    #[test]
    fn what_is_given_up_is_what_was_known_then() {
        let mut duty = duty(vec![run("one", 5, "x:a"), run("two", 6, "x:b")]);
        duty.given_up = Some(GivenUp { through: Token(5), ..GivenUp::default() });
        assert_eq!(duty.left(&[]), duty.runs[1..]);
    }

    #[test]
    fn runs_of_one_journal_and_set_are_one() {
        let mut list = vec![run("one", 5, "x:a")];
        add_unsealed(&mut list, &run("one", 4, "x:a"));
        assert_eq!(list, [run("one", 5, "x:a")]);
        add_unsealed(&mut list, &run("one", 7, "x:a"));
        assert_eq!(list, [run("one", 7, "x:a")]);
        add_unsealed(&mut list, &run("one", 8, "x:b"));
        add_unsealed(&mut list, &run("two", 8, "x:a"));
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn a_full_list_folds_and_loses_nothing() {
        let mut list = Vec::new();
        for token in 0..=i64::try_from(UNSEALED_MAX).unwrap() {
            add_unsealed(&mut list, &run("one", token, &format!("x:{token}")));
        }
        assert_eq!(list.len(), UNSEALED_MAX);
        assert_eq!(list[0].token, Token(i64::try_from(UNSEALED_MAX).unwrap()));
        assert_eq!(list[0].resources, ["x:0".to_owned(), format!("x:{UNSEALED_MAX}")]);
    }

    #[test]
    fn documents_of_newer_versions_keep_their_fields() {
        let text = r#"{"loopUid":"u1","loopKey":"default/a","runs":[],"later":1}"#;
        let duty: SealDuty = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&duty).unwrap()["later"], 1);
    }
}
