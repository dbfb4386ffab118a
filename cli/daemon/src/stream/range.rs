//! Which part of a file a request asks for (RFC 9110, 14).

use axum::http::header::{self, HeaderMap};
use std::ops::Range;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of it: it names no range, several, or one that makes no sense.
    Whole,
    /// These bytes; there are some.
    Part(Range<u64>),
    /// None that the file has.
    Nothing,
}

/// What these headers ask of a file of so many bytes with this tag.
pub fn asked(headers: &HeaderMap, len: u64, tag: &str) -> Asked {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE) else { return Asked::Whole };
    // With another tag, or a time, the client knows another file.
    if text(header::IF_RANGE).is_some_and(|known| known != tag) {
        return Asked::Whole;
    }
    part(range, len)
}

fn part(range: &str, len: u64) -> Asked {
    let Some((unit, range)) = range.split_once('=') else { return Asked::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return Asked::Whole;
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Asked::Whole };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // What is too large for us is larger than any file.
        true => Some(text.parse().unwrap_or(u64::MAX)),
        false => None,
    };
    let range = match (number(first.trim()), number(last.trim())) {
        (Some(first), Some(last)) if first > last => return Asked::Whole,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(len),
        (Some(first), None) if last.trim().is_empty() => first..len,
        (None, Some(count)) if first.trim().is_empty() => len.saturating_sub(count)..len,
        _ => return Asked::Whole,
    };
    if range.start < range.end { Asked::Part(range) } else { Asked::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let whole = Asked::Whole;
        for (range, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=0-99", Asked::Part(0..100)),
            ("bytes=10-", Asked::Part(10..100)),
            ("bytes=99-", Asked::Part(99..100)),
            ("bytes=10-1000", Asked::Part(10..100)),
            ("bytes=-1", Asked::Part(99..100)),
            ("bytes=-1000", Asked::Part(0..100)),
            ("Bytes = 5 - 6", Asked::Part(5..7)),
            ("bytes=0-18446744073709551615", Asked::Part(0..100)),
            ("bytes=0-99999999999999999999999", Asked::Part(0..100)),
            ("bytes=100-", Asked::Nothing),
            ("bytes=100-200", Asked::Nothing),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-4", whole.clone()),
            ("bytes=0-1,5-6", whole.clone()),
            ("bytes=-", whole.clone()),
            ("bytes=a-b", whole.clone()),
            ("bytes=+1-2", whole.clone()),
            ("bytes", whole.clone()),
            ("seconds=0-1", whole.clone()),
            ("", whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().unwrap());
            assert_eq!(asked(&headers, 100, "\"t\""), expected, "{range}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(asked(&headers, 100, "\"t\""), Asked::Whole);
        headers.insert(header::RANGE, "bytes=0-".parse().unwrap());
        assert_eq!(asked(&headers, 0, "\"t\""), Asked::Nothing, "an empty file");
    }

    #[test]
    fn a_range_of_another_file_is_all_of_this_one() {
        for (known, expected) in [
            ("\"t\"", Asked::Part(0..1)),
            ("\"u\"", Asked::Whole),
            ("W/\"t\"", Asked::Whole),
            ("Mon, 30 Nov 2026 04:00:00 GMT", Asked::Whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, "bytes=0-0".parse().unwrap());
            headers.insert(header::IF_RANGE, known.parse().unwrap());
            assert_eq!(asked(&headers, 100, "\"t\""), expected, "{known}");
        }
    }
}
