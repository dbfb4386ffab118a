//! When which piece is read again, to find what has rotted on a disk: in order, at a rate, round after round.
//!
//! Nothing is caught up: who could not read for a while goes on at the same rate. However little there is, a round takes at least
//! [`ROUND_MIN`].

use crate::bitfield::Bitfield;
use crate::id::PieceIndex;
use crate::time::{Duration, Time};

/// A round begins this long after the one before, at the earliest.
pub const ROUND_MIN: Duration = Duration::from_secs(60 * 60);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This piece is to be read now; then comes [`Scrub::handle_read`].
    Read(PieceIndex),
    /// Nothing before this time.
    Wait(Time),
    /// All has been read; nothing before this time, when the next round begins.
    RoundOver(Time),
}

/// One torrent's scrub.
#[derive(Clone, Debug)]
pub struct Scrub {
    /// Bytes per second.
    rate: u64,
    next: u32,
    /// When the round began, if one is under way.
    began_at: Option<Time>,
    /// The rate allows the next piece from then on.
    ready_at: Time,
}

impl Scrub {
    /// Reads so many bytes per second, at least one, from this piece on.
    pub fn new(rate: u64, next: PieceIndex) -> Scrub {
        Scrub { rate: rate.max(1), next: next.0, began_at: None, ready_at: Time::ZERO }
    }

    /// So many bytes per second from the next piece on.
    pub fn set_rate(&mut self, rate: u64) {
        self.rate = rate.max(1);
    }

    /// The piece that is read next.
    pub fn position(&self) -> PieceIndex {
        PieceIndex(self.next)
    }

    /// What is to be done, if these pieces are there.
    pub fn poll(&mut self, now: Time, have: &Bitfield) -> Next {
        if now < self.ready_at {
            return match self.began_at {
                Some(_) => Next::Wait(self.ready_at),
                None => Next::RoundOver(self.ready_at),
            };
        }
        let began_at = *self.began_at.get_or_insert(now);
        match (self.next..have.len()).map(PieceIndex).find(|&piece| have.has(piece)) {
            Some(piece) => {
                self.next = piece.0;
                Next::Read(piece)
            }
            None => {
                (self.next, self.began_at, self.ready_at) = (0, None, began_at + ROUND_MIN);
                self.ready_at = self.ready_at.max(now);
                Next::RoundOver(self.ready_at)
            }
        }
    }

    /// The piece that was to be read has been, from `begun_at` on: so many bytes.
    pub fn handle_read(&mut self, begun_at: Time, bytes: u64) {
        self.next += 1;
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.rate);
        self.ready_at = begun_at + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = 1 << 20;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    /// Reads, each piece in `takes`, until the round is over: the pieces, and when that was.
    fn round(scrub: &mut Scrub, mut now: Time, have: &Bitfield, takes: Duration) -> (Vec<u32>, Time) {
        let mut read = Vec::new();
        loop {
            match scrub.poll(now, have) {
                Next::Read(piece) => {
                    read.push(piece.0);
                    scrub.handle_read(now, PIECE);
                    now += takes;
                }
                Next::Wait(until) => {
                    assert!(until > now);
                    now = until;
                }
                Next::RoundOver(_) => return (read, now),
            }
        }
    }

    #[test]
    fn scrub_reads_what_is_there_in_order_at_its_rate() {
        let mut have = Bitfield::full(100);
        have.remove(PieceIndex(7));
        let mut scrub = Scrub::new(PIECE / 8, PieceIndex(0));
        let (read, end) = round(&mut scrub, at(5), &have, Duration::from_millis(10));
        assert_eq!(read, (0..100).filter(|n| *n != 7).collect::<Vec<_>>());
        assert_eq!(end.since(at(5)), Duration::from_secs(99 * 8));
    }

    #[test]
    fn scrub_of_a_slow_disk_catches_nothing_up() {
        let have = Bitfield::full(10);
        let mut scrub = Scrub::new(PIECE, PieceIndex(0));
        // Each piece takes three times as long as the rate allows; then the disk is quick, and the rate holds at once.
        let (_, end) = round(&mut scrub, at(0), &have, Duration::from_secs(3));
        assert_eq!(end, at(30));
        let again = at(10_000);
        let (read, end) = round(&mut scrub, again, &have, Duration::ZERO);
        assert_eq!((read.len(), end.since(again)), (10, Duration::from_secs(10)));
    }

    #[test]
    fn scrub_of_little_rests_between_rounds() {
        let have = Bitfield::full(2);
        let mut scrub = Scrub::new(u64::MAX, PieceIndex(0));
        let mut begun = Vec::new();
        let mut now = at(1);
        for _ in 0..4 {
            begun.push(now);
            let (read, end) = round(&mut scrub, now, &have, Duration::from_millis(1));
            assert_eq!(read, [0, 1]);
            let Next::RoundOver(next) = scrub.poll(end, &have) else { panic!("it goes on at {end:?}") };
            now = next;
        }
        assert!(begun.windows(2).all(|two| two[1].since(two[0]) == ROUND_MIN), "{begun:?}");
    }

    #[test]
    fn scrub_goes_on_from_where_it_was_and_then_begins_anew() {
        let have = Bitfield::full(10);
        let mut scrub = Scrub::new(PIECE, PieceIndex(8));
        let (read, end) = round(&mut scrub, at(0), &have, Duration::ZERO);
        assert_eq!((read, scrub.position()), (vec![8, 9], PieceIndex(0)));
        let Next::RoundOver(next) = scrub.poll(end, &have) else { panic!("it goes on") };
        assert_eq!(round(&mut scrub, next, &have, Duration::ZERO).0.len(), 10);
    }

    #[test]
    fn scrub_of_nothing_waits() {
        let mut scrub = Scrub::new(PIECE, PieceIndex(0));
        for have in [Bitfield::empty(0), Bitfield::empty(5)] {
            assert!(matches!(scrub.poll(at(9_000), &have), Next::RoundOver(next) if next > at(9_000)));
        }
    }

    #[test]
    fn scrub_takes_another_rate_from_the_next_piece_on() {
        let have = Bitfield::full(3);
        let mut scrub = Scrub::new(PIECE, PieceIndex(0));
        assert_eq!(scrub.poll(at(1), &have), Next::Read(PieceIndex(0)));
        scrub.handle_read(at(1), PIECE);
        scrub.set_rate(PIECE / 4);
        assert_eq!(scrub.poll(at(1), &have), Next::Wait(at(2)));
        assert_eq!(scrub.poll(at(2), &have), Next::Read(PieceIndex(1)));
        scrub.handle_read(at(2), PIECE);
        assert_eq!(scrub.poll(at(2), &have), Next::Wait(at(6)));
    }
}
