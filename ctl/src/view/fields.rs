//! `schema loop.spec…`: the documentation of one field.

use flyball_core::manifest::FieldDoc;
use serde_json::Value;

use crate::output::{Table, Tint};

/// The text of a field's documentation.
pub(crate) fn text(field: &FieldDoc, color: bool) -> String {
    let mut text = format!("{} <{}>", Tint::Good.paint(&field.path, color), field.type_text);
    if field.required && field.path != "loop" {
        text.push_str(", required");
    }
    if let Some(default) = field.default.as_ref().filter(|default| !default.is_object()) {
        text.push_str(&format!(", default {}", value(default)));
    }
    text.push('\n');
    if !field.description.is_empty() {
        text.push_str(&format!("  {}\n", field.description));
    }
    for bound in &field.bounds {
        text.push_str(&format!("  {bound}\n"));
    }
    for (word, meaning) in &field.words {
        text.push_str(&format!("  {word}: {meaning}\n"));
    }
    if !field.fields.is_empty() {
        text.push('\n');
        text.push_str(&inner(field, color));
    }
    text
}

fn inner(field: &FieldDoc, color: bool) -> String {
    let mut table = Table::new(["FIELD", "TYPE", "DEFAULT", "DESCRIPTION"]);
    for one in &field.fields {
        let default = match &one.default {
            _ if one.required => "required".to_owned(),
            Some(default) => value(default),
            None => String::new(),
        };
        table.row([
            one.name.as_str().into(),
            one.type_text.as_str().into(),
            default.into(),
            brief(&one.description).into(),
        ]);
    }
    table.take(color, true)
}

/// Longest description in a table, in characters; the field's own page has all of it.
const BRIEF_MAX: usize = 160;

/// The first sentences of a text that fit a table; at least one.
fn brief(text: &str) -> &str {
    let ends = text.match_indices(". ").map(|(at, _)| at + 1).chain([text.len()]);
    let fits = |end: &usize| text[..*end].chars().count() <= BRIEF_MAX;
    let end = ends.clone().filter(fits).last().or_else(|| ends.clone().next());
    &text[..end.unwrap_or(text.len())]
}

/// A default as it would be written; objects are told by their own fields.
fn value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => "see its fields".to_owned(),
        other => other.to_string(),
    }
}
