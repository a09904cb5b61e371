//! The one module that writes to the terminal: results to stdout, everything else to stderr, in the
//! format the user asked for.

mod table;

use std::io::{IsTerminal, Write};

use serde_json::Value;

pub use self::table::{Cell, Table, Tint};
use crate::exit::Exit;
use crate::failure::Failure;

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON; one object per line when watching. Errors are JSON on stderr.
    Json,
    /// YAML.
    Yaml,
    /// Only names, such as loop/fix-tests.
    Name,
}

impl Format {
    /// How JSON is asked for.
    pub(crate) const JSON_WORD: &'static str = "json";

    /// True for the formats that programs read.
    pub fn is_structured(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

/// Where output goes and how it looks.
pub struct Out {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    color: bool,
    terminal: bool,
    format: Format,
    headers: bool,
}

/// Results of writing; a failure here is a [`Failure`] like any other.
pub type Written = Result<(), Failure>;

impl Out {
    /// The output of this process. Colours only on a terminal, and not if `NO_COLOR` is set;
    /// `CLICOLOR_FORCE` brings them into a pipe.
    pub fn process() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = std::io::stdout().is_terminal();
        let force = set("CLICOLOR_FORCE");
        Self {
            stdout: Box::new(std::io::stdout()),
            stderr: Box::new(std::io::stderr()),
            color: !set("NO_COLOR") && (terminal || force),
            terminal,
            format: Format::Table,
            headers: true,
        }
    }

    /// Output to other writers, without colour: for tests and embedding.
    pub fn to(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Self {
        let (color, terminal) = (false, false);
        Self { stdout, stderr, color, terminal, format: Format::Table, headers: true }
    }

    /// Applies the flags.
    pub(crate) fn configure(&mut self, format: Format, no_headers: bool) {
        self.format = format;
        self.headers = !no_headers;
    }

    /// The format the user asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// True when stdout is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// True when colours may be used.
    pub fn has_color(&self) -> bool {
        self.color
    }

    /// A line on stdout.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn line(&mut self, text: impl AsRef<str>) -> Written {
        self.stdout.write_all(text.as_ref().as_bytes())?;
        self.stdout.write_all(b"\n")?;
        Ok(self.stdout.flush()?)
    }

    /// Bytes on stdout as they are.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn raw(&mut self, bytes: &[u8]) -> Written {
        self.stdout.write_all(bytes)?;
        Ok(self.stdout.flush()?)
    }

    /// A line on stderr: progress, warnings, hints. Losing one is no failure.
    pub fn note(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.stderr, "{}", text.as_ref());
    }

    /// A table on stdout; headers only if wanted.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn table(&mut self, table: &mut Table) -> Written {
        let text = table.take(self.color, self.headers);
        self.raw(text.as_bytes())
    }

    /// A document in the structured format that was asked for, JSON if none was.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn document(&mut self, value: &Value) -> Written {
        match self.format {
            Format::Yaml => {
                let text = to_yaml(value)?;
                self.raw(text.as_bytes())
            }
            _ => self.line(format!("{value:#}")),
        }
    }

    /// One document of a stream: a line of JSON, or a YAML document with its `---`.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn stream_document(&mut self, value: &Value) -> Written {
        match self.format {
            Format::Yaml => {
                let text = to_yaml(value)?;
                self.raw(format!("---\n{text}").as_bytes())
            }
            _ => self.line(value.to_string()),
        }
    }

    /// Shows a failure and answers the exit code.
    pub(crate) fn failure(&mut self, failure: &Failure) -> Exit {
        if !failure.is_closed_output() {
            let text = match self.format {
                Format::Json => failure_json(failure),
                _ => failure_text(failure, self.color),
            };
            self.note(text);
        }
        failure.exit
    }

    /// Shows what clap answered instead of arguments: help, version or a usage error.
    pub(crate) fn refused_arguments(&mut self, refusal: &clap::Error, json_wanted: bool) -> Exit {
        if !refusal.use_stderr() {
            let text = refusal.render();
            let text = if self.color { text.ansi().to_string() } else { text.to_string() };
            return match self.raw(text.as_bytes()) {
                Ok(()) => Exit::Ok,
                Err(failure) => failure.exit,
            };
        }
        let text = refusal.render().to_string();
        if json_wanted {
            let message = text.trim_start_matches("error: ").lines().next().unwrap_or_default();
            self.note(failure_json(&Failure::usage(message)));
        } else {
            self.note(text.trim_end());
        }
        Exit::Usage
    }
}

fn to_yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value)
        .map(|text| if text.ends_with('\n') { text } else { text + "\n" })
        .map_err(|error| Failure::new("output", format!("cannot be written as YAML: {error}")))
}

fn failure_json(failure: &Failure) -> String {
    serde_json::json!({ "error": failure }).to_string()
}

/// `error: message`, one line per field, then what to do next.
fn failure_text(failure: &Failure, color: bool) -> String {
    let label = Tint::Bad.paint("error:", color);
    let mut text = format!("{label} {}", failure.message);
    for field in &failure.fields {
        let place = match (field.source.as_str(), field.field.as_str()) {
            ("", field) => field.to_owned(),
            (source, "") => source.to_owned(),
            (source, field) => format!("{source}: {field}"),
        };
        text.push_str(&format!("\n  {place}: {}", field.description));
    }
    for hint in &failure.hints {
        text.push_str(&format!("\n{} {hint}", Tint::Dim.paint("hint:", color)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Field;

    fn failure() -> Failure {
        let field = |source: &str, field: &str, description: &str| Field {
            source: source.to_owned(),
            field: field.to_owned(),
            description: description.to_owned(),
        };
        Failure::new("invalid", "the manifest is not valid")
            .fields(vec![
                field("a.yaml:3:5", "spec.gaol", "unknown field; did you mean goal?"),
                field("", "spec.checks", "at least one check is needed"),
            ])
            .hint("flyball schema loop.spec")
    }

    #[test]
    fn failures_have_one_line_per_field() {
        insta::assert_snapshot!(failure_text(&failure(), false), @"
        error: the manifest is not valid
          a.yaml:3:5: spec.gaol: unknown field; did you mean goal?
          spec.checks: at least one check is needed
        hint: flyball schema loop.spec
        ");
    }

    #[test]
    fn failures_as_json_have_a_code() {
        insta::assert_snapshot!(failure_json(&failure()), @r#"{"error":{"code":"invalid","exitCode":1,"fields":[{"description":"unknown field; did you mean goal?","field":"spec.gaol","source":"a.yaml:3:5"},{"description":"at least one check is needed","field":"spec.checks"}],"hints":["flyball schema loop.spec"],"message":"the manifest is not valid"}}"#);
    }

    #[test]
    fn yaml_keeps_what_would_be_read_otherwise_in_quotes() {
        let value = serde_json::json!({ "a": "yes", "b": "1", "c": "x\ny\n", "d": [], "e": null });
        let text = to_yaml(&value).unwrap();
        let again: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(again, value);
    }
}
