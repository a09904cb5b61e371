//! Bytes into lines, with a bound: an agent's output is what a stranger wrote.

/// Longest line that is read: a tool's result with a picture in it. Longer ones are passed over.
pub(crate) const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The lines of a stream that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// The line that is being read is too long.
    over: bool,
}

/// A line without its end, or the place of one that was too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Whole(&'a [u8]),
    TooLong,
}

impl Lines {
    /// Takes the next piece; `with` gets every line that it completes. Lines end with `\n`; a `\r` before it is
    /// not part of them.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut with: impl FnMut(Line<'_>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.partial.is_empty() && !self.over && line.len() <= LINE_BYTES_MAX {
                with(Line::Whole(trimmed(line)));
            } else {
                self.push(line);
                self.complete(&mut with);
            }
            rest = after;
        }
        self.push(rest);
    }

    /// The stream is over: a last line without an end counts too.
    pub(crate) fn finish(&mut self, mut with: impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() || self.over {
            self.complete(&mut with);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.over |= self.partial.len() + bytes.len() > LINE_BYTES_MAX;
        if self.over {
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn complete(&mut self, with: &mut impl FnMut(Line<'_>)) {
        if std::mem::take(&mut self.over) {
            with(Line::TooLong);
        } else {
            with(Line::Whole(trimmed(&self.partial)));
        }
        self.partial.clear();
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut with = |line: Line<'_>| {
            found.push(match line {
                Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                Line::TooLong => "TOO LONG".to_owned(),
            });
        };
        for piece in pieces {
            lines.feed(piece, &mut with);
        }
        lines.finish(&mut with);
        found
    }

    #[test]
    fn any_split_gives_the_same_lines() {
        let text = b"one\r\n\ntwo\xc3\xa4\nthree";
        let expected = ["one", "", "two\u{e4}", "three"];
        for at in 0..=text.len() {
            assert_eq!(split(&[&text[..at], &text[at..]]), expected, "{at}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(split(&bytes), expected);
        assert_eq!(split(&[b"a\n"]), ["a"]);
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_without_an_end() {
        let (mut lines, mut found) = (Lines::default(), 0);
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..64 {
            lines.feed(&piece, |_| found += 1);
            assert!(lines.partial.capacity() <= 2 * LINE_BYTES_MAX);
        }
        assert_eq!(found, 0);
        assert_eq!(split(&[&vec![b'x'; LINE_BYTES_MAX + 1], b"\nnext\n"]), ["TOO LONG", "next"]);
        let exact = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(split(&[&exact, b"\n"])[0].len(), LINE_BYTES_MAX);
    }
}
