//! Local service discovery (BEP 14): torrents are announced to a multicast group, and whoever has them too connects.
//!
//! [`LocalDiscovery`] decides what is announced when, and which announcements of others are of interest. It is
//! pure: the shell has the sockets. Call [`add`](LocalDiscovery::add), [`remove`](LocalDiscovery::remove) or
//! [`handle_timeout`](LocalDiscovery::handle_timeout), send what
//! [`poll_announcement`](LocalDiscovery::poll_announcement) gives, and come back at
//! [`poll_timeout`](LocalDiscovery::poll_timeout).
//!
//! A datagram costs its length, of which at most [`LSD_DATAGRAM_LEN_MAX`] bytes are read, and a look-up for each of at most
//! [`INFO_HASHES_MAX`] torrents that it names. It makes us keep a number for its host, for [`HEARD_WINDOW`] and at most [`HOSTS_MAX`]
//! hosts, and one address in each torrent of ours that it names. More than [`HEARD_MAX`] of one host in that time are not read.

use crate::id::InfoHash;
use crate::time::{Duration, Time};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of both groups.
pub const LSD_PORT: u16 = 6771;
/// The group of IPv4.
pub const LSD_GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
/// The group of IPv6.
pub const LSD_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);
/// The longest datagram that is read or written, in bytes: what every link carries in one piece.
pub const LSD_DATAGRAM_LEN_MAX: usize = 1_400;
/// How often a torrent is announced.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How long after an announcement the same torrent is announced again at the soonest.
pub const ANNOUNCE_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// How long after a datagram the next one is sent at the soonest, however many torrents there are.
pub const DATAGRAM_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How many datagrams of one host are read in [`HEARD_WINDOW`].
pub const HEARD_MAX: u32 = 20;
/// The time that [`HEARD_MAX`] is for.
pub const HEARD_WINDOW: Duration = Duration::from_secs(10);
/// How many hosts are counted; in the same time nobody else is listened to.
pub const HOSTS_MAX: usize = 256;
/// How many torrents are named in one datagram.
pub const INFO_HASHES_MAX: usize = 20;
/// How long a cookie may be, in bytes.
const COOKIE_LEN_MAX: usize = 64;

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where its sender listens for peers.
    pub port: u16,
    /// Which torrents it has, at most [`INFO_HASHES_MAX`].
    pub info_hashes: Vec<InfoHash>,
    /// What its sender knows its own datagrams by.
    pub cookie: Option<String>,
}

impl Announcement {
    /// As it is sent to this group.
    pub fn encode(&self, group: IpAddr) -> Vec<u8> {
        let host = SocketAddr::new(group, LSD_PORT);
        let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {host}\r\nPort: {}\r\n", self.port);
        for info_hash in &self.info_hashes {
            // Writing to a string cannot fail.
            let _ = write!(text, "Infohash: {info_hash}\r\n");
        }
        if let Some(cookie) = &self.cookie {
            let _ = write!(text, "cookie: {cookie}\r\n");
        }
        text.push_str("\r\n\r\n");
        text.into_bytes()
    }

    /// Reads a datagram; `None` if it is not an announcement of a torrent.
    pub fn decode(datagram: &[u8]) -> Option<Announcement> {
        let text = std::str::from_utf8(datagram).ok().filter(|text| text.len() <= LSD_DATAGRAM_LEN_MAX)?;
        let mut lines = text.lines();
        lines.next().filter(|line| line.trim_end() == "BT-SEARCH * HTTP/1.1")?;
        let (mut port, mut info_hashes, mut cookie) = (None, Vec::new(), None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "port" => port = value.parse().ok().filter(|&port: &u16| port != 0),
                "infohash" if info_hashes.len() < INFO_HASHES_MAX => {
                    info_hashes.extend(value.parse::<InfoHash>())
                }
                "cookie" if value.len() <= COOKIE_LEN_MAX => cookie = Some(value.to_owned()),
                _ => {}
            }
        }
        let port = port.filter(|_| !info_hashes.is_empty())?;
        Some(Announcement { port, info_hashes, cookie })
    }
}

/// The torrents of one session on the local network.
#[derive(Debug)]
pub struct LocalDiscovery {
    port: u16,
    cookie: String,
    /// When each torrent was announced last, if it was, and is to be announced next.
    swarms: BTreeMap<InfoHash, Schedule>,
    announcement: Option<Announcement>,
    /// No datagram is sent before.
    not_before: Option<Time>,
    /// How many datagrams came from each host in the present [`HEARD_WINDOW`].
    heard: BTreeMap<IpAddr, u32>,
    heard_until: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    last: Option<Time>,
    /// `None` once the torrent is removed.
    next: Option<Time>,
}

impl LocalDiscovery {
    /// For a session whose peers listen on this port. The cookie tells its own datagrams from those of others.
    pub fn new(port: u16, cookie: u64) -> LocalDiscovery {
        LocalDiscovery {
            port,
            cookie: format!("{cookie:016x}"),
            swarms: BTreeMap::new(),
            announcement: None,
            not_before: None,
            heard: BTreeMap::new(),
            heard_until: None,
        }
    }

    /// From now on this torrent is announced: at once, unless it was a moment ago.
    pub fn add(&mut self, now: Time, info_hash: InfoHash) {
        let schedule = self.swarms.entry(info_hash).or_insert(Schedule { last: None, next: None });
        schedule.next = Some(schedule.last.map_or(now, |last| now.max(last + ANNOUNCE_INTERVAL_MIN)));
    }

    /// This torrent is here no more. What is remembered of it ends a minute later.
    pub fn remove(&mut self, info_hash: InfoHash) {
        if let Some(schedule) = self.swarms.get_mut(&info_hash) {
            schedule.next = None;
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Time> {
        let next = self.swarms.values().filter_map(|schedule| schedule.next).min()?;
        Some(self.not_before.map_or(next, |at| next.max(at)))
    }

    /// Time has passed: announces what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        let is_over =
            |s: &Schedule| s.next.is_none() && s.last.is_none_or(|at| now.since(at) >= ANNOUNCE_INTERVAL_MIN);
        self.swarms.retain(|_, schedule| !is_over(schedule));
        let is_due = |schedule: &Schedule| schedule.next.is_some_and(|at| at <= now);
        let due = self.swarms.iter_mut().filter(|(_, schedule)| is_due(schedule)).take(INFO_HASHES_MAX);
        let info_hashes = due.map(|(info_hash, schedule)| {
            // A datagram may be lost, so that the first is followed by another.
            let pause = if schedule.last.is_none() { ANNOUNCE_INTERVAL_MIN } else { ANNOUNCE_INTERVAL };
            *schedule = Schedule { last: Some(now), next: Some(now + pause) };
            *info_hash
        });
        let info_hashes: Vec<InfoHash> = info_hashes.collect();
        self.not_before = Some(now + DATAGRAM_INTERVAL_MIN);
        let cookie = Some(self.cookie.clone());
        self.announcement = Some(Announcement { port: self.port, info_hashes, cookie });
    }

    /// What to send now, to each group.
    pub fn poll_announcement(&mut self) -> Option<Announcement> {
        self.announcement.take()
    }

    /// A datagram has come: the torrents of ours that its sender has too, and where it listens.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<(SocketAddr, Vec<InfoHash>)> {
        if self.heard_until.is_none_or(|until| now >= until) {
            self.heard.clear();
            self.heard_until = Some(now + HEARD_WINDOW);
        }
        if self.heard.len() >= HOSTS_MAX && !self.heard.contains_key(&from.ip()) {
            return None;
        }
        let count = self.heard.entry(from.ip()).or_default();
        *count += 1;
        if *count > HEARD_MAX {
            return None;
        }
        let announcement = Announcement::decode(datagram)?;
        if announcement.cookie.as_ref() == Some(&self.cookie) {
            return None;
        }
        let is_ours = |hash: &InfoHash| self.swarms.get(hash).is_some_and(|schedule| schedule.next.is_some());
        let ours: Vec<InfoHash> = announcement.info_hashes.into_iter().filter(is_ours).collect();
        let mut peer = from;
        peer.set_port(announcement.port);
        (!ours.is_empty()).then_some((peer, ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 6771))
    }

    fn hash(n: u16) -> InfoHash {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        InfoHash(bytes)
    }

    fn announced(lsd: &mut LocalDiscovery, now: Time) -> Announcement {
        lsd.handle_timeout(now);
        lsd.poll_announcement().unwrap()
    }

    #[test]
    fn an_announcement_as_others_write_it() {
        let text = "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
            Infohash: 631A31DD0A46257D5078C0DEE4E66E26F73E42AC\r\ncookie: 1a2b\r\n\r\n\r\n";
        let announcement = Announcement::decode(text.as_bytes()).unwrap();
        let info_hash = "631a31dd0a46257d5078c0dee4e66e26f73e42ac".parse().unwrap();
        let cookie = Some("1a2b".to_owned());
        assert_eq!(announcement, Announcement { port: 6881, info_hashes: vec![info_hash], cookie });
        let v6 = announcement.encode(LSD_GROUP_V6.into());
        assert!(String::from_utf8(v6).unwrap().contains("\r\nHost: [ff15::efc0:988f]:6771\r\n"));
    }

    #[test]
    fn what_is_no_announcement_is_passed_over() {
        for text in [
            "",
            "M-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: 631a31dd0a46257d5078c0dee4e66e26f73e42ac\r\n\r\n",
            "BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: 631a31dd0a46257d5078c0dee4e66e26f73e42ac\r\n\r\n",
            "BT-SEARCH * HTTP/1.1\r\nInfohash: 631a31dd0a46257d5078c0dee4e66e26f73e42ac\r\n\r\n",
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: 631a\r\n\r\n",
        ] {
            assert_eq!(Announcement::decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn torrents_are_announced_at_once_and_then_now_and_then() {
        let mut lsd = LocalDiscovery::new(1, 7);
        let start = Time::from_micros(1);
        assert_eq!(lsd.poll_timeout(), None);
        lsd.add(start, hash(1));
        assert_eq!(announced(&mut lsd, start).info_hashes, [hash(1)]);
        let second = start + ANNOUNCE_INTERVAL_MIN;
        assert_eq!(lsd.poll_timeout(), Some(second));
        assert_eq!(announced(&mut lsd, second).info_hashes, [hash(1)]);
        assert_eq!(lsd.poll_timeout(), Some(second + ANNOUNCE_INTERVAL));
        // Taken away and brought back, it still is not announced more often than once a minute.
        lsd.remove(hash(1));
        assert_eq!(lsd.poll_timeout(), None);
        lsd.add(second + Duration::from_secs(10), hash(1));
        assert_eq!(lsd.poll_timeout(), Some(second + ANNOUNCE_INTERVAL_MIN));
    }

    #[test]
    fn many_torrents_share_datagrams_and_those_are_spaced() {
        let mut lsd = LocalDiscovery::new(1, 7);
        let (mut now, mut sent) = (Time::from_micros(1), Vec::new());
        (0..100).for_each(|n| lsd.add(now, hash(n)));
        while let Some(at) = lsd.poll_timeout().filter(|at| *at < now + Duration::from_secs(10)) {
            now = now.max(at);
            let announcement = announced(&mut lsd, now);
            assert!(announcement.encode(LSD_GROUP_V6.into()).len() <= LSD_DATAGRAM_LEN_MAX);
            sent.push(now);
        }
        assert_eq!(sent.len(), 100 / INFO_HASHES_MAX);
        assert!(sent.is_sorted_by(|a, b| b.since(*a) >= DATAGRAM_INTERVAL_MIN));
    }

    #[test]
    fn only_others_with_our_torrents_are_of_interest() {
        let (mut ours, mut theirs) = (LocalDiscovery::new(1, 7), LocalDiscovery::new(6881, 8));
        let now = Time::from_micros(1);
        ours.add(now, hash(1));
        theirs.add(now, hash(1));
        theirs.add(now, hash(2));
        let echo = announced(&mut ours, now).encode(LSD_GROUP_V4.into());
        assert_eq!(ours.handle_datagram(now, from(1), &echo), None);
        let heard = announced(&mut theirs, now).encode(LSD_GROUP_V4.into());
        let peer = SocketAddr::from(([10, 0, 0, 2], 6881));
        assert_eq!(ours.handle_datagram(now, from(2), &heard), Some((peer, vec![hash(1)])));
        ours.remove(hash(1));
        assert_eq!(ours.handle_datagram(now, from(2), &heard), None);
    }

    #[test]
    fn a_flood_of_one_host_is_not_listened_to() {
        let (mut ours, mut theirs) = (LocalDiscovery::new(1, 7), LocalDiscovery::new(6881, 8));
        let now = Time::from_micros(1);
        ours.add(now, hash(1));
        theirs.add(now, hash(1));
        let datagram = announced(&mut theirs, now).encode(LSD_GROUP_V4.into());
        let mut taken = |now, n| ours.handle_datagram(now, from(n), &datagram).is_some();
        assert_eq!((0..1_000).filter(|_| taken(now, 1)).count(), HEARD_MAX as usize);
        assert!(taken(now, 2));
        assert!(taken(now + HEARD_WINDOW, 1));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(
            port in 1..=u16::MAX,
            hashes in prop::collection::vec(any::<[u8; 20]>(), 1..INFO_HASHES_MAX),
            cookie in prop::option::of("[a-z0-9]{1,16}"),
        ) {
            let info_hashes = hashes.into_iter().map(InfoHash).collect();
            let announcement = Announcement { port, info_hashes, cookie };
            prop_assert_eq!(Announcement::decode(&announcement.encode(LSD_GROUP_V4.into())), Some(announcement));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Announcement::decode(&bytes);
        }
    }
}
