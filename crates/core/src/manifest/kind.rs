//! Reads one place of the JSON Schema as what it means to a user. The shape check and the field
//! documentation both go through here, so they cannot disagree.

use serde_json::{Map, Value};

/// What a value at some place of a manifest must be.
#[derive(Debug, Clone)]
pub(super) enum Kind<'s> {
    /// A quantity with a unit.
    Quantity(Quantity),
    /// An object with named fields.
    Object { properties: &'s Map<String, Value>, required: Vec<&'s str> },
    /// An object with free keys.
    Map(&'s Value),
    /// An object with exactly one field, whose name says which of several things it is.
    Tagged(Vec<(&'s str, &'s Value)>),
    /// One of several words, each with its description.
    Words(Vec<(&'s str, &'s str)>),
    /// One of several kinds, told apart by their JSON type.
    Either(Vec<&'s Value>),
    /// A list.
    List(&'s Value),
    /// Text.
    Text,
    /// A whole number within these.
    Integer { min: i64, max: u64 },
    /// true or false.
    Bool,
    /// Anything.
    Any,
}

/// The quantities of `crate::quantity` that manifests use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Span,
    ByteSize,
    CpuMillis,
    Money,
}

impl Quantity {
    /// Reads a scalar.
    ///
    /// # Errors
    /// What is expected, as a noun phrase with an example.
    pub(super) fn check(self, text: &str) -> Result<(), &'static str> {
        match self {
            Self::Span => text.parse::<crate::quantity::Span>().map(drop),
            Self::ByteSize => text.parse::<crate::quantity::ByteSize>().map(drop),
            Self::CpuMillis => text.parse::<crate::quantity::CpuMillis>().map(drop),
            Self::Money => text.parse::<crate::model::Money>().map(drop),
        }
        .map_err(|invalid| invalid.expected)
    }

    /// What to call it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Span => "duration",
            Self::ByteSize => "size in bytes",
            Self::CpuMillis => "amount of processors",
            Self::Money => "amount of money",
        }
    }
}

/// Follows references and unwraps `X or null`: the schema of X and whether null is allowed.
pub(super) fn resolve<'s>(root: &'s Value, mut schema: &'s Value) -> (&'s Value, bool) {
    let mut optional = false;
    // A derived schema nests references a few deep; the bound only guards against a cycle.
    for _ in 0..16 {
        if let Some(target) = reference(schema).and_then(|name| root["$defs"].get(name)) {
            schema = target;
            continue;
        }
        let choices = schema.get("anyOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        match choices {
            [one, null] if null["type"] == "null" => (schema, optional) = (one, true),
            _ => break,
        }
    }
    let nullable =
        schema["type"].as_array().is_some_and(|types| types.iter().any(|of| of == "null"));
    (schema, optional || nullable)
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// What the schema demands. Quantities are known by the definition they refer to.
pub(super) fn classify<'s>(root: &'s Value, schema: &'s Value) -> Kind<'s> {
    let (schema, _) = resolve(root, schema);
    if let Some(quantity) = quantity(root, schema) {
        return Kind::Quantity(quantity);
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        return Kind::Either(choices.iter().collect());
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        return one_of(choices);
    }
    match type_of(schema) {
        Some("object") => object(schema),
        Some("array") => schema.get("items").map_or(Kind::Any, Kind::List),
        Some("string") => Kind::Text,
        Some("integer") => integer(schema),
        Some("boolean") => Kind::Bool,
        _ => Kind::Any,
    }
}

fn quantity(root: &Value, schema: &Value) -> Option<Quantity> {
    let known = [
        ("Span", Quantity::Span),
        ("ByteSize", Quantity::ByteSize),
        ("CpuMillis", Quantity::CpuMillis),
        ("Money", Quantity::Money),
    ];
    let is = |name: &str| root["$defs"].get(name).is_some_and(|def| std::ptr::eq(def, schema));
    known.into_iter().find(|(name, _)| is(name)).map(|(_, quantity)| quantity)
}

fn one_of(choices: &[Value]) -> Kind<'_> {
    let words: Option<Vec<_>> = choices
        .iter()
        .map(|choice| Some((choice.get("const")?.as_str()?, description(choice))))
        .collect();
    if let Some(words) = words {
        return Kind::Words(words);
    }
    let tagged = choices.iter().filter_map(|choice| choice.get("properties")?.as_object());
    Kind::Tagged(tagged.flatten().map(|(name, inner)| (name.as_str(), inner)).collect())
}

fn object(schema: &Value) -> Kind<'_> {
    static NO_FIELDS: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    if let Some(values) = schema.get("additionalProperties").filter(|value| value.is_object()) {
        return Kind::Map(values);
    }
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&NO_FIELDS);
    let required = schema.get("required").and_then(Value::as_array);
    let required = required.into_iter().flatten().filter_map(Value::as_str).collect();
    Kind::Object { properties, required }
}

/// The type of a value; that of `[X, "null"]` is X.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|of| *of != "null"),
        one => one.as_str(),
    }
}

fn integer<'s>(schema: &Value) -> Kind<'s> {
    match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => Kind::Integer { min: 0, max: u64::from(u32::MAX) },
        Some("int32") => {
            Kind::Integer { min: i64::from(i32::MIN), max: u64::from(i32::MAX.unsigned_abs()) }
        }
        _ => Kind::Integer { min: 0, max: u64::MAX },
    }
}

/// The description of a place in the schema, empty if it has none.
pub(super) fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// What a user must write there, as a noun phrase.
pub(super) fn noun(root: &Value, schema: &Value) -> String {
    match classify(root, schema) {
        Kind::Quantity(quantity) => {
            let (schema, _) = resolve(root, schema);
            let example = schema["examples"][0].as_str().unwrap_or_default();
            format!("{} such as {example}", quantity.noun())
        }
        Kind::Object { .. } => "object".to_owned(),
        Kind::Map(values) => format!("map of text to {}", noun(root, values)),
        Kind::Tagged(choices) => {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            format!("object with one of the fields {}", names.join(", "))
        }
        Kind::Words(words) => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            words.join(" or ")
        }
        Kind::Either(choices) => {
            let nouns: Vec<_> = choices.iter().map(|choice| noun(root, choice)).collect();
            nouns.join(" or ")
        }
        Kind::List(item) => format!("list of {}", plural(&noun(root, item))),
        Kind::Text => "text".to_owned(),
        Kind::Integer { .. } => "whole number".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Any => "value".to_owned(),
    }
}

fn plural(noun: &str) -> String {
    match noun {
        "object" => "objects".to_owned(),
        "text or object" => "texts or objects".to_owned(),
        "text" => "texts".to_owned(),
        other => other.to_owned(),
    }
}
