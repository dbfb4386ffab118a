//! A store's swarms as bytes, so that a tracker that restarts knows them.
//!
//! `MAGIC`, the version, and the time of day; then each swarm after a byte 1; then a byte 0 and the SHA-256
//! of everything before. Numbers are big-endian. Times are ages in seconds, so that they hold for any clock.

use std::hash::Hash;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

use sha2::{Digest, Sha256};
use swarm_core::id::{InfoHash, PeerId};
use swarm_core::time::Time;

use super::peers::{Announced, Peers};
use super::swarm::{AsPeers, Swarm};
use super::{Store, lock, seconds, seen_since_s};
use crate::config::Limits;

const MAGIC: &[u8; 16] = b"swarm-tracker \r\n";
const VERSION: u16 = 1;
const SEED: u8 = 1;
const COMPLETED: u8 = 2;

/// Why saved swarms cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// They cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it was not written by swarm-tracker")]
    Foreign,
    /// Another version of this program wrote it.
    #[error("its format is version {0}, and this program knows {VERSION} only")]
    Version(u16),
    /// It is cut short, or not what was written.
    #[error("it is damaged")]
    Damaged,
}

/// What was taken of saved swarms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Peers that are listed again.
    pub peers: usize,
    /// Seconds since they were saved.
    pub away_s: u64,
}

impl Store {
    /// Writes all swarms. `unix_s` is the time of day, in seconds since 1970. Takes one shard at a time, and
    /// memory in proportion to the largest.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save(&self, now: Time, unix_s: u64, out: &mut impl Write) -> io::Result<()> {
        let (mut sum, mut bytes) = (Sha256::new(), Vec::new());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&unix_s.to_be_bytes());
        let now_s = seconds(now);
        for shard in &self.shards {
            for (hash, swarm) in &*lock(shard) {
                encode(now_s, hash, swarm, &mut bytes);
            }
            sum.update(&bytes);
            out.write_all(&bytes)?;
            bytes.clear();
        }
        bytes.push(0);
        sum.update(&bytes);
        out.write_all(&bytes)?;
        out.write_all(&sum.finalize())
    }

    /// Takes swarms that were saved, as far as the limits allow, without peers that have been silent for too
    /// long by now. To be called before the first announce.
    ///
    /// # Errors
    /// When they are not all there as they were saved. The store is empty then.
    pub fn load(&self, now: Time, unix_s: u64, saved: impl Read) -> Result<Loaded, LoadError> {
        let loaded = self.read(now, unix_s, Summed { saved, sum: Sha256::new() });
        if loaded.is_err() {
            self.retain(|_, _| false);
        }
        loaded
    }

    fn read(&self, now: Time, unix_s: u64, mut saved: Summed<impl Read>) -> Result<Loaded, LoadError> {
        let foreign = |error| match error {
            LoadError::Damaged => LoadError::Foreign,
            other => other,
        };
        if saved.take().map_err(foreign)? != *MAGIC {
            return Err(LoadError::Foreign);
        }
        let version = u16::from_be_bytes(saved.take()?);
        if version != VERSION {
            return Err(LoadError::Version(version));
        }
        // A clock that was set back says nothing of how long it was.
        let away_s = unix_s.saturating_sub(u64::from_be_bytes(saved.take()?));
        let rules = self.rules();
        let mut reader = Reader {
            store: self,
            limits: &rules.config.limits,
            before_s: seen_since_s(now, rules.config.peer_timeout),
            saved_at_s: seconds(now).saturating_sub(u32::try_from(away_s).unwrap_or(u32::MAX)),
            saved,
        };
        while reader.saved.take::<1>()? == [1] {
            let hash = InfoHash(reader.saved.take()?);
            let swarm = reader.swarm()?;
            if rules.allow(&hash) {
                reader.keep(hash, swarm);
            }
        }
        reader.saved.end()?;
        Ok(Loaded { peers: self.peers.load(Ordering::Relaxed), away_s })
    }
}

fn encode(now_s: u32, hash: &InfoHash, swarm: &Swarm, out: &mut Vec<u8>) {
    out.push(1);
    out.extend_from_slice(&hash.0);
    out.extend_from_slice(&swarm.downloaded.to_be_bytes());
    out.extend_from_slice(&now_s.saturating_sub(swarm.touched_s).to_be_bytes());
    encode_peers(now_s, &swarm.v4, Ipv4Addr::octets, out);
    encode_peers(now_s, &swarm.v6, Ipv6Addr::octets, out);
}

fn encode_peers<A, const N: usize>(now_s: u32, peers: &Peers<A>, octets: fn(&A) -> [u8; N], out: &mut Vec<u8>)
where
    A: Copy + Eq + Hash + Into<IpAddr>,
{
    let announced = || peers.iter().filter(|(.., peer)| !peer.heard);
    out.extend_from_slice(&(announced().count() as u32).to_be_bytes());
    for (seen_s, ip, peer) in announced() {
        out.extend_from_slice(&now_s.saturating_sub(seen_s).to_be_bytes());
        out.extend_from_slice(&octets(&ip));
        out.extend_from_slice(&peer.port.to_be_bytes());
        out.extend_from_slice(&peer.id.0);
        let (seed, completed) =
            (if peer.seed { SEED } else { 0 }, if peer.completed { COMPLETED } else { 0 });
        out.push(seed | completed);
    }
}

struct Reader<'a, R> {
    store: &'a Store,
    limits: &'a Limits,
    /// Peers not seen since then are not listed.
    before_s: u32,
    /// When they were saved, on the store's clock.
    saved_at_s: u32,
    saved: Summed<R>,
}

impl<R: Read> Reader<'_, R> {
    fn swarm(&mut self) -> Result<Swarm, LoadError> {
        let downloaded = self.u32()?;
        let mut swarm = Swarm { downloaded, touched_s: self.age()?, ..Swarm::default() };
        self.peers(&mut swarm, <Ipv4Addr as From<[u8; 4]>>::from)?;
        self.peers(&mut swarm, <Ipv6Addr as From<[u8; 16]>>::from)?;
        Ok(swarm)
    }

    fn peers<A, const N: usize>(&mut self, swarm: &mut Swarm, ip: fn([u8; N]) -> A) -> Result<(), LoadError>
    where
        A: Copy + Eq + Hash + Into<IpAddr>,
        Swarm: AsPeers<A>,
    {
        for _ in 0..self.u32()? {
            let (seen_s, ip) = (self.age()?, ip(self.saved.take()?));
            let port = u16::from_be_bytes(self.saved.take()?);
            let id = PeerId(self.saved.take()?);
            let [flags] = self.saved.take()?;
            let (seed, completed) = (flags & SEED != 0, flags & COMPLETED != 0);
            let peer = Announced { port, id, seed, completed, heard: false };
            let listed = self.store.peers.load(Ordering::Relaxed) + swarm.len();
            let room = listed < self.limits.peers_max && swarm.len() < self.limits.peers_per_swarm_max;
            if room && seen_s >= self.before_s && port != 0 {
                swarm.restore(seen_s, ip, &peer, &self.store.hasher);
            }
        }
        Ok(())
    }

    fn keep(&self, hash: InfoHash, swarm: Swarm) {
        let room = self.store.swarms.load(Ordering::Relaxed) < self.limits.swarms_max;
        let mut shard = self.store.shard(&hash);
        // An empty one has nobody to answer for it.
        if !room || swarm.len() == 0 || shard.contains_key(&hash) {
            return;
        }
        self.store.swarms.fetch_add(1, Ordering::Relaxed);
        self.store.count_peers(0, swarm.len());
        self.store.note_standing(&hash, None, Some(swarm.standing()));
        shard.insert(hash, swarm);
    }

    fn u32(&mut self) -> Result<u32, LoadError> {
        Ok(u32::from_be_bytes(self.saved.take()?))
    }

    /// An age, as a time on the store's clock.
    fn age(&mut self) -> Result<u32, LoadError> {
        Ok(self.saved_at_s.saturating_sub(self.u32()?))
    }
}

/// Bytes with the sum of what has been read of them.
struct Summed<R> {
    saved: R,
    sum: Sha256,
}

impl<R: Read> Summed<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let mut bytes = [0; N];
        self.saved.read_exact(&mut bytes).map_err(cut_short)?;
        self.sum.update(bytes);
        Ok(bytes)
    }

    /// Checks that nothing is left but the right sum.
    fn end(mut self) -> Result<(), LoadError> {
        let mut expected = [0; 32];
        self.saved.read_exact(&mut expected).map_err(cut_short)?;
        let is_all = self.saved.read(&mut [0]).map_err(LoadError::Io)? == 0;
        if self.sum.finalize()[..] == expected && is_all { Ok(()) } else { Err(LoadError::Damaged) }
    }
}

fn cut_short(error: io::Error) -> LoadError {
    match error.kind() {
        ErrorKind::UnexpectedEof => LoadError::Damaged,
        _ => LoadError::Io(error),
    }
}
