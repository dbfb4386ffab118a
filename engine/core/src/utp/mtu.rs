//! The path's MTU: how long datagrams may be without being cut or lost.
//!
//! A packet of uTP cannot be cut up differently when it is sent again, so none is sent at a size that has not been proven. A
//! probe carries payload of the proven size and is made longer by an extension that everybody skips; when it is lost, the
//! same payload goes again without that. So a lost probe costs nothing, and says nothing about congestion.

use super::packet::PADDING_MIN;
use crate::time::{Duration, Time};

/// A search ends when it is this near. What is tried lies in the middle, and can be padded to.
const CLOSE_ENOUGH: usize = 2 * PADDING_MIN;
/// Paths change: a search begins again after this time.
const SEARCH_AGAIN: Duration = Duration::from_secs(600);
/// A size is too long when so many probes of it are lost: one may be lost for other reasons.
const PROBES_LOST: u8 = 2;

#[derive(Clone, Debug)]
pub(super) struct PathMtu {
    /// What every path takes.
    base: usize,
    /// What no path takes.
    limit: usize,
    proven: usize,
    ceiling: usize,
    lost: u8,
    in_flight: bool,
    search_again_at: Time,
}

impl PathMtu {
    /// For datagrams without the headers of IP and UDP, of which `base` bytes always pass, and `limit` perhaps.
    pub(super) fn new(base: usize, limit: usize) -> PathMtu {
        let (base, ceiling) = (base, limit.max(base));
        PathMtu {
            base,
            limit: ceiling,
            proven: base,
            ceiling,
            lost: 0,
            in_flight: false,
            search_again_at: Time::MAX,
        }
    }

    /// The longest datagram that passes for certain.
    pub(super) fn proven(&self) -> usize {
        self.proven
    }

    /// The size that is to be tried now: the longest at first, which most paths take.
    pub(super) fn probe(&mut self, now: Time) -> Option<usize> {
        if now >= self.search_again_at {
            (self.ceiling, self.search_again_at) = (self.limit, Time::MAX);
        }
        if self.in_flight || self.is_found() {
            return None;
        }
        Some(if self.ceiling == self.limit { self.limit } else { self.proven.midpoint(self.ceiling) })
    }

    fn is_found(&self) -> bool {
        self.proven == self.limit || self.ceiling < self.proven + CLOSE_ENOUGH
    }

    pub(super) fn on_probe_sent(&mut self) {
        self.in_flight = true;
    }

    /// The probe of this size has arrived, or was lost.
    pub(super) fn on_probe_result(&mut self, now: Time, size: usize, has_arrived: bool) {
        self.in_flight = false;
        if has_arrived {
            (self.proven, self.lost) = (self.proven.max(size), 0);
        } else {
            self.lost += 1;
            if self.lost >= PROBES_LOST {
                (self.ceiling, self.lost) = (self.ceiling.min(size - 1), 0);
            }
        }
        if self.is_found() && self.search_again_at == Time::MAX && self.proven < self.limit {
            self.search_again_at = now + SEARCH_AGAIN;
        }
    }

    /// Nothing passes any more: perhaps the path has become narrower.
    pub(super) fn on_black_hole(&mut self, now: Time) {
        if self.proven > self.base {
            (self.proven, self.ceiling, self.in_flight) = (self.base, self.base, false);
            self.search_again_at = now + SEARCH_AGAIN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(1);

    /// Searches on a path that takes `path` bytes; returns what was found, and how many probes it took.
    fn search(mtu: &mut PathMtu, now: Time, path: usize) -> (usize, usize) {
        let mut probes = 0;
        while let Some(size) = mtu.probe(now) {
            mtu.on_probe_sent();
            assert_eq!(mtu.probe(now), None, "one at a time");
            mtu.on_probe_result(now, size, size <= path);
            probes += 1;
        }
        (mtu.proven(), probes)
    }

    #[test]
    fn the_longest_is_tried_first_and_the_rest_is_halved() {
        assert_eq!(search(&mut PathMtu::new(548, 1472), NOW, 1472), (1472, 1));
        assert_eq!(search(&mut PathMtu::new(548, 548), NOW, 548), (548, 0));
        for path in 548..1472 {
            let (found, probes) = search(&mut PathMtu::new(548, 1472), NOW, path);
            assert!(found <= path && found + CLOSE_ENOUGH > path, "{found} of {path}");
            assert!(probes <= 14, "{probes} probes for {path}");
        }
    }

    #[test]
    fn one_lost_probe_proves_nothing() {
        let mut mtu = PathMtu::new(548, 1472);
        mtu.on_probe_result(NOW, 1472, false);
        assert_eq!(mtu.probe(NOW), Some(1472));
        assert_eq!(mtu.proven(), 548);
    }

    // A VPN that drops fragments (arvidn/libtorrent#509): sizes above the path's are never used for payload alone.
    #[test]
    fn a_path_that_becomes_narrower_is_noticed() {
        let mut mtu = PathMtu::new(548, 1472);
        search(&mut mtu, NOW, 1472);
        mtu.on_black_hole(NOW);
        assert_eq!((mtu.proven(), mtu.probe(NOW)), (548, None));
        let later = NOW + SEARCH_AGAIN;
        let (found, _) = search(&mut mtu, later, 1200);
        assert!(found <= 1200 && found + CLOSE_ENOUGH > 1200, "{found}");
        assert_eq!(mtu.probe(later), None);
    }
}
