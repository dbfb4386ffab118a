//! Which of our addresses trackers see, so that they hear of it when that changes.
//!
//! A laptop changes networks, a VPN comes up, a provider hands out another prefix: peers would then
//! dial an address that is no longer ours until the next regular announce. So the session asks the system now and
//! then from where packets to the trackers in use would leave.

use crate::net::socket::{Binding, route};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How many trackers are watched.
const WATCHED_MAX: usize = 32;

/// The trackers that answered, and which of our addresses leads to each.
#[derive(Default)]
pub(super) struct Routes {
    known: BTreeMap<IpAddr, IpAddr>,
}

impl Routes {
    /// A tracker answered. It is of no interest if connections leave from an address that the user chose.
    pub(super) fn note(&mut self, tracker: IpAddr, binding: &Binding) {
        let is_fixed = tracker.is_loopback() || binding.source_ip(tracker).is_some();
        if is_fixed || self.known.len() >= WATCHED_MAX || self.known.contains_key(&tracker) {
            return;
        }
        if let Some(ours) = route(tracker, binding.device.as_deref()) {
            self.known.insert(tracker, ours);
        }
    }

    /// Whether any tracker is reached from another address than before. That there is no way at all
    /// for a while is no change: nobody could be told.
    pub(super) fn have_changed(&mut self, route: impl Fn(IpAddr) -> Option<IpAddr>) -> bool {
        let mut changed = false;
        for (tracker, ours) in &mut self.known {
            if let Some(now) = route(*tracker) {
                changed |= std::mem::replace(ours, now) != now;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn another_way_to_a_tracker_is_a_change_and_no_way_is_none() {
        let (tracker, home, away) = (ip("192.0.2.1"), ip("192.168.0.7"), ip("10.1.2.3"));
        let mut routes = Routes::default();
        assert!(!routes.have_changed(|_| Some(home)), "nobody to tell");
        routes.known.insert(tracker, home);
        assert!(!routes.have_changed(|_| Some(home)));
        assert!(!routes.have_changed(|_| None));
        assert!(!routes.have_changed(|_| Some(home)), "back again");
        assert!(routes.have_changed(|_| Some(away)));
        assert!(!routes.have_changed(|_| Some(away)), "told once");
    }

    #[test]
    fn where_the_address_is_given_nothing_is_watched() {
        let binding = Binding { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Binding::default() };
        let mut routes = Routes::default();
        routes.note(ip("192.0.2.1"), &binding);
        routes.note(ip("::1"), &binding);
        assert!(routes.known.is_empty());
    }

    #[test]
    fn the_system_says_where_packets_leave_from() {
        assert_eq!(route(ip("127.0.0.1"), None), Some(ip("127.0.0.1")));
    }
}
