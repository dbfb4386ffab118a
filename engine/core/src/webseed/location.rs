//! Where a torrent's files are at a web seed (BEP 19).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use url::Url;

/// What no path component has as it is: everything but letters, digits and `-._~`. Servers like S3 take a `+` for a space.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A web seed's URL.
///
/// # Errors
/// What is wrong with it: it is no URL, names no host, or leads elsewhere than to the web.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("not a URL: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        "http" | "https" => Err("the URL names no host".to_owned()),
        other => Err(format!("{other}: is not supported, only http: and https:")),
    }
}

/// Where a file is. `path` is as in the metainfo file: the torrent's name first. `None` if it cannot be named in a URL.
///
/// A single file is at the URL itself, unless that ends in a slash. The files of a folder are below the URL, whether it ends in a
/// slash or not. A query stays where it is.
pub fn file_url<'a>(base: &Url, single_file: bool, path: impl IntoIterator<Item = &'a [u8]>) -> Option<Url> {
    if single_file && !base.path().ends_with('/') {
        return Some(base.clone());
    }
    let mut text = base.path().trim_end_matches('/').to_owned();
    for component in path {
        if matches!(component, b"" | b"." | b"..") {
            return None;
        }
        text.push('/');
        text.extend(percent_encode(component, ENCODED));
    }
    let mut url = base.clone();
    url.set_path(&text);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base: &str, single_file: bool, path: &[&str]) -> String {
        let path = path.iter().map(|name| name.as_bytes());
        file_url(&parse_url(base).unwrap(), single_file, path).unwrap().to_string()
    }

    #[test]
    fn a_single_file_is_at_the_url_or_below_it() {
        assert_eq!(at("http://h/x.iso", true, &["name"]), "http://h/x.iso");
        assert_eq!(at("http://h/x/", true, &["name"]), "http://h/x/name");
        assert_eq!(at("https://h/x.iso?X-Sig=a%2Bb&c=+", true, &["n"]), "https://h/x.iso?X-Sig=a%2Bb&c=+");
    }

    #[test]
    fn files_of_a_folder_are_below_the_url_with_the_torrents_name() {
        assert_eq!(at("http://h/pub/", false, &["michael", "Readme.txt"]), "http://h/pub/michael/Readme.txt");
        assert_eq!(at("http://h/pub", false, &["m", "d", "f"]), "http://h/pub/m/d/f");
        assert_eq!(at("http://h", false, &["m", "f"]), "http://h/m/f");
        assert_eq!(at("http://h/p?key=1", false, &["m", "f"]), "http://h/p/m/f?key=1");
    }

    #[test]
    fn each_component_is_encoded_by_itself() {
        assert_eq!(
            at("http://h/", false, &["a b", "c+d", "50%", "é#?"]),
            "http://h/a%20b/c%2Bd/50%25/%C3%A9%23%3F"
        );
        assert_eq!(at("http://h/", false, &["a/b", "c&d;e=f", "%2e"]), "http://h/a%2Fb/c%26d%3Be%3Df/%252e");
        assert_eq!(
            at("http://h/a%20b/", true, &["[x]'!()*~-._"]),
            "http://h/a%20b/%5Bx%5D%27%21%28%29%2A~-._"
        );
        let raw: [&[u8]; 2] = [b"m", b"\xff\xfe"];
        assert_eq!(file_url(&parse_url("http://h/").unwrap(), false, raw).unwrap().path(), "/m/%FF%FE");
    }

    #[test]
    fn what_a_url_would_take_for_another_folder_has_no_url() {
        let base = parse_url("http://h/a/b/").unwrap();
        for name in ["", ".", ".."] {
            assert_eq!(file_url(&base, false, [b"m".as_slice(), name.as_bytes()]), None);
        }
    }

    #[test]
    fn urls_that_are_not_the_webs_are_passed_over_by_name() {
        assert!(parse_url("ftp://h/f").unwrap_err().contains("ftp:"));
        assert!(parse_url("/27/items/x").unwrap_err().starts_with("not a URL"));
        assert!(parse_url(" http://h/f ").is_ok());
    }
}
