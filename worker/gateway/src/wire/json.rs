//! JSON as byte spans: what a request or an event says, and where, without building a tree or writing it anew.
//! Strict (RFC 8259), so that no server behind the gateway can read a document differently than we do.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2};

/// Deepest nesting that is followed: one bit each of a word. serde_json's own bound is the same.
const DEPTH_MAX: u32 = 128;

/// Why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Fault {
    /// Where, in bytes from the start.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// A value inside a checked document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    text: &'a [u8],
    at: usize,
}

/// Reads a whole document: one value, and nothing after it.
pub(crate) fn document(text: &[u8]) -> Result<Value<'_>, Fault> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(Fault { at: error.valid_up_to(), what: "bytes that are not UTF-8" });
    }
    let start = space(text, 0);
    let end = skip::<true>(text, start)?;
    let rest = space(text, end);
    if rest != text.len() {
        return Err(Fault { at: rest, what: "text after the end" });
    }
    Ok(Value { text: &text[start..end], at: start })
}

impl<'a> Value<'a> {
    /// The value that stands at `span` of a document that was read before.
    pub(crate) fn at(text: &'a [u8], span: &Range<usize>) -> Self {
        Self { text: text.get(span.clone()).unwrap_or_default(), at: span.start }
    }

    pub(crate) fn kind(self) -> Kind {
        match self.text.first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    /// Where it stands in the document.
    pub(crate) fn span(self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    /// Its bytes.
    pub(crate) fn raw(self) -> &'a [u8] {
        self.text
    }

    /// Members of an object, in order; none of anything else.
    pub(crate) fn members(self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> {
        let mut at = if self.kind() == Kind::Object { 1 } else { self.text.len() };
        std::iter::from_fn(move || {
            let key = self.child(&mut at)?;
            let value = self.child(&mut at)?;
            Some((key, value))
        })
    }

    /// Items of an array, in order; none of anything else.
    pub(crate) fn items(self) -> impl Iterator<Item = Value<'a>> {
        let mut at = if self.kind() == Kind::Array { 1 } else { self.text.len() };
        std::iter::from_fn(move || self.child(&mut at))
    }

    /// The next value after separators.
    fn child(self, at: &mut usize) -> Option<Self> {
        let separators = self.text.get(*at..)?.iter();
        let start = *at + separators.take_while(|byte| b" \t\r\n,:".contains(byte)).count();
        let end = skip::<false>(self.text, start).ok()?;
        *at = end;
        Some(Self { text: &self.text[start..end], at: self.at + start })
    }

    /// The member of this name; of several the last, as most readers take it. `null` counts as absent.
    pub(crate) fn get(self, name: &str) -> Option<Self> {
        let found = self.members().filter(|(key, _)| key.is(name)).last()?;
        (found.1.kind() != Kind::Null).then_some(found.1)
    }

    /// Members of several names at once, as [`Value::get`] finds each: one pass for all.
    pub(crate) fn fields<const N: usize>(self, names: [&str; N]) -> [Option<Self>; N] {
        let mut found = [None; N];
        for (key, value) in self.members() {
            if let Some(at) = names.iter().position(|name| key.is(name)) {
                found[at] = (value.kind() != Kind::Null).then_some(value);
            }
        }
        found
    }

    /// Whether it is this string.
    pub(crate) fn is(self, text: &str) -> bool {
        self.inner().is_some_and(|inner| {
            inner == text.as_bytes()
                || (inner.len() > text.len()
                    && memchr(b'\\', inner).is_some()
                    && self.string().is_some_and(|own| own == text))
        })
    }

    /// Bytes between the quotes of a string, escapes as they are: never fewer than the text has.
    pub(crate) fn inner(self) -> Option<&'a [u8]> {
        (self.kind() == Kind::String).then(|| &self.text[1..self.text.len() - 1])
    }

    /// The text of a string. A surrogate without its half becomes U+FFFD.
    pub(crate) fn string(self) -> Option<Cow<'a, str>> {
        let inner = std::str::from_utf8(self.inner()?).ok()?;
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        Some(Cow::Owned(unescape(inner)))
    }

    /// A whole number that is not negative and fits.
    pub(crate) fn whole(self) -> Option<u64> {
        let text = std::str::from_utf8(self.text).ok()?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    }

    /// A number as a count, rounded up: some servers write `15.0`. `None` if it is less than 0.
    pub(crate) fn count(self) -> Option<u64> {
        if let Some(whole) = self.whole() {
            return Some(whole);
        }
        if self.kind() != Kind::Number {
            return None;
        }
        let number: f64 = std::str::from_utf8(self.text).ok()?.parse().ok()?;
        // What does not fit becomes the largest count.
        (number >= 0.0).then_some(number.ceil() as u64)
    }

    /// True or false.
    pub(crate) fn truth(self) -> Option<bool> {
        match self.text {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }
}

/// Writes a string with its quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = escaped.chars();
        let sign = chars.next().unwrap_or('\\');
        rest = chars.as_str();
        match sign {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => out.push(code_point(&mut rest)),
            other => out.push(other),
        }
    }
    out.push_str(rest);
    out
}

/// The character after `\u`, with its second half if it has one.
fn code_point(rest: &mut &str) -> char {
    let unit = |text: &str| text.get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let Some(first) = unit(rest) else { return char::REPLACEMENT_CHARACTER };
    *rest = &rest[4..];
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    let second = rest.strip_prefix("\\u").and_then(unit);
    match second {
        Some(second) if (0xdc00..0xe000).contains(&second) => {
            *rest = &rest[6..];
            let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        _ => char::REPLACEMENT_CHARACTER,
    }
}

fn space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// Which containers are open: a bit each, set for an object.
struct Open {
    objects: u128,
    depth: u32,
}

impl Open {
    fn push(&mut self, object: bool, at: usize) -> Result<(), Fault> {
        if self.depth == DEPTH_MAX {
            return Err(Fault { at, what: "more than 128 levels" });
        }
        self.objects = (self.objects << 1) | u128::from(object);
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// The end of the value that begins at `at`. No recursion: what strangers send must not choose the stack's depth.
/// `CHECK`: text that was not read before; later only the ends of strings matter in it.
fn skip<const CHECK: bool>(text: &[u8], mut at: usize) -> Result<usize, Fault> {
    let mut open = Open { objects: 0, depth: 0 };
    loop {
        at = space(text, at);
        match text.get(at) {
            Some(b'{') => {
                open.push(true, at)?;
                at = space(text, at + 1);
                if text.get(at) != Some(&b'}') {
                    at = key::<CHECK>(text, at)?;
                    continue;
                }
                open.pop();
                at += 1;
            }
            Some(b'[') => {
                open.push(false, at)?;
                at = space(text, at + 1);
                if text.get(at) != Some(&b']') {
                    continue;
                }
                open.pop();
                at += 1;
            }
            _ => at = scalar::<CHECK>(text, at)?,
        }
        match close::<CHECK>(text, at, &mut open)? {
            (end, true) => return Ok(end),
            (next, false) => at = next,
        }
    }
}

/// Goes on after a value: past closing brackets and a comma (and a key), or to the end of everything.
fn close<const CHECK: bool>(
    text: &[u8],
    mut at: usize,
    open: &mut Open,
) -> Result<(usize, bool), Fault> {
    while open.depth > 0 {
        at = space(text, at);
        match (text.get(at), open.in_object()) {
            (Some(b','), true) => return Ok((key::<CHECK>(text, space(text, at + 1))?, false)),
            (Some(b','), false) => return Ok((at + 1, false)),
            (Some(b'}'), true) | (Some(b']'), false) => open.pop(),
            _ => return Err(Fault { at, what: "no comma or closing bracket" }),
        }
        at += 1;
    }
    Ok((at, true))
}

/// Past a key and its colon.
fn key<const CHECK: bool>(text: &[u8], at: usize) -> Result<usize, Fault> {
    if text.get(at) != Some(&b'"') {
        return Err(Fault { at, what: "no key" });
    }
    let at = space(text, string::<CHECK>(text, at)?);
    if text.get(at) != Some(&b':') {
        return Err(Fault { at, what: "no colon" });
    }
    Ok(at + 1)
}

fn scalar<const CHECK: bool>(text: &[u8], at: usize) -> Result<usize, Fault> {
    let literal = |word: &[u8]| {
        if text[at..].starts_with(word) {
            Ok(at + word.len())
        } else {
            Err(Fault { at, what: "no value" })
        }
    };
    match text.get(at) {
        Some(b'"') => string::<CHECK>(text, at),
        Some(b't') => literal(b"true"),
        Some(b'f') => literal(b"false"),
        Some(b'n') => literal(b"null"),
        Some(b'-' | b'0'..=b'9') => number(text, at),
        _ => Err(Fault { at, what: "no value" }),
    }
}

/// Past a string that opens at `at`.
fn string<const CHECK: bool>(text: &[u8], at: usize) -> Result<usize, Fault> {
    let mut from = at + 1;
    loop {
        let rest = text.get(from..).unwrap_or_default();
        let Some(found) = memchr2(b'"', b'\\', rest) else {
            return Err(Fault { at, what: "a string without an end" });
        };
        // No early exit, so that the compiler may look at many bytes at once.
        if CHECK && rest[..found].iter().fold(false, |bad, byte| bad | (*byte < 0x20)) {
            return Err(Fault { at: from, what: "a control character in a string" });
        }
        if rest[found] == b'"' {
            return Ok(from + found + 1);
        }
        let escape = from + found + 1;
        if !CHECK {
            // Whatever is escaped, its first byte ends no string, and the others of `\u` need no look.
            from = escape + 1;
            continue;
        }
        from = match text.get(escape) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => escape + 1,
            Some(b'u') if is_hex(text.get(escape + 1..escape + 5)) => escape + 5,
            _ => return Err(Fault { at: escape, what: "no such escape" }),
        };
    }
}

fn is_hex(digits: Option<&[u8]>) -> bool {
    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

fn number(text: &[u8], start: usize) -> Result<usize, Fault> {
    let digits = |at: usize| {
        let count = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 { Err(Fault { at, what: "no digit" }) } else { Ok(at + count) }
    };
    let mut at = start + usize::from(text[start] == b'-');
    at = if text.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        at = digits(at)?;
    }
    Ok(at)
}
