//! Web seeds (BEP 19): what may be asked of each, how much at a time, and what its faults cost it.
//!
//! A web seed is to the picker what a peer is: it has a key, is asked for blocks and can be blamed for them. One *fetch* is a run of
//! blocks, which the shell asks for in as many requests as the run touches files. This module knows one URL at a time; which
//! pieces a fetch takes is the picker's part, and when web seeds are used at all is the torrent's.

mod fault;
mod location;
#[cfg(test)]
mod tests;
mod turns;

use crate::bitfield::Bitfield;
use crate::geometry::Geometry;
use crate::id::{BlockRef, PeerKey, PieceIndex};
use crate::rate::RateMeter;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use fault::Blamed;
pub use fault::{Fault, Penalty};
pub use location::{file_url, parse_url};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
pub use turns::{Place, QUIET, SLOT, Turns};

/// How many web seeds a torrent uses; more are passed over.
pub const WEB_SEEDS_MAX: usize = 100;
/// How many fetches one URL serves at a time, where requests are for small files, ...
pub const FETCHES_MAX: usize = 16;
/// ... and where they are for large ones. While peers serve the rest it is one: what each of many downloaders has asked for and not got is
/// nobody's yet, and may come twice.
pub const FETCHES_LARGE: usize = 4;
/// Requests for fewer bytes than this, in the mean, are small.
const SMALL_REQUEST: u64 = 256 * 1024;
/// How much a URL is asked for before a piece of its has been verified, unless pieces are larger.
pub const PROBE_LEN: u64 = 256 * 1024;
/// How much is outstanding at a URL at the most, and at the least.
const OUTSTANDING: Range<u64> = 4 << 20..16 << 20;
/// The same while peers serve the rest, unless pieces are larger...
pub(crate) const RUN_BESIDE_PEERS: Range<u64> = 256 << 10..4 << 20;
/// ... and as time at the rate of the last fetch.
const RUN_TIME: Duration = Duration::from_millis(250);
/// How much should be outstanding, as time at the present rate.
const QUEUE_TIME: Duration = Duration::from_secs(2);
/// The shortest fetch. A slow server gets short ones, so that others can have the rest.
const FETCH_LEN_MIN: u64 = 64 * 1024;
/// A fetch for which no block has come for so long is given up.
pub const SILENT_AFTER: Duration = Duration::from_secs(30);
/// The same while another web seed has nothing to do.
pub const OVERDUE: Duration = Duration::from_secs(5);
/// A fetch that would take longer than this from now on is given up if others could serve it...
const TOO_SLOW: Duration = Duration::from_secs(120);
/// ... once it has gone on for so long.
const SLOW_AFTER: Duration = Duration::from_secs(15);
/// The first pause of a URL; each is twice the one before...
const PAUSE_FIRST: Duration = Duration::from_secs(2);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// No server is left alone for longer, whatever it says.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// The first pause of a file at a URL; each is twice the one before...
const FILE_PAUSE_FIRST: Duration = Duration::from_secs(300);
/// ... up to this.
const FILE_PAUSE_MAX: Duration = Duration::from_secs(4 * 3_600);
/// So many files in a row that cannot be had pause the URL.
pub const FILE_FAULTS_MAX: u32 = 8;

/// A fetch that is under way. Never reused within a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// A web seed of a torrent, counted from zero in the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebSeedIndex(pub u32);

/// A run of blocks that is being fetched.
#[derive(Debug)]
pub(crate) struct Fetch {
    /// Those that have not come, in the order in which they are asked for.
    pub(crate) blocks: VecDeque<BlockRef>,
    started_at: Time,
    heard_at: Time,
    received: u64,
    /// What has come that lies before its blocks.
    skipped: u64,
}

impl Fetch {
    fn outstanding(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.len)).sum()
    }

    /// What has come per second since it was asked for.
    fn rate(&self, now: Time) -> u64 {
        (self.received + self.skipped) * 1_000_000 / (now.since(self.started_at).as_micros() as u64).max(1)
    }
}

/// A file that could not be had from a URL.
#[derive(Debug)]
struct LostFile {
    /// The pieces that it has a part in.
    pieces: Range<u32>,
    failures: u32,
    /// `None`: for good.
    until: Option<Time>,
}

/// How a web seed stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is asked of it now.
    Idle,
    /// It is being asked.
    Fetching,
    /// It is left alone until then.
    Paused(Time),
    /// It is not asked any more.
    Dropped,
}

/// One URL.
#[derive(Debug)]
pub struct WebSeed {
    key: PeerKey,
    /// The pieces that may be asked of it.
    have: Bitfield,
    /// By where the file starts in the torrent's bytes.
    lost_files: BTreeMap<u64, LostFile>,
    file_faults: u32,
    failures: u32,
    paused_until: Option<Time>,
    dropped: bool,
    last_fault: Option<Fault>,
    /// A piece with blocks of its has been verified.
    proven: bool,
    /// It is this machine, which has the same bytes in other files.
    is_local: bool,
    /// It sends files from their starts only.
    in_order: bool,
    pub(crate) fetches: BTreeMap<FetchId, Fetch>,
    /// The piece after the last one that it was asked for.
    next_piece: Option<PieceIndex>,
    rate: RateMeter,
    /// The rate at the last block.
    rate_known: u64,
    /// The rate of the fetch that last brought a block, in bytes/s.
    fetch_rate: u64,
    bytes: u64,
    requests: u64,
}

impl WebSeed {
    /// A URL of which nothing is known, in a torrent of so many pieces.
    pub fn new(index: WebSeedIndex, pieces: u32) -> WebSeed {
        WebSeed {
            // The keys below are for connections, those above for nobody.
            key: PeerKey(u32::MAX - 1 - index.0),
            have: Bitfield::full(pieces),
            lost_files: BTreeMap::new(),
            file_faults: 0,
            failures: 0,
            paused_until: None,
            dropped: false,
            last_fault: None,
            proven: false,
            is_local: false,
            in_order: false,
            fetches: BTreeMap::new(),
            next_piece: None,
            rate: RateMeter::default(),
            rate_known: 0,
            fetch_rate: 0,
            bytes: 0,
            requests: 0,
        }
    }

    /// Other files on this machine that have some of the pieces.
    pub(crate) fn local(index: WebSeedIndex, pieces: u32) -> WebSeed {
        WebSeed { have: Bitfield::empty(pieces), proven: true, is_local: true, ..WebSeed::new(index, pieces) }
    }

    /// Whether these are [local pieces](crate::torrent::Torrent::set_local_pieces).
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// These pieces may be asked of it.
    pub(crate) fn set_have(&mut self, pieces: Bitfield) {
        self.have = pieces;
    }

    /// What the picker knows it by.
    pub fn key(&self) -> PeerKey {
        self.key
    }

    /// The pieces that may be asked of it.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// How it stands.
    pub fn standing(&self, now: Time) -> Standing {
        match self.paused_until {
            _ if self.dropped => Standing::Dropped,
            _ if !self.fetches.is_empty() => Standing::Fetching,
            Some(until) if until > now => Standing::Paused(until),
            _ => Standing::Idle,
        }
    }

    /// Whether it is not asked any more.
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// What was last wrong with it.
    pub fn last_fault(&self) -> Option<&Fault> {
        self.last_fault.as_ref()
    }

    /// Payload received from it, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Requests that it has answered.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Payload received from it per second, now.
    pub fn bytes_per_s(&self, now: Time) -> u64 {
        self.rate.bytes_per_s(now)
    }

    /// The same when it was last asked.
    pub fn rate_known(&self) -> u64 {
        self.rate_known
    }

    /// The piece after the last one that it was asked for.
    pub(crate) fn next_piece(&self) -> Option<PieceIndex> {
        self.next_piece
    }

    /// Whether it sends files from their starts only: what it is asked for goes on where the last run ended, if it can.
    pub(crate) fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// How many files cannot be had there, for now or for good.
    pub fn lost_files(&self) -> usize {
        self.lost_files.len()
    }

    /// When the first of these is asked for there again; `None` if none will be.
    pub fn lost_until(&self) -> Option<Time> {
        self.lost_files.values().filter_map(|file| file.until).filter(|until| *until != Time::MAX).min()
    }

    /// Blocks that are outstanding.
    pub(crate) fn outstanding_blocks(&self) -> usize {
        self.fetches.values().map(|fetch| fetch.blocks.len()).sum()
    }

    /// For how long nothing of what is outstanding has come.
    pub(crate) fn silence(&self, now: Time) -> Duration {
        self.fetches.values().map(|fetch| now.since(fetch.heard_at)).min().unwrap_or_default()
    }

    fn outstanding(&self) -> u64 {
        self.fetches.values().map(Fetch::outstanding).sum()
    }

    /// How many bytes the next fetch may take; `None`: there is to be none now.
    pub fn room(&self, now: Time, piece_len: u32, beside_peers: bool) -> Option<u64> {
        if self.dropped || self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        if !self.proven {
            return self.fetches.is_empty().then_some(PROBE_LEN.max(u64::from(piece_len)));
        }
        if beside_peers {
            return self.fetches.is_empty().then(|| self.run_beside_peers(piece_len));
        }
        let fetches_max = match () {
            () if self.in_order => 1,
            () if self.bytes / self.requests.max(1) < SMALL_REQUEST => FETCHES_MAX,
            () => FETCHES_LARGE,
        };
        if self.fetches.len() >= fetches_max {
            return None;
        }
        let wanted =
            self.rate_known.saturating_mul(QUEUE_TIME.as_secs()).clamp(OUTSTANDING.start, OUTSTANDING.end);
        let fetch_len = (wanted / fetches_max as u64).max(FETCH_LEN_MIN);
        (self.outstanding() + fetch_len <= wanted).then_some(fetch_len)
    }

    /// How many bytes a fetch takes while peers serve the rest.
    pub(crate) fn run_beside_peers(&self, piece_len: u32) -> u64 {
        let run = self.fetch_rate.saturating_mul(RUN_TIME.as_micros() as u64) / 1_000_000;
        run.clamp(RUN_BESIDE_PEERS.start, RUN_BESIDE_PEERS.end).max(piece_len.into())
    }

    /// Blocks are asked of it.
    pub(crate) fn started(&mut self, now: Time, id: FetchId, blocks: Vec<BlockRef>) {
        self.next_piece = blocks.last().map(|block| PieceIndex(block.piece.0 + 1));
        let fetch = Fetch { blocks: blocks.into(), started_at: now, heard_at: now, received: 0, skipped: 0 };
        self.fetches.insert(id, fetch);
    }

    /// It answers a request of a fetch as it should.
    pub(crate) fn answered(&mut self, now: Time, id: FetchId) {
        self.requests += 1;
        (self.failures, self.file_faults) = (0, 0);
        self.fetches.get_mut(&id).into_iter().for_each(|fetch| fetch.heard_at = now);
    }

    /// Bytes of a fetch have come that lie before its blocks.
    pub(crate) fn skipped(&mut self, now: Time, id: FetchId, bytes: u64) {
        if let Some(fetch) = self.fetches.get_mut(&id) {
            fetch.heard_at = now;
            fetch.skipped += bytes;
        }
    }

    /// A block of a fetch has come. Whether it was asked for.
    pub(crate) fn received(&mut self, now: Time, id: FetchId, block: BlockRef) -> bool {
        let Some(fetch) = self.fetches.get_mut(&id) else { return false };
        let Some(at) = fetch.blocks.iter().position(|&asked| asked == block) else { return false };
        fetch.blocks.remove(at);
        fetch.heard_at = now;
        fetch.received += u64::from(block.len);
        self.fetch_rate = fetch.rate(now);
        self.bytes += u64::from(block.len);
        self.rate.add(now, u64::from(block.len));
        self.rate_known = self.rate.bytes_per_s(now);
        true
    }

    /// A fetch has ended. The blocks that have not come.
    pub(crate) fn ended(&mut self, id: FetchId) -> Vec<BlockRef> {
        let left: Vec<BlockRef> =
            self.fetches.remove(&id).map(|fetch| fetch.blocks.into()).unwrap_or_default();
        if !left.is_empty() && self.in_order {
            // The stream that would have gone on there has ended too.
            self.next_piece = None;
        }
        left
    }

    /// A piece with blocks of its has been verified.
    pub(crate) fn proved(&mut self) {
        self.proven = true;
    }

    /// How fast it would take over what another does not bring, if it has nothing to do.
    pub(crate) fn idle_rate(&self, now: Time) -> Option<u64> {
        (self.proven && self.standing(now) == Standing::Idle).then_some(self.rate_known)
    }

    /// The first fetch that does not get on, and why. `held`: how long we ourselves may hold things up. `idle_rate`: how fast another web seed
    /// could bring it, that has nothing to do.
    pub(crate) fn given_up(
        &self,
        now: Time,
        held: Duration,
        has_others: bool,
        idle_rate: Option<u64>,
    ) -> Option<(FetchId, Fault)> {
        let silent_after = if idle_rate.is_some() { OVERDUE } else { SILENT_AFTER };
        let is_slow = |fetch: &Fetch| {
            let (age, rate) = (now.since(fetch.started_at), fetch.rate(now));
            let takes = |rate: u64| Duration::from_secs(fetch.outstanding() / rate.max(1));
            let is_slower = idle_rate.is_some_and(|other| takes(rate) > takes(other) * 2 + OVERDUE);
            let (after, is_slower) = match has_others && takes(rate) > TOO_SLOW {
                true => (SLOW_AFTER, true),
                false => (OVERDUE, is_slower),
            };
            held.is_zero() && age >= after && is_slower
        };
        self.fetches.iter().find_map(|(&id, fetch)| {
            let silence = now.since(fetch.heard_at);
            match () {
                () if silence >= silent_after + held => {
                    Some((id, Fault::Silent { seconds: silence.as_secs() }))
                }
                () if is_slow(fetch) => Some((id, Fault::TooSlow)),
                () => None,
            }
        })
    }

    /// We have held things up ourselves: that nothing came is not its fault.
    pub(crate) fn excuse(&mut self, now: Time) {
        self.fetches.values_mut().for_each(|fetch| (fetch.heard_at, fetch.started_at) = (now, now));
    }

    /// Something is wrong: with a file, by its bytes in the torrent, if the server gave an answer for one. What it costs; `None` if that is
    /// known already.
    pub(crate) fn fault(
        &mut self,
        now: Time,
        fault: &Fault,
        file: Option<Range<u64>>,
        geometry: &Geometry,
        rng: &mut Rng,
    ) -> Option<Penalty> {
        if file.as_ref().is_some_and(|file| self.is_lost(file.start)) {
            // Another request of the same moment has met the same.
            return None;
        }
        self.last_fault = Some(fault.clone());
        if *fault == Fault::NoRanges && !self.in_order {
            (self.in_order, self.next_piece) = (true, None);
            return Some(Penalty::InOrder);
        }
        Some(self.penalty(now, fault, file, geometry, rng))
    }

    fn is_lost(&self, file_start: u64) -> bool {
        self.lost_files.get(&file_start).is_some_and(|file| file.until != Some(Time::MAX))
    }

    fn penalty(
        &mut self,
        now: Time,
        fault: &Fault,
        file: Option<Range<u64>>,
        geometry: &Geometry,
        rng: &mut Rng,
    ) -> Penalty {
        match (fault.blamed(), file) {
            (Blamed::UrlForGood, _) => {
                self.dropped = true;
                Penalty::Dropped
            }
            (Blamed::Url(retry_after), _) => self.pause(now, retry_after, rng),
            (Blamed::File | Blamed::FileForGood, None) => self.pause(now, None, rng),
            (blamed, Some(file)) => self.lose_file(now, file, blamed == Blamed::FileForGood, geometry, rng),
        }
    }

    fn pause(&mut self, now: Time, retry_after: Option<Duration>, rng: &mut Rng) -> Penalty {
        self.failures += 1;
        let pause = match retry_after {
            Some(pause) => pause.clamp(Duration::from_secs(1), RETRY_AFTER_MAX),
            None => jittered(doubled(PAUSE_FIRST, self.failures, PAUSE_MAX), rng),
        };
        self.paused_until = self.paused_until.max(Some(now + pause));
        Penalty::Paused(pause)
    }

    fn lose_file(
        &mut self,
        now: Time,
        file: Range<u64>,
        for_good: bool,
        geometry: &Geometry,
        rng: &mut Rng,
    ) -> Penalty {
        let piece_len = u64::from(geometry.piece_len());
        let pieces = (file.start / piece_len) as u32..file.end.div_ceil(piece_len) as u32;
        (pieces.start..pieces.end).for_each(|piece| _ = self.have.remove(PieceIndex(piece)));
        let lost = self.lost_files.entry(file.start).or_insert(LostFile { pieces, failures: 0, until: None });
        lost.failures += 1;
        let pause = jittered(doubled(FILE_PAUSE_FIRST, lost.failures, FILE_PAUSE_MAX), rng);
        lost.until = (!for_good).then_some(now + pause);
        self.file_faults += 1;
        if self.file_faults >= FILE_FAULTS_MAX {
            self.file_faults = 0;
            return self.pause(now, Some(pause), rng);
        }
        if for_good { Penalty::FileDropped } else { Penalty::FilePaused(pause) }
    }

    /// A piece cannot be had there.
    pub(crate) fn lacks(&mut self, piece: PieceIndex) {
        self.have.remove(piece);
    }

    /// Files that have been left alone for long enough may be asked for again.
    pub(crate) fn tick(&mut self, now: Time) {
        let is_over = |file: &LostFile| file.until.is_some_and(|until| until <= now);
        if !self.lost_files.values().any(is_over) {
            return;
        }
        for file in self.lost_files.values_mut().filter(|file| is_over(file)) {
            file.until = Some(Time::MAX);
            file.pieces.clone().for_each(|piece| _ = self.have.insert(PieceIndex(piece)));
        }
        // Some of these pieces lie in other files too.
        for file in self.lost_files.values().filter(|file| file.until != Some(Time::MAX)) {
            file.pieces.clone().for_each(|piece| _ = self.have.remove(PieceIndex(piece)));
        }
    }
}

fn doubled(first: Duration, nth: u32, max: Duration) -> Duration {
    max.min(first * 2_u32.saturating_pow(nth.saturating_sub(1).min(16)))
}

/// Between three quarters and five quarters of it, so that many clients do not come back at once.
fn jittered(pause: Duration, rng: &mut Rng) -> Duration {
    let micros = pause.as_micros() as u64;
    Duration::from_micros(micros * 3 / 4 + rng.below(micros / 2 + 1))
}
