//! What is looked at of a body that is long because a metainfo file is in it.

use std::borrow::Cow;

/// How long a body may be but for such a file, in bytes.
pub const BODY_LEN_MAX: usize = 1024 * 1024;
/// A text that is longer is taken out.
const TEXT_LEN_MAX: usize = 64 * 1024;

/// A body without its one long text. JSON becomes many times as large in memory; a text does not.
#[derive(Debug, PartialEq, Eq)]
pub struct Outline<'a> {
    /// The body, with an empty text in the place of the long one.
    pub json: Cow<'a, [u8]>,
    /// The long one, escapes and all.
    pub long: Option<&'a str>,
}

/// Divides a body; `None` if it is too long with no or more than one such text.
pub fn outline(body: &[u8]) -> Option<Outline<'_>> {
    if body.len() <= BODY_LEN_MAX {
        return Some(Outline { json: Cow::Borrowed(body), long: None });
    }
    let mut long = None;
    let mut at = 0;
    while let Some(start) = body[at..].iter().position(|byte| *byte == b'"').map(|found| at + found + 1) {
        let len = text_len(&body[start..])?;
        if len > TEXT_LEN_MAX && long.replace(start..start + len).is_some() {
            return None;
        }
        at = start + len + 1;
    }
    let long = long?;
    if body.len() - long.len() > BODY_LEN_MAX {
        return None;
    }
    let text = std::str::from_utf8(&body[long.clone()]).ok()?;
    let json = [&body[..long.start], &body[long.end..]].concat();
    Some(Outline { json: Cow::Owned(json), long: Some(text) })
}

/// How long the text is that begins here, up to its closing quote.
fn text_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        match bytes[at] {
            b'"' => return Some(at),
            _ if at + 2 <= bytes.len() => at += 2,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_text_is_taken_out_of_a_long_body() {
        let short = br#"{"method": "torrent-add", "arguments": {"metainfo": "abc"}}"#;
        assert_eq!(outline(short), Some(Outline { json: Cow::Borrowed(&short[..]), long: None }));

        let long = "A".repeat(2 * BODY_LEN_MAX);
        let body = format!(r#"{{"a\"": "\\", "metainfo": "{long}", "b": "c"}}"#);
        let found = outline(body.as_bytes()).unwrap();
        assert_eq!(&*found.json, br#"{"a\"": "\\", "metainfo": "", "b": "c"}"#);
        assert_eq!(found.long, Some(&*long));

        let twice = format!(r#"["{long}", "{long}"]"#);
        assert_eq!(outline(twice.as_bytes()), None);
        let numbers = format!("[{}0]", "0,".repeat(BODY_LEN_MAX));
        assert_eq!(outline(numbers.as_bytes()), None);
        let both = format!(r#"["{long}", [{}0]]"#, "0,".repeat(BODY_LEN_MAX));
        assert_eq!(outline(both.as_bytes()), None);
        for open in [format!("\"{long}"), format!("\"{long}\\")] {
            assert_eq!(outline(open.as_bytes()), None);
        }
    }
}
