//! Text as part of a key: percent-encoded so that any text fits, no two texts share an encoding,
//! and ordinary names and paths stay readable in `etcdctl get --prefix`.

/// Appends `text` with everything but plain characters percent-encoded; '/' is encoded too.
pub(super) fn push_segment(out: &mut Vec<u8>, text: &str) {
    push(out, text, false);
}

/// Appends `text` like [`push_segment`] but keeps '/', as a path of segments.
pub(super) fn push_path(out: &mut Vec<u8>, text: &str) {
    push(out, text, true);
}

fn push(out: &mut Vec<u8>, text: &str, keep_slash: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(text.len());
    for byte in text.bytes() {
        if is_plain(byte) || (keep_slash && byte == b'/') {
            out.push(byte);
        } else {
            out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~*@+=,:".contains(&byte)
}

/// The text that [`push_segment`] wrote; `None` for anything it would not have written.
pub(super) fn decode_segment(encoded: &str) -> Option<String> {
    decode(encoded, false)
}

/// The text that [`push_path`] wrote; `None` for anything it would not have written.
pub(super) fn decode_path(encoded: &str) -> Option<String> {
    decode(encoded, true)
}

fn decode(encoded: &str, keep_slash: bool) -> Option<String> {
    let mut text = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        if is_plain(byte) || (keep_slash && byte == b'/') {
            text.push(byte);
        } else if byte == b'%' {
            let decoded = hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?;
            // Only the one encoding that `push` makes, or two keys could mean one text.
            if is_plain(decoded) || (keep_slash && decoded == b'/') {
                return None;
            }
            text.push(decoded);
        } else {
            return None;
        }
    }
    String::from_utf8(text).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
