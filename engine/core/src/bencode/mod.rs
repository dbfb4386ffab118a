//! Reading bencoded data (BEP 3) as it is found in the wild, without trust and without copies.
//!
//! The info-hash of a torrent is over the bytes *as found*, so a reader has to know the exact span of every
//! value. It also has to accept dictionaries whose keys are out of order, because old files have them and
//! everyone else loads those; [`Document::unsorted_at`] remembers it for a warning. In all else the reader is
//! strict. Encoding, and decoding messages that must be strict in order too, is the `bendy` crate's work.
//!
//! A [`Document`] is one flat list of 12-byte tokens beside the input: hostile input of many tiny values
//! costs at most [`TOKENS_MAX`] of them, nesting costs no stack, and skipping over a value is one step.
//!
//! ```
//! use swarm_core::bencode::{Limits, parse};
//!
//! let document = parse(b"d8:intervali1800e5:peers6:abcdefe", &Limits::default())?;
//! let reply = document.root();
//! assert_eq!(reply.get(b"interval").and_then(|v| v.as_int()), Some(1800));
//! assert_eq!(reply.get(b"peers").map(|v| v.raw()), Some(&b"6:abcdef"[..]));
//! # Ok::<(), swarm_core::bencode::BencodeError>(())
//! ```

mod write;

use std::collections::HashSet;
use std::fmt;
pub(crate) use write::emit_some;
pub use write::write_dict;

/// How deep lists and dictionaries may nest. A hybrid torrent nests one level for each folder.
pub const DEPTH_MAX: usize = 100;

/// How many values, keys included, a document may hold; about seven make a file of a torrent.
pub const TOKENS_MAX: usize = 4_000_000;

/// How long a document may be, in bytes.
pub const INPUT_LEN_MAX: usize = 256 * 1024 * 1024;

/// Where reading stops before it costs too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep lists and dictionaries may nest.
    pub depth_max: usize,
    /// How many values there may be, keys included.
    pub tokens_max: usize,
    /// How long a document may be, in bytes. More than 4 GiB is never read.
    pub input_len_max: usize,
}

impl Default for Limits {
    /// Enough for the largest torrents: [`DEPTH_MAX`], [`TOKENS_MAX`] and [`INPUT_LEN_MAX`].
    fn default() -> Limits {
        Limits { depth_max: DEPTH_MAX, tokens_max: TOKENS_MAX, input_len_max: INPUT_LEN_MAX }
    }
}

/// Why and where bytes are not bencoded data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct BencodeError {
    /// The byte at which reading stopped.
    pub offset: usize,
    /// What is wrong there.
    pub kind: BencodeErrorKind,
}

/// What is wrong with bytes that are not bencoded data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BencodeErrorKind {
    /// The input stops inside a value.
    #[error("bencoded data is cut short")]
    UnexpectedEnd,
    /// No value starts with this byte, or a number holds something other than digits.
    #[error("unexpected byte {0:#04x} in bencoded data")]
    UnexpectedByte(u8),
    /// A dictionary key is not a byte string.
    #[error("dictionary key is not a byte string")]
    KeyNotBytes,
    /// A dictionary ends after a key.
    #[error("dictionary key without a value")]
    KeyWithoutValue,
    /// A key occurs twice in a dictionary.
    #[error("dictionary key occurs twice")]
    DuplicateKey,
    /// A number other than zero starts with a zero, or is negative zero.
    #[error("number with a leading zero, or negative zero")]
    LeadingZero,
    /// An integer does not fit 64 bits, or a byte string is longer than anything could be.
    #[error("number out of range")]
    NumberOutOfRange,
    /// More input follows a complete document.
    #[error("unexpected data after the end of bencoded data")]
    TrailingData,
    /// Nested deeper than [`Limits::depth_max`].
    #[error("lists and dictionaries are nested deeper than the limit")]
    TooDeep,
    /// More values than [`Limits::tokens_max`].
    #[error("more values than the limit")]
    TooManyTokens,
    /// Longer than [`Limits::input_len_max`].
    #[error("more bytes than the limit")]
    TooLong,
}

/// One value's place in the input.
#[derive(Clone, Copy)]
struct Token {
    start: u32,
    /// Exclusive.
    end: u32,
    /// Of a byte string: where its bytes start. Of a list or dictionary: the token after its last one.
    extra: u32,
}

/// Bencoded data that has been read and found valid. Borrows the input.
pub struct Document<'a> {
    input: &'a [u8],
    tokens: Vec<Token>,
    unsorted_at: Option<usize>,
}

impl<'a> Document<'a> {
    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, token: 0 }
    }

    /// The offset in bytes of the first dictionary key that is not in ascending order, if there is one.
    pub fn unsorted_at(&self) -> Option<usize> {
        self.unsorted_at
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root().fmt(f)
    }
}

/// Reads one value that is the whole input.
///
/// # Errors
/// When the input is not exactly one bencoded value, or more than `limits` allow.
pub fn parse<'a>(input: &'a [u8], limits: &Limits) -> Result<Document<'a>, BencodeError> {
    if input.len() > limits.input_len_max {
        return Err(BencodeError { offset: limits.input_len_max, kind: BencodeErrorKind::TooLong });
    }
    let (document, used) = parse_prefix(input, limits)?;
    if used < input.len() {
        return Err(BencodeError { offset: used, kind: BencodeErrorKind::TrailingData });
    }
    Ok(document)
}

/// Reads one value from the start of the input, and says how many bytes it took. For messages that append
/// bytes to a dictionary (BEP 9).
///
/// # Errors
/// When the input does not start with a bencoded value, or that value is more than `limits` allow.
pub fn parse_prefix<'a>(input: &'a [u8], limits: &Limits) -> Result<(Document<'a>, usize), BencodeError> {
    let len_max = limits.input_len_max.min(u32::MAX as usize);
    let cut = &input[..input.len().min(len_max)];
    let mut parser =
        Parser { input: cut, at: 0, limits, tokens: Vec::new(), open: Vec::new(), unsorted_at: None };
    match parser.run() {
        Ok(()) => {}
        Err(BencodeErrorKind::UnexpectedEnd) if cut.len() < input.len() => {
            return Err(BencodeError { offset: cut.len(), kind: BencodeErrorKind::TooLong });
        }
        Err(kind) => return Err(BencodeError { offset: parser.at, kind }),
    }
    let used = parser.at;
    Ok((Document { input, tokens: parser.tokens, unsorted_at: parser.unsorted_at }, used))
}

/// A list or dictionary whose end has not been read yet.
struct Open {
    token: u32,
    is_dict: bool,
    /// The last key read, if this is a dictionary that has one.
    key: Option<Token>,
    awaits_value: bool,
    is_sorted: bool,
}

struct Parser<'a, 'l> {
    input: &'a [u8],
    /// On failure this is the offset to report.
    at: usize,
    limits: &'l Limits,
    tokens: Vec<Token>,
    open: Vec<Open>,
    unsorted_at: Option<usize>,
}

impl Parser<'_, '_> {
    fn run(&mut self) -> Result<(), BencodeErrorKind> {
        loop {
            let byte = self.peek()?;
            let wants_key = self.open.last().is_some_and(|open| open.is_dict && !open.awaits_value);
            match byte {
                b'e' if !self.open.is_empty() => self.close()?,
                b'0'..=b'9' => self.bytes(wants_key)?,
                b'i' | b'l' | b'd' if wants_key => return Err(BencodeErrorKind::KeyNotBytes),
                b'i' => self.int()?,
                b'l' | b'd' => {
                    self.open(byte == b'd')?;
                    continue;
                }
                _ => return Err(BencodeErrorKind::UnexpectedByte(byte)),
            }
            // A value is complete, or a key.
            match self.open.last_mut() {
                None => return Ok(()),
                Some(open) => open.awaits_value = wants_key && byte != b'e',
            }
        }
    }

    fn peek(&self) -> Result<u8, BencodeErrorKind> {
        self.input.get(self.at).copied().ok_or(BencodeErrorKind::UnexpectedEnd)
    }

    fn push(&mut self, token: Token) -> Result<(), BencodeErrorKind> {
        if self.tokens.len() >= self.limits.tokens_max {
            return Err(BencodeErrorKind::TooManyTokens);
        }
        self.tokens.push(token);
        Ok(())
    }

    fn open(&mut self, is_dict: bool) -> Result<(), BencodeErrorKind> {
        if self.open.len() >= self.limits.depth_max {
            return Err(BencodeErrorKind::TooDeep);
        }
        let token = self.tokens.len() as u32;
        self.push(Token { start: self.at as u32, end: 0, extra: 0 })?;
        self.open.push(Open { token, is_dict, key: None, awaits_value: false, is_sorted: true });
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), BencodeErrorKind> {
        let Some(open) = self.open.pop() else { return Err(BencodeErrorKind::UnexpectedByte(b'e')) };
        if open.awaits_value {
            return Err(BencodeErrorKind::KeyWithoutValue);
        }
        self.at += 1;
        let next = self.tokens.len() as u32;
        let token = &mut self.tokens[open.token as usize];
        token.end = self.at as u32;
        token.extra = next;
        if open.is_sorted { Ok(()) } else { self.reject_duplicates(open.token) }
    }

    /// Sorted dictionaries are checked key by key as they are read; this is for the others.
    fn reject_duplicates(&mut self, dict: u32) -> Result<(), BencodeErrorKind> {
        let mut seen = HashSet::new();
        let mut token = dict + 1;
        while token < self.tokens[dict as usize].extra {
            let key = self.tokens[token as usize];
            if !seen.insert(body(self.input, key)) {
                self.at = key.start as usize;
                return Err(BencodeErrorKind::DuplicateKey);
            }
            token = next_token(&self.tokens, self.input, token + 1);
        }
        Ok(())
    }

    fn int(&mut self) -> Result<(), BencodeErrorKind> {
        let start = self.at;
        self.at += 1;
        let is_negative = self.peek()? == b'-';
        self.at += usize::from(is_negative);
        let digits = self.at;
        let magnitude = self.number(b'e')?;
        let fits = magnitude <= i64::MAX as u64 + u64::from(is_negative);
        if is_negative && magnitude == 0 {
            self.at = digits;
            return Err(BencodeErrorKind::LeadingZero);
        }
        if !fits {
            self.at = digits;
            return Err(BencodeErrorKind::NumberOutOfRange);
        }
        self.push(Token { start: start as u32, end: self.at as u32, extra: 0 })
    }

    fn bytes(&mut self, is_key: bool) -> Result<(), BencodeErrorKind> {
        let start = self.at;
        let len = self.number(b':')?;
        let body_start = self.at;
        let end = usize::try_from(len).ok().and_then(|len| body_start.checked_add(len));
        let Some(end) = end.filter(|&end| end <= self.input.len()) else {
            self.at = start;
            return Err(BencodeErrorKind::UnexpectedEnd);
        };
        let token = Token { start: start as u32, end: end as u32, extra: body_start as u32 };
        if is_key {
            self.key(token)?;
        }
        self.at = end;
        self.push(token)
    }

    fn key(&mut self, token: Token) -> Result<(), BencodeErrorKind> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if let Some(last) = open.key.replace(token) {
            match body(self.input, last).cmp(body(self.input, token)) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    self.at = token.start as usize;
                    return Err(BencodeErrorKind::DuplicateKey);
                }
                std::cmp::Ordering::Greater => {
                    open.is_sorted = false;
                    self.unsorted_at.get_or_insert(token.start as usize);
                }
            }
        }
        Ok(())
    }

    /// Digits up to `end`, which is consumed.
    fn number(&mut self, end: u8) -> Result<u64, BencodeErrorKind> {
        let start = self.at;
        let mut number = 0u64;
        loop {
            let byte = self.peek()?;
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                if byte == end && self.at > start {
                    break;
                }
                return Err(BencodeErrorKind::UnexpectedByte(byte));
            }
            if self.at == start + 1 && number == 0 {
                return Err(BencodeErrorKind::LeadingZero);
            }
            let more = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit)));
            number = more.ok_or(BencodeErrorKind::NumberOutOfRange)?;
            self.at += 1;
        }
        self.at += 1;
        Ok(number)
    }
}

fn body(input: &[u8], token: Token) -> &[u8] {
    &input[token.extra as usize..token.end as usize]
}

/// The token after this value and all that is in it.
fn next_token(tokens: &[Token], input: &[u8], token: u32) -> u32 {
    let at = tokens[token as usize];
    match input[at.start as usize] {
        b'l' | b'd' => at.extra,
        _ => token + 1,
    }
}

/// One value of a [`Document`]. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    document: &'a Document<'a>,
    token: u32,
}

/// A value by its type.
#[derive(Clone, Copy)]
pub enum Kind<'a> {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A list.
    List(List<'a>),
    /// A dictionary.
    Dict(Dict<'a>),
}

impl<'a> Value<'a> {
    fn token(self) -> Token {
        self.document.tokens[self.token as usize]
    }

    /// The bytes of this value as found, from its type's first letter or digit to its end.
    pub fn raw(self) -> &'a [u8] {
        let token = self.token();
        &self.document.input[token.start as usize..token.end as usize]
    }

    /// Where in the input this value starts, in bytes.
    pub fn offset(self) -> usize {
        self.token().start as usize
    }

    /// The value by its type.
    pub fn kind(self) -> Kind<'a> {
        let token = self.token();
        let children = Children { document: self.document, next: self.token + 1, end: token.extra };
        match self.raw() {
            [b'i', digits @ .., b'e'] => Kind::Int(integer(digits)),
            [b'l', ..] => Kind::List(List(children)),
            [b'd', ..] => Kind::Dict(Dict(children)),
            _ => Kind::Bytes(body(self.document.input, token)),
        }
    }

    /// The integer, if it is one.
    pub fn as_int(self) -> Option<i64> {
        if let Kind::Int(int) = self.kind() { Some(int) } else { None }
    }

    /// The bytes, if it is a byte string.
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        if let Kind::Bytes(bytes) = self.kind() { Some(bytes) } else { None }
    }

    /// The text, if it is a byte string in UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The list, if it is one.
    pub fn as_list(self) -> Option<List<'a>> {
        if let Kind::List(list) = self.kind() { Some(list) } else { None }
    }

    /// The dictionary, if it is one.
    pub fn as_dict(self) -> Option<Dict<'a>> {
        if let Kind::Dict(dict) = self.kind() { Some(dict) } else { None }
    }

    /// The value of `key`, if this is a dictionary that has it.
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.as_dict()?.get(key)
    }
}

/// The values of a list, in order. Cheap to copy.
#[derive(Clone, Copy)]
pub struct List<'a>(Children<'a>);

impl<'a> List<'a> {
    /// The values, in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> + Clone {
        self.0
    }
}

/// The keys and values of a dictionary, in the order found. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Dict<'a>(Children<'a>);

impl<'a> Dict<'a> {
    /// The keys and values, in the order found.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
        let mut values = self.0;
        std::iter::from_fn(move || {
            let key = values.next()?.as_bytes()?;
            Some((key, values.next()?))
        })
    }

    /// The value of `key`. Takes time in proportion to the number of keys.
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.iter().find(|&(found, _)| found == key).map(|(_, value)| value)
    }
}

/// The values that lie directly in a list or dictionary, keys included.
#[derive(Clone, Copy)]
struct Children<'a> {
    document: &'a Document<'a>,
    next: u32,
    end: u32,
}

impl<'a> Iterator for Children<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.next >= self.end {
            return None;
        }
        let value = Value { document: self.document, token: self.next };
        self.next = next_token(&self.document.tokens, self.document.input, self.next);
        Some(value)
    }
}

/// The value of digits that the parser has found to be a number that fits.
fn integer(digits: &[u8]) -> i64 {
    let (sign, digits) = match digits {
        [b'-', digits @ ..] => (-1, digits),
        _ => (1, digits),
    };
    // Counting towards the sign, so that the least integer needs no special case.
    digits.iter().fold(0, |n, digit| n * 10 + sign * i64::from(digit - b'0'))
}

impl fmt::Debug for Value<'_> {
    /// As bencoded, with every byte that is not printable ASCII escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw().escape_ascii())
    }
}

#[cfg(test)]
mod tests;
