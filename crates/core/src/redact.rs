//! Known secret values out of a stream of bytes: whatever looks like one, as it is or in a usual
//! encoding, is replaced by `[redacted:NAME]`, however the stream is cut into pieces.

use std::fmt;

/// Shortest value that can be kept out of output: shorter ones would be found in ordinary text.
pub const VALUE_BYTES_MIN: usize = 8;
/// Shortest line of a value of several lines that is looked for by itself: the rest of a key file.
const LINE_BYTES_MIN: usize = 16;

/// Fewest characters of a line by which programs wrap base64 and hexadecimal text (76, 64 and 60 are usual).
const WRAPPED_AT_MIN: usize = 32;

/// What to look for, longest first.
#[derive(Clone, Default)]
pub struct Patterns {
    all: Vec<Pattern>,
    /// Most bytes that one of them can be found in.
    longest: usize,
    /// Which bytes a pattern begins with: most of an output begins none.
    begins: std::sync::Arc<std::collections::BTreeSet<u8>>,
}

#[derive(Clone)]
struct Pattern {
    form: Form,
    name: usize,
    names: std::sync::Arc<Vec<String>>,
}

/// How a value may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Form {
    bytes: Vec<u8>,
    /// Line breaks may stand in it: what encodes long texts wraps them.
    wraps: bool,
}

impl Form {
    fn exact(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), wraps: false }
    }

    fn wrapping(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), wraps: true }
    }

    /// Most line breaks that are looked over.
    fn breaks_max(&self) -> usize {
        if self.wraps { self.bytes.len() / WRAPPED_AT_MIN + 1 } else { 0 }
    }

    /// Most bytes that it can be found in.
    fn longest(&self) -> usize {
        self.bytes.len() + 2 * self.breaks_max()
    }

    /// How many bytes at the start of a text are this.
    fn at_start(&self, text: &[u8]) -> Option<usize> {
        if text.starts_with(&self.bytes) {
            return Some(self.bytes.len());
        }
        let (mut at, mut breaks) = (0, 0);
        for (index, byte) in self.bytes.iter().enumerate() {
            let rest = text.get(at..)?;
            let gap = [&b"\n"[..], b"\r\n"].into_iter().find(|gap| rest.starts_with(gap));
            if let Some(gap) = gap.filter(|_| index > 0 && breaks < self.breaks_max()) {
                (at, breaks) = (at + gap.len(), breaks + 1);
            }
            if text.get(at) != Some(byte) {
                return None;
            }
            at += 1;
        }
        Some(at)
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Patterns({})", self.all.len())
    }
}

impl Patterns {
    /// Patterns for these secrets, by name. Values below [`VALUE_BYTES_MIN`] are not looked for.
    pub fn of<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let (mut found, mut names): (Vec<(Form, usize)>, Vec<String>) = Default::default();
        for (name, value) in secrets {
            let value = value.trim_ascii();
            if value.len() < VALUE_BYTES_MIN {
                continue;
            }
            let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let lines =
                lines.filter(|line| line.len() >= LINE_BYTES_MIN && line.len() < value.len());
            for part in lines.chain([value]) {
                found.extend(forms(part).into_iter().map(|form| (form, names.len())));
            }
            names.push(name.to_owned());
        }
        // Of equal ones the form that finds more comes first, and stays.
        let order = |(form, name): &(Form, usize)| {
            (std::cmp::Reverse(form.bytes.len()), form.bytes.clone(), !form.wraps, *name)
        };
        found.sort_by_cached_key(order);
        found.dedup_by(|one, other| one.0.bytes == other.0.bytes);
        let longest = found.iter().map(|(form, _)| form.longest()).max().unwrap_or(0);
        let begins = found.iter().filter_map(|(form, _)| form.bytes.first().copied()).collect();
        let begins = std::sync::Arc::new(begins);
        let names = std::sync::Arc::new(names);
        let pattern = |(form, name)| Pattern { form, name, names: names.clone() };
        Self { all: found.into_iter().map(pattern).collect(), longest, begins }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All at once.
    pub fn redact(&self, bytes: &[u8]) -> Vec<u8> {
        let mut redactor = Redactor::new(self.clone());
        let mut clean = redactor.push(bytes);
        clean.extend(redactor.finish());
        clean
    }

    /// A text at once.
    pub fn redact_text(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        String::from_utf8_lossy(&self.redact(text.as_bytes())).into_owned()
    }

    /// The longest pattern that stands at the start, and how many bytes it takes there.
    fn at_start(&self, bytes: &[u8]) -> Option<(&Pattern, usize)> {
        bytes.first().filter(|first| self.begins.contains(first))?;
        self.all.iter().find_map(|pattern| Some((pattern, pattern.form.at_start(bytes)?)))
    }
}

/// How a value may be written.
fn forms(value: &[u8]) -> Vec<Form> {
    let mut forms = vec![Form::exact(value)];
    for alphabet in [STANDARD, URL_SAFE] {
        let inside = (0..3).filter_map(|offset| base64_inside(value, offset, alphabet));
        forms.extend(inside.map(Form::wrapping));
    }
    for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        let hexadecimal: Vec<u8> = value.iter().flat_map(|byte| hex(*byte, digits)).collect();
        forms.push(Form::wrapping(hexadecimal));
        forms.push(Form::exact(percent(value, digits, false)));
        forms.push(Form::exact(percent(value, digits, true)));
    }
    if let Ok(text) = std::str::from_utf8(value) {
        forms.extend(json(text).into_iter().map(Form::exact));
    }
    // What a terminal makes of line breaks.
    let returns = value.iter().flat_map(|byte| match byte {
        b'\n' => b"\r\n".to_vec(),
        byte => vec![*byte],
    });
    forms.push(Form::exact(returns.collect::<Vec<u8>>()));
    forms
}

/// As inside a JSON string, as the usual programs write one: with slashes escaped or not, and with what is not
/// ASCII as it is or as numbers.
fn json(text: &str) -> Vec<String> {
    let Ok(quoted) = serde_json::to_string(text) else { return Vec::new() };
    let plain = quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned();
    let slashes = plain.replace('/', "\\/");
    let numbers = |text: &str| -> String {
        let units = |c: char| c.encode_utf16(&mut [0; 2]).to_vec();
        let escaped = |c: char| units(c).iter().map(|unit| format!("\\u{unit:04x}")).collect();
        let one = |c: char| if c.is_ascii() { c.to_string() } else { escaped(c) };
        text.chars().map(one).collect()
    };
    vec![numbers(&plain), numbers(&slashes), slashes, plain]
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The characters of base64 that depend on the value alone when it stands `offset` bytes into a group of
/// three of some larger text; `None` if too little is left to be found by.
fn base64_inside(value: &[u8], offset: usize, alphabet: &[u8; 64]) -> Option<Vec<u8>> {
    let bits: Vec<u8> = std::iter::repeat_n(0, offset).chain(value.iter().copied()).collect();
    let first = (offset * 8).div_ceil(6);
    let end = bits.len() * 8 / 6;
    let digit = |index: usize| {
        let bit = index * 6;
        let pair =
            u16::from(bits[bit / 8]) << 8 | u16::from(bits.get(bit / 8 + 1).copied().unwrap_or(0));
        alphabet[usize::from(pair >> (10 - bit % 8) & 63)]
    };
    (end >= first + VALUE_BYTES_MIN).then(|| (first..end).map(digit).collect())
}

fn hex(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}

/// As in a URL; in a form a space is a plus.
fn percent(value: &[u8], digits: &[u8; 16], form: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len() * 3);
    for byte in value {
        match byte {
            b' ' if form => text.push(b'+'),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) => text.push(*byte),
            byte => {
                text.push(b'%');
                text.extend(hex(*byte, digits));
            }
        }
    }
    text
}

/// Redacts a stream that comes in pieces. What may be the beginning of a value is held back until it is
/// known whether it is one.
#[derive(Debug, Clone)]
pub struct Redactor {
    patterns: Patterns,
    held: Vec<u8>,
}

impl Redactor {
    /// One for a stream.
    pub fn new(patterns: Patterns) -> Self {
        Self { patterns, held: Vec::new() }
    }

    /// The next piece; answers what is clean by now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        if self.patterns.is_empty() {
            return piece.to_vec();
        }
        self.held.extend_from_slice(piece);
        // From any place before this one even the longest pattern has been seen whole.
        let sure = (self.held.len() + 1).saturating_sub(self.patterns.longest);
        self.clean(sure)
    }

    /// The end of the stream: the rest.
    pub fn finish(&mut self) -> Vec<u8> {
        self.clean(self.held.len())
    }

    fn clean(&mut self, sure: usize) -> Vec<u8> {
        let (mut clean, mut at) = (Vec::with_capacity(sure), 0);
        while at < sure {
            match self.patterns.at_start(&self.held[at..]) {
                Some((found, length)) => {
                    let name = found.names.get(found.name).map(String::as_str).unwrap_or_default();
                    clean.extend_from_slice(format!("[redacted:{name}]").as_bytes());
                    at += length;
                }
                None => {
                    clean.push(self.held[at]);
                    at += 1;
                }
            }
        }
        self.held.drain(..at);
        clean
    }
}

#[cfg(test)]
mod tests;
