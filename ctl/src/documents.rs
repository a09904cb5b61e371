//! Manifest files: one or several YAML (or JSON) documents per file, read with the place of every
//! fault.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use flyball_core::access::{KIND_BINDING, KIND_ROLE, parse_binding, parse_role};
use flyball_core::manifest::{self, MANIFEST_BYTES_MAX, parse_definition, parse_manifest};
use flyball_core::model::{Definition, DefinitionKind};
use flyball_core::spec::Manifest;
use serde_json::Value;

use crate::failure::{Failure, Field};
use crate::locate::{self, Place, Places};

/// Largest file that is read: YAML with comments may be larger than its JSON, and one file may hold
/// a team's loops.
const FILE_BYTES_MAX: u64 = 16 * MANIFEST_BYTES_MAX as u64;

/// Everything that the files declare.
#[derive(Debug, Clone, Default)]
pub(crate) struct Documents {
    /// The loops, in their order.
    pub(crate) loops: Vec<Document>,
    /// Roles and role bindings, in their order.
    pub(crate) access: Vec<AccessDocument>,
    /// What model calls need; what is named by others first.
    pub(crate) definitions: Vec<DefinitionDocument>,
}

/// A provider, model route, agent or budget.
#[derive(Debug, Clone)]
pub(crate) struct DefinitionDocument {
    /// As it was understood.
    pub(crate) definition: Definition,
    /// As it was written: this is what is sent.
    pub(crate) json: Value,
    pub(crate) source: String,
}

impl DefinitionDocument {
    /// What is allowed and yet probably not meant, as far as it can be told without a scheduler.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let texts = manifest::warnings_of(&self.definition).into_iter();
        texts.map(|text| format!("warning: {}: {text}", self.source)).collect()
    }
}

/// A role or a role binding.
#[derive(Debug, Clone)]
pub(crate) struct AccessDocument {
    /// Which of the two.
    pub(crate) kind: AccessKind,
    /// Where a binding holds; `None`: everywhere.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    /// As it was written: this is what is sent.
    pub(crate) json: Value,
    pub(crate) source: String,
}

/// A kind of document about who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessKind {
    Role,
    Binding,
}

impl AccessKind {
    /// As in `role/x`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Binding => "rolebinding",
        }
    }
}

/// One manifest with where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The manifest as it was written, with the namespace filled in: this is what is sent.
    pub(crate) json: Value,
    /// The manifest as it was understood.
    pub(crate) manifest: Manifest,
    /// File, and number of the document if the file has several.
    pub(crate) source: String,
}

/// Reads and checks all manifests of all files; `-` is standard input.
///
/// # Errors
/// Everything that is wrong with any of them, one field error per fault.
pub(crate) fn read(files: &[PathBuf], namespace: Option<&str>) -> Result<Documents, Failure> {
    let mut reading = Reading::default();
    for file in files {
        let name = if is_stdin(file) { "stdin".to_owned() } else { file.display().to_string() };
        let text = read_text(file, &name)?;
        reading.text(&name, &text, namespace);
    }
    let Reading { mut documents, faults, kinds } = reading;
    let order: Vec<_> = DefinitionKind::all().collect();
    let place =
        |one: &DefinitionDocument| order.iter().position(|of| *of == one.definition.key().kind);
    documents.definitions.sort_by_key(place);
    if !faults.is_empty() {
        let message = match faults.len() {
            1 => "the manifest is not valid".to_owned(),
            several => format!("the manifest is not valid: {several} faults"),
        };
        let failure = Failure::new("invalid", message).fields(faults);
        // What is no document at all was mostly meant for a loop.
        let kinds = if kinds.is_empty() { BTreeSet::from(["loop"]) } else { kinds };
        let hint = |kind| format!("what a field means: flyball schema {kind}.spec.<field>");
        return Err(kinds.into_iter().map(hint).fold(failure, Failure::hint));
    }
    Ok(documents)
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn read_text(file: &Path, name: &str) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new("unreadable-file", format!("{name} cannot be read: {error}"))
    };
    let reader: Box<dyn Read> = if is_stdin(file) {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(unreadable)?)
    };
    let mut text = String::new();
    reader.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!("{name} is larger than {FILE_BYTES_MAX} bytes");
        return Err(Failure::new("too-much", message));
    }
    Ok(text)
}

/// What has been read so far: manifests that are right, and faults of those that are not.
#[derive(Default)]
struct Reading {
    documents: Documents,
    faults: Vec<Field>,
    /// Of what the faulty documents are, as `flyball schema` has it.
    kinds: BTreeSet<&'static str>,
}

/// Where a document comes from.
struct Origin {
    file: String,
    /// The file, with the number of the document if it has several.
    source: String,
    places: Option<Places>,
}

impl Document {
    /// What is allowed and yet probably not meant.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let texts = manifest::warnings(&self.manifest).into_iter();
        texts.map(|text| format!("warning: {}: {text}", self.source)).collect()
    }
}

impl Reading {
    fn text(&mut self, file: &str, text: &str, namespace: Option<&str>) {
        let values: Vec<Value> =
            match serde_saphyr::from_multiple_with_options(text, yaml_options()) {
                Ok(values) => values,
                Err(error) => {
                    let (place, text) = yaml_error(&error);
                    return self.fault(format!("{file}{place}"), "", text);
                }
            };
        if values.is_empty() {
            return self.fault(file.to_owned(), "", "holds no document".to_owned());
        }
        let several = values.len() > 1;
        // One map per document, or none where the two readers count documents differently.
        let places = Some(locate::places(text)).filter(|places| places.len() == values.len());
        let mut places = places.unwrap_or_default().into_iter();
        for (index, json) in values.into_iter().enumerate() {
            let source = match several {
                true => format!("{file} (document {})", index + 1),
                false => file.to_owned(),
            };
            let origin = Origin { file: file.to_owned(), source, places: places.next() };
            self.document(json, &origin, namespace);
        }
    }

    fn document(&mut self, mut json: Value, origin: &Origin, namespace: Option<&str>) {
        let kind = json.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Err(text) = fill_namespace(&mut json, namespace) {
            self.kinds.insert(schema_word(&kind));
            self.fault(origin.place("metadata.namespace"), "metadata.namespace", text);
        }
        let source = origin.source.clone();
        let parsed = match kind.as_str() {
            KIND_ROLE => parse_role(&json).map(|(manifest, _)| {
                let (kind, name) = (AccessKind::Role, manifest.metadata.name);
                self.documents.access.push(AccessDocument {
                    kind,
                    namespace: None,
                    name,
                    json,
                    source,
                });
            }),
            KIND_BINDING => parse_binding(&json).map(|(manifest, _)| {
                let (kind, metadata) = (AccessKind::Binding, manifest.metadata);
                let (namespace, name) = (metadata.namespace, metadata.name);
                self.documents.access.push(AccessDocument { kind, namespace, name, json, source });
            }),
            kind if DefinitionKind::of_manifest(kind).is_some() => {
                parse_definition(&json).map(|definition| {
                    let document = DefinitionDocument { definition, json, source };
                    self.documents.definitions.push(document);
                })
            }
            _ => match parse_manifest(&json) {
                Ok(manifest) => {
                    if let Some(first) = self.named_alike(&manifest) {
                        let text = format!("the same loop is in {first} too");
                        return self.fault(origin.place("metadata.name"), "metadata.name", text);
                    }
                    self.documents.loops.push(Document { json, manifest, source });
                    Ok(())
                }
                Err(errors) => Err(errors),
            },
        };
        if let Err(mut errors) = parsed {
            self.kinds.insert(schema_word(&kind));
            // In the order of the text, which is how people go through them.
            errors.sort_by_key(|error| origin.find(&error.path));
            for error in errors {
                self.fault(origin.place(&error.path), &error.path, error.detail());
            }
        }
    }

    /// Where the loop that a manifest declares has been declared before.
    fn named_alike(&self, manifest: &Manifest) -> Option<String> {
        let name = |manifest: &Manifest| {
            (manifest.metadata.namespace.clone(), manifest.metadata.name.clone())
        };
        let alike = |document: &&Document| name(&document.manifest) == name(manifest);
        self.documents.loops.iter().find(alike).map(|document| document.source.clone())
    }

    fn fault(&mut self, source: String, field: &str, description: String) {
        self.faults.push(Field { source, field: field.to_owned(), description });
    }
}

/// A manifest's kind as `flyball schema` has it; what is no kind was meant for a loop.
fn schema_word(kind: &str) -> &'static str {
    match kind {
        KIND_ROLE => AccessKind::Role.word(),
        KIND_BINDING => AccessKind::Binding.word(),
        kind => DefinitionKind::of_manifest(kind).map_or("loop", DefinitionKind::word),
    }
}

impl Origin {
    fn find(&self, path: &str) -> Option<Place> {
        self.places.as_ref()?.find(path)
    }

    /// `file:line:column`, or the document where the place is not known.
    fn place(&self, path: &str) -> String {
        match self.find(path) {
            Some((line, column)) => format!("{}:{line}:{column}", self.file),
            None => self.source.clone(),
        }
    }
}

/// Where and what, from an error of the YAML reader: `:line:column` and its first line.
/// Only `true` and `false` are booleans: a check named `n` or `on` is text, as in YAML 1.2.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! { strict_booleans: true }
}

fn yaml_error(error: &serde_saphyr::Error) -> (String, String) {
    let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column()));
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    // The place is said before; the reader's advice is for programmers.
    let text = text.split(" at line ").next().unwrap_or(text);
    let text = text.split(", set DuplicateKeyPolicy").next().unwrap_or(text);
    (place.unwrap_or_default(), text.to_owned())
}

/// A namespace given on the command line goes into a manifest that has none, as with kubectl.
fn fill_namespace(json: &mut Value, namespace: Option<&str>) -> Result<(), String> {
    let everywhere = json.pointer("/spec/allNamespaces").and_then(Value::as_bool) == Some(true);
    let kind = json.get("kind").and_then(Value::as_str).unwrap_or_default();
    let of_installation =
        DefinitionKind::of_manifest(kind).is_some_and(|kind| !kind.is_namespaced());
    if everywhere || of_installation || kind == KIND_ROLE {
        return Ok(());
    }
    let (Some(namespace), Some(metadata)) = (namespace, json.get_mut("metadata")) else {
        return Ok(());
    };
    let Some(metadata) = metadata.as_object_mut() else { return Ok(()) };
    match metadata.get("namespace").and_then(Value::as_str) {
        None => {
            metadata.insert("namespace".to_owned(), Value::from(namespace));
            Ok(())
        }
        Some(own) if own == namespace => Ok(()),
        Some(own) => Err(format!("is {own}, but --namespace is {namespace}")),
    }
}
