//! Links that were escaped once too often: by a form, a mail or a page on their way.
//!
//! Read as they were meant where that is beyond doubt: what is no URL becomes one, and what follows `&tr=` is one.

use super::unnumbered;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// How often a text may have been escaped too often.
const TIMES_MAX: usize = 2;

/// A link whose question mark was escaped, and so all the rest, without that.
pub(super) fn whole(text: &str) -> Cow<'_, str> {
    let is_escaped =
        !text.contains('?') && text.get(..10).is_some_and(|s| s.eq_ignore_ascii_case("magnet:%3f"));
    if is_escaped { percent_decode_str(text).decode_utf8_lossy() } else { text.into() }
}

/// The parameters of a query, each still escaped: also those that lost their separators.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    // In a page `&` is written `&amp;`.
    let plain = query.split('&').map(|parameter| parameter.strip_prefix("amp;").unwrap_or(parameter));
    plain.flat_map(|parameter| swallowed(parameter).unwrap_or_else(|| vec![parameter.into()]))
}

/// The parameters that a parameter has swallowed, with itself as the first; `None`: it has not.
fn swallowed(parameter: &str) -> Option<Vec<Cow<'_, str>>> {
    let (key, escaped) = parameter.split_once('=').unwrap_or(("", parameter));
    if !escaped.contains('%') {
        return None;
    }
    // An info-hash contains no separator, and a parameter without a key is none.
    let is_sure = matches!(unnumbered(key), "" | "xt");
    let mut text = Cow::from(escaped);
    for _ in 0..=TIMES_MAX {
        let parts: Vec<&str> = text.split('&').collect();
        let begins = |part: &str| is_parameter(part, is_sure);
        if parts.iter().skip(1).any(|part| begins(part)) {
            let mut found =
                vec![if key.is_empty() { parts[0].into() } else { format!("{key}={}", again(parts[0])) }];
            for part in &parts[1..] {
                match found.last_mut() {
                    Some(last) if !begins(part) => *last += &format!("%26{}", again(part)),
                    // What is a URL already has been decoded as often as it was escaped.
                    _ if part.contains("://") => found.push(again(part)),
                    _ => found.push((*part).to_owned()),
                }
            }
            return Some(found.into_iter().map(Cow::from).collect());
        }
        text = percent_decode_str(&text).decode_utf8_lossy().into_owned().into();
    }
    None
}

/// Escapes what is about to be decoded once more, as far as that would change it.
fn again(text: &str) -> String {
    text.replace('%', "%25")
}

/// Whether a text is a parameter of a link beyond doubt, or may be one, where something must be (`is_sure`).
fn is_parameter(text: &str, is_sure: bool) -> bool {
    let Some((key, value)) = text.split_once('=') else { return false };
    match unnumbered(key) {
        "tr" | "ws" => has_mark("tr", &self::value("tr", value)),
        "dn" | "xl" | "so" | "x.pe" | "xt" => is_sure,
        _ => false,
    }
}

/// The value of a parameter: decoded, and once or twice more if only that makes it what the parameter is about.
pub(super) fn value<'a>(key: &str, escaped: &'a str) -> Cow<'a, str> {
    let first = percent_decode_str(escaped).decode_utf8_lossy();
    let mut text = first.clone();
    for _ in 0..TIMES_MAX {
        if has_mark(key, &text) {
            return text;
        }
        text = percent_decode_str(&text).decode_utf8_lossy().into_owned().into();
    }
    if has_mark(key, &text) { text } else { first }
}

/// Whether a value has what every value of its parameter has.
fn has_mark(key: &str, value: &str) -> bool {
    match key {
        "tr" | "ws" => value.contains("://"),
        "xt" => value.get(..4).is_some_and(|front| front.eq_ignore_ascii_case("urn:")),
        "x.pe" => value.contains(':'),
        _ => true,
    }
}
