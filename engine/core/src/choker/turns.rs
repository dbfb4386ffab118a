//! Whom a peer serves in a swarm whose peers belong together: the cooperative policy.
//!
//! There is nothing to repay, so the only question is what gets the pieces everywhere soonest:
//!
//! - A piece is of use only when it is whole. So few peers are served at a time, each with one piece: a *turn*.
//! - The needier of two random peers gets the next turn, by what it has and what is on its way to it. Serving the neediest of
//!   all would make everyone serve the same peer, and one at random leaves some behind; two choices (Mitzenmacher 2001)
//!   avoid both. When nearly all offers are used there is less to fear, and the neediest of four gets it.
//! - A turn is given while earlier ones are still being sent, so that its requests are here when the uplink
//!   falls idle. How many that takes depends on the path, the uplink and how many offers are of use, and is found out:
//!   more whenever the uplink had nothing left to send while a peer's answer was on its way, fewer whenever more than
//!   a piece and a half waited behind a finished one.
//! - A peer for which everything that it could ask for is on its way already says so, and is offered nothing until it has
//!   a use for something again; if the offer was quicker, it passes its turn on at once.
//! - Whoever asked first is sent its whole piece first. While it takes no more, which may be for want of room on its own
//!   downlink, whoever comes next is served beside it, so that the uplink does not idle; how many at once, see [`Width`].

use super::width::Width;
use crate::id::PeerKey;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use std::collections::VecDeque;

/// How many turns are in progress at the most.
pub const TURNS_MAX: usize = 64;

/// What time a peer takes to answer an unchoke, before that was ever measured.
const RESPONSE_INITIAL: Duration = Duration::from_millis(100);
/// What is added to twice that time before a turn that nobody uses is taken back.
const PATIENCE: Duration = Duration::from_millis(20);
/// No answer is waited for longer than this.
const PATIENCE_MAX: Duration = Duration::from_secs(1);
/// The neediest of so many random peers is served.
const DRAWS: usize = 2;
/// The same when nearly all offers are used, so that nobody need fear to crowd.
const DRAWS_WHEN_USED: usize = 4;
/// What "nearly all" is, of 256.
const NEARLY_ALL_OF_256: u32 = 225;
/// At least this share of the offers is expected to be used: while hardly anybody has a use for any, more of them at once
/// would only make peers wait for a busy uplink that they could have from an idle one.
const USED_MIN_OF_256: u32 = 128;
/// So many offers that ended unused are remembered, in case they were too short.
const LAPSED_MAX: usize = 64;
/// When the peer in front takes nothing for this long, the others are served beside it.
const STALL: Duration = Duration::from_millis(100);

/// A peer that was told that it may ask, and has not asked yet.
#[derive(Clone, Copy, Debug)]
struct Offer {
    key: PeerKey,
    since: Time,
}

/// A peer that has asked.
#[derive(Clone, Copy, Debug)]
struct Turn {
    key: PeerKey,
    /// When something last happened to it.
    moved_at: Time,
    /// Blocks that it may still ask for.
    quota: u32,
    /// Blocks that it has asked for and that were not sent yet.
    queued: u32,
    /// It takes no more at present.
    is_blocked: bool,
    /// It waits for a piece that we do not have yet.
    is_early: bool,
}

impl Turn {
    /// Whether something can be sent to it.
    fn is_ready(&self) -> bool {
        self.queued > 0 && !self.is_blocked && !self.is_early
    }
}

/// The turns offered and in progress.
#[derive(Clone, Debug)]
pub struct Turns {
    offers: Vec<Offer>,
    /// The latest that ended unused.
    lapsed: VecDeque<Offer>,
    /// In the order in which they are served.
    serving: Vec<Turn>,
    /// How many blocks should be asked for or about to be.
    target: u32,
    /// Of 256 offers, how many are used, of late.
    used_of_256: u32,
    /// Blocks of a piece.
    quota: u32,
    /// How long a peer takes to use an offer, on average of late.
    response: Duration,
    /// The peer in front takes nothing: everyone is served.
    is_stalled: bool,
    /// How many may be served at once while some take no more.
    width: Width,
    rng: Rng,
}

impl Turns {
    /// Nobody has a turn; each is worth `quota` blocks.
    pub fn new(quota: u32, rng: Rng) -> Turns {
        Turns {
            offers: Vec::new(),
            lapsed: VecDeque::new(),
            serving: Vec::new(),
            target: quota.max(1) + quota / 2,
            used_of_256: 256,
            quota: quota.max(1),
            response: RESPONSE_INITIAL,
            is_stalled: false,
            width: Width::default(),
            rng,
        }
    }

    /// Whether a peer has a turn.
    pub fn has(&self, key: PeerKey) -> bool {
        self.offers.iter().any(|offer| offer.key == key) || self.serving.iter().any(|turn| turn.key == key)
    }

    /// Whether another turn should be offered.
    pub fn has_room(&self) -> bool {
        // What was promised to those who take no more keeps the uplink busy only as they let it.
        // So does what was promised early, but where nobody is blocked it will be here in no time.
        let some_are_blocked = self.some_are_blocked();
        let is_open = |turn: &&Turn| !(turn.is_blocked || turn.is_early && some_are_blocked);
        let open = self.serving.iter().filter(is_open);
        let promised: u32 = open.map(|turn| turn.queued + turn.quota).sum();
        let hoped = self.offers.len() as u32 * self.quota * self.used_of_256 / 256;
        let turns_max = if some_are_blocked { self.width.turns() } else { TURNS_MAX };
        self.offers.len() + self.serving.len() < turns_max && promised + hoped < self.target
    }

    /// Counts an offer that was used, or was not.
    fn note_use(&mut self, used: bool) {
        let sample = if used { 256 } else { 0 };
        self.used_of_256 = ((self.used_of_256 * 15 + sample) / 16).max(USED_MIN_OF_256);
    }

    /// The peer wants nothing at present. True if it was offered a turn.
    pub fn on_pass(&mut self, now: Time, key: PeerKey) -> bool {
        let offered = self.offers.iter().position(|offer| offer.key == key);
        if let Some(at) = offered {
            let took = now.since(self.offers.swap_remove(at).since);
            self.response = (self.response * 7 + took) / 8;
            self.note_use(false);
        }
        if let Some(at) = self.serving.iter().position(|turn| turn.key == key) {
            self.serving[at].quota = 0;
            if self.serving[at].queued == 0 {
                self.serving.remove(at);
            }
        }
        offered.is_some()
    }

    /// The neediest of a few random candidates; each is given with the number of pieces that it has or is getting.
    pub fn choose(&mut self, candidates: &[(PeerKey, u32)]) -> Option<PeerKey> {
        let is_crowded = self.used_of_256 < NEARLY_ALL_OF_256 || self.some_are_blocked();
        let draws = if is_crowded { DRAWS } else { DRAWS_WHEN_USED };
        let mut neediest = *self.rng.choose(candidates)?;
        for _ in 1..draws {
            let candidate = *self.rng.choose(candidates)?;
            if candidate.1 < neediest.1 {
                neediest = candidate;
            }
        }
        Some(neediest.0)
    }

    /// The peer may have a turn, if it asks for something soon.
    pub fn offer(&mut self, now: Time, key: PeerKey) {
        self.lapsed.retain(|offer| offer.key != key);
        self.offers.push(Offer { key, since: now });
    }

    /// A peer has asked for a block while it had no turn. If it had been offered one, that ended too soon: without
    /// this, nobody on a long path would be served again once answers on shorter ones have made us impatient.
    pub fn on_late_request(&mut self, now: Time, key: PeerKey) {
        if let Some(at) = self.lapsed.iter().position(|offer| offer.key == key) {
            let took = self.lapsed.remove(at).map_or(Duration::ZERO, |offer| now.since(offer.since));
            self.response = self.response.max((self.response + took.min(PATIENCE_MAX)) / 2);
        }
    }

    /// The peer has asked for a block and will get it. True once it has asked for all that its turn is worth.
    pub fn on_request(&mut self, now: Time, key: PeerKey) -> bool {
        if let Some(at) = self.offers.iter().position(|offer| offer.key == key) {
            let took = now.since(self.offers.swap_remove(at).since);
            self.response = (self.response * 7 + took) / 8;
            self.note_use(true);
            self.serving.push(Turn {
                key,
                moved_at: now,
                quota: self.quota,
                queued: 0,
                is_blocked: false,
                is_early: false,
            });
        }
        let Some(turn) = self.serving.iter_mut().find(|turn| turn.key == key) else { return false };
        turn.quota = turn.quota.saturating_sub(1);
        turn.queued += 1;
        turn.moved_at = now;
        turn.quota == 0
    }

    /// What the peer has asked for is not here yet: others are served until it is.
    pub fn on_early_request(&mut self, key: PeerKey) {
        self.serving.iter_mut().filter(|turn| turn.key == key).for_each(|turn| turn.is_early = true);
    }

    /// It is here now.
    pub fn on_ready(&mut self, key: PeerKey) {
        self.serving.iter_mut().filter(|turn| turn.key == key).for_each(|turn| turn.is_early = false);
    }

    /// Nobody else wants the peer's turn: it may ask for another piece.
    pub fn renew(&mut self, key: PeerKey) {
        let quota = self.quota;
        self.serving.iter_mut().filter(|turn| turn.key == key).for_each(|turn| turn.quota += quota);
    }

    /// Whom to send to now: the first that waits for anything and takes it.
    pub fn front(&self) -> Option<PeerKey> {
        self.serving.iter().find(|turn| turn.is_ready()).map(|turn| turn.key)
    }

    /// Whether a block may be sent to this peer now, rather than after those before it.
    pub fn may_send(&self, key: PeerKey) -> bool {
        let mut in_turn = self.serving.iter().take_while(|turn| !turn.is_ready());
        self.is_stalled
            || self.front().is_none_or(|front| front == key)
            || in_turn.any(|turn| turn.key == key)
    }

    /// The peer takes no more for now: what waits behind it is sent meanwhile, so that the uplink does not idle.
    pub fn on_blocked(&mut self, now: Time, key: PeerKey) {
        self.serving.iter_mut().filter(|turn| turn.key == key).for_each(|turn| turn.is_blocked = true);
        if self.front().is_none() {
            self.width.on_all_blocked(now);
        }
    }

    /// A block that the peer had asked for was sent, or is no longer wanted. True if its turn is over with that.
    pub fn on_sent(&mut self, now: Time, key: PeerKey) -> bool {
        let is_front = self.front() == Some(key);
        self.width.on_sent(now);
        let Some(at) = self.serving.iter().position(|turn| turn.key == key) else { return false };
        let turn = &mut self.serving[at];
        turn.queued = turn.queued.saturating_sub(1);
        turn.is_blocked = false;
        turn.moved_at = now;
        let is_over = turn.queued == 0 && turn.quota == 0;
        if is_over {
            self.serving.remove(at);
        }
        self.is_stalled &= !is_front;
        if is_over {
            self.adapt();
        }
        is_over
    }

    fn adapt(&mut self) {
        // What was promised early may be late, and the uplink is idle although that waits.
        let is_idle = !self.serving.iter().any(|turn| turn.queued > 0 && !turn.is_early);
        let backlog: u32 = self.serving.iter().map(|turn| turn.queued).sum();
        if is_idle && !self.offers.is_empty() {
            self.target = (self.target + self.quota.div_ceil(4)).min(TURNS_MAX as u32 * self.quota);
        } else if backlog > self.quota + self.quota / 2 {
            self.target = (self.target - self.quota.div_ceil(16)).max(self.quota);
        }
    }

    /// The peer is gone, or wants nothing.
    pub fn forget(&mut self, key: PeerKey) {
        self.offers.retain(|offer| offer.key != key);
        self.lapsed.retain(|offer| offer.key != key);
        self.serving.retain(|turn| turn.key != key);
    }

    /// Whether somebody who is served takes no more for now.
    pub fn some_are_blocked(&self) -> bool {
        self.serving.iter().any(|turn| turn.is_blocked)
    }

    /// How long a peer takes to use an offer, on average of late.
    pub fn response(&self) -> Duration {
        self.response
    }

    /// How long a peer may leave its turn unused.
    fn patience(&self) -> Duration {
        (self.response * 2 + PATIENCE).min(PATIENCE_MAX)
    }

    /// Ends a turn whose time is up: whose it was, and whether it asked for anything.
    pub fn expire(&mut self, now: Time) -> Option<(PeerKey, bool)> {
        let patience = self.patience();
        if let Some(at) = self.offers.iter().position(|offer| offer.since + patience <= now) {
            let offer = self.offers.remove(at);
            if self.lapsed.len() == LAPSED_MAX {
                self.lapsed.pop_front();
            }
            self.lapsed.push_back(offer);
            self.note_use(false);
            return Some((offer.key, false));
        }
        let is_over = |turn: &Turn| turn.queued == 0 && turn.moved_at + patience <= now;
        let at = self.serving.iter().position(is_over)?;
        Some((self.serving.remove(at).key, true))
    }

    /// Time has passed. While everyone who is served takes no more, and so nothing is sent, more may be served.
    pub fn tick(&mut self, now: Time) {
        if self.some_are_blocked() && self.front().is_none() {
            self.width.on_all_blocked(now);
        }
    }

    /// Notices that the peer in front takes nothing. True if the others are to be served from now on.
    pub fn stall(&mut self, now: Time) -> bool {
        let stalls = self.stalls_at().is_some_and(|at| at <= now);
        self.is_stalled |= stalls;
        stalls
    }

    fn stalls_at(&self) -> Option<Time> {
        let front = self
            .serving
            .iter()
            .find(|turn| turn.queued > 0 && !turn.is_early)
            .filter(|_| !self.is_stalled)?;
        Some(front.moved_at + STALL)
    }

    /// Those who wait for something, in the order in which they are served.
    pub fn waiting(&self) -> impl Iterator<Item = PeerKey> + '_ {
        self.serving.iter().filter(|turn| turn.queued > 0).map(|turn| turn.key)
    }

    /// When a turn's time will be up, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Time> {
        let offers = self.offers.iter().map(|offer| offer.since);
        let unused = self.serving.iter().filter(|turn| turn.queued == 0).map(|turn| turn.moved_at);
        let patience = self.patience();
        offers.chain(unused).map(|since| since + patience).chain(self.stalls_at()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn turns() -> Turns {
        Turns::new(4, Rng::new(1))
    }

    /// Requests for a whole piece.
    fn ask(turns: &mut Turns, now: Time, key: u32) -> Vec<bool> {
        (0..4).map(|_| turns.on_request(now, PeerKey(key))).collect()
    }

    fn send(turns: &mut Turns, now: Time, key: u32) -> Vec<bool> {
        (0..4).map(|_| turns.on_sent(now, PeerKey(key))).collect()
    }

    #[test]
    fn who_has_less_is_preferred_but_does_not_get_everything() {
        let candidates: Vec<(PeerKey, u32)> = (0..10).map(|i| (PeerKey(i), i)).collect();
        let chosen_of = |turns: &mut Turns| {
            let mut chosen = [0; 10];
            (0..1_000).for_each(|_| chosen[turns.choose(&candidates).unwrap().0 as usize] += 1);
            chosen
        };
        let mut turns = turns();
        // Among four draws with replacement the neediest of ten is 34 times in 100, among two 19 times.
        let chosen = chosen_of(&mut turns);
        assert!((290..400).contains(&chosen[0]) && chosen[9] < 5, "{chosen:?}");
        for _ in 0..3 {
            turns.offer(ms(0), PeerKey(1));
            turns.on_pass(ms(1), PeerKey(1));
        }
        let chosen = chosen_of(&mut turns);
        assert!((140..240).contains(&chosen[0]), "{chosen:?}");
        assert!(chosen[0] > chosen[5] && chosen[5] > chosen[9], "{chosen:?}");
        assert_eq!(turns.choose(&[]), None);
    }

    #[test]
    fn a_turn_is_worth_one_piece() {
        let mut turns = turns();
        turns.offer(ms(0), PeerKey(1));
        assert_eq!(ask(&mut turns, ms(1), 1), [false, false, false, true]);
        assert_eq!(send(&mut turns, ms(2), 1), [false, false, false, true]);
        assert!(!turns.has(PeerKey(1)));
    }

    #[test]
    fn whoever_asked_first_is_served_first_unless_it_takes_nothing() {
        let mut turns = turns();
        turns.offer(ms(0), PeerKey(1));
        turns.offer(ms(0), PeerKey(2));
        ask(&mut turns, ms(10), 2);
        ask(&mut turns, ms(20), 1);
        assert_eq!(turns.front(), Some(PeerKey(2)));
        assert!(!turns.may_send(PeerKey(1)));
        assert!(!turns.stall(ms(10) + STALL - Duration::from_millis(1)));
        assert_eq!(turns.poll_timeout(), Some(ms(10) + STALL));
        assert!(turns.stall(ms(10) + STALL));
        assert!(turns.may_send(PeerKey(1)) && turns.may_send(PeerKey(2)));
        turns.on_sent(ms(500), PeerKey(2));
        assert!(!turns.may_send(PeerKey(1)), "it moves again");
        send(&mut turns, ms(500), 2);
        assert!(turns.may_send(PeerKey(1)));
    }

    #[test]
    fn while_a_peer_takes_no_more_the_next_is_served() {
        let mut turns = turns();
        (1..=3).for_each(|key| turns.offer(ms(0), PeerKey(key)));
        (1..=3).for_each(|key| drop(ask(&mut turns, ms(10), key)));
        turns.on_blocked(ms(10), PeerKey(1));
        assert_eq!(turns.front(), Some(PeerKey(2)));
        assert!(turns.may_send(PeerKey(2)) && !turns.may_send(PeerKey(3)));
        assert!(turns.may_send(PeerKey(1)), "it may go on whenever it can");
        turns.on_sent(ms(20), PeerKey(1));
        assert_eq!(turns.front(), Some(PeerKey(1)));
        assert!(!turns.may_send(PeerKey(2)));
    }

    #[test]
    fn a_peer_that_takes_no_more_leaves_room_for_another() {
        let mut turns = turns();
        turns.offer(ms(0), PeerKey(1));
        ask(&mut turns, ms(10), 1);
        turns.renew(PeerKey(1));
        assert!(!turns.has_room(), "it alone keeps the uplink busy");
        turns.on_blocked(ms(20), PeerKey(1));
        assert!(turns.has_room());
        turns.offer(ms(20), PeerKey(2));
        ask(&mut turns, ms(30), 2);
        turns.on_blocked(ms(30), PeerKey(2));
        assert!(!turns.has_room(), "two are enough at first");
        turns.on_sent(ms(40), PeerKey(1));
        assert!(!turns.has_room());
    }

    #[test]
    fn a_turn_that_nobody_uses_ends_and_patience_follows_the_path() {
        let mut turns = turns();
        for round in 0..100 {
            turns.offer(ms(round), PeerKey(1));
            ask(&mut turns, ms(round + 40), 1);
            send(&mut turns, ms(round + 40), 1);
        }
        turns.offer(ms(1_000), PeerKey(2));
        let ends = turns.poll_timeout().unwrap();
        assert_eq!(ends.since(ms(1_000)).as_millis(), 100);
        assert_eq!(turns.expire(ms(1_099)), None);
        assert_eq!(turns.expire(ends), Some((PeerKey(2), false)));
        turns.offer(ms(2_000), PeerKey(3));
        turns.on_request(ms(2_040), PeerKey(3));
        assert_eq!(turns.expire(ms(9_000)), None, "a block waits to be sent");
        turns.on_sent(ms(9_000), PeerKey(3));
        assert_eq!(turns.expire(ms(9_200)), Some((PeerKey(3), true)));
    }

    #[test]
    fn patience_grows_when_answers_come_too_late() {
        let mut turns = turns();
        for round in 0..100 {
            turns.offer(ms(round), PeerKey(1));
            ask(&mut turns, ms(round), 1);
            send(&mut turns, ms(round), 1);
        }
        let mut now = ms(1_000);
        for _ in 0..10 {
            turns.offer(now, PeerKey(2));
            let answer_at = now + Duration::from_millis(300);
            if turns.expire(answer_at).is_none() {
                return;
            }
            turns.on_late_request(answer_at, PeerKey(2));
            now = answer_at;
        }
        panic!("{:?} is still too short", turns.patience());
    }

    #[test]
    fn an_uplink_that_falls_idle_gets_more_turns_and_a_full_one_fewer() {
        let mut turns = turns();
        let before = turns.target;
        for round in 0..3 {
            turns.offer(ms(round), PeerKey(0));
            turns.offer(ms(round), PeerKey(1));
            ask(&mut turns, ms(round), 0);
            send(&mut turns, ms(round), 0);
            turns.offers.clear();
        }
        let most = turns.target;
        assert!(most > before);
        (0..5).for_each(|i| turns.offer(ms(9), PeerKey(i)));
        (0..5).for_each(|i| _ = ask(&mut turns, ms(9), i));
        send(&mut turns, ms(9), 0);
        assert!(turns.target < most);
    }

    #[test]
    fn an_uplink_idles_whatever_was_promised_early() {
        let mut turns = turns();
        let before = turns.target;
        for key in 0..3 {
            turns.offer(ms(0), PeerKey(key));
        }
        ask(&mut turns, ms(1), 0);
        ask(&mut turns, ms(1), 1);
        turns.on_early_request(PeerKey(1));
        send(&mut turns, ms(2), 0);
        assert!(turns.target > before, "{}", turns.target);
    }

    #[test]
    fn a_turn_that_is_passed_on_makes_room_and_more_are_offered_when_many_are() {
        let mut turns = turns();
        let offer_all = |turns: &mut Turns| {
            let mut count = 0;
            while turns.has_room() {
                turns.offer(ms(0), PeerKey(count));
                count += 1;
            }
            count
        };
        let at_first = offer_all(&mut turns);
        for _ in 0..20 {
            turns.on_pass(ms(1), PeerKey(0));
            assert!(!turns.has(PeerKey(0)));
            assert!(turns.has_room());
            turns.offer(ms(1), PeerKey(0));
        }
        turns.offers.clear();
        assert!(offer_all(&mut turns) > at_first);
    }

    #[test]
    fn a_peer_that_wants_no_more_is_still_sent_what_it_asked_for() {
        let mut turns = turns();
        turns.offer(ms(0), PeerKey(1));
        turns.on_request(ms(1), PeerKey(1));
        turns.on_pass(ms(2), PeerKey(1));
        assert_eq!(turns.front(), Some(PeerKey(1)));
        assert!(turns.on_sent(ms(3), PeerKey(1)), "its turn is over with that block");
    }
}
