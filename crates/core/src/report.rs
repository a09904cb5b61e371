//! The report that an agent may leave: a note and a claim. It is a hint and never a verdict, and whatever
//! bytes the agent has left in its place are read as one or refused with a reason.

use serde::Deserialize;

/// Longest report that is read, in bytes; one that a program writes by itself has some hundred.
pub const REPORT_BYTES_MAX: usize = 64 * 1024;

/// What the agent claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// Nothing.
    #[default]
    None,
    /// The goal is reached. Verified like anything else.
    Done,
    /// The goal cannot be reached.
    Unreachable,
    /// A person must decide something.
    NeedsHuman,
}

/// The report, as JSON. Other fields are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Report {
    /// A line about what it did.
    pub note: String,
    /// What it claims.
    pub claim: Claim,
}

/// Why bytes are no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// They are more than [`REPORT_BYTES_MAX`].
    #[error("the report is not a file of at most {REPORT_BYTES_MAX} bytes")]
    TooLarge,
    /// They are not such a document; with the reader's words.
    #[error("the report is not valid: {0}")]
    Invalid(String),
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// [`ReportError`], of which the text is at most a few times as long as the report.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(ReportError::TooLarge);
        }
        serde_json::from_slice(bytes).map_err(|error| ReportError::Invalid(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_or_refused_with_a_reason() {
        let read = |text: &str| Report::parse(text.as_bytes());
        let report = Report { note: "x".to_owned(), claim: Claim::NeedsHuman };
        assert_eq!(read(r#"{"note":"x","claim":"needs-human","more":1}"#), Ok(report));
        assert_eq!(read("{}"), Ok(Report::default()));
        for (text, why) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("\u{0}", "expected value"),
            (r#"{"note":1}"#, "invalid type"),
            (r#"{"claim":"converged"}"#, "unknown variant"),
            (r#"{"note":"a","note":"b"}"#, "duplicate field"),
            ("{} {}", "trailing"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.starts_with("the report is not valid: ") && error.contains(why),
                "{error}"
            );
        }
        assert!(matches!(Report::parse(b"\"\xff\""), Err(ReportError::Invalid(_))));
        assert!(matches!(read(&"[".repeat(REPORT_BYTES_MAX)), Err(ReportError::Invalid(_))));
        assert_eq!(read(&" ".repeat(REPORT_BYTES_MAX + 1)), Err(ReportError::TooLarge));
    }
}
