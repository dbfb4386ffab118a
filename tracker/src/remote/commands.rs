//! What an announce and a scrape say to the store, and what it answers. Pure: bytes in, bytes out.
//!
//! A swarm is a sorted set for each address family. A member is a peer, its address and port as in a compact
//! reply. A score is when it last announced, in seconds on the store's clock, and below zero for a seed. So a
//! set begins with its seeds, and whoever has been silent for too long is around zero. A key ends by itself
//! when nobody has announced for as long as a peer is listed.
//!
//! Commands and no script: a script takes the store three times as long. So a command cannot depend on what
//! another one says, and what has to be known before comes from the last reply about that swarm, its
//! [`View`]. In a swarm of many peers seeds and the other family are counted once a second; whoever announces
//! meanwhile is listed and told of peers that were named within that second ([`Recent`](super::recent)),
//! which takes three commands.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use redis::{Pipeline, ServerError, Value};
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_core::tracker::ScrapeStats;

/// From so many peers for each one wanted, they are taken from several places of a swarm.
const STRETCHES_FROM: usize = 8;
const STRETCHES: usize = 5;
/// From so many peers on it does not matter to whom just came by how many they are more within a second.
const MANY_PEERS: u32 = 30;
/// How long a count serves.
const COUNT_S: u64 = 1;

/// What the last reply of the store said about a swarm, in each address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub v4: FamilyView,
    pub v6: FamilyView,
    pub downloaded: u32,
}

/// How large a swarm was in one address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FamilyView {
    /// Zero if it is not known.
    pub peers: u32,
    pub seeds: u32,
    /// When we last took out who had been silent, on the store's clock.
    pub swept_s: u64,
    /// When an announce of this family last counted the swarm, on the store's clock.
    pub counted_s: u64,
}

impl FamilyView {
    /// Whether it does not matter to whom just came by what the swarm is another within a second.
    pub fn is_large(&self) -> bool {
        self.peers >= MANY_PEERS
    }
}

impl View {
    /// Peers in both families.
    fn stats(&self) -> ScrapeStats {
        let leechers = |family: &FamilyView| family.peers.saturating_sub(family.seeds);
        ScrapeStats {
            complete: self.v4.seeds.saturating_add(self.v6.seeds),
            incomplete: leechers(&self.v4).saturating_add(leechers(&self.v6)),
            downloaded: self.downloaded,
        }
    }

    pub fn of(&mut self, family: Family) -> &mut FamilyView {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// How a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Leecher,
    Seed,
    /// It leaves.
    Stops,
}

/// A peer's announce.
#[derive(Clone, Debug)]
pub(super) struct Announce {
    pub info_hash: InfoHash,
    pub addr: SocketAddr,
    pub standing: Standing,
    /// It has finished just now, as far as is known for the first time.
    pub completed: bool,
    /// There is no room: it is listed only if it is listed already.
    pub no_room: bool,
    /// How many peers to tell of.
    pub want: usize,
    pub leechers_only: bool,
    pub timeout_s: u64,
    pub view: View,
    /// Decides where in a large swarm peers are taken from.
    pub random: u64,
}

/// What the store answers to an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub listed: bool,
    pub stats: ScrapeStats,
    /// Peers in the family of who asked.
    pub peers: Vec<SocketAddr>,
    pub view: View,
}

/// What the store says instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub code: String,
    pub message: String,
}

impl Refused {
    pub fn new(error: &ServerError) -> Refused {
        let message = match error.details() {
            Some(details) => format!("{} {details}", error.code()),
            None => error.code().to_owned(),
        };
        Refused { code: error.code().to_owned(), message }
    }

    fn strange() -> Refused {
        Refused {
            code: "ERR".into(),
            message: "it gives answers that make no sense; is it Redis 6.2 or newer?".into(),
        }
    }
}

/// A swarm's key in one address family. What is in braces decides which node of a cluster has it.
pub(super) fn key(info_hash: &InfoHash, kind: u8) -> Vec<u8> {
    [b"swarm:{.", &info_hash.0[..], b"}", &[kind]].concat()
}

fn kind(family: Family) -> u8 {
    match family {
        Family::V4 => b'4',
        Family::V6 => b'6',
    }
}

fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

/// How often a torrent was downloaded.
const DOWNLOADED: u8 = b'd';

pub(super) fn member(addr: SocketAddr) -> Vec<u8> {
    let port = addr.port().to_be_bytes();
    match addr.ip() {
        IpAddr::V4(ip) => [&ip.octets()[..], &port].concat(),
        IpAddr::V6(ip) => [&ip.octets()[..], &port].concat(),
    }
}

fn peer(member: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = member.split_at_checked(member.len().checked_sub(2)?)?;
    let ip: IpAddr = match ip.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().ok()?)))
}

/// Ranks `from..=to` of a sorted set.
type Ranks = (usize, usize);

impl Announce {
    fn family(&self) -> Family {
        Family::of_ip(self.addr.ip())
    }

    /// The swarm in the family of who asks.
    fn own(&self) -> FamilyView {
        let mut view = self.view;
        *view.of(self.family())
    }

    /// Whether it is time to take out who is silent: now and then, not with each announce.
    fn sweeps(&self, now_s: u64) -> bool {
        self.own().swept_s + self.timeout_s / 16 <= now_s
    }

    /// Whether it is time to count seeds, peers of the other family and downloads.
    fn counts(&self, now_s: u64) -> bool {
        let (own, is_special) = (self.own(), self.no_room || self.completed);
        is_special || !own.is_large() || own.counted_s + COUNT_S <= now_s
    }

    fn is_told(&self) -> bool {
        self.want > 0 && self.standing != Standing::Stops
    }

    /// Whether to ask for leechers by what they are: where they begin changes with each seed, which matters
    /// in a small swarm.
    fn by_score(&self) -> bool {
        let own = self.own();
        let leechers = own.peers.saturating_sub(own.seeds) as usize;
        self.leechers_only && leechers <= self.want + 1
    }

    /// Which peers to ask for in a swarm as large as it was last. One more than wanted, who may be the peer
    /// itself.
    fn ranks(&self) -> Vec<Ranks> {
        let want = self.want + 1;
        let own = self.own();
        let first = if self.leechers_only { own.seeds as usize } else { 0 };
        let all = (own.peers as usize).saturating_sub(first);
        if all <= want {
            return vec![(first, first + want - 1)];
        }
        let stretches = if all < STRETCHES_FROM * want { 1 } else { STRETCHES };
        let len = want.div_ceil(stretches);
        let start = (self.random % all as u64) as usize;
        let mut ranks = Vec::with_capacity(2 * stretches);
        for nth in 0..stretches {
            let from = (start + nth * all / stretches) % all;
            let to = from + len - 1;
            ranks.push((first + from, first + to.min(all - 1)));
            if to >= all {
                ranks.push((first, first + to - all));
            }
        }
        ranks
    }

    /// Appends the commands.
    pub fn ask(&self, now_s: u64, out: &mut Pipeline) {
        let member = member(self.addr);
        let (own, others) =
            (key(&self.info_hash, kind(self.family())), key(&self.info_hash, kind(other(self.family()))));
        let (downloaded, since) =
            (key(&self.info_hash, DOWNLOADED), now_s.saturating_sub(self.timeout_s) as i64);
        if self.sweeps(now_s) {
            out.cmd("ZREMRANGEBYSCORE").arg(&own).arg(format!("({}", -since)).arg(format!("({since}"));
        }
        let score = if self.standing == Standing::Seed { -(now_s as i64) } else { now_s as i64 };
        match self.standing {
            Standing::Stops => {
                out.cmd("ZREM").arg(&own).arg(&member);
            }
            Standing::Leecher | Standing::Seed => {
                out.cmd("ZADD").arg(&own);
                if self.no_room {
                    out.arg("XX");
                }
                out.arg(score).arg(&member);
                out.cmd("EXPIRE").arg(&own).arg(self.timeout_s);
            }
        }
        if self.no_room {
            out.cmd("ZSCORE").arg(&own).arg(&member);
        }
        if self.completed {
            out.cmd("INCR").arg(&downloaded);
        }
        out.cmd("ZCARD").arg(&own);
        if self.counts(now_s) {
            out.cmd("ZCOUNT").arg(&own).arg("-inf").arg("(0");
            out.cmd("ZCOUNT").arg(&others).arg("-inf").arg(-since);
            out.cmd("ZCOUNT").arg(&others).arg(since).arg("+inf");
            out.cmd("GETEX").arg(&downloaded).arg("EX").arg(self.timeout_s + COUNT_S);
        }
        if !self.is_told() {
        } else if self.by_score() {
            let (limit, offset) = (self.want + 1, 0);
            out.cmd("ZRANGE").arg(&own).arg("(0").arg("+inf").arg("BYSCORE");
            out.arg("LIMIT").arg(offset).arg(limit);
        } else if self.own().peers > 0 {
            for (from, to) in self.ranks() {
                out.cmd("ZRANGE").arg(&own).arg(from).arg(to);
            }
        } else {
            out.cmd("ZRANDMEMBER").arg(&own).arg(self.want + 1);
        }
    }

    /// Takes the answers to its commands.
    pub fn answer(&self, now_s: u64, answers: &mut Answers) -> Result<Told, Refused> {
        let mut view = self.view;
        let own = view.of(self.family());
        if self.sweeps(now_s) {
            answers.number()?;
            own.swept_s = now_s;
        }
        answers.number()?;
        if self.standing != Standing::Stops {
            answers.number()?;
        }
        let known = if self.no_room { answers.next()? != Value::Nil } else { true };
        if self.completed {
            answers.number()?;
        }
        own.peers = answers.number()?;
        if self.counts(now_s) {
            own.seeds = answers.number()?;
            own.counted_s = now_s;
            let others = view.of(other(self.family()));
            others.seeds = answers.number()?;
            others.peers = others.seeds.saturating_add(answers.number()?);
            view.downloaded = answers.number()?;
        }
        let mut peers = Vec::with_capacity(if self.is_told() { self.want + 1 } else { 0 });
        let parts = match self.own().peers {
            _ if !self.is_told() => 0,
            peers if peers > 0 && !self.by_score() => self.ranks().len(),
            _ => 1,
        };
        for _ in 0..parts {
            answers.peers(&mut peers)?;
        }
        peers.retain(|peer| *peer != self.addr);
        peers.truncate(self.want);
        let listed = known && self.standing != Standing::Stops;
        Ok(Told { listed, stats: view.stats(), peers, view })
    }
}

/// How large a swarm is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scrape {
    pub info_hash: InfoHash,
    pub timeout_s: u64,
}

impl Scrape {
    /// Appends the commands.
    pub fn ask(&self, now_s: u64, out: &mut Pipeline) {
        let since = now_s.saturating_sub(self.timeout_s) as i64;
        for family in [Family::V4, Family::V6] {
            let key = key(&self.info_hash, kind(family));
            out.cmd("ZCOUNT").arg(&key).arg("-inf").arg(-since);
            out.cmd("ZCOUNT").arg(&key).arg(since).arg("+inf");
        }
        out.cmd("GET").arg(key(&self.info_hash, DOWNLOADED));
    }

    /// Takes the answers to its commands.
    pub fn answer(&self, answers: &mut Answers) -> Result<ScrapeStats, Refused> {
        let mut stats = ScrapeStats::default();
        for _ in 0..2 {
            stats.complete = stats.complete.saturating_add(answers.number()?);
            stats.incomplete = stats.incomplete.saturating_add(answers.number()?);
        }
        stats.downloaded = answers.number()?;
        Ok(stats)
    }
}

/// A peer that announced a while ago, whatever the store has heard since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Earlier {
    pub addr: SocketAddr,
    pub seed: bool,
    /// Seconds since it announced.
    pub age_s: u32,
}

/// Lists peers of one family that announced while the store was away. Of those that it has listed as what
/// they are, a leecher or a seed, the later time counts.
pub(super) fn restore(
    info_hash: &InfoHash,
    peers: &[Earlier],
    now_s: u64,
    timeout_s: u64,
    out: &mut Pipeline,
) {
    let Some(first) = peers.first() else { return };
    let key = key(info_hash, kind(Family::of_ip(first.addr.ip())));
    for seed in [false, true] {
        let of_kind: Vec<_> = peers.iter().filter(|peer| peer.seed == seed).collect();
        if of_kind.is_empty() {
            continue;
        }
        // Further from zero is later.
        out.cmd("ZADD").arg(&key).arg(if seed { "LT" } else { "GT" });
        for peer in of_kind {
            let time = now_s.saturating_sub(u64::from(peer.age_s)) as i64;
            out.arg(if seed { -time } else { time }).arg(member(peer.addr));
        }
    }
    out.cmd("EXPIRE").arg(&key).arg(timeout_s);
}

/// How often a torrent was downloaded, for a store that has forgotten it.
pub(super) fn restore_downloaded(info_hash: &InfoHash, downloaded: u32, timeout_s: u64, out: &mut Pipeline) {
    if downloaded > 0 {
        out.cmd("SET").arg(key(info_hash, DOWNLOADED)).arg(downloaded).arg("NX").arg("EX").arg(timeout_s);
    }
}

/// Whether [`restore_downloaded`] is allowed; changes nothing.
pub(super) fn try_to_set(out: &mut Pipeline) {
    out.cmd("SET").arg(key(&InfoHash([0; 20]), DOWNLOADED)).arg(0).arg("XX").arg("EX").arg(1);
}

/// Takes peers of one family out.
pub(super) fn forget(info_hash: &InfoHash, peers: &[SocketAddr], out: &mut Pipeline) {
    let Some(first) = peers.first() else { return };
    out.cmd("ZREM").arg(key(info_hash, kind(Family::of_ip(first.ip()))));
    for peer in peers {
        out.arg(member(*peer));
    }
}

/// Answers to commands, in their order.
pub(super) struct Answers(VecDeque<Value>);

impl Answers {
    pub fn new(answers: Vec<Value>) -> Answers {
        Answers(answers.into())
    }

    /// The next `count` of them.
    pub fn take(&mut self, count: usize) -> Answers {
        Answers(self.0.drain(..count.min(self.0.len())).collect())
    }

    /// That none of them is a refusal.
    pub fn all_well(self) -> Result<(), Refused> {
        self.0
            .into_iter()
            .find_map(|answer| match answer {
                Value::ServerError(error) => Some(Refused::new(&error)),
                _ => None,
            })
            .map_or(Ok(()), Err)
    }

    pub fn next(&mut self) -> Result<Value, Refused> {
        match self.0.pop_front() {
            Some(Value::ServerError(error)) => Err(Refused::new(&error)),
            Some(value) => Ok(value),
            None => Err(Refused::strange()),
        }
    }

    pub fn number(&mut self) -> Result<u32, Refused> {
        let number = match self.next()? {
            Value::Nil => 0,
            Value::Int(number) => number.max(0) as u64,
            Value::BulkString(text) => std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(Refused::strange)?,
            _ => return Err(Refused::strange()),
        };
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// The answer to `TIME`: seconds since 1970.
    pub fn time(&mut self) -> Result<u64, Refused> {
        let Value::Array(parts) = self.next()? else { return Err(Refused::strange()) };
        match parts.first() {
            Some(Value::BulkString(text)) => {
                std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
            }
            _ => None,
        }
        .ok_or_else(Refused::strange)
    }

    fn peers(&mut self, out: &mut Vec<SocketAddr>) -> Result<(), Refused> {
        let Value::Array(members) = self.next()? else { return Err(Refused::strange()) };
        out.extend(members.iter().filter_map(|member| match member {
            Value::BulkString(member) => peer(member),
            _ => None,
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
