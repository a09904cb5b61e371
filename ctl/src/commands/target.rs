//! Names of things on the command line, in the two forms of kubectl: `loops x y` and `loop/x`.

use std::collections::HashMap;

use flyball_core::model::DefinitionKind;

use crate::Failure;

/// All kinds, as they are written.
const KINDS: &str = "loops, nodes, claims, iterations, roles, rolebindings, providers, modelroutes, agents, budgets";

/// A kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noun {
    Loops,
    Nodes,
    Claims,
    Iterations,
    Roles,
    RoleBindings,
    /// Providers, model routes, agents or budgets.
    Definitions(DefinitionKind),
}

impl Noun {
    /// Reads singular, plural and short forms.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        match text.to_lowercase().as_str() {
            "loop" | "loops" | "lo" => Ok(Self::Loops),
            "node" | "nodes" | "no" => Ok(Self::Nodes),
            "claim" | "claims" | "cl" => Ok(Self::Claims),
            "iteration" | "iterations" | "it" => Ok(Self::Iterations),
            "role" | "roles" => Ok(Self::Roles),
            "rolebinding" | "rolebindings" | "rb" => Ok(Self::RoleBindings),
            "route" | "routes" | "mr" => Ok(Self::Definitions(DefinitionKind::ModelRoute)),
            word if let Ok(kind) = word.parse() => Ok(Self::Definitions(kind)),
            _ => Err(Failure::usage(format!("there is no kind {text:?}"))
                .hint(format!("kinds are: {KINDS}"))),
        }
    }
}

/// What `get` and `describe` were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) noun: Noun,
    /// Empty: all.
    pub(super) names: Vec<String>,
}

impl Target {
    /// Reads `KIND [NAME…]` or `KIND/NAME…`; all of one kind.
    pub(super) fn parse(words: &[String]) -> Result<Self, Failure> {
        let Some(first) = words.first() else {
            return Err(Failure::usage(format!("say what: one of {KINDS}")));
        };
        let Some((kind, _)) = first.split_once('/') else {
            let names = words[1..].iter().map(|name| valid(name)).collect::<Result<_, _>>()?;
            return Ok(Self { noun: Noun::parse(first)?, names });
        };
        let noun = Noun::parse(kind)?;
        let name = |word: &String| match word.split_once('/') {
            Some((kind, name)) if Noun::parse(kind)? == noun => valid(name),
            Some(_) => Err(Failure::usage(format!("{word:?} is of another kind than {first:?}"))),
            None => Err(Failure::usage(format!("write {word:?} as {kind}/{word}"))),
        };
        Ok(Self { noun, names: words.iter().map(name).collect::<Result<_, _>>()? })
    }
}

/// The name in `x`, `kind/x`, where only things of this kind are meant.
pub(super) fn name_of(noun: Noun, word: &str) -> Result<String, Failure> {
    match word.split_once('/') {
        None => valid(word),
        Some((kind, name)) if Noun::parse(kind)? == noun => valid(name),
        Some(_) => {
            Err(Failure::usage(format!("{word:?} is of another kind than this command takes")))
        }
    }
}

/// The names of several things of one kind.
pub(super) fn names_of(noun: Noun, words: &[String]) -> Result<Vec<String>, Failure> {
    words.iter().map(|word| name_of(noun, word)).collect()
}

fn valid(name: &str) -> Result<String, Failure> {
    match flyball_core::ids::check_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(invalid) => Err(Failure::usage(invalid.to_string())),
    }
}

/// Reads the `key=value,key=value` of `-l`.
pub(super) fn labels(selectors: &[String]) -> Result<HashMap<String, String>, Failure> {
    let pairs = selectors.iter().flat_map(|text| text.split(',')).filter(|pair| !pair.is_empty());
    let mut labels = HashMap::new();
    for pair in pairs {
        let (key, value) = label(pair)?;
        if let Some(other) = labels.insert(key.to_owned(), value.to_owned())
            && other != value
        {
            let message = format!("no loop has both {key}={other} and {key}={value}");
            return Err(Failure::usage(message).hint("ask for one value of a label at a time"));
        }
    }
    Ok(labels)
}

fn label(pair: &str) -> Result<(&str, &str), Failure> {
    match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() && !key.ends_with('!') => {
            Ok((key, value.strip_prefix('=').unwrap_or(value)))
        }
        _ => Err(Failure::usage(format!("{pair:?} is not a label selector"))
            .hint("write KEY=VALUE; several, separated by commas, must all hold: -l a=b,c=d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(words: &[&str]) -> Result<Target, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Target::parse(&words).map_err(|failure| failure.message)
    }

    #[test]
    fn both_forms_name_the_same() {
        let expected = Target { noun: Noun::Loops, names: vec!["x".to_owned()] };
        assert_eq!(target(&["loop", "x"]), Ok(expected.clone()));
        assert_eq!(target(&["loops/x"]), Ok(expected));
        assert_eq!(target(&["nodes"]), Ok(Target { noun: Noun::Nodes, names: vec![] }));
        assert_eq!(target(&["lo/x", "loop/y"]).unwrap().names, ["x", "y"]);
    }

    #[test]
    fn mixed_kinds_and_bad_names_are_refused() {
        assert!(target(&["loop/x", "node/y"]).unwrap_err().contains("another kind"));
        assert!(target(&["loop/x", "y"]).unwrap_err().contains("loop/y"));
        assert!(target(&["pods"]).unwrap_err().contains("no kind"));
        assert!(target(&["loop", "Bad_Name"]).unwrap_err().contains("not a valid name"));
        assert!(target(&[]).is_err());
        assert!(name_of(Noun::Loops, "node/x").is_err());
    }

    #[test]
    fn selectors_are_pairs() {
        let read = |text: &str| labels(&[text.to_owned()]).map(|map| map.len());
        assert_eq!(read("a=b,c==d").unwrap(), 2);
        assert_eq!(read("a=b,a=b").unwrap(), 1);
        assert!(read("a").is_err());
        assert!(read("a!=b").is_err());
    }

    #[test]
    fn a_label_has_one_value() {
        let twice = labels(&["a=b".to_owned(), "a=c".to_owned()]).unwrap_err();
        assert!(twice.message.contains("both a=b and a=c"), "{}", twice.message);
    }
}
