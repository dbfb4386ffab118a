//! Magnet links (BEP 9).

use super::Metainfo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything that RFC 3986 does not call unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Metainfo {
    /// A magnet link to this torrent: its v1 info-hash, name, trackers and web seeds.
    pub fn magnet(&self) -> String {
        let mut link = format!("magnet:?xt=urn:btih:{}", self.info.info_hash);
        let name = [("dn", &self.info.name)];
        let trackers = self.trackers.iter().flatten().map(|url| ("tr", url));
        let web_seeds = self.web_seeds.iter().map(|url| ("ws", url));
        for (key, value) in name.into_iter().chain(trackers).chain(web_seeds) {
            link.push_str(&format!("&{key}={}", utf8_percent_encode(value, ESCAPED)));
        }
        link
    }
}
