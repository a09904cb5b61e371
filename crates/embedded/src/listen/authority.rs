//! Making Go's `:authority` of Unix sockets acceptable.
//!
//! grpc-go, and so `etcdctl`, sends the path of a Unix socket as `:authority`. That is no valid
//! authority, and h2, under tonic, answers it with a protocol error before any code of ours could
//! look at it. Here the offending characters are replaced in the header block by others whose
//! encoding has the same length, so that neither frames nor compression state change.

/// Where the static table of HPACK has `:authority`.
const AUTHORITY_INDEX: usize = 1;

/// Symbols by length of their Huffman code (RFC 7541, appendix B): the codes of one length are
/// consecutive, starting at the given one. Longer codes do not occur in paths that we make.
const CODES: [(u32, u32, &[u8]); 4] = [
    (5, 0x00, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
];

/// What stands in for a character that an authority may not have, in a path. The pairs have codes
/// of equal length.
fn replacement(symbol: u8) -> Option<u8> {
    match symbol {
        b'/' | b' ' | b'%' => Some(b'-'),
        b':' => Some(b'B'),
        _ => None,
    }
}

/// Rewrites the `:authority` of a header block, if it is a path. A block that is not understood is
/// left alone: the HTTP/2 library will have its own opinion of it.
pub(super) fn rewrite(block: &mut [u8]) {
    if let Some((start, len, huffman)) = find(block) {
        let value = &mut block[start..start + len];
        if huffman {
            rewrite_huffman(value);
        } else if value.contains(&b'/') {
            value.iter_mut().for_each(|byte| *byte = replacement(*byte).unwrap_or(*byte));
        }
    }
}

/// Where the value of `:authority` is, its length, and whether it is Huffman-coded.
fn find(block: &[u8]) -> Option<(usize, usize, bool)> {
    let mut at = 0;
    while at < block.len() {
        let first = block[at];
        if first & 0x80 != 0 {
            integer(block, &mut at, 7)?;
        } else if first & 0xe0 == 0x20 {
            integer(block, &mut at, 5)?;
        } else {
            let bits = if first & 0xc0 == 0x40 { 6 } else { 4 };
            let name = integer(block, &mut at, bits)?;
            if name == 0 {
                string(block, &mut at)?;
            }
            let value = string(block, &mut at)?;
            if name == AUTHORITY_INDEX {
                return Some(value);
            }
        }
    }
    None
}

/// Reads an integer with a prefix of `bits` bits and moves past it.
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if value < most {
        return Some(value);
    }
    // No string or index here needs more than three further bytes.
    for shift in [0, 7, 14] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Moves past a string; its place, its length and whether it is Huffman-coded.
fn string(block: &[u8], at: &mut usize) -> Option<(usize, usize, bool)> {
    let huffman = *block.get(*at)? & 0x80 != 0;
    let len = integer(block, at, 7)?;
    let start = *at;
    *at = start.checked_add(len).filter(|end| *end <= block.len())?;
    Some((start, len, huffman))
}

fn rewrite_huffman(value: &mut [u8]) {
    let Some(mut text) = decode(value) else { return };
    if text.contains(&b'/') {
        text.iter_mut().for_each(|byte| *byte = replacement(*byte).unwrap_or(*byte));
        let encoded = encode(&text);
        if encoded.len() == value.len() {
            value.copy_from_slice(&encoded);
        }
    }
}

fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let (mut code, mut len) = (0, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1)) {
        (code, len) = (code << 1 | u32::from(bit), len + 1);
        let symbols = CODES.iter().find(|(of_len, ..)| *of_len == len);
        let symbol = symbols.and_then(|(_, first, symbols)| {
            symbols.get(usize::try_from(code.checked_sub(*first)?).ok()?)
        });
        if let Some(symbol) = symbol {
            text.push(*symbol);
            (code, len) = (0, 0);
        } else if len > 8 {
            return None;
        }
    }
    // What is left over is padding: fewer than eight bits, all ones.
    (len < 8 && code == (1 << len) - 1).then_some(text)
}

fn encode(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut pending, mut held) = (0_u32, 0);
    for symbol in text {
        for (len, first, symbols) in CODES {
            let Some(index) = symbols.iter().position(|known| known == symbol) else { continue };
            let code = first + u32::try_from(index).unwrap_or(0);
            (pending, held) = (pending << len | code, held + len);
            while held >= 8 {
                held -= 8;
                bytes.push((pending >> held & 0xff) as u8);
            }
        }
    }
    if held > 0 {
        bytes.push(((pending << (8 - held) | ((1 << (8 - held)) - 1)) & 0xff) as u8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 7541, C.4.1.
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(encode(b"www.example.com"), coded);
        assert_eq!(decode(&coded).unwrap(), b"www.example.com");
        assert_eq!(decode(&[0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn paths_become_names_of_the_same_length() {
        let path = b"unix:///home/me/x.sock";
        let name = b"unixB---home-me-x.sock";
        let block = |value: &[u8], huffman: bool| {
            // :method POST indexed, a new name, then :authority.
            let mut block = vec![0x83, 0x40, 1, b'a', 1, b'b', 0x41];
            let coded = if huffman { encode(value) } else { value.to_vec() };
            block.push(u8::try_from(coded.len()).unwrap() | if huffman { 0x80 } else { 0 });
            block.extend(coded);
            block.push(0x86);
            block
        };
        for huffman in [false, true] {
            let mut rewritten = block(path, huffman);
            rewrite(&mut rewritten);
            assert_eq!(rewritten, block(name, huffman));
            let mut fine = block(b"localhost:1", huffman);
            rewrite(&mut fine);
            assert_eq!(fine, block(b"localhost:1", huffman));
        }
    }

    #[test]
    fn broken_blocks_are_left_alone() {
        for block in [&[0x41_u8][..], &[0x41, 0x05, b'/'], &[0x7f, 0xff, 0xff, 0xff, 0xff], &[]] {
            let mut same = block.to_vec();
            rewrite(&mut same);
            assert_eq!(same, block);
        }
    }
}
