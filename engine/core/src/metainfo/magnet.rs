//! Magnet links (BEP 9, 53): a torrent by its info-hash, and where to find it.

mod escaped;

use super::{ADDRESSES_MAX, Metainfo, MetainfoError, URL_LEN_MAX};
use crate::id::{InfoHash, InfoHashV2, InfoHashes};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// How long a link may be, in bytes.
pub const LINK_LEN_MAX: usize = 1024 * 1024;

/// How many ranges of files a link may select.
pub const SELECTED_RANGES_MAX: usize = 10_000;

/// How long a host name may be, in bytes (RFC 1035).
const HOST_LEN_MAX: usize = 253;

/// Everything that RFC 3986 does not call unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The multihash code and length of SHA-256, which begin a v2 info-hash.
const SHA256_MULTIHASH: &str = "1220";

/// A magnet link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// `xt=urn:btih:`: which torrent. Of one for version 2 alone, [`info_hash_v2`](Magnet::info_hash_v2) cut to 20 bytes.
    pub info_hash: InfoHash,
    /// `xt=urn:btmh:`: its hash in version 2, if it has one (BEP 52).
    pub info_hash_v2: Option<InfoHashV2>,
    /// `dn`: what to call it until its metadata is there.
    pub name: Option<String>,
    /// `xl`: bytes in all, as its maker says.
    pub length: Option<u64>,
    /// `tr`: tracker URLs, each once.
    pub trackers: Vec<String>,
    /// `ws`: URLs of web seeds, each once.
    pub web_seeds: Vec<String>,
    /// `x.pe`: peers, as host and port; an IPv6 address without its brackets.
    pub peers: Vec<(String, u16)>,
    /// `so`: the files to download, counted from zero; all if it is empty (BEP 53).
    pub selected: Vec<RangeInclusive<u32>>,
}

/// Why a text is not a usable magnet link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// It does not begin with `magnet:?`.
    #[error("a magnet link begins with `magnet:?`")]
    Scheme,
    /// It is longer than 1 MiB.
    #[error("a link of {0} bytes is longer than the limit of {LINK_LEN_MAX} bytes")]
    TooLong(usize),
    /// It names no torrent.
    #[error("no `xt=urn:btih:` or `xt=urn:btmh:` names a torrent")]
    NoInfoHash,
    /// An info-hash that is none.
    #[error("`{0}` is not an info-hash: that is 40 hexadecimal or 32 base32 digits")]
    InfoHash(String),
    /// A v2 info-hash that is none.
    #[error("`{0}` is not a v2 info-hash: that is `1220` and 64 hexadecimal digits")]
    InfoHashV2(String),
    /// More than one torrent.
    #[error("it names two torrents, {0} and {1}")]
    TwoTorrents(InfoHash, InfoHash),
    /// A selection of files that makes no sense. To pass it over would download what nobody wants.
    #[error("`so={0}` is not a selection of files, as in `so=0,2,5-9`")]
    Selection(String),
}

impl FromStr for Magnet {
    type Err = MagnetError;

    /// Reads a link. What is not needed and not usable, such as an address without a port, is passed over. What was
    /// escaped once too often on the way here is read as it was meant, where it cannot mean anything else.
    fn from_str(text: &str) -> Result<Magnet, MagnetError> {
        if text.len() > LINK_LEN_MAX {
            return Err(MagnetError::TooLong(text.len()));
        }
        let text = escaped::whole(text.trim());
        let (scheme, query) = text.split_once('?').ok_or(MagnetError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("magnet:") {
            return Err(MagnetError::Scheme);
        }
        let (mut magnet, mut info_hash) = (Magnet::new(InfoHash([0; 20])), None);
        for parameter in escaped::parameters(query) {
            let (key, value) = parameter.split_once('=').unwrap_or((&parameter, ""));
            let value = escaped::value(unnumbered(key), value);
            match unnumbered(key) {
                "xt" => read_topic(&value, &mut info_hash, &mut magnet.info_hash_v2)?,
                "dn" if magnet.name.is_none() && !value.is_empty() => {
                    // Here, unlike in URLs, a plus sign that was not escaped has always been a space.
                    let plain = parameter.split_once('=').map_or("", |(_, value)| value).replace('+', " ");
                    magnet.name = Some(percent_decode_str(&plain).decode_utf8_lossy().into_owned());
                }
                "xl" => magnet.length = magnet.length.or(value.parse().ok()),
                "tr" => add_url(&mut magnet.trackers, &value),
                "ws" => add_url(&mut magnet.web_seeds, &value),
                "x.pe" => {
                    let peer = read_peer(&value).filter(|peer| !magnet.peers.contains(peer));
                    magnet.peers.extend(peer.filter(|_| magnet.peers.len() < ADDRESSES_MAX));
                }
                "so" => read_selection(&value, &mut magnet.selected)?,
                _ => {}
            }
        }
        let v2 = || magnet.info_hash_v2.map(|hash| hash.truncated());
        magnet.info_hash = info_hash.or_else(v2).ok_or(MagnetError::NoInfoHash)?;
        Ok(magnet)
    }
}

/// The key without a number that tells it from others of its kind, as in `tr.2`.
fn unnumbered(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((name, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => key,
    }
}

fn read_topic(urn: &str, v1: &mut Option<InfoHash>, v2: &mut Option<InfoHashV2>) -> Result<(), MagnetError> {
    if let Some(text) = strip_prefix(urn, "urn:btih:") {
        let found = parse_info_hash(text).ok_or_else(|| MagnetError::InfoHash(text.to_owned()))?;
        match *v1 {
            Some(first) if first != found => return Err(MagnetError::TwoTorrents(first, found)),
            _ => *v1 = Some(found),
        }
    } else if let Some(text) = strip_prefix(urn, "urn:btmh:") {
        let digits = text.strip_prefix(SHA256_MULTIHASH).and_then(decode_hex).map(InfoHashV2);
        *v2 = Some(digits.ok_or_else(|| MagnetError::InfoHashV2(text.to_owned()))?);
    }
    // Another name for the same content, in some other network.
    Ok(())
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let front = text.get(..prefix.len())?;
    front.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// An info-hash as links and people write it: 40 hexadecimal digits, or 32 of base32. `None` for anything else.
pub fn parse_info_hash(text: &str) -> Option<InfoHash> {
    let base32 = || decode_base32(text).filter(|_| text.len() == 32)?.try_into().ok();
    text.parse().ok().or_else(|| base32().map(InfoHash))
}

fn decode_hex(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

/// The bytes that a base32 text stands for (RFC 4648), in capitals or not, padded or not.
pub fn decode_base32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len() * 5 / 8), 0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c.to_ascii_uppercase() {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

fn add_url(urls: &mut Vec<String>, url: &str) {
    let url = url.trim();
    let is_usable = !url.is_empty() && url.len() <= URL_LEN_MAX && urls.len() < ADDRESSES_MAX;
    if is_usable && !urls.iter().any(|known| known == url) {
        urls.push(url.to_owned());
    }
}

/// `host:port`, with or without brackets around an IPv6 address.
fn read_peer(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port != 0)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bracketed.is_some() || host.contains(':') {
        let ip: Ipv6Addr = bracketed.unwrap_or(host).parse().ok()?;
        return Some((ip.to_string(), port));
    }
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_host = !host.is_empty() && host.len() <= HOST_LEN_MAX && host.chars().all(is_name);
    is_host.then(|| (host.to_owned(), port))
}

fn read_selection(text: &str, selected: &mut Vec<RangeInclusive<u32>>) -> Result<(), MagnetError> {
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let range = first.trim().parse().ok().zip(last.trim().parse().ok());
        match range.filter(|(first, last)| first <= last) {
            Some((first, last)) if selected.len() < SELECTED_RANGES_MAX => selected.push(first..=last),
            _ => return Err(MagnetError::Selection(text.to_owned())),
        }
    }
    Ok(())
}

/// A host and a port in one text, with brackets around an IPv6 address.
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:?")?;
        if let Some(hash) = self.info_hash_v1() {
            write!(f, "xt=urn:btih:{hash}")?;
        }
        if let Some(hash) = self.info_hash_v2 {
            let separator = if self.info_hash_v1().is_some() { "&" } else { "" };
            write!(f, "{separator}xt=urn:btmh:{SHA256_MULTIHASH}{hash}")?;
        }
        let mut text = |key: &str, value: &str| write!(f, "&{key}={}", utf8_percent_encode(value, ESCAPED));
        self.name.iter().try_for_each(|name| text("dn", name))?;
        self.length.iter().try_for_each(|length| text("xl", &length.to_string()))?;
        self.trackers.iter().try_for_each(|url| text("tr", url))?;
        self.web_seeds.iter().try_for_each(|url| text("ws", url))?;
        self.peers.iter().try_for_each(|(host, port)| {
            let host = utf8_percent_encode(host, ESCAPED).to_string().replace("%3A", ":");
            write!(f, "&x.pe={}", host_and_port(&host, *port))
        })?;
        for (nth, range) in self.selected.iter().enumerate() {
            f.write_str(if nth == 0 { "&so=" } else { "," })?;
            match range.start() == range.end() {
                true => write!(f, "{}", range.start())?,
                false => write!(f, "{}-{}", range.start(), range.end())?,
            }
        }
        Ok(())
    }
}

impl Magnet {
    /// A link that says no more than which torrent is meant.
    pub fn new(info_hash: InfoHash) -> Magnet {
        Magnet {
            info_hash,
            info_hash_v2: None,
            name: None,
            length: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            selected: Vec::new(),
        }
    }

    /// All info-hashes that it names.
    pub fn info_hashes(&self) -> InfoHashes {
        InfoHashes { v1: self.info_hash_v1(), v2: self.info_hash_v2 }
    }

    /// The SHA-1 info-hash, unless the torrent is for version 2 alone.
    pub fn info_hash_v1(&self) -> Option<InfoHash> {
        let is_v2 = self.info_hash_v2.is_some_and(|hash| hash.truncated() == self.info_hash);
        (!is_v2).then_some(self.info_hash)
    }

    /// Which of so many files the link selects; `None` if it selects all, by saying nothing of it.
    pub fn wanted(&self, files: usize) -> Option<Vec<bool>> {
        if self.selected.is_empty() {
            return None;
        }
        let mut wanted = vec![false; files];
        for range in &self.selected {
            let (first, last) = (*range.start() as usize, *range.end() as usize);
            if first < files {
                wanted[first..=last.min(files - 1)].fill(true);
            }
        }
        Some(wanted)
    }
}

impl Metainfo {
    /// A magnet link to this torrent: its info-hashes, name, size, trackers and web seeds.
    pub fn magnet(&self) -> Magnet {
        Magnet {
            info_hash_v2: self.info.info_hash_v2,
            name: Some(self.info.name.clone()),
            length: Some(self.info.payload_len()),
            trackers: self.trackers.iter().flatten().cloned().collect(),
            web_seeds: self.web_seeds.clone(),
            ..Magnet::new(self.info.info_hash)
        }
    }

    /// The torrent of a magnet link, from the info dictionary that peers sent: each of the link's trackers is a tier. That
    /// the bytes have the right hash is the caller's part.
    ///
    /// # Errors
    /// As for [`Metainfo::parse`].
    pub fn from_magnet(magnet: &Magnet, info_bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
        let file = [b"d4:info", info_bytes, b"e"].concat();
        Ok(Metainfo {
            trackers: magnet.trackers.iter().map(|url| vec![url.clone()]).collect(),
            web_seeds: magnet.web_seeds.clone(),
            http_seeds: Vec::new(),
            ..Metainfo::parse(&file)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "631a31dd0a46257d5078c0dee4e66e26f73e42ac";
    const BASE32: &str = "MMNDDXIKIYSX2UDYYDPOJZTOE33T4QVM";

    fn link(rest: &str) -> Result<Magnet, MagnetError> {
        format!("magnet:?xt=urn:btih:{HEX}{rest}").parse()
    }

    fn any_magnet() -> impl Strategy<Value = Magnet> {
        let url = "[a-z]{3,5}://[ -~µ]{1,20}[a-z]";
        let urls = || prop::collection::btree_set(url, 0..4).prop_map(|set| set.into_iter().collect());
        let host = prop_oneof![
            "[a-z0-9.-]{1,20}",
            any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
            any::<Ipv6Addr>().prop_map(|ip| ip.to_string()),
        ];
        let peers = prop::collection::btree_set((host, 1..=u16::MAX), 0..4);
        let range = (any::<u32>(), any::<u32>()).prop_map(|(a, b)| a.min(b)..=a.max(b));
        let hashes = (any::<[u8; 20]>(), any::<Option<[u8; 32]>>());
        let name = prop::option::of("\\PC{1,20}");
        let selected = prop::collection::vec(range, 0..4);
        (hashes, name, any::<Option<u64>>(), urls(), urls(), peers, selected).prop_map(
            |((v1, info_hash_v2), name, length, trackers, web_seeds, peers, selected)| Magnet {
                info_hash: InfoHash(v1),
                info_hash_v2: info_hash_v2.map(InfoHashV2),
                name,
                length,
                trackers,
                web_seeds,
                peers: peers.into_iter().collect(),
                selected,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(magnet in any_magnet()) {
            prop_assert_eq!(magnet.to_string().parse(), Ok(magnet));
        }

        #[test]
        fn no_text_panics(text in "magnet:\\?(xt=urn:bt[im]h:[a-z0-9]{0,70}|[a-z.]{1,4}=[ -~µ]{0,20}|&){0,9}") {
            let _ = text.parse::<Magnet>();
        }
    }

    #[test]
    fn everything_that_a_link_may_say() {
        let magnet = link(
            "&dn=a+b%2Bc&xl=5&tr=http%3A%2F%2Ft.example%2Fannounce%3Fk%3D1&tr.1=udp://u.example:1&tr=udp://u.example:1\
             &ws=https://w.example/&x.pe=192.0.2.7:1&x.pe=[2001:db8::7]:2&x.pe=2001:db8::8:3&x.pe=p.example:4\
             &so=0,2,5-9&kt=unknown&xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C",
        );
        let peer = |host: &str, port| (host.to_owned(), port);
        let expected = Magnet {
            info_hash: HEX.parse().unwrap(),
            info_hash_v2: None,
            name: Some("a b+c".to_owned()),
            length: Some(5),
            trackers: vec!["http://t.example/announce?k=1".to_owned(), "udp://u.example:1".to_owned()],
            web_seeds: vec!["https://w.example/".to_owned()],
            peers: vec![
                peer("192.0.2.7", 1),
                peer("2001:db8::7", 2),
                peer("2001:db8::8", 3),
                peer("p.example", 4),
            ],
            selected: vec![0..=0, 2..=2, 5..=9],
        };
        assert_eq!(magnet, Ok(expected));
    }

    #[test]
    fn what_was_escaped_twice_is_read_as_it_was_meant() {
        let trackers = ["http://t.example/announce?k=1%202", "udp://u.example:1"];
        let expected = Magnet {
            name: Some("a b&c".to_owned()),
            trackers: trackers.map(str::to_owned).to_vec(),
            ..Magnet::new(HEX.parse().unwrap())
        };
        let plain = expected.to_string();
        let query = &plain["magnet:?".len()..];
        let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let urls = trackers.map(|url| escape(&escape(url)));
        let doubly = urls.map(|url| format!("&tr={url}")).concat();
        let separators = trackers.map(|url| format!("%26tr%3D{}", escape(url))).concat();
        let in_tracker = format!("&tr={}%26tr%3D{}", escape(trackers[0]), escape(trackers[1]));
        for text in [
            format!("magnet:?xt=urn:btih:{HEX}&dn=a+b%26c{doubly}"),
            format!("magnet:?xt=urn:btih:{HEX}&dn=a+b%26c{separators}"),
            format!("magnet:?xt=urn:btih:{HEX}&dn=a+b%26c{in_tracker}"),
            format!("magnet:?xt=urn:btih:{HEX}&dn=a+b%26c{}", separators.replace('%', "%25")),
            format!("magnet:?xt=urn:btih:{HEX}%26dn%3Da%20b%26c{separators}"),
            format!("magnet:?{}", escape(query)),
            format!("magnet:{}", escape(&plain["magnet:".len()..])),
            plain.replace('&', "&amp;"),
            plain.replace("urn:btih:", "urn%253Abtih%253A"),
        ] {
            assert_eq!(text.parse().as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn what_may_be_meant_is_left_as_it_is() {
        let url = "http://t.example/announce?next=1&tr=2&dn=x";
        let magnet =
            link(&format!("&dn=Q%26A%26tr%3Dx+100%2525&tr={}", utf8_percent_encode(url, ESCAPED))).unwrap();
        assert_eq!(magnet.name.as_deref(), Some("Q&A&tr=x 100%25"));
        assert_eq!(magnet.trackers, [url]);
        let magnet = link("&tr=http://t.example/a%2525b&tr=no%2520url").unwrap();
        assert_eq!(magnet.trackers, ["http://t.example/a%25b", "no%20url"]);
    }

    #[test]
    fn info_hashes_in_base_32_and_in_any_case() {
        for hash in [BASE32, &BASE32.to_lowercase(), HEX, &HEX.to_uppercase()] {
            let magnet: Magnet = format!("MAGNET:?xt=URN:BTIH:{hash}").parse().unwrap();
            assert_eq!(magnet, Magnet::new(HEX.parse().unwrap()), "{hash}");
        }
    }

    #[test]
    fn base_32_as_in_rfc_4648() {
        for (text, bytes) in [("", ""), ("MY======", "f"), ("MZXW6YQ=", "foob"), ("mzxw6ytboi", "foobar")] {
            assert_eq!(decode_base32(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decode_base32("M1"), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| text.parse::<Magnet>().unwrap_err();
        assert_eq!(error("http://example/"), MagnetError::Scheme);
        assert_eq!(error("magnet:"), MagnetError::Scheme);
        assert_eq!(error("magnet:?dn=x"), MagnetError::NoInfoHash);
        for hash in ["", "12", &HEX[1..], &format!("{}µ", &HEX[2..]), &BASE32.replace('M', "1")] {
            assert_eq!(error(&format!("magnet:?xt=urn:btih:{hash}")), MagnetError::InfoHash(hash.to_owned()));
        }
        let v2 = format!("1220{}", "ab".repeat(32));
        let only: Magnet = format!("magnet:?xt=urn:btmh:{v2}").parse().unwrap();
        assert_eq!((only.info_hash, only.info_hash_v1()), (InfoHash([0xab; 20]), None));
        assert_eq!(only.to_string().parse(), Ok(only));
        assert_eq!(link(&format!("&xt=urn:btmh:{v2}")).unwrap().info_hash_v2, Some(InfoHashV2([0xab; 32])));
        assert_eq!(link("&xt=urn:btmh:1220ab"), Err(MagnetError::InfoHashV2("1220ab".to_owned())));
        let other = InfoHash([7; 20]);
        let two = link(&format!("&xt=urn:btih:{other}"));
        assert_eq!(two, Err(MagnetError::TwoTorrents(HEX.parse().unwrap(), other)));
        for so in ["", "x", "1-", "5-2", "1,,2", "4294967296"] {
            assert_eq!(link(&format!("&so={so}")), Err(MagnetError::Selection(so.to_owned())), "{so}");
        }
        let long = "x".repeat(LINK_LEN_MAX);
        assert!(matches!(link(&long), Err(MagnetError::TooLong(_))));
    }

    #[test]
    fn peers_that_cannot_be_are_passed_over() {
        for peer in ["", ":1", "h", "h:0", "h:65536", "a b:1", "[::1:1", "a/b:1", "[x]:1", "1:2:3"] {
            assert_eq!(link(&format!("&x.pe={peer}")).unwrap().peers, [], "{peer}");
        }
    }

    #[test]
    fn a_selection_beyond_the_files_does_no_harm() {
        assert_eq!(link("").unwrap().wanted(3), None);
        assert_eq!(link("&so=1,2-4294967295").unwrap().wanted(3), Some(vec![false, true, true]));
        assert_eq!(link("&so=7").unwrap().wanted(2), Some(vec![false, false]));
        assert_eq!(link("&so=0-5").unwrap().wanted(0), Some(vec![]));
    }

    #[test]
    fn the_metadata_and_the_link_make_the_torrent() {
        let info = b"d6:lengthi5e4:name1:n12:piece lengthi16384e6:pieces20:AAAAAAAAAAAAAAAAAAAAe";
        let magnet = link("&tr=http://a.example/&tr=http://b.example/&ws=http://w.example/").unwrap();
        let metainfo = Metainfo::from_magnet(&magnet, info).unwrap();
        assert_eq!(*metainfo.info_bytes, info[..]);
        assert_eq!(metainfo.trackers, [["http://a.example/"], ["http://b.example/"]]);
        assert_eq!(metainfo.magnet().trackers, magnet.trackers);
        assert!(Metainfo::from_magnet(&magnet, b"d4:name").is_err());
    }
}
