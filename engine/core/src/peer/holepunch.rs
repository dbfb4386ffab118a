//! Holepunching on one connection (BEP 55).

use crate::time::{Duration, Time};

/// How many of a peer's wishes are heard at once, after a rest: rendezvous that it asks for, and connections that it has us dial.
pub const WISHES_BURST: u32 = 32;
/// How long until there may be another.
pub const WISH_INTERVAL: Duration = Duration::from_secs(1);

/// The state of holepunching on one connection.
#[derive(Debug, Default)]
pub(crate) struct HolepunchState {
    /// The peer's number for these messages, if it takes part.
    pub(crate) id: Option<u8>,
    /// What it may still ask of us.
    pub(crate) wishes: Wishes,
    /// What others may still have it dial.
    pub(crate) introductions: Wishes,
    /// The connection came about by it.
    pub(crate) was_punched: bool,
}

/// So many at once, and one more in each interval.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// When all of them are there again; `None`: now.
    full_at: Option<Time>,
}

impl Wishes {
    /// Takes one, if one is left.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let is_left = full_at.since(now) <= WISH_INTERVAL * (WISHES_BURST - 1);
        if is_left {
            self.full_at = Some(full_at + WISH_INTERVAL);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_holepunch_wishes_at_once_and_one_more_each_second() {
        let (mut wishes, now) = (Wishes::default(), Time::from_micros(1));
        let taken = |wishes: &mut Wishes, at| (0..1_000).filter(|_| wishes.take(at)).count() as u32;
        assert_eq!(taken(&mut wishes, now), WISHES_BURST);
        assert_eq!(taken(&mut wishes, now + WISH_INTERVAL * 3), 3);
        assert_eq!(taken(&mut wishes, now + WISH_INTERVAL * 1_000), WISHES_BURST);
    }
}
