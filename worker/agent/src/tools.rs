//! The tools that the model is given, and what they do. Nothing here confines them: the sandbox does.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::shell;
use crate::speak::{ToolCall, ToolSpec};

/// Longest time of a command whose call does not say it, seconds.
const SHELL_SECONDS_DEFAULT: u64 = 120;
/// Longest time of a command, seconds: a full build and test run.
const SHELL_SECONDS_MAX: u64 = 900;
/// Most bytes that one read gives: about 8000 tokens.
const READ_BYTES_MAX: usize = 32 * 1024;
/// Largest file that is read or edited.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Lines that one read gives if the call does not say it.
const LINES_DEFAULT: usize = 400;

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) text: String,
    pub(crate) ok: bool,
    /// The agent has reported: it is through.
    pub(crate) report: Option<Value>,
}

impl Done {
    fn new(result: Result<String, String>) -> Self {
        let ok = result.is_ok();
        Self { text: result.unwrap_or_else(|why| why), ok, report: None }
    }
}

/// All tools.
pub(crate) fn specs() -> Vec<ToolSpec> {
    let text = |what: &str| json!({"type": "string", "description": what});
    let number = |what: &str| json!({"type": "integer", "description": what});
    let spec = |name, description, properties: Value, required: &[&str]| ToolSpec {
        name,
        description,
        parameters: json!({
            "type": "object", "properties": properties, "required": required,
            "additionalProperties": false,
        }),
    };
    vec![
        spec(
            "shell",
            "Runs a command line with sh in the workspace and returns both outputs and how it ended. Nothing is on \
             its input. Whatever it leaves in the background is killed when it ends.",
            json!({
                "command": text("The command line."),
                "seconds": number("Killed after this long; 120 if absent, 900 at most."),
            }),
            &["command"],
        ),
        spec(
            "read",
            "Returns lines of a text file, each with its number.",
            json!({
                "path": text("The file."),
                "from": number("First line, from 1."),
                "lines": number("How many; 400 if absent."),
            }),
            &["path"],
        ),
        spec(
            "edit",
            "Replaces a text in a file by another. The old text must stand there exactly once, with its white space \
             and without line numbers.",
            json!({"path": text("The file."), "old": text("The old text."), "new": text("The new text.")}),
            &["path", "old", "new"],
        ),
        spec(
            "write",
            "Writes a whole file, making its directories. What was there is gone.",
            json!({"path": text("The file."), "text": text("All of it.")}),
            &["path", "text"],
        ),
        spec(
            "report",
            "Ends your work. Call it once your change is made, or when you are sure that none can be.",
            json!({
                "note": text("What you did, or why you did nothing, in one line."),
                "claim": {
                    "type": "string", "enum": ["none", "done", "unreachable", "needs-human"],
                    "description": "done: the goal is reached; unreachable: it cannot be; needs-human: a person \
                                    must decide something, said in the note; none otherwise.",
                },
            }),
            &["note"],
        ),
    ]
}

/// Runs one call. `time_left` bounds a command.
pub(crate) fn run(call: &ToolCall, time_left: Duration) -> Done {
    let arguments: Value = match serde_json::from_str(&call.arguments) {
        Ok(value @ Value::Object(_)) => value,
        // Some models write nothing for no argument.
        Err(_) if call.arguments.trim().is_empty() => json!({}),
        _ => return Done::new(Err("the arguments are not a whole JSON object".to_owned())),
    };
    match call.name.as_str() {
        "shell" => shell_tool(&arguments, time_left),
        "read" => Done::new(read(&arguments)),
        "edit" => Done::new(edit(&arguments)),
        "write" => Done::new(write(&arguments)),
        "report" => report(&arguments),
        other => Done::new(Err(format!(
            "there is no tool {other:?}; there are shell, read, edit, write and report"
        ))),
    }
}

fn text<'a>(arguments: &'a Value, name: &str) -> Result<&'a str, String> {
    let value = arguments.get(name).and_then(Value::as_str);
    value.ok_or_else(|| format!("the argument {name} is missing or no text"))
}

fn number(arguments: &Value, name: &str) -> Option<u64> {
    let value = arguments.get(name)?;
    // Small models like to write numbers as text.
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn shell_tool(arguments: &Value, time_left: Duration) -> Done {
    let line = match text(arguments, "command") {
        Ok(line) => line,
        Err(why) => return Done::new(Err(why)),
    };
    let seconds = number(arguments, "seconds").unwrap_or(SHELL_SECONDS_DEFAULT);
    let time = Duration::from_secs(seconds.clamp(1, SHELL_SECONDS_MAX)).min(time_left);
    let ran = shell::run(line, time);
    Done { text: ran.text, ok: ran.ok, report: None }
}

fn whole_file(path: &str) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read {path}: {error}");
    let file = fs::File::open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if !meta.is_file() {
        return Err(format!("{path} is no file"));
    }
    if meta.len() > FILE_BYTES_MAX {
        return Err(format!("{path} has {} bytes, more than {FILE_BYTES_MAX}", meta.len()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(cannot)?;
    String::from_utf8(bytes).map_err(|_| format!("{path} is no UTF-8 text; use shell for it"))
}

fn read(arguments: &Value) -> Result<String, String> {
    let path = text(arguments, "path")?;
    let whole = whole_file(path)?;
    let as_count = |name| number(arguments, name).and_then(|count| usize::try_from(count).ok());
    let from = as_count("from").unwrap_or(1).max(1);
    let wanted = as_count("lines").unwrap_or(LINES_DEFAULT);
    let all = whole.lines().count();
    let mut out = String::new();
    for (number, line) in whole.lines().enumerate().skip(from - 1).take(wanted) {
        let number = number + 1;
        if out.len() + line.len() > READ_BYTES_MAX {
            out += &format!("[too long: go on from line {number}, or cut lines with shell]\n");
            return Ok(out);
        }
        out += &format!("{number}\t{line}\n");
    }
    let until = from.saturating_add(wanted).min(all + 1);
    if until <= all {
        out += &format!("[{all} lines in all; go on from {until}]\n");
    } else if out.is_empty() {
        out = format!("[nothing there: the file has {all} lines]\n");
    }
    Ok(out)
}

fn edit(arguments: &Value) -> Result<String, String> {
    let (path, old, new) =
        (text(arguments, "path")?, text(arguments, "old")?, text(arguments, "new")?);
    if old.is_empty() {
        return Err("the old text is empty; use write for a new file".to_owned());
    }
    let whole = whole_file(path)?;
    match whole.matches(old).count() {
        1 => {}
        0 => return Err(format!("the old text does not stand in {path}")),
        times => {
            return Err(format!("the old text stands in {path} {times} times; give more of it"));
        }
    }
    put(path, &whole.replacen(old, new, 1))
}

fn write(arguments: &Value) -> Result<String, String> {
    let (path, text) = (text(arguments, "path")?, text(arguments, "text")?);
    if let Some(dir) = Path::new(path).parent() {
        fs::create_dir_all(dir)
            .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    }
    put(path, text)
}

fn put(path: &str, text: &str) -> Result<String, String> {
    let written = fs::write(path, text);
    written
        .map(|()| format!("{path}: {} lines", text.lines().count()))
        .map_err(|error| format!("cannot write {path}: {error}"))
}

fn report(arguments: &Value) -> Done {
    let note = match text(arguments, "note") {
        Ok(note) => note,
        Err(why) => return Done::new(Err(why)),
    };
    let claim = arguments.get("claim").and_then(Value::as_str).unwrap_or("none");
    if !["none", "done", "unreachable", "needs-human"].contains(&claim) {
        let why = format!("claim {claim:?} is not none, done, unreachable or needs-human");
        return Done::new(Err(why));
    }
    let report = json!({"note": note, "claim": claim});
    Done { text: "reported".to_owned(), ok: true, report: Some(report) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: Value) -> Done {
        let call =
            ToolCall { id: String::new(), name: name.to_owned(), arguments: arguments.to_string() };
        run(&call, Duration::from_secs(60))
    }

    #[test]
    fn files_are_read_edited_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.txt").to_str().unwrap().to_owned();
        let wrote = call("write", json!({"path": path, "text": "one\ntwo\nthree\n"}));
        assert_eq!(wrote.text, format!("{path}: 3 lines"));
        let read = |from: Value, lines: Value| {
            call("read", json!({"path": path, "from": from, "lines": lines})).text
        };
        assert_eq!(read(json!(null), json!(null)), "1\tone\n2\ttwo\n3\tthree\n");
        assert_eq!(read(json!("2"), json!(1)), "2\ttwo\n[3 lines in all; go on from 3]\n");
        assert_eq!(read(json!(9), json!(1)), "[nothing there: the file has 3 lines]\n");
        assert_eq!(
            read(json!(u64::MAX), json!(u64::MAX)),
            "[nothing there: the file has 3 lines]\n"
        );

        let edit =
            |old: &str, new: &str| call("edit", json!({"path": path, "old": old, "new": new}));
        assert!(edit("two\n", "2\n").ok);
        assert!(edit("two", "2").text.contains("does not stand in"));
        assert!(edit("e", "E").text.contains("3 times"), "{:?}", edit("e", "E"));
        assert!(!edit("", "x").ok);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n2\nthree\n");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        assert!(call("read", json!({"path": path("none")})).text.contains("No such file"));
        assert!(call("read", json!({"path": dir.path()})).text.contains("is no file"));
        fs::write(path("bin"), b"\xff\xfe").unwrap();
        assert!(call("read", json!({"path": path("bin")})).text.contains("no UTF-8"));
        fs::write(path("wide"), "x".repeat(READ_BYTES_MAX + 1)).unwrap();
        assert!(call("read", json!({"path": path("wide")})).text.contains("too long"));
        assert!(call("read", json!({"path": 7})).text.contains("path is missing"));
    }

    #[test]
    fn a_command_is_run_within_the_time_that_is_left() {
        assert_eq!(call("shell", json!({"command": "echo hi"})).text, "hi\n[exit 0]");
        let slow = ToolCall {
            name: "shell".to_owned(),
            arguments: json!({"command": "sleep 100"}).to_string(),
            ..ToolCall::default()
        };
        let done = run(&slow, Duration::from_millis(50));
        assert!(!done.ok && done.text.contains("killed"));
    }

    #[test]
    fn what_a_model_writes_wrong_is_told_to_it() {
        assert!(call("rm", json!({})).text.contains("there are shell"));
        let broken = ToolCall {
            name: "shell".to_owned(),
            arguments: "{\"command\": \"ls".to_owned(),
            ..ToolCall::default()
        };
        assert!(run(&broken, Duration::ZERO).text.contains("not a whole JSON object"));
        assert!(!call("report", json!({"note": "x", "claim": "won"})).ok);
        let done = call("report", json!({"note": "x"}));
        assert_eq!(done.report, Some(json!({"note": "x", "claim": "none"})));
    }

    #[test]
    fn every_tool_has_a_schema_that_names_what_it_needs() {
        for spec in specs() {
            let properties = spec.parameters["properties"].as_object().unwrap();
            for needed in spec.parameters["required"].as_array().unwrap() {
                assert!(properties.contains_key(needed.as_str().unwrap()), "{}", spec.name);
            }
        }
    }
}
