//! Mutable torrents (BEP 46): mutable items that hold an info-hash. The publisher signs each version; who has the link
//! resolves it to the newest one.

use super::id::NodeId;
use super::items::{Item, SALT_LEN_MAX, mutable_target};
use crate::bencode::{self, Limits, Value};
use crate::hex::{hex, unhex};
use crate::id::InfoHash;
use std::fmt;
use std::str::FromStr;

/// The link of a mutable torrent: `magnet:?xs=urn:btpk:KEY&s=SALT`, both in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutableTorrentLink {
    /// The publisher's public key.
    pub key: [u8; 32],
    /// Which of the publisher's mutable torrents it is; usually empty.
    pub salt: Vec<u8>,
}

/// Why a text is no such link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MutableTorrentLinkError {
    /// It does not name a public key.
    #[error("is not a link to a mutable torrent: magnet:?xs=urn:btpk: and 64 hexadecimal digits are needed")]
    NoKey,
    /// The salt is too long, or not hexadecimal.
    #[error("has a salt that is not hexadecimal, or longer than 64 bytes")]
    BadSalt,
}

impl MutableTorrentLink {
    /// Where its item is kept.
    pub fn target(&self) -> NodeId {
        mutable_target(&self.key, &self.salt)
    }

    /// Of an item, if it is signed.
    pub fn of(item: &Item) -> Option<MutableTorrentLink> {
        let owner = item.owner.as_ref()?;
        Some(MutableTorrentLink { key: owner.key, salt: owner.salt.clone() })
    }
}

impl fmt::Display for MutableTorrentLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "magnet:?xs=urn:btpk:{}", hex(&self.key))?;
        if self.salt.is_empty() { Ok(()) } else { write!(f, "&s={}", hex(&self.salt)) }
    }
}

impl FromStr for MutableTorrentLink {
    type Err = MutableTorrentLinkError;

    fn from_str(text: &str) -> Result<MutableTorrentLink, MutableTorrentLinkError> {
        let query = text.strip_prefix("magnet:?").ok_or(MutableTorrentLinkError::NoKey)?;
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let key = value("xs").and_then(|source| source.strip_prefix("urn:btpk:")).and_then(unhex);
        let key = key.and_then(|key| key.try_into().ok()).ok_or(MutableTorrentLinkError::NoKey)?;
        let salt = value("s").map_or(Some(Vec::new()), unhex);
        let salt = salt.filter(|salt| salt.len() <= SALT_LEN_MAX).ok_or(MutableTorrentLinkError::BadSalt)?;
        Ok(MutableTorrentLink { key, salt })
    }
}

/// The value of an item that holds this info-hash.
pub fn mutable_torrent_value(info_hash: InfoHash) -> Vec<u8> {
    [&b"d2:ih20:"[..], &info_hash.0, b"e"].concat()
}

impl Item {
    /// The info-hash that it holds, if it is a mutable torrent.
    pub fn torrent(&self) -> Option<InfoHash> {
        let document = bencode::parse(&self.value, &Limits::default()).ok()?;
        let hash = document.root().as_dict()?.get(b"ih").and_then(Value::as_bytes)?;
        hash.try_into().ok().map(InfoHash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_name_the_places_of_bep_46() {
        let key = "8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e";
        for (salt, target) in [
            ("", "cc3f9d90b572172053626f9980ce261a850d050b"),
            ("&s=6e", "59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f"),
        ] {
            let text = format!("magnet:?xs=urn:btpk:{key}{salt}");
            let link: MutableTorrentLink = text.parse().unwrap();
            assert_eq!(link.target().to_string(), target);
            assert_eq!(link.to_string(), text);
        }
        let more: MutableTorrentLink = format!("magnet:?dn=x&s=6e&xs=urn:btpk:{key}").parse().unwrap();
        assert_eq!(more.salt, b"n");
    }

    #[test]
    fn what_is_no_link_is_refused() {
        let key = "85".repeat(32);
        let long = "00".repeat(65);
        for (text, error) in [
            (format!("magnet:?xt=urn:btpk:{key}"), MutableTorrentLinkError::NoKey),
            (format!("xs=urn:btpk:{key}"), MutableTorrentLinkError::NoKey),
            (format!("magnet:?xs=urn:btpk:{key}0"), MutableTorrentLinkError::NoKey),
            (format!("magnet:?xs=urn:btpk:{}+1", &key[2..]), MutableTorrentLinkError::NoKey),
            (format!("magnet:?xs=urn:btpk:{key}&s=6"), MutableTorrentLinkError::BadSalt),
            (format!("magnet:?xs=urn:btpk:{key}&s={long}"), MutableTorrentLinkError::BadSalt),
        ] {
            assert_eq!(text.parse::<MutableTorrentLink>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_mutable_torrent_holds_an_info_hash() {
        let hash = InfoHash(*b"ABCDEFGHIJKLMNOPQRST");
        let item = Item::signed(&[1; 32], b"n".to_vec(), 1, mutable_torrent_value(hash));
        assert_eq!(item.torrent(), Some(hash));
        assert_eq!(MutableTorrentLink::of(&item).unwrap().target(), item.target());
        for other in ["5:hello", "d2:ih19:ABCDEFGHIJKLMNOPQRSe", "d2:ihi1ee", "de"] {
            assert_eq!(Item::immutable(other.as_bytes().to_vec()).torrent(), None, "{other}");
        }
    }
}
