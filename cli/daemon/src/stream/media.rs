//! What sort of file something is, by its name.

use std::fmt::Write as _;

/// Names' ends that browsers and players know, and no other kind: nothing that could hold a script.
const TYPES: &[(&str, &str)] = &[
    ("aac", "audio/aac"),
    ("avi", "video/x-msvideo"),
    ("flac", "audio/flac"),
    ("m2ts", "video/mp2t"),
    ("m4a", "audio/mp4"),
    ("m4b", "audio/mp4"),
    ("m4v", "video/mp4"),
    ("mka", "audio/x-matroska"),
    ("mkv", "video/x-matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("ts", "video/mp2t"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("wmv", "video/x-ms-wmv"),
];

/// The media type of a file of this name, if it is audio or video.
pub fn media_type(name: &str) -> Option<&'static str> {
    let (_, end) = name.rsplit_once('.')?;
    TYPES.iter().find(|(known, _)| end.eq_ignore_ascii_case(known)).map(|(_, media)| *media)
}

/// Whether a player would know a file of this name.
pub fn is_playable(name: &str) -> bool {
    media_type(name).is_some()
}

/// The media type, and how it is to be shown, under which name.
pub(super) fn headers(name: &str) -> (&'static str, String) {
    let media = media_type(name);
    let how = if media.is_some() { "inline" } else { "attachment" };
    (media.unwrap_or("application/octet-stream"), format!("{how}; filename*=UTF-8''{}", encoded(name)))
}

/// As RFC 8187 has it: whatever is no letter or digit in per cent.
pub(super) fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => text.push(byte.into()),
            false => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_audio_and_video_is_shown() {
        assert_eq!(media_type("a.b.MKV"), Some("video/x-matroska"));
        for name in ["index.html", "a.svg", "a.xhtml", "a.pdf", "mp4", "a.mp4.js", "a."] {
            let (media, how) = headers(name);
            assert_eq!(media, "application/octet-stream", "{name}");
            assert!(how.starts_with("attachment;"), "{name}");
        }
    }

    #[test]
    fn a_name_breaks_no_header() {
        let (_, how) = headers("a\"\r\nSet-Cookie: x=1; ü.mp4");
        assert_eq!(how, "inline; filename*=UTF-8''a%22%0D%0ASet-Cookie%3A%20x%3D1%3B%20%C3%BC.mp4");
    }
}
