use super::*;
use crate::rng::Rng;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn s(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

/// An old connection that wants something and is choked.
fn peer(key: u32) -> ChokerPeer {
    ChokerPeer {
        key: PeerKey(key),
        peer_interested: true,
        am_choking: true,
        choke_changed_at: Time::ZERO,
        connected_at: Time::ZERO,
        snubbed: false,
        rate_from_bytes_per_s: 0,
        rate_to_bytes_per_s: 0,
        has_given: false,
        has_taken: false,
        wastes: false,
    }
}

fn choker(policy: Policy, slots: usize, seed: u64) -> Choker {
    Choker::new(policy, ChokerConfig { slots_min: slots, slots_max: slots }, Rng::new(seed))
}

/// What the owner of a choker does with its decision. Whoever is unchoked is served.
fn apply(now: Time, peers: &mut [ChokerPeer], decision: &Decision) {
    for p in peers {
        let choke = !decision.unchoke.contains(&p.key);
        if p.am_choking != choke {
            p.choke_changed_at = now;
        }
        p.am_choking = choke;
        p.rate_to_bytes_per_s = if choke { 0 } else { 100_000 };
    }
}

fn any_peers() -> impl Strategy<Value = Vec<ChokerPeer>> {
    let one = (any::<[bool; 3]>(), 0u64..100, 0u64..100, 0u64..6, 0u64..2);
    prop::collection::vec(one, 0..60).prop_map(|all| {
        let each = |(i, (flags, connected, changed, from, to)): (usize, ([bool; 3], u64, u64, u64, u64))| {
            ChokerPeer {
                peer_interested: flags[0],
                am_choking: flags[1],
                choke_changed_at: s(changed.max(connected)),
                connected_at: s(connected),
                snubbed: flags[2],
                rate_from_bytes_per_s: from * 1_000,
                rate_to_bytes_per_s: to,
                ..peer(i as u32)
            }
        };
        all.into_iter().enumerate().map(each).collect()
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::TitForTat), Just(Policy::Seeding)]
}

proptest! {
    #[test]
    fn only_interested_peers_are_unchoked_and_no_slot_is_wasted(
        peers in any_peers(), policy in any_policy(), slots in 1usize..8, seed: u64,
    ) {
        let mut choker = choker(policy, slots, seed);
        let decision = choker.rechoke(s(100), &peers, 0);
        let of = |key: &PeerKey| peers[key.0 as usize];
        prop_assert!(decision.unchoke.iter().all(|key| of(key).peer_interested));
        prop_assert!(decision.unchoke.is_sorted_by(|a, b| a < b));
        prop_assert!(decision.unchoke.len() <= choker.capacity());

        let interested = peers.iter().filter(|p| p.peer_interested);
        let (snubbed, willing): (Vec<&ChokerPeer>, Vec<&ChokerPeer>) = interested.partition(|p| p.snubbed);
        let expected = match policy {
            Policy::TitForTat => {
                let regular = slots.min(willing.len());
                regular + (snubbed.len() + willing.len() - regular).min(1)
            }
            Policy::Seeding => slots.min(snubbed.len() + willing.len()),
        };
        prop_assert_eq!(decision.unchoke.len(), expected);
        prop_assert!(decision.optimistic.is_none_or(|key| decision.unchoke.contains(&key)));
    }

    #[test]
    fn the_best_senders_hold_the_slots(peers in any_peers(), slots in 1usize..8, seed: u64) {
        let decision = choker(Policy::TitForTat, slots, seed).rechoke(s(100), &peers, 0);
        // The naive model: take the best that is left, as often as there are slots.
        let mut left: Vec<u64> = peers.iter().filter(|p| p.peer_interested && !p.snubbed)
            .map(|p| p.rate_from_bytes_per_s).collect();
        let mut best = Vec::new();
        for _ in 0..slots {
            let Some(i) = (0..left.len()).max_by_key(|&i| left[i]) else { break };
            best.push(left.swap_remove(i));
        }
        let regular = decision.unchoke.iter().filter(|key| Some(**key) != decision.optimistic);
        let regular: Vec<ChokerPeer> = regular.map(|key| peers[key.0 as usize]).collect();
        prop_assert!(regular.iter().all(|p| !p.snubbed));
        let mut rates: Vec<u64> = regular.iter().map(|p| p.rate_from_bytes_per_s).collect();
        rates.sort_unstable_by_key(|&rate| Reverse(rate));
        prop_assert_eq!(rates, best);
    }

    #[test]
    fn the_order_of_peers_decides_nothing(peers in any_peers(), policy in any_policy(), seed: u64) {
        let mut shuffled = peers.clone();
        Rng::new(seed ^ 1).shuffle(&mut shuffled);
        let (mut a, mut b) = (choker(policy, 3, seed), choker(policy, 3, seed));
        for round in 10..15 {
            let now = s(round * 10);
            prop_assert_eq!(a.rechoke(now, &peers, 0), b.rechoke(now, &shuffled, 0));
        }
    }

    #[test]
    fn a_seed_serves_everyone_in_bounded_time_however_many_come_later(
        early in 1u32..40, newcomers_per_round in 0u32..5, slots in 1usize..8, seed: u64,
    ) {
        let mut choker = choker(Policy::Seeding, slots, seed);
        let mut peers: Vec<ChokerPeer> = (0..early).map(peer).collect();
        let mut served_at: BTreeMap<PeerKey, Time> = BTreeMap::new();
        // Whoever was there from the start waits for the turns of those before him, at most.
        let turns = u64::from(early).div_ceil(slots as u64);
        let deadline = s(turns * (SEEDING_TURN + RECHOKE_INTERVAL).as_secs());
        let mut now = Time::ZERO;
        while now < deadline {
            for _ in 0..if now > Time::ZERO { newcomers_per_round } else { 0 } {
                let key = peers.len() as u32;
                peers.push(ChokerPeer { connected_at: now, choke_changed_at: now, ..peer(key) });
            }
            let decision = choker.rechoke(now, &peers, 0);
            decision.unchoke.iter().for_each(|&key| { served_at.entry(key).or_insert(now); });
            apply(now, &mut peers, &decision);
            now += RECHOKE_INTERVAL;
        }
        for key in (0..early).map(PeerKey) {
            prop_assert!(served_at.contains_key(&key), "{key:?} waits after {deadline:?}");
        }
    }

    #[test]
    fn a_turn_of_seeding_lasts_and_ends(waiting in 1u32..20, slots in 1usize..6, seed: u64) {
        let mut choker = choker(Policy::Seeding, slots, seed);
        let mut peers: Vec<ChokerPeer> = (0..waiting + slots as u32).map(peer).collect();
        for round in 0..60 {
            let now = s(round * 10);
            let before = peers.clone();
            let decision = choker.rechoke(now, &peers, 0);
            apply(now, &mut peers, &decision);
            for (p, was) in peers.iter().zip(before) {
                let held = now.since(p.choke_changed_at);
                prop_assert!(p.am_choking || held <= SEEDING_TURN + RECHOKE_INTERVAL || waiting < slots as u32);
                if p.am_choking && !was.am_choking {
                    prop_assert!(now.since(was.choke_changed_at) >= SEEDING_TURN);
                }
            }
        }
    }
}

#[test]
fn a_seed_takes_the_slot_of_a_peer_that_takes_nothing() {
    let mut choker = choker(Policy::Seeding, 2, 1);
    let unchoked = |key, rate| ChokerPeer {
        am_choking: false,
        choke_changed_at: s(10),
        rate_to_bytes_per_s: rate,
        ..peer(key)
    };
    let peers = [unchoked(1, 500_000), unchoked(2, 0), peer(3)];
    assert_eq!(choker.rechoke(s(15), &peers, 0).unchoke, [PeerKey(1), PeerKey(2)]);
    assert_eq!(choker.rechoke(s(20), &peers, 0).unchoke, [PeerKey(1), PeerKey(3)]);
}

#[test]
fn the_optimistic_slot_goes_round_every_thirty_seconds() {
    let mut choker = choker(Policy::TitForTat, 2, 3);
    let best = |key| ChokerPeer { rate_from_bytes_per_s: 1_000, ..peer(key) };
    let peers: Vec<ChokerPeer> = (0..2).map(best).chain((2..12).map(peer)).collect();
    let mut holders: Vec<PeerKey> = Vec::new();
    for round in 0..300 {
        let decision = choker.rechoke(s(round * 10), &peers, 0);
        holders.push(decision.optimistic.unwrap());
    }
    assert!(holders.iter().all(|key| key.0 >= 2));
    for turn in holders.chunks(3) {
        assert!(turn.iter().all(|key| *key == turn[0]), "{turn:?}");
    }
    let turns: Vec<PeerKey> = holders.chunks(3).map(|turn| turn[0]).collect();
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "nobody is chosen twice running");
    assert!((2..12).all(|key| turns.contains(&PeerKey(key))), "everyone gets a chance");
}

#[test]
fn a_new_peer_is_three_times_as_likely_to_be_tried() {
    let now = s(1_000);
    let chosen = |seed| {
        let mut peers: Vec<ChokerPeer> = (0..9).map(peer).collect();
        peers[0].rate_from_bytes_per_s = 1;
        peers[8].connected_at = now;
        choker(Policy::TitForTat, 1, seed).rechoke(now, &peers, 0).optimistic
    };
    // One of three tickets out of ten: 300 of 1,000, give or take.
    let hits = (0..1_000).filter(|&seed| chosen(seed) == Some(PeerKey(8))).count();
    assert!((240..360).contains(&hits), "{hits}");
}

#[test]
fn an_optimistic_peer_that_earns_a_slot_makes_room_for_another() {
    let mut choker = choker(Policy::TitForTat, 1, 5);
    let mut peers: Vec<ChokerPeer> = (0..3).map(peer).collect();
    peers[0].rate_from_bytes_per_s = 10;
    let first = choker.rechoke(s(0), &peers, 0).optimistic.unwrap();
    peers[first.0 as usize].rate_from_bytes_per_s = 20;
    let decision = choker.rechoke(s(10), &peers, 0);
    assert!(decision.unchoke.contains(&first));
    assert_ne!(decision.optimistic, Some(first));
    assert_eq!(decision.unchoke.len(), 2);
}

#[test]
fn who_may_have_a_free_slot_before_the_next_rechoke() {
    let mut choker = choker(Policy::TitForTat, 2, 0);
    assert_eq!(choker.capacity(), 3);
    assert!(choker.may_have_a_slot(&peer(0)));
    assert!(!choker.may_have_a_slot(&ChokerPeer { snubbed: true, ..peer(0) }));
    assert!(!choker.may_have_a_slot(&ChokerPeer { peer_interested: false, ..peer(0) }));
    choker.set_policy(Policy::Seeding);
    assert_eq!(choker.capacity(), 2);
    assert!(choker.may_have_a_slot(&ChokerPeer { snubbed: true, ..peer(0) }));
}

#[test]
fn who_wastes_its_slot_comes_last() {
    for policy in [Policy::TitForTat, Policy::Seeding] {
        for seed in 0..100 {
            let wasters =
                (0..10).map(|key| ChokerPeer { wastes: true, am_choking: key % 2 == 0, ..peer(key) });
            let others = (10..12).map(|key| ChokerPeer { choke_changed_at: s(90), ..peer(key) });
            let peers: Vec<ChokerPeer> = wasters.chain(others).collect();
            let decision = choker(policy, 2, seed).rechoke(s(100), &peers, 0);
            assert!([10, 11].iter().all(|key| decision.unchoke.contains(&PeerKey(*key))), "{decision:?}");
        }
    }
}

#[test]
fn whoever_took_and_never_gave_comes_last() {
    let givers = (0..4).map(|key| ChokerPeer { has_given: true, has_taken: true, ..peer(key) });
    let takers = (4..12).map(|key| ChokerPeer { has_taken: true, ..peer(key) });
    let fresh = (12..16).map(peer);
    let peers: Vec<ChokerPeer> = givers.chain(takers).chain(fresh).collect();
    let mut chances = [0; 2];
    for seed in 0..1_000 {
        let decision = choker(Policy::TitForTat, 4, seed).rechoke(s(100), &peers, 0);
        assert!((0..4).all(|key| decision.unchoke.contains(&PeerKey(key))), "{decision:?}");
        chances[usize::from(decision.optimistic.unwrap().0 >= 12)] += 1;
    }
    // Eight of weight one against four of weight four.
    assert!((250..420).contains(&chances[0]), "{chances:?}");
}
