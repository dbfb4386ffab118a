//! How often somebody may be wrong about a password.
//!
//! Attempts are counted before they are checked, so that many at once are no way around it; the right one is given back. All that are
//! counted together have a bound too, and so the table of addresses has one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong passwords of one address in a window.
const PER_ADDRESS: u32 = 10;
/// Of all addresses.
const IN_TOTAL: u32 = 100;
/// How long they are counted.
const WINDOW: Duration = Duration::from_secs(600);

/// Attempts since some time.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    count: u32,
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

/// Attempts at passwords.
#[derive(Debug, Default)]
pub struct Attempts {
    by_address: HashMap<IpAddr, Window>,
    total: Option<Window>,
}

impl Attempts {
    /// Counts an attempt, and whether it may be made. If not, how long to wait.
    ///
    /// # Errors
    /// There were too many.
    pub fn begin(&mut self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        if self.total.is_none_or(|total| total.is_over(now)) {
            self.total = Some(Window { since: now, count: 0 });
            self.by_address.retain(|_, window| !window.is_over(now));
        }
        let fresh = Window { since: now, count: 0 };
        let total = self.total.get_or_insert(fresh);
        let of_address = self.by_address.get(&network(from)).filter(|window| !window.is_over(now));
        let of_address = of_address.copied().unwrap_or(fresh);
        for (window, most) in [(of_address, PER_ADDRESS), (*total, IN_TOTAL)] {
            if window.count >= most {
                return Err(WINDOW.saturating_sub(now.saturating_duration_since(window.since)));
            }
        }
        total.count += 1;
        self.by_address.insert(network(from), Window { count: of_address.count + 1, ..of_address });
        Ok(())
    }

    /// An attempt that was counted was right.
    pub fn was_right(&mut self, from: IpAddr) {
        let of_address = self.by_address.get_mut(&network(from));
        for window in of_address.into_iter().chain(self.total.as_mut()) {
            window.count = window.count.saturating_sub(1);
        }
    }
}

/// Who has one address of IPv6 has all of its /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_a_few_attempts_and_more_after_a_while() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        for nth in 0..PER_ADDRESS {
            assert!(attempts.begin(ip("10.0.0.1"), start).is_ok(), "{nth}");
        }
        assert_eq!(attempts.begin(ip("::ffff:10.0.0.1"), start), Err(WINDOW));
        assert!(attempts.begin(ip("10.0.0.2"), start).is_ok());
        attempts.was_right(ip("10.0.0.1"));
        assert!(attempts.begin(ip("10.0.0.1"), start).is_ok());
        assert!(attempts.begin(ip("10.0.0.1"), start + WINDOW / 2).is_err());
        assert!(attempts.begin(ip("10.0.0.1"), start + WINDOW).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_all_networks_together_have_a_bound() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        for nth in 0..PER_ADDRESS {
            assert!(attempts.begin(ip(&format!("2001:db8::{nth:x}")), start).is_ok());
        }
        assert!(attempts.begin(ip("2001:db8::ffff"), start).is_err());
        let admitted = (0..5_000u32).filter(|nth| {
            let from = ip(&format!("2001:db8:{:x}:{:x}::1", 1 + nth / 60_000, nth % 60_000 + 1));
            attempts.begin(from, start).is_ok()
        });
        assert_eq!(admitted.count() as u32, IN_TOTAL - PER_ADDRESS);
        assert!(attempts.by_address.len() <= IN_TOTAL as usize);
        assert!(attempts.begin(ip("10.9.9.9"), start + WINDOW).is_ok());
        assert_eq!(attempts.by_address.len(), 1, "what is over is forgotten");
    }
}
