//! What announce and scrape replies have in common: failure, text, time.

use std::net::IpAddr;
use std::time::Duration;

use super::peers::REPLY_PEERS_MAX;
use crate::bencode::{self, BencodeError, Dict, Document, Limits, Value};
use crate::net::read_ip;

/// Most bytes of a tracker's reply that a client reads.
pub const REPLY_LEN_MAX: usize = 1 << 20;
/// Longest text taken from a tracker, in characters.
pub const TEXT_LEN_MAX: usize = 300;

/// A reply nests at most dictionary, list, dictionary; a peer dictionary holds seven values.
const LIMITS: Limits =
    Limits { depth_max: 16, tokens_max: 16 * REPLY_PEERS_MAX, input_len_max: REPLY_LEN_MAX };

/// When a tracker that refuses wants to be asked again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryIn {
    /// After this long; counted in minutes on the wire.
    After(Duration),
    /// Not at all.
    Never,
}

/// Why a tracker's reply is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// Not bencoded data.
    #[error("the tracker's reply is not bencoded: {0}")]
    Malformed(#[from] BencodeError),
    /// Bencoded, but not a dictionary.
    #[error("the tracker's reply is not a dictionary")]
    NotADictionary,
    /// The tracker says no.
    #[error("the tracker refused: {reason}")]
    Refused {
        /// In the tracker's words.
        reason: String,
        /// When to ask again, if it says so.
        retry: Option<RetryIn>,
    },
}

/// A reply that says no (BEP 3's `failure reason`, BEP 31's `retry in`).
pub fn encode_failure(reason: &str, retry: Option<RetryIn>) -> Vec<u8> {
    bencode::write_dict(|mut dict| {
        dict.emit_pair(b"failure reason", reason)?;
        match retry {
            Some(RetryIn::After(delay)) => dict.emit_pair(b"retry in", delay.as_secs().div_ceil(60)),
            Some(RetryIn::Never) => dict.emit_pair(b"retry in", "never"),
            None => Ok(()),
        }
    })
}

/// The bencoded value that a body starts with: some trackers end it with a line break.
pub(super) fn document(body: &[u8]) -> Result<Document<'_>, ReplyError> {
    Ok(bencode::parse_prefix(body, &LIMITS)?.0)
}

/// The dictionary of a reply that is not a failure.
pub(super) fn accepted<'a>(document: &'a Document<'_>) -> Result<Dict<'a>, ReplyError> {
    let dict = document.root().as_dict().ok_or(ReplyError::NotADictionary)?;
    let Some(reason) = dict.get(b"failure reason").and_then(Value::as_bytes) else { return Ok(dict) };
    let retry = dict.get(b"retry in").and_then(|value| match value.as_bytes() {
        Some(b"never") => Some(RetryIn::Never),
        // Minutes, as an integer or as its digits.
        Some(digits) => std::str::from_utf8(digits).ok()?.parse().ok().map(minutes),
        None => u32::try_from(value.as_int()?).ok().map(minutes),
    });
    Err(ReplyError::Refused { reason: text(reason), retry })
}

fn minutes(n: u32) -> RetryIn {
    RetryIn::After(Duration::from_secs(u64::from(n) * 60))
}

/// A number of seconds; a negative one is zero.
pub(super) fn seconds(value: Value<'_>) -> Option<Duration> {
    Some(Duration::from_secs(u64::try_from(value.as_int()?).unwrap_or(0)))
}

/// Text for a person: no control characters (a terminal would obey them), of bounded length.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(TEXT_LEN_MAX)
        .collect()
}

/// An address as 4 or 16 bytes (BEP 24), or written out.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let ip = read_ip(bytes).map(|ip| ip.to_canonical());
    ip.or_else(|| std::str::from_utf8(bytes).ok()?.parse().ok())
}
