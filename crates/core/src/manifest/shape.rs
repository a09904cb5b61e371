//! The shape check: walks a JSON document along the schema and finds unknown fields, wrong types and
//! missing fields. It hands on a repaired copy, so that the rules can still look at the rest.

use serde_json::{Map, Value};

use super::error::{FieldError, child_path, nearest};
use super::kind::{Kind, Quantity, classify, noun, resolve};
use super::schema;

/// Checks the shape of a document. The copy that comes back has no unknown fields, and a
/// placeholder (or nothing, where a field is optional) in every place that was wrong.
pub(super) fn check(root: &Value, document: &Value) -> (Value, Vec<FieldError>) {
    let mut walk = Walk { root, errors: Vec::new() };
    let mut repaired = document.clone();
    if !walk.value("", walk.root, &mut repaired) {
        repaired = placeholder(walk.root, walk.root);
    }
    (repaired, walk.errors)
}

struct Walk<'s> {
    root: &'s Value,
    errors: Vec<FieldError>,
}

impl<'s> Walk<'s> {
    /// Checks one value; false when it cannot stay where it is.
    fn value(&mut self, path: &str, schema: &'s Value, value: &mut Value) -> bool {
        let (_, optional) = resolve(self.root, schema);
        if optional && value.is_null() {
            return true;
        }
        match (classify(self.root, schema), value) {
            (Kind::Object { properties, required }, Value::Object(map)) => {
                self.object(path, properties, &required, map);
                true
            }
            (Kind::Map(inner), Value::Object(map)) => {
                map.retain(|key, value| self.value(&child_path(path, key), inner, value));
                true
            }
            (Kind::List(item), Value::Array(items)) => {
                self.list(path, item, items);
                true
            }
            (Kind::Tagged(choices), Value::Object(map)) => self.tagged(path, &choices, map),
            (Kind::Either(choices), value) => self.either(path, schema, &choices, value),
            (Kind::Quantity(quantity), value) => self.quantity(path, quantity, value),
            (Kind::Words(words), Value::String(text)) => self.word(path, &words, text),
            (Kind::Integer { min, max }, value @ Value::Number(_)) => {
                let above = value.as_u64().is_some_and(|number| number <= max);
                let below = value.as_i64().is_some_and(|number| number < 0 && number >= min);
                above
                    || below
                    || self.wrong(path, format!("must be a whole number, {min} to {max}"), value)
            }
            (Kind::Text, Value::String(_)) | (Kind::Bool, Value::Bool(_)) | (Kind::Any, _) => true,
            (_, value) => {
                let message = format!("must be {}", article(&noun(self.root, schema)));
                let suggestion = self.rewrite(schema, value);
                self.wrong(path, message, value);
                if let Some(error) = self.errors.last_mut() {
                    error.suggestion = suggestion;
                }
                false
            }
        }
    }

    fn object(
        &mut self,
        path: &str,
        properties: &'s Map<String, Value>,
        required: &[&str],
        map: &mut Map<String, Value>,
    ) {
        map.retain(|key, value| match properties.get(key) {
            Some(schema) => {
                self.value(&child_path(path, key), schema, value) || {
                    let needed = required.contains(&key.as_str());
                    if needed {
                        *value = placeholder(self.root, schema);
                    }
                    needed
                }
            }
            None => {
                self.unknown_field(path, key, properties);
                false
            }
        });
        for name in required.iter().filter(|name| !map.contains_key(**name)).collect::<Vec<_>>() {
            let schema = &properties[*name];
            let path = child_path(path, name);
            let already = self.errors.iter().any(|error| error.path == path);
            if !already {
                let noun = article(&noun(self.root, schema));
                self.errors.push(FieldError::new(path, format!("missing; must be {noun}")));
            }
            map.insert((*name).to_owned(), placeholder(self.root, schema));
        }
    }

    fn unknown_field(&mut self, path: &str, key: &str, properties: &Map<String, Value>) {
        let names: Vec<_> = properties.keys().map(String::as_str).collect();
        let message = match names.as_slice() {
            [] => "unknown field; none is allowed here".to_owned(),
            names => format!("unknown field; allowed here: {}", names.join(", ")),
        };
        let suggestion = known_elsewhere(path, key)
            .or_else(|| nearest(key, names).map(str::to_owned))
            .or_else(|| (path == "spec.needs").then(|| format!("custom: {{{key}: 1}}")))
            .or_else(|| std::ptr::eq(self.root, schema::root()).then(|| elsewhere(key)).flatten());
        self.errors.push(FieldError::new(child_path(path, key), message).suggest(suggestion));
    }

    fn list(&mut self, path: &str, item: &'s Value, items: &mut [Value]) {
        for (index, value) in items.iter_mut().enumerate() {
            if !self.value(&format!("{path}[{index}]"), item, value) {
                // Keeps the indices of what follows.
                *value = placeholder(self.root, item);
            }
        }
    }

    fn tagged(
        &mut self,
        path: &str,
        choices: &[(&'s str, &'s Value)],
        map: &mut Map<String, Value>,
    ) -> bool {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let mut entries = map.iter_mut();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            let found = map.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("must have exactly one of the fields {}", names.join(", "));
            let found = if found.is_empty() { "none".to_owned() } else { found };
            self.errors.push(FieldError::new(path, message).found(found));
            return false;
        };
        let path = child_path(path, key);
        let Some((_, inner)) = choices.iter().find(|(name, _)| name == key) else {
            let suggestion = nearest(key, names.iter().copied()).map(str::to_owned);
            let message = format!("unknown field; allowed here: {}", names.join(", "));
            self.errors.push(FieldError::new(path, message).suggest(suggestion));
            return false;
        };
        let inner = *inner;
        self.value(&path, inner, value)
    }

    fn either(
        &mut self,
        path: &str,
        schema: &'s Value,
        choices: &[&'s Value],
        value: &mut Value,
    ) -> bool {
        let fits = |choice: &&&'s Value| {
            matches!(
                (classify(self.root, choice), &*value),
                (Kind::Text, Value::String(_))
                    | (Kind::List(_), Value::Array(_))
                    | (Kind::Object { .. }, Value::Object(_))
            )
        };
        match choices.iter().find(fits) {
            Some(choice) => self.value(path, choice, value),
            None => {
                let message = format!("must be {}", article(&noun(self.root, schema)));
                self.wrong(path, message, value)
            }
        }
    }

    fn quantity(&mut self, path: &str, quantity: Quantity, value: &Value) -> bool {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        match quantity.check(&text) {
            Ok(()) => true,
            Err(expected) => self.wrong(path, format!("must be {expected}"), value),
        }
    }

    fn word(&mut self, path: &str, words: &[(&'s str, &'s str)], text: &str) -> bool {
        if words.iter().any(|(word, _)| *word == text) {
            return true;
        }
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let suggestion = nearest(text, names.iter().copied()).map(str::to_owned);
        let error = FieldError::new(path, format!("must be {}", names.join(" or ")));
        self.errors.push(error.found(format!("{text:?}")).suggest(suggestion));
        false
    }

    /// The mistakes that have one obvious correction.
    fn rewrite(&self, schema: &'s Value, value: &Value) -> Option<String> {
        let text = value.as_str()?;
        match classify(self.root, schema) {
            Kind::Tagged(choices) => {
                let name = nearest(text, choices.iter().map(|(name, _)| *name))?;
                Some(format!("{name}: {{}}"))
            }
            Kind::List(_) => Some(format!("[{text}]")).filter(|list| list.len() <= 40),
            Kind::Integer { .. } | Kind::Bool => {
                text.parse::<u64>().map(drop).or_else(|_| text.parse::<bool>().map(drop)).ok()?;
                Some(format!("{text} without quotes"))
            }
            _ => None,
        }
    }

    fn wrong(&mut self, path: &str, message: String, value: &Value) -> bool {
        self.errors.push(FieldError::new(path, message).found(show(value)));
        false
    }
}

/// Fields that other tools have and that are called otherwise here; a few letters alone would
/// suggest `cpu` for `gpu`.
fn known_elsewhere(path: &str, key: &str) -> Option<String> {
    let text = match (path, key.to_lowercase().as_str()) {
        ("spec.needs", "gpu" | "gpus") => "custom: {gpu: 1}",
        ("spec.placement", "labels" | "nodeselector" | "matchlabels") => "requiredLabels",
        _ => return None,
    };
    Some(text.to_owned())
}

/// The one place of the schema where a field of this name exists, if it is not here.
fn elsewhere(key: &str) -> Option<String> {
    let paths = super::explain::all_paths();
    let mut found = paths.into_iter().filter(|path| {
        path.rsplit('.').next().is_some_and(|last| last.trim_end_matches("[]") == key)
    });
    match (found.next(), found.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        scalar => scalar.to_string(),
    }
}

fn article(noun: &str) -> String {
    let plain = ["text", "true", "improvements", "exclusive"];
    if plain.iter().any(|word| noun.starts_with(word)) {
        return noun.to_owned();
    }
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

/// A value of the right shape and no meaning.
fn placeholder(root: &Value, schema: &Value) -> Value {
    match classify(root, schema) {
        Kind::Object { properties, required } => {
            let fields = required
                .iter()
                .map(|name| ((*name).to_owned(), placeholder(root, &properties[*name])));
            Value::Object(fields.collect())
        }
        Kind::Map(_) => Value::Object(Map::new()),
        Kind::Tagged(choices) => {
            let first =
                choices.first().map(|(name, inner)| ((*name).to_owned(), placeholder(root, inner)));
            Value::Object(first.into_iter().collect())
        }
        Kind::Words(words) => words.first().map_or(Value::Null, |(word, _)| Value::from(*word)),
        Kind::Either(choices) => choices.first().map_or(Value::Null, |one| placeholder(root, one)),
        Kind::List(_) => Value::Array(Vec::new()),
        Kind::Quantity(Quantity::Span) => Value::from("1s"),
        Kind::Quantity(_) | Kind::Integer { .. } => Value::from(1),
        Kind::Text => Value::from(""),
        Kind::Bool => Value::Bool(false),
        Kind::Any => Value::Null,
    }
}
