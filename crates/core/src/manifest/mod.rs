//! Manifests: parsing with field paths and suggestions, the rules of validation, JSON Schema for
//! editors, and the documentation of every field. All errors of a manifest are found at once.

mod budget;
mod error;
mod explain;
mod gitnames;
mod kind;
mod models;
mod rules;
mod sandbox;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod warnings;

use serde_json::Value;

pub use self::error::{FieldError, child_path};
pub use self::explain::{FieldDoc, FieldSummary, UnknownPath, explain_field};
pub use self::gitnames::{check_branch, check_reference, check_repository_url};
pub use self::models::{parse_definition, warnings_of};
pub use self::rules::validate;
pub use self::schema::{schema, schema_of};
pub use self::warnings::warnings;
use crate::spec::{API_VERSION, KIND_LOOP, Manifest};

/// Largest manifest as compact JSON, in bytes. Far above any sensible goal text, far below the
/// 1.5 MiB that etcd accepts per request, so that spec and status of several loops fit one batch.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024;

/// Reads a manifest from JSON: its shape is checked against [`schema`], defaults are filled in, and
/// then the rules of [`validate`] are applied.
///
/// # Errors
/// Everything that is wrong, ordered by kind of fault: shape first, then the rules. Rules that
/// speak of a field whose shape is already wrong are left out.
pub fn parse_manifest(json: &Value) -> Result<Manifest, Vec<FieldError>> {
    check_size(json, MANIFEST_BYTES_MAX).map_err(|error| vec![error])?;
    check_version_and_kind(json, KIND_LOOP)?;
    let (repaired, mut errors) = shape::check(schema::root(), json);
    let mut manifest: Manifest = match read(repaired) {
        Ok(manifest) => manifest,
        Err(unread) => return Err(if errors.is_empty() { unread } else { errors }),
    };
    manifest.spec.agent.iter_mut().for_each(crate::spec::AgentSpec::fill);
    let found = validate(&manifest).err().unwrap_or_default();
    add_rules(&mut errors, found);
    if errors.is_empty() { Ok(manifest) } else { Err(errors) }
}

/// Reads a document of another kind: its size, version, kind and shape are checked. The rules of its
/// values are the kind's own.
///
/// # Errors
/// Everything that is wrong with its shape.
pub(crate) fn parse_shape<T: serde::de::DeserializeOwned>(
    json: &Value,
    kind: &str,
) -> Result<T, Vec<FieldError>> {
    check_size(json, MANIFEST_BYTES_MAX).map_err(|error| vec![error])?;
    check_version_and_kind(json, kind)?;
    let root = schema::root_of(kind).unwrap_or_else(schema::root);
    let (repaired, errors) = shape::check(root, json);
    if !errors.is_empty() {
        return Err(errors);
    }
    read(repaired)
}

/// Like [`parse_shape`], but with the rules applied to as much as can be read, so that all errors come at once.
fn parse_ruled<T: serde::de::DeserializeOwned>(
    json: &Value,
    kind: &str,
    rules: impl FnOnce(&mut rules::Errors, &T),
) -> Result<T, Vec<FieldError>> {
    check_size(json, MANIFEST_BYTES_MAX).map_err(|error| vec![error])?;
    check_version_and_kind(json, kind)?;
    let (repaired, mut errors) =
        shape::check(schema::root_of(kind).unwrap_or_else(schema::root), json);
    let document: T = match read(repaired) {
        Ok(document) => document,
        Err(unread) => return Err(if errors.is_empty() { unread } else { errors }),
    };
    let mut found = rules::Errors(Vec::new());
    rules(&mut found, &document);
    add_rules(&mut errors, found.0);
    if errors.is_empty() { Ok(document) } else { Err(errors) }
}

/// Adds broken rules, but for those about a place whose shape is wrong, or that of something inside it.
fn add_rules(errors: &mut Vec<FieldError>, mut broken: Vec<FieldError>) {
    broken.retain(|rule| !errors.iter().any(|error| error.covers(rule) || rule.covers(error)));
    errors.append(&mut broken);
}

fn read<T: serde::de::DeserializeOwned>(json: Value) -> Result<T, Vec<FieldError>> {
    // Only fails if serde and the schema disagree; the text of serde is then the best there is.
    serde_json::from_value(json)
        .map_err(|error| vec![FieldError::new("", format!("cannot be read: {error}"))])
}

fn check_size(json: &Value, most: usize) -> Result<(), FieldError> {
    let mut counter = ByteCounter(0);
    // Writing to a counter cannot fail; a value that cannot be written counts as too large.
    let written = serde_json::to_writer(&mut counter, json);
    if written.is_ok() && counter.0 <= most {
        return Ok(());
    }
    let message = format!("the manifest is too large: at most {most} bytes as JSON");
    Err(FieldError::new("", message).found(format!("{} bytes", counter.0)))
}

struct ByteCounter(usize);

impl std::io::Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A document of another version or kind gets this one message instead of a list of unknown fields.
fn check_version_and_kind(json: &Value, kind: &str) -> Result<(), Vec<FieldError>> {
    let expected = [("apiVersion", API_VERSION), ("kind", kind)];
    let wrong = expected.iter().filter_map(|(field, wanted)| match json.get(field)? {
        Value::String(text) if text == wanted => None,
        Value::String(text) => {
            let error = FieldError::new(*field, format!("only {wanted} is supported"));
            Some(error.found(format!("{text:?}")))
        }
        _ => None,
    });
    let errors: Vec<_> = wrong.collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
