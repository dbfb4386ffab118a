//! Asking a tracker for the size of swarms without joining them (BEP 48).

use std::collections::BTreeMap;

use url::Url;

pub use super::query::SCRAPE_HASHES_MAX;
use super::query::{self, RequestError};
use super::reply::{self, ReplyError};
use crate::bencode::{self, Value};
use crate::id::InfoHash;

/// Which torrents a client asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeRequest {
    /// The torrents, at most [`SCRAPE_HASHES_MAX`].
    pub info_hashes: Vec<InfoHash>,
}

impl ScrapeRequest {
    /// The URL to fetch: the last part of the announce URL's path that starts with `announce` has
    /// it replaced by `scrape`. `None` if that part is named otherwise: the tracker then takes no scrapes.
    pub fn url(&self, tracker: &Url) -> Option<Url> {
        let (folder, name) = tracker.path().rsplit_once('/')?;
        let path = format!("{folder}/scrape{}", name.strip_prefix("announce")?);
        let mut query = tracker.query().unwrap_or_default().to_owned();
        for hash in self.info_hashes.iter().take(SCRAPE_HASHES_MAX) {
            query.push_str(if query.is_empty() { "info_hash=" } else { "&info_hash=" });
            query::push_encoded(&mut query, &hash.0);
        }
        let mut url = tracker.clone();
        url.set_path(&path);
        url.set_query(Some(&query));
        url.set_fragment(None);
        Some(url)
    }

    /// Reads the query of a scrape as a server gets it, without the leading `?`.
    ///
    /// # Errors
    /// When there is no info-hash (a tracker does not list everything it has), too many, or one
    /// that is not 20 bytes.
    pub fn parse_query(query: &[u8]) -> Result<ScrapeRequest, RequestError> {
        let mut info_hashes = Vec::new();
        for (name, value) in query::pairs(query) {
            if name == b"info_hash" {
                if info_hashes.len() == SCRAPE_HASHES_MAX {
                    return Err(RequestError::TooManyHashes);
                }
                info_hashes.push(InfoHash(query::twenty("info_hash", value)?));
            }
        }
        if info_hashes.is_empty() {
            return Err(RequestError::Missing("info_hash"));
        }
        Ok(ScrapeRequest { info_hashes })
    }
}

/// The size of one swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScrapeStats {
    /// Seeds.
    pub complete: u32,
    /// Leechers.
    pub incomplete: u32,
    /// How often the torrent was downloaded.
    pub downloaded: u32,
}

/// What a tracker answers to a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeResponse {
    /// The swarms that it knows of those asked for.
    pub files: BTreeMap<InfoHash, ScrapeStats>,
}

impl ScrapeResponse {
    /// Reads a reply as a client gets it. Entries that make no sense are left out, missing numbers
    /// are zero, and at most [`SCRAPE_HASHES_MAX`] entries are taken.
    ///
    /// # Errors
    /// When the tracker gives a failure reason, or the reply is not a bencoded dictionary.
    pub fn parse(body: &[u8]) -> Result<ScrapeResponse, ReplyError> {
        let document = reply::document(body)?;
        let dict = reply::accepted(&document)?;
        let files = dict.get(b"files").and_then(Value::as_dict);
        let entries = files.into_iter().flat_map(|files| files.iter()).filter_map(|(hash, entry)| {
            let entry = entry.as_dict()?;
            let count = |key: &[u8]| {
                let number = entry.get(key).and_then(Value::as_int).unwrap_or(0);
                u32::try_from(number.max(0)).unwrap_or(u32::MAX)
            };
            let stats = ScrapeStats {
                complete: count(b"complete"),
                incomplete: count(b"incomplete"),
                downloaded: count(b"downloaded"),
            };
            Some((InfoHash(hash.try_into().ok()?), stats))
        });
        Ok(ScrapeResponse { files: entries.take(SCRAPE_HASHES_MAX).collect() })
    }

    /// The reply as a server sends it.
    pub fn encode(&self) -> Vec<u8> {
        bencode::write_dict(|mut dict| {
            dict.emit_pair_with(b"files", |e| {
                e.emit_dict(|mut files| {
                    self.files.iter().try_for_each(|(hash, stats)| {
                        files.emit_pair_with(&hash.0, |e| {
                            e.emit_dict(|mut entry| {
                                entry.emit_pair(b"complete", stats.complete)?;
                                entry.emit_pair(b"downloaded", stats.downloaded)?;
                                entry.emit_pair(b"incomplete", stats.incomplete)
                            })
                        })
                    })
                })
            })
        })
    }
}

#[cfg(test)]
mod tests;
