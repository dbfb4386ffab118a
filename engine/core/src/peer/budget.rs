//! What a peer's messages may cost.
//!
//! Nearly every message is of use: a piece that we hear of for the first time, a request that is served, a block. These cost nothing, and each
//! is bounded by itself. What may be repeated without end (choking and unchoking, interest and none, the same again, what has to be
//! refused) is paid for out of a budget of bytes, which time fills, blocks that pass in either direction, and each piece that we
//! tell the peer of, since that may change its mind twice ([`PER_PIECE`]). While it is
//! spent, what the peer says is still taken note of, but what follows for the whole swarm waits for the next tick
//! ([`crate::torrent::TICK`]). Who goes on all the same, until [`DEBT_MAX`] is owed, is closed.

use crate::time::Time;

/// What a full budget holds: so much may come at once.
pub const BUDGET_MAX: u32 = 512 * 1024;
/// What time adds to it, per second.
pub const BUDGET_PER_S: u32 = 80 * 1024;
/// What a piece that we tell the peer of adds to it: it may want that, and have it from somebody else a moment later.
pub const PER_PIECE: u32 = 2 * (Cost::Change as u32 + Cost::SwarmWide as u32);
/// Who owes more than this is closed.
pub const DEBT_MAX: u32 = 16 * 1024 * 1024;

const MICROS_PER_S: i64 = 1_000_000;

/// What a message costs, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Cost {
    /// It says nothing new.
    Nothing = 64,
    /// It takes back what was said before: a choke, an interest, a piece, a request.
    Change = 512,
    /// It has to be answered, or read at length, and leads to nothing.
    Refused = 1_024,
    /// Because of it everybody is looked at, or every piece. Nobody gets into debt for that: it can wait.
    SwarmWide = 4_096,
}

/// How a peer stands after it was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    /// It could pay.
    Good,
    /// It owes something.
    Spent,
    /// It owes more than [`DEBT_MAX`].
    Overdrawn,
}

/// One peer's budget.
#[derive(Clone, Debug)]
pub struct Budget {
    /// What is left, in millionths; negative if something is owed.
    level: i64,
    /// When it was.
    at: Time,
}

impl Budget {
    /// A full one.
    pub fn new(now: Time) -> Budget {
        Budget { level: i64::from(BUDGET_MAX) * MICROS_PER_S, at: now }
    }

    /// Adds as much as so many bytes of blocks do.
    pub fn earn(&mut self, bytes: u32) {
        self.add(i64::from(bytes) * MICROS_PER_S);
    }

    /// Takes what something costs, if that is there.
    pub fn afford(&mut self, now: Time, cost: Cost) -> bool {
        self.fill(now);
        let price = i64::from(cost as u32) * MICROS_PER_S;
        let is_there = self.level >= price;
        if is_there {
            self.level -= price;
        }
        is_there
    }

    /// Takes what something costs, whether it is there or not. Nothing is taken beyond what makes it [overdrawn](Credit::Overdrawn).
    pub fn charge(&mut self, now: Time, cost: Cost) -> Credit {
        self.fill(now);
        if self.level < -i64::from(DEBT_MAX) * MICROS_PER_S {
            return Credit::Overdrawn;
        }
        self.level -= i64::from(cost as u32) * MICROS_PER_S;
        if self.level >= 0 { Credit::Good } else { Credit::Spent }
    }

    fn fill(&mut self, now: Time) {
        let elapsed = i64::try_from(now.since(self.at).as_micros()).unwrap_or(i64::MAX);
        self.at = self.at.max(now);
        self.add(elapsed.saturating_mul(i64::from(BUDGET_PER_S)));
    }

    fn add(&mut self, amount: i64) {
        self.level = self.level.saturating_add(amount).min(i64::from(BUDGET_MAX) * MICROS_PER_S);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn paid(budget: &mut Budget, now: Time, cost: Cost, credit: Credit) -> u32 {
        (0..10_000_000).take_while(|_| budget.charge(now, cost) == credit).count() as u32
    }

    #[test]
    fn a_budget_is_spent_and_filled_by_time_and_by_blocks() {
        let now = Time::from_micros(1);
        let mut budget = Budget::new(now);
        let cost = Cost::SwarmWide as u32;
        assert_eq!(paid(&mut budget, now, Cost::SwarmWide, Credit::Good), BUDGET_MAX / cost);
        let later = now + Duration::from_secs(2);
        let earned = paid(&mut budget, later, Cost::SwarmWide, Credit::Good);
        assert!((2 * BUDGET_PER_S / cost - 1..=2 * BUDGET_PER_S / cost).contains(&earned), "{earned}");
        budget.earn(10 * cost);
        assert!((0..20).filter(|_| budget.afford(later, Cost::SwarmWide)).count() == 9, "one was owed");
        budget.earn(u32::MAX);
        assert_eq!(paid(&mut budget, later, Cost::SwarmWide, Credit::Good), BUDGET_MAX / cost);
    }

    #[test]
    fn who_never_stops_is_overdrawn() {
        let now = Time::from_micros(1);
        for cost in [Cost::Nothing, Cost::Change, Cost::Refused, Cost::SwarmWide] {
            let mut budget = Budget::new(now);
            let good = paid(&mut budget, now, cost, Credit::Good);
            let spent = paid(&mut budget, now, cost, Credit::Spent);
            assert_eq!(good, BUDGET_MAX / cost as u32);
            assert!((DEBT_MAX / cost as u32 - 1..=DEBT_MAX / cost as u32 + 1).contains(&spent), "{spent}");
            assert_eq!(budget.charge(now, cost), Credit::Overdrawn);
        }
    }

    #[test]
    fn within_its_means_nobody_is_ever_overdrawn() {
        let mut now = Time::from_micros(1);
        let mut budget = Budget::new(now);
        for _ in 0..100_000 {
            now += Duration::from_millis(6);
            assert_eq!(budget.charge(now, Cost::Nothing), Credit::Good);
            assert_eq!(budget.charge(now, Cost::Nothing), Credit::Good);
            assert_ne!(budget.charge(now, Cost::Nothing), Credit::Overdrawn);
        }
    }
}
