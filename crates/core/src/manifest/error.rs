//! The error of one field: where, what is allowed, what was found, and what may have been meant.

use std::fmt;

/// Longest piece of user input repeated in an error, in characters; enough to recognise it.
const FOUND_CHARS_MAX: usize = 80;

/// One thing wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path from the document's root, e.g. `spec.checks[1].timeout`; empty for the document itself.
    pub path: String,
    /// What was found, as users wrote it and at most 80 characters; empty if there was nothing.
    pub found: String,
    /// What is wrong and what is allowed.
    pub message: String,
    /// What may have been meant: a field name, a value or a path.
    pub suggestion: Option<String>,
}

impl FieldError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        let (path, message) = (path.into(), message.into());
        Self { path, message, found: String::new(), suggestion: None }
    }

    /// With what was found, clipped.
    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = clip(&found.into());
        self
    }

    /// With what may have been meant.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    /// Everything but the path, in one line: the description of a gRPC field violation.
    pub fn detail(&self) -> String {
        let mut text = self.message.clone();
        if !self.found.is_empty() {
            text.push_str("; found ");
            text.push_str(&self.found);
        }
        if let Some(suggestion) = &self.suggestion {
            text.push_str("; did you mean ");
            text.push_str(suggestion);
            text.push('?');
        }
        text
    }

    /// True when `other` is about the same field or something inside it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match other.path.strip_prefix(&self.path) {
            Some(rest) => self.path.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']),
            None => false,
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "manifest" } else { &self.path };
        write!(f, "{path}: {}", self.detail())
    }
}

impl std::error::Error for FieldError {}

fn clip(text: &str) -> String {
    match text.char_indices().nth(FOUND_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `parent.key`, or `parent["key"]` when the key is not a plain word.
pub fn child_path(parent: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !key.starts_with(|c: char| c.is_ascii_digit());
    match (plain, parent.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{parent}.{key}"),
        (false, _) => format!("{parent}[{key:?}]"),
    }
}

/// The candidate that `word` most probably stands for: equal but for case and separators, or a few
/// typing errors away.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let wanted = plain(word);
    // One typing error per three characters: more than that is another word.
    let errors_max = (wanted.chars().count() / 3).max(1);
    let scored = candidates.into_iter().map(|candidate| {
        let other = plain(candidate);
        (strsim::damerau_levenshtein(&wanted, &other), candidate)
    });
    let best = scored.min_by_key(|(distance, _)| *distance);
    best.filter(|(distance, _)| *distance <= errors_max).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_word_is_meant_with_one_error_for_three_characters() {
        let meant = |word| nearest(word, ["checks", "owns", "maxOutput"]);
        assert_eq!(meant("chxxks"), Some("checks"));
        assert_eq!(meant("chxxxs"), None);
        assert_eq!(meant("own"), Some("owns"));
        assert_eq!(meant("on"), None);
        assert_eq!(meant("max_output"), Some("maxOutput"));
    }
}
