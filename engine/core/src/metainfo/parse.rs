//! Reading a metainfo file.

use super::entry::Spelling;
use super::layers::Hashes;
use super::path::PathRules;
use super::piece_hashes::PieceHashes;
use super::warnings::Warnings;
use super::{ADDRESSES_MAX, METAINFO_LEN_MAX, Metainfo, MetainfoError, URL_LEN_MAX, info, layers};
use crate::bencode::{self, Limits, Value};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;

/// How long a host name may be, in bytes (RFC 1035).
const HOST_LEN_MAX: usize = 253;

impl Metainfo {
    /// Reads a metainfo file, with paths that suit the system that this is compiled for.
    ///
    /// What a download needs must be right; anything else that is not is left out with a warning.
    ///
    /// # Errors
    /// When the bytes are not a metainfo file, one that contradicts itself, or one that exceeds a limit.
    pub fn parse(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
        Metainfo::parse_for(bytes, PathRules::native())
    }

    /// The same with paths that suit another system.
    ///
    /// # Errors
    /// As for [`Metainfo::parse`].
    pub fn parse_for(bytes: &[u8], rules: PathRules) -> Result<Metainfo, MetainfoError> {
        Metainfo::read(bytes, rules, Hashes::Kept)
    }

    /// The same, with its info dictionary, which is most of it, where `keep` has put a copy of these bytes.
    pub fn moved(mut self, keep: impl FnOnce(&[u8]) -> Bytes) -> Metainfo {
        let moved = keep(&self.info_bytes);
        debug_assert_eq!(moved.len(), self.info_bytes.len(), "a copy");
        let hashes = self.info.piece_hashes.as_ref();
        if let Some(range) = hashes.and_then(|hashes| hashes.range_in(&self.info_bytes)) {
            Arc::make_mut(&mut self.info).piece_hashes = Some(PieceHashes::within(&moved, range));
        }
        self.info_bytes = moved;
        self
    }

    /// Reads it all, and keeps neither the hashes nor the info dictionary, which may be as long as the file.
    pub(super) fn check(bytes: &[u8], rules: PathRules) -> Result<Metainfo, MetainfoError> {
        Metainfo::read(bytes, rules, Hashes::Checked)
    }

    fn read(bytes: &[u8], rules: PathRules, hashes: Hashes) -> Result<Metainfo, MetainfoError> {
        if bytes.len() > METAINFO_LEN_MAX {
            return Err(MetainfoError::TooLong(bytes.len()));
        }
        let mut warnings = Warnings::default();
        let (document, used) = bencode::parse_prefix(bytes, &Limits::default())?;
        if used < bytes.len() {
            warnings.add(|| format!("data after the end, from byte {used} on, is ignored"));
        }
        if let Some(offset) = document.unsorted_at() {
            warnings.add(|| format!("dictionary keys are not sorted, first at byte {offset}"));
        }
        let root = document.root();
        let missing = || MetainfoError::Field { field: "info".to_owned(), expected: "a dictionary" };
        let info_value = root.get(b"info").ok_or_else(missing)?;
        let info_dict = info_value.as_dict().ok_or_else(missing)?;
        let label = root.get(b"encoding").or_else(|| info_dict.get(b"encoding")).and_then(Value::as_bytes);
        let spelling = Spelling::of(rules).with_encoding(label);
        let info_bytes = match hashes {
            Hashes::Kept => Bytes::copy_from_slice(info_value.raw()),
            Hashes::Checked => Bytes::new(),
        };
        let mut info = info::read(info_dict, info_value.raw(), &info_bytes, spelling, &mut warnings)?;
        layers::read(&mut info, root.get(b"piece layers"), hashes)?;
        let text = |key: &'static str, warnings: &mut Warnings| warnings.text(root.get(key.as_bytes())?, key);
        Ok(Metainfo {
            info: Arc::new(info),
            info_bytes,
            trackers: read_trackers(root, &mut warnings),
            web_seeds: read_web_seeds(root, b"url-list", &mut warnings),
            http_seeds: read_web_seeds(root, b"httpseeds", &mut warnings),
            nodes: read_nodes(root, &mut warnings),
            comment: match root.get(b"comment.utf-8").and_then(Value::as_str) {
                Some(comment) => Some(comment.to_owned()),
                None => {
                    let comment =
                        root.get(b"comment").and_then(Value::as_bytes).map(|raw| spelling.decode(raw));
                    let decoded = comment.and_then(|raw| String::from_utf8(raw.into_owned()).ok());
                    decoded.or_else(|| text("comment", &mut warnings))
                }
            },
            created_by: text("created by", &mut warnings),
            creation_date: read_date(root, &mut warnings),
            warnings: warnings.finish(),
        })
    }
}

/// URLs of one kind: each once, and not too many.
struct Urls<'w> {
    field: &'static str,
    seen: HashSet<String>,
    warnings: &'w mut Warnings,
}

impl<'w> Urls<'w> {
    fn new(field: &'static str, warnings: &'w mut Warnings) -> Urls<'w> {
        Urls { field, seen: HashSet::new(), warnings }
    }

    /// The URL in `value`, unless it is empty or has been seen.
    fn read(&mut self, value: Value<'_>) -> Option<String> {
        let Some(url) = value.as_str().map(str::trim).filter(|url| url.len() <= URL_LEN_MAX) else {
            self.warnings.add(|| format!("`{}`: something that is not a URL is ignored", self.field));
            return None;
        };
        if url.is_empty() || self.seen.contains(url) {
            return None;
        }
        if self.seen.len() >= ADDRESSES_MAX {
            self.warnings
                .add(|| format!("`{}` has more than {ADDRESSES_MAX} URLs: {url:?} ignored", self.field));
            return None;
        }
        self.seen.insert(url.to_owned());
        Some(url.to_owned())
    }
}

/// `announce-list` (BEP 12), or `announce` where that has nothing to offer.
fn read_trackers(root: Value<'_>, warnings: &mut Warnings) -> Vec<Vec<String>> {
    let mut tiers: Vec<Vec<String>> = Vec::new();
    match root.get(b"announce-list").map(|value| value.as_list().ok_or(())) {
        None => {}
        Some(Err(())) => warnings.ignored("announce-list", "a list"),
        Some(Ok(list)) => {
            let mut urls = Urls::new("announce-list", warnings);
            for tier in list.iter() {
                // Some files have a plain list of URLs here.
                let tier = match tier.as_list() {
                    Some(tier) => tier.iter().filter_map(|url| urls.read(url)).collect(),
                    None => Vec::from_iter(urls.read(tier)),
                };
                tiers.extend(Some(tier).filter(|tier| !tier.is_empty()));
            }
        }
    }
    if tiers.is_empty() {
        let announce = root.get(b"announce").and_then(|url| Urls::new("announce", warnings).read(url));
        tiers.extend(announce.map(|url| vec![url]));
    }
    tiers
}

/// `url-list` (BEP 19) or `httpseeds` (BEP 17): a list of URLs, or just one.
fn read_web_seeds(root: Value<'_>, key: &'static [u8], warnings: &mut Warnings) -> Vec<String> {
    let Some(value) = root.get(key) else { return Vec::new() };
    let name = if key == b"url-list" { "url-list" } else { "httpseeds" };
    let mut urls = Urls::new(name, warnings);
    match value.as_list() {
        Some(list) => list.iter().filter_map(|url| urls.read(url)).collect(),
        None => Vec::from_iter(urls.read(value)),
    }
}

/// `nodes` (BEP 5): a list of pairs of host and port.
fn read_nodes(root: Value<'_>, warnings: &mut Warnings) -> Vec<(String, u16)> {
    let Some(value) = root.get(b"nodes") else { return Vec::new() };
    let Some(list) = value.as_list() else {
        warnings.ignored("nodes", "a list");
        return Vec::new();
    };
    let (mut nodes, mut seen) = (Vec::new(), HashSet::new());
    for node in list.iter() {
        match read_node(node) {
            Some(node) if seen.contains(&node) => {}
            Some(_) if nodes.len() >= ADDRESSES_MAX => {
                warnings.add(|| format!("`nodes`: all after {ADDRESSES_MAX} are ignored"));
                break;
            }
            Some(node) => {
                seen.insert(node.clone());
                nodes.push(node);
            }
            None => warnings.add(|| "`nodes`: something that is not a host and port is ignored".to_owned()),
        }
    }
    nodes
}

fn read_node(node: Value<'_>) -> Option<(String, u16)> {
    let mut pair = node.as_list()?.iter();
    let host = pair.next()?.as_str().filter(|host| !host.is_empty() && host.len() <= HOST_LEN_MAX)?;
    let port = u16::try_from(pair.next()?.as_int()?).ok().filter(|&port| port != 0)?;
    pair.next().is_none().then(|| (host.to_owned(), port))
}

fn read_date(root: Value<'_>, warnings: &mut Warnings) -> Option<i64> {
    let date = root.get(b"creation date")?;
    if date.as_int().is_none() {
        warnings.ignored("creation date", "an integer");
    }
    date.as_int()
}
