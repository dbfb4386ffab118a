//! Items that nodes keep for others (BEP 44): immutable ones under the hash of their value, mutable ones under the
//! hash of a public key, signed by its owner.
//!
//! A value travels as the bytes that were signed or hashed, never decoded and written anew.

use super::id::NodeId;
use crate::time::{Duration, Time};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, BTreeSet};

/// Longest value, in bytes as bencoded.
pub const VALUE_LEN_MAX: usize = 1_000;
/// Longest salt, in bytes.
pub const SALT_LEN_MAX: usize = 64;
/// How long an item is kept that nobody stores again.
pub const ITEM_LIFETIME: Duration = Duration::from_secs(2 * 3_600);
/// Most items kept; the one that was not stored again for longest makes room.
pub const ITEMS_MAX: usize = 1_000;

/// Something to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// A bencoded value, at most [`VALUE_LEN_MAX`] bytes.
    pub value: Vec<u8>,
    /// Whose it is; `None` if it is immutable.
    pub owner: Option<Owner>,
}

/// What a mutable item has beside its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// An ed25519 public key.
    pub key: [u8; 32],
    /// Tells items of one key apart, at most [`SALT_LEN_MAX`] bytes.
    pub salt: Vec<u8>,
    /// Which version of the value it is: a higher one replaces a lower one.
    pub seq: i64,
    /// Of the owner.
    pub signature: [u8; 64],
}

impl Item {
    /// An item that is what it is.
    pub fn immutable(value: Vec<u8>) -> Item {
        Item { value, owner: None }
    }

    /// A version of an item, signed with the key that `seed` stands for.
    pub fn signed(seed: &[u8; 32], salt: Vec<u8>, seq: i64, value: Vec<u8>) -> Item {
        let key = SigningKey::from_bytes(seed);
        let signature = key.sign(&signed_bytes(&salt, seq, &value)).to_bytes();
        Item { value, owner: Some(Owner { key: key.verifying_key().to_bytes(), salt, seq, signature }) }
    }

    /// The place that it is kept at.
    pub fn target(&self) -> NodeId {
        match &self.owner {
            None => NodeId(Sha1::digest(&self.value).into()),
            Some(owner) => mutable_target(&owner.key, &owner.salt),
        }
    }

    /// Whether its owner has signed it, if it has one.
    pub fn is_genuine(&self) -> bool {
        let Some(owner) = &self.owner else { return true };
        let signature = Signature::from_bytes(&owner.signature);
        let bytes = signed_bytes(&owner.salt, owner.seq, &self.value);
        VerifyingKey::from_bytes(&owner.key).is_ok_and(|key| key.verify_strict(&bytes, &signature).is_ok())
    }

    /// The version of its value; the lowest for an immutable one.
    pub fn seq(&self) -> i64 {
        self.owner.as_ref().map_or(i64::MIN, |owner| owner.seq)
    }
}

/// Where the mutable item of a key and salt is kept.
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> NodeId {
    NodeId(Sha1::new().chain_update(key).chain_update(salt).finalize().into())
}

fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + salt.len() + 40);
    if !salt.is_empty() {
        bytes.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        bytes.extend_from_slice(salt);
    }
    bytes.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// Why an item is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemRefusal {
    /// The signature is not the owner's.
    Forged,
    /// The sender expected another version to be there.
    CasMismatch,
    /// There is a later version.
    Outdated,
}

/// The items of others.
#[derive(Default)]
pub(super) struct ItemStore {
    items: BTreeMap<NodeId, (Time, Item)>,
    ages: BTreeSet<(Time, NodeId)>,
}

impl ItemStore {
    /// Keeps an item, if it is genuine and not older than what is there; `cas` is the version that must be there.
    pub(super) fn put(&mut self, now: Time, item: Item, cas: Option<i64>) -> Result<(), ItemRefusal> {
        let target = item.target();
        let known = self.items.get(&target).filter(|(_, known)| known.owner.is_some());
        if let Some((_, known)) = known {
            if cas.is_some_and(|cas| cas != known.seq()) {
                return Err(ItemRefusal::CasMismatch);
            }
            if item.seq() < known.seq() || item.seq() == known.seq() && item.value != known.value {
                return Err(ItemRefusal::Outdated);
            }
        }
        if !item.is_genuine() {
            return Err(ItemRefusal::Forged);
        }
        if let Some((stored, _)) = self.items.remove(&target) {
            self.ages.remove(&(stored, target));
        } else if self.items.len() >= ITEMS_MAX
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.items.remove(&oldest);
        }
        self.items.insert(target, (now, item));
        self.ages.insert((now, target));
        Ok(())
    }

    /// The item kept at a place.
    pub(super) fn get(&self, now: Time, target: NodeId) -> Option<&Item> {
        let (stored, item) = self.items.get(&target)?;
        (now.since(*stored) < ITEM_LIFETIME).then_some(item)
    }

    /// Forgets items that were not stored again for long. To be called every now and then.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some(&(stored, target)) =
            self.ages.first().filter(|(stored, _)| now.since(*stored) >= ITEM_LIFETIME)
        {
            self.ages.remove(&(stored, target));
            self.items.remove(&target);
        }
    }

    /// How many items are kept.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(1) + Duration::from_secs(seconds)
    }

    fn version(seq: i64, value: &str) -> Item {
        Item::signed(&[1; 32], b"salt".to_vec(), seq, format!("{}:{value}", value.len()).into_bytes())
    }

    #[test]
    fn what_is_signed_is_as_in_bep_44() {
        assert_eq!(signed_bytes(b"", 1, b"12:Hello World!"), b"3:seqi1e1:v12:Hello World!");
        assert_eq!(
            signed_bytes(b"foobar", 1, b"12:Hello World!"),
            b"4:salt6:foobar3:seqi1e1:v12:Hello World!"
        );
        let immutable = Item::immutable(b"12:Hello World!".to_vec());
        assert_eq!(immutable.target().to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    }

    #[test]
    fn only_the_owner_writes_and_only_forward() {
        let mut store = ItemStore::default();
        let target = version(1, "").target();
        assert_eq!(store.put(at(0), version(2, "two"), None), Ok(()));
        assert_eq!(store.put(at(0), version(2, "two"), None), Ok(()), "kept alive");
        assert_eq!(store.put(at(0), version(2, "other"), None), Err(ItemRefusal::Outdated));
        assert_eq!(store.put(at(0), version(1, "one"), None), Err(ItemRefusal::Outdated));
        assert_eq!(store.put(at(0), version(3, "three"), Some(1)), Err(ItemRefusal::CasMismatch));
        let mut forged = version(3, "three");
        forged.value = b"4:evil".to_vec();
        assert_eq!(store.put(at(0), forged, None), Err(ItemRefusal::Forged));
        assert_eq!(store.put(at(1), version(3, "three"), Some(2)), Ok(()));
        assert_eq!(store.get(at(1), target), Some(&version(3, "three")));
    }

    #[test]
    fn items_are_bounded_and_expire() {
        let mut store = ItemStore::default();
        let item = |n: u64| Item::immutable(format!("i{n}e").into_bytes());
        for n in 0..2 * ITEMS_MAX as u64 {
            store.put(at(n), item(n), None).unwrap();
        }
        assert_eq!((store.len(), store.ages.len()), (ITEMS_MAX, ITEMS_MAX));
        let last = 2 * ITEMS_MAX as u64 - 1;
        assert_eq!(store.get(at(last), item(last).target()), Some(&item(last)));
        assert_eq!(store.get(at(last), item(0).target()), None);
        assert_eq!(store.get(at(last) + ITEM_LIFETIME, item(last).target()), None);
        store.expire(at(last) + ITEM_LIFETIME);
        assert_eq!((store.len(), store.ages.len()), (0, 0));
    }
}
