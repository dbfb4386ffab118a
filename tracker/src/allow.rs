//! Which torrents a tracker serves, where it does not serve all.

use std::collections::HashSet;
use std::str::FromStr;

use swarm_core::id::{InfoHash, ParseInfoHashError};

/// A set of torrents. As text: an info-hash in hexadecimal on each line; empty lines and what
/// follows a `#` do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(HashSet<InfoHash>);

/// A line of an allow list that is no info-hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {source}")]
pub struct AllowListError {
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong with it.
    pub source: ParseInfoHashError,
}

impl AllowList {
    /// Whether it names a torrent.
    pub fn contains(&self, info_hash: &InfoHash) -> bool {
        self.0.contains(info_hash)
    }

    /// How many torrents it names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it names none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<InfoHash> for AllowList {
    fn from_iter<I: IntoIterator<Item = InfoHash>>(hashes: I) -> AllowList {
        AllowList(hashes.into_iter().collect())
    }
}

impl FromStr for AllowList {
    type Err = AllowListError;

    fn from_str(text: &str) -> Result<AllowList, AllowListError> {
        let hashes = text.lines().enumerate().filter_map(|(nth, line)| {
            let hash = line.split('#').next().unwrap_or_default().trim();
            let parsed = || hash.parse().map_err(|source| AllowListError { line: nth + 1, source });
            (!hash.is_empty()).then(parsed)
        });
        hashes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hashes_comments_and_nothing_else() {
        let text = format!("# ours\n\n{}\n  {} # a release\r\n", "0a".repeat(20), "FF".repeat(20));
        let list: AllowList = text.parse().unwrap();
        assert_eq!(list, [InfoHash([0x0a; 20]), InfoHash([0xff; 20])].into_iter().collect());
        assert!("".parse::<AllowList>().unwrap().is_empty());
        let error = format!("{}\nrelease.meta\n", "0a".repeat(20)).parse::<AllowList>().unwrap_err();
        assert_eq!(error.to_string(), "line 2: an info-hash is 40 hexadecimal digits");
    }
}
