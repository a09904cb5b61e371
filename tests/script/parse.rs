//! A command line: a verb, words, and `key=value` arguments.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) verb: String,
    pub(crate) words: Vec<String>,
    arguments: BTreeMap<String, String>,
}

impl Command {
    pub(crate) fn parse(line: &str) -> Self {
        let mut parts = line.split_whitespace();
        let verb = parts.next().unwrap().to_owned();
        let (mut words, mut arguments) = (Vec::new(), BTreeMap::new());
        for part in parts {
            match part.split_once('=') {
                Some((key, value)) => {
                    arguments.insert(key.to_owned(), value.to_owned());
                }
                None => words.push(part.to_owned()),
            }
        }
        Self { verb, words, arguments }
    }

    pub(crate) fn word(&self, index: usize) -> &str {
        let missing = || panic!("{} needs word {index}", self.verb);
        self.words.get(index).map_or_else(missing, String::as_str)
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|found| found == word)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.arguments.get(key).map(String::as_str)
    }

    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        self.get(key).into_iter().flat_map(|list| list.split(',')).map(str::to_owned).collect()
    }

    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        self.get(key).map(|text| text.parse().unwrap())
    }
}
