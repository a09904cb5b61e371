//! The events of a stream of server-sent events (WHATWG HTML, 9.2): their data, each as a JSON document.

use std::io::{self, BufRead, BufReader, Read};

use serde_json::Value;

/// Largest event, bytes: the arguments of a tool come in many, but a last event may repeat the whole answer.
const EVENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Hands the data of every event to `with`, until it says that it has enough or the stream ends.
///
/// # Errors
/// The stream broke, or an event is no JSON document or too large.
pub(crate) fn each(
    from: impl Read,
    mut with: impl FnMut(&Value) -> io::Result<bool>,
) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut data = String::new();
    loop {
        let mut line = Vec::new();
        let length = from.by_ref().take(EVENT_BYTES_MAX).read_until(b'\n', &mut line)?;
        let over = length as u64 >= EVENT_BYTES_MAX || data.len() as u64 > EVENT_BYTES_MAX;
        if over {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an event is too large"));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            // An empty line ends an event, and so does the end of the stream.
            let event = std::mem::take(&mut data);
            if !event.is_empty() && event != "[DONE]" {
                let value = serde_json::from_str(&event).map_err(|error| {
                    let why = format!("an event is no JSON document: {error}");
                    io::Error::new(io::ErrorKind::InvalidData, why)
                })?;
                if !with(&value)? {
                    return Ok(());
                }
            }
            if length == 0 {
                return Ok(());
            }
        } else if let Some(rest) = text.strip_prefix("data:") {
            if !data.is_empty() {
                data.push('\n');
            }
            data += rest.strip_prefix(' ').unwrap_or(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        each(text.as_bytes(), |value| {
            found.push(value.to_string());
            Ok(value != "stop")
        })?;
        Ok(found)
    }

    #[test]
    fn data_of_events() {
        let text = ": hello\n\nevent: a\r\ndata: 1\r\n\r\ndata:[2,\ndata: 3]\n\nid: 7\n\ndata: [DONE]\n\ndata: 4";
        assert_eq!(read(text).unwrap(), ["1", "[2,3]", "4"]);
        assert_eq!(read("data: \"stop\"\n\ndata: 1\n\n").unwrap(), ["\"stop\""]);
        assert!(read("data: {\n\n").is_err());
    }
}
