//! Query strings with raw bytes in them: an info-hash is 20 arbitrary bytes, percent-encoded, so
//! nothing here may assume UTF-8.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Most info-hashes in one scrape over HTTP, asked or answered.
pub const SCRAPE_HASHES_MAX: usize = 128;

/// What is wrong with a request to a tracker. The text is what the client's user reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A required parameter is missing.
    #[error("the parameter {0} is missing")]
    Missing(&'static str),
    /// An info-hash or a peer id is not exactly 20 bytes.
    #[error("the parameter {0} is not 20 bytes, percent-encoded")]
    NotTwentyBytes(&'static str),
    /// A numeric parameter holds something else, or a number out of its range.
    #[error("the parameter {0} is not a number in its range")]
    NotANumber(&'static str),
    /// More info-hashes than one scrape may name.
    #[error("more than {} info-hashes in one scrape", SCRAPE_HASHES_MAX)]
    TooManyHashes,
}

/// Appends `bytes`, percent-encoded.
pub(super) fn push_encoded(out: &mut String, bytes: &[u8]) {
    out.extend(percent_encode(bytes, RESERVED));
}

/// The `key=value` pairs of a query, undecoded; a pair without `=` has an empty value.
pub(super) fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|&b| b == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        match pair.iter().position(|&b| b == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[pair.len()..]),
        }
    })
}

/// The decoded bytes of a value: `%xx` is a byte, `+` a space (as HTML forms and Go's library write
/// it), all else itself. A `%` that no two digits follow is itself too.
pub(super) fn decoded(value: &[u8]) -> impl Iterator<Item = u8> + '_ {
    // By hand, as each announce comes through here.
    let mut rest = value;
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        if let (b'%', Some(byte)) = (first, hex_pair(tail)) {
            rest = &tail[2..];
            return Some(byte);
        }
        rest = tail;
        Some(if first == b'+' { b' ' } else { first })
    })
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| (*digits.get(at)? as char).to_digit(16);
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

/// A value that must be exactly 20 bytes.
pub(super) fn twenty(name: &'static str, value: &[u8]) -> Result<[u8; 20], RequestError> {
    let mut out = [0; 20];
    let mut bytes = decoded(value);
    for slot in &mut out {
        *slot = bytes.next().ok_or(RequestError::NotTwentyBytes(name))?;
    }
    if bytes.next().is_some() {
        return Err(RequestError::NotTwentyBytes(name));
    }
    Ok(out)
}

/// A decimal number; one too large for `u64` saturates. `None` for a negative one or nothing, which
/// some clients send for "unknown".
pub(super) fn number(name: &'static str, value: &[u8]) -> Result<Option<u64>, RequestError> {
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if value.is_empty() {
        return Ok(None);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(RequestError::NotANumber(name));
    }
    let magnitude =
        digits.iter().fold(0u64, |n, &digit| n.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Ok((!negative).then_some(magnitude))
}
