//! Field documentation out of the schema: `flyball schema loop.spec.checks`.

use serde_json::Value;

use super::error::nearest;
use super::kind::{Kind, classify, description, noun, resolve};
use super::schema;

/// Everything the schema says of one field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldDoc {
    /// Path with `[]` after lists, e.g. `loop.spec.checks[]`.
    pub path: String,
    /// What to write there, e.g. `list of objects`.
    pub type_text: String,
    /// Whether it must be given.
    pub required: bool,
    /// What holds if it is not given, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it is for.
    pub description: String,
    /// The bounds, as text.
    pub bounds: Vec<String>,
    /// The words that are allowed, each with its meaning.
    pub words: Vec<(String, String)>,
    /// The fields inside.
    pub fields: Vec<FieldSummary>,
}

/// One line of a [`FieldDoc`]'s fields.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldSummary {
    /// Name of the field.
    pub name: String,
    /// What to write there.
    pub type_text: String,
    /// Whether it must be given.
    pub required: bool,
    /// What holds if it is not given, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What it is for.
    pub description: String,
}

/// A path that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parent} has no field {name:?}; it has: {}", .allowed.join(", "))]
pub struct UnknownPath {
    /// The part of the path that exists.
    pub parent: String,
    /// The first word that does not.
    pub name: String,
    /// The fields that exist there.
    pub allowed: Vec<String>,
    /// The one probably meant.
    pub suggestion: Option<String>,
}

/// Explains the field at a dotted path. The first word is a kind (see [`schema_of`](super::schema_of)); `loop` may
/// be left out. List markers (`[]`, `[0]`) are optional.
///
/// # Errors
/// [`UnknownPath`] with the fields that exist and the one probably meant.
pub fn explain_field(path: &str) -> Result<FieldDoc, UnknownPath> {
    let mut words = path.split('.').filter(|word| !word.is_empty()).peekable();
    let kind = words.next_if(|word| schema::root_of(word).is_some()).unwrap_or("loop");
    let root = schema::root_of(kind).unwrap_or_else(schema::root);
    let word = kind.to_lowercase();
    let word = word.strip_suffix('s').unwrap_or(&word);
    let mut place = Place { path: word.to_owned(), schema: root, required: true };
    for word in words {
        place = place.step(root, word.split('[').next().unwrap_or(word))?;
    }
    Ok(place.document(root))
}

/// Every field's path, e.g. `spec.governor.iterations`, without the leading `loop`.
pub(super) fn all_paths() -> Vec<String> {
    let root = schema::root();
    let mut found = Vec::new();
    let mut open = vec![(String::new(), root)];
    while let Some((path, schema)) = open.pop() {
        let (inner, suffix) = contents(root, schema);
        for (name, schema, _) in fields(root, inner) {
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{suffix}{dot}{name}");
            found.push(path.clone());
            open.push((path, schema));
        }
    }
    found
}

struct Place<'s> {
    path: String,
    schema: &'s Value,
    required: bool,
}

impl<'s> Place<'s> {
    fn step(self, root: &'s Value, word: &str) -> Result<Self, UnknownPath> {
        let (inner, suffix) = contents(root, self.schema);
        let path = format!("{}{suffix}", self.path);
        let fields = fields(root, inner);
        match fields.iter().find(|(name, ..)| *name == word) {
            Some((name, schema, required)) => {
                Ok(Self { path: format!("{path}.{name}"), schema, required: *required })
            }
            None => Err(UnknownPath {
                parent: path,
                name: word.to_owned(),
                suggestion: nearest(word, fields.iter().map(|(name, ..)| *name)).map(str::to_owned),
                allowed: fields.iter().map(|(name, ..)| (*name).to_owned()).collect(),
            }),
        }
    }

    fn document(self, root: &Value) -> FieldDoc {
        let (inner, _) = contents(root, self.schema);
        let words = match classify(root, self.schema) {
            Kind::Words(words) => words,
            _ => Vec::new(),
        };
        let summary = |(name, schema, required): (&str, &Value, bool)| FieldSummary {
            name: name.to_owned(),
            type_text: noun(root, schema),
            required,
            default: schema.get("default").cloned(),
            description: text(root, schema),
        };
        FieldDoc {
            path: self.path,
            type_text: noun(root, self.schema),
            required: self.required,
            default: self.schema.get("default").cloned(),
            description: text(root, self.schema),
            bounds: bounds(self.schema),
            words: words.into_iter().map(|(word, meaning)| (word.into(), meaning.into())).collect(),
            fields: fields(root, inner).into_iter().map(summary).collect(),
        }
    }
}

/// What is inside: the items of a list, the objects of a map, the object among several choices, or the schema itself.
fn contents<'s>(root: &'s Value, schema: &'s Value) -> (&'s Value, &'static str) {
    match classify(root, schema) {
        Kind::List(item) => (contents(root, item).0, "[]"),
        Kind::Map(values) if matches!(classify(root, values), Kind::Object { .. }) => {
            (values, "[*]")
        }
        Kind::Either(choices) => {
            let object =
                choices.iter().find(|one| matches!(classify(root, one), Kind::Object { .. }));
            (object.copied().unwrap_or(schema), "")
        }
        _ => (schema, ""),
    }
}

/// The fields of an object: name, schema, required.
fn fields<'s>(root: &'s Value, schema: &'s Value) -> Vec<(&'s str, &'s Value, bool)> {
    match classify(root, schema) {
        Kind::Object { properties, required } => properties
            .iter()
            .map(|(name, schema)| (name.as_str(), schema, required.contains(&name.as_str())))
            .collect(),
        Kind::Tagged(choices) => {
            choices.into_iter().map(|(name, schema)| (name, schema, false)).collect()
        }
        _ => Vec::new(),
    }
}

/// The description at the place itself, else that of the type it refers to.
fn text(root: &Value, schema: &Value) -> String {
    let own = description(schema);
    let text = if own.is_empty() { description(resolve(root, schema).0) } else { own };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn bounds(schema: &Value) -> Vec<String> {
    let keywords = [
        ("const", "always"),
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minItems", "entries at least"),
        ("maxItems", "entries at most"),
        ("maxLength", "bytes at most"),
        ("pattern", "matches"),
    ];
    let bound = |(keyword, text): (&str, &str)| {
        let value = schema.get(keyword)?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(format!("{text} {value}"))
    };
    keywords.into_iter().filter_map(bound).collect()
}
