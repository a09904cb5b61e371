//! Where every field of a YAML text stands: line and column by the path that field errors use.

use std::collections::BTreeMap;

use flyball_core::manifest::child_path;
use serde_saphyr::granit_parser::{Event, Parser, Span};

/// Line and column, both from 1.
pub(crate) type Place = (usize, usize);

/// The places of one document's fields.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<String, Place>);

impl Places {
    /// Where a field stands; where it would have to stand, the place of what it belongs to.
    pub(crate) fn find(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some(*place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// The places of all documents that are not empty. A text that cannot be read to its end gives
/// those before the fault.
pub(crate) fn places(text: &str) -> Vec<Places> {
    let mut walk = Walk::default();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        walk.event(&event, span);
    }
    walk.documents
}

/// A mapping or sequence that has begun.
enum Frame {
    Map { path: String, key: Option<String> },
    List { path: String, next: usize },
}

#[derive(Default)]
struct Walk {
    documents: Vec<Places>,
    frames: Vec<Frame>,
}

impl Walk {
    fn event(&mut self, event: &Event<'_>, span: Span) {
        match event {
            Event::Scalar(text, ..) => drop(self.node(Some(text), span)),
            Event::Alias(_) => drop(self.node(None, span)),
            Event::SequenceStart(..) => {
                let path = self.node(None, span);
                self.frames.push(Frame::List { path, next: 0 });
            }
            Event::MappingStart(..) => {
                let path = self.node(None, span);
                self.frames.push(Frame::Map { path, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => drop(self.frames.pop()),
            _ => {}
        }
    }

    /// Takes the start of a node and answers its path.
    fn node(&mut self, scalar: Option<&str>, span: Span) -> String {
        let place = (span.start.line(), span.start.col() + 1);
        let (path, record) = match self.frames.last_mut() {
            None => {
                // The reader passes over empty documents too.
                if !matches!(scalar, Some("" | "~" | "null")) {
                    self.documents.push(Places::default());
                }
                return String::new();
            }
            Some(Frame::Map { path, key }) => match key.take() {
                Some(key) => (child_path(path, &key), false),
                None => {
                    let name = scalar.unwrap_or_default();
                    *key = Some(name.to_owned());
                    (child_path(path, name), true)
                }
            },
            Some(Frame::List { path, next }) => {
                *next += 1;
                (format!("{path}[{}]", *next - 1), true)
            }
        };
        if let (true, Some(places)) = (record, self.documents.last_mut()) {
            places.0.insert(path.clone(), place);
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# comment
apiVersion: v1
spec:
  owns: [a, 'b']
  checks:
    - name: test
      run: x
    - { name: y }
  env:
    A-B: 1
---
---
kind: Loop
";

    #[test]
    fn fields_and_items_are_found_by_path() {
        let documents = places(TEXT);
        let first = |path: &str| documents[0].find(path);
        assert_eq!(first("apiVersion"), Some((2, 1)));
        assert_eq!(first("spec.owns[1]"), Some((4, 13)));
        assert_eq!(first("spec.checks[0].run"), Some((7, 7)));
        assert_eq!(first("spec.checks[1].name"), Some((8, 9)));
        assert_eq!(first("spec.env[\"A-B\"]"), Some((10, 5)));
        assert_eq!(documents[1].find("kind"), Some((13, 1)));
        assert_eq!(documents.len(), 2);
    }

    #[test]
    fn what_is_missing_is_placed_at_its_parent() {
        let documents = places(TEXT);
        assert_eq!(documents[0].find("spec.checks[1].run"), Some((8, 7)));
        assert_eq!(documents[0].find("spec.goal"), Some((3, 1)));
        assert_eq!(documents[0].find("metadata"), None);
    }

    #[test]
    fn a_broken_text_gives_what_came_before() {
        assert_eq!(places("a: 1\nb: [\n")[0].find("a"), Some((1, 1)));
    }
}
