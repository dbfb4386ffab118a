//! The torrent's own tests: small swarms, invariants checked after every step.

use std::collections::BTreeSet;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::PieceIndex;
use swarm_core::metainfo::Format;
use swarm_core::padding::Padding;
use swarm_core::picker::{Order, Priority};
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::Pressure;
use swarm_sim::{Behaviour, Buffers, NodeConfig, NodeId, Rate, World};

fn geometry(pieces: u32, blocks: u32) -> Geometry {
    let piece_len = u64::from(blocks * BLOCK_LEN);
    // The last piece and its last block are short.
    Geometry::new(piece_len * u64::from(pieces) - 5_000, piece_len).unwrap()
}

fn seconds(s: u64) -> Time {
    Time::ZERO + Duration::from_secs(s)
}

/// A swarm in which everyone knows everyone: these seeds, then these leechers.
fn swarm(geometry: Geometry, seed: u64, hosts: &[NodeConfig]) -> (World, Vec<NodeId>) {
    let mut world = World::new(geometry, seed);
    let ids: Vec<NodeId> = hosts.iter().map(|host| world.join(*host)).collect();
    ids.iter().for_each(|&id| world.introduce(id));
    (world, ids)
}

fn source() -> NodeConfig {
    NodeConfig { seed: true, ..NodeConfig::default() }
}

#[test]
fn one_to_one_runs_at_the_rate_of_the_uplink() {
    let geometry = geometry(64, 16);
    let (mut world, _) = swarm(geometry.clone(), 1, &[source(), NodeConfig::default()]);
    assert!(world.run(seconds(60), World::is_complete));
    let ideal = Rate::mbit_per_s(100).time_for(geometry.total_len());
    let took = world.now().since(Time::ZERO);
    assert!(took < ideal + Duration::from_millis(350), "{took:?} for {ideal:?}");
}

#[test]
fn padding_is_neither_sent_nor_waited_for() {
    // 30 files of 1,000 bytes, each in a piece of 1 MiB.
    let piece_len = 64 * u64::from(BLOCK_LEN);
    let mut world = World::new(Geometry::new(30 * piece_len, piece_len).unwrap(), 1);
    let pad = |n| (n * piece_len + 1_000..(n + 1) * piece_len, false);
    world.template().padding = Padding::new((0..30).map(pad));
    let ids: Vec<NodeId> =
        [source(), NodeConfig::default(), NodeConfig::default()].map(|c| world.join(c)).into();
    ids.iter().for_each(|&id| world.introduce(id));
    assert!(world.run(seconds(60), World::is_complete));
    for &id in &ids[1..] {
        let totals = world.torrent(id).totals();
        assert!(totals.bytes_down - totals.bytes_wasted == 30 * u64::from(BLOCK_LEN), "{totals:?}");
    }
}

#[test]
fn a_crowded_downlink_holds_its_senders_back_where_there_is_an_end_to_queues() {
    let slow = NodeConfig { down: Rate::mbit_per_s(10), ..NodeConfig::default() };
    let on_its_way = |buffers| {
        let mut world = World::new(geometry(256, 16), 1);
        world.set_buffers(buffers);
        let ids = [source(), slow].map(|host| world.join(host));
        ids.iter().for_each(|&id| world.introduce(id));
        world.run(seconds(10), |_| false);
        let [sent, received] = ids.map(|id| world.torrent(id).totals());
        assert!(received.bytes_down > 10_000_000, "{received:?}");
        sent.bytes_up - received.bytes_down
    };
    let buffers = Buffers::default();
    let buffered = on_its_way(Some(buffers));
    // What a queue of 50 ms and a path of 20 ms hold at 10 Mbit/s, a block more at either end, and the socket.
    assert!(buffered < buffers.socket + 70 * 1_250 + 2 * u64::from(BLOCK_LEN), "{buffered} bytes");
    let endless = on_its_way(None);
    assert!(endless > 3 * buffered, "{endless} bytes without an end");
}

#[test]
fn a_swarm_completes_and_shares_the_work() {
    let geometry = geometry(256, 16);
    let mut hosts = vec![source()];
    hosts.resize(9, NodeConfig::default());
    let (mut world, ids) = swarm(geometry.clone(), 2, &hosts);
    assert!(world.run(seconds(120), World::is_complete));
    let sent = world.torrent(ids[0]).totals().bytes_up;
    assert!(sent < 2 * geometry.total_len(), "the source sent {sent} bytes for 8 copies");
    let wasted: u64 = ids.iter().map(|&id| world.torrent(id).totals().bytes_wasted).sum();
    assert!(wasted * 100 < 8 * geometry.total_len(), "{wasted} bytes wasted");
}

#[test]
fn a_seed_number_means_one_run() {
    let run = |seed| {
        let mut hosts = vec![source()];
        hosts.resize(5, NodeConfig::default());
        let (mut world, _) = swarm(geometry(32, 4), seed, &hosts);
        assert!(world.run(seconds(60), World::is_complete));
        world.trace()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn random_swarms_complete() {
    for seed in 0..20 {
        let hosts: Vec<NodeConfig> = (0..6)
            .map(|i| NodeConfig {
                seed: i == 0,
                up: Rate::mbit_per_s(1 + (seed * 7 + i * 13) % 50),
                down: Rate::mbit_per_s(2 + (seed * 11 + i * 5) % 100),
                delay: Duration::from_millis((seed * 3 + i * 17) % 120),
                ..NodeConfig::default()
            })
            .collect();
        let (mut world, ids) = swarm(geometry(24, 3), seed, &hosts);
        world.run(Time::ZERO + Duration::from_millis(800), |_| false);
        world.leave(ids[1 + (seed as usize % 5)]);
        assert!(world.run(seconds(300), World::is_complete), "seed {seed} did not complete");
    }
}

#[test]
fn poisoners_are_banned_and_nobody_else() {
    for seed in 0..10 {
        let poisoner = NodeConfig { seed: true, behaviour: Behaviour::Poisoner, ..NodeConfig::default() };
        let mut hosts = vec![source(), poisoner];
        hosts.resize(7, NodeConfig::default());
        let (mut world, ids) = swarm(geometry(64, 4), seed, &hosts);
        assert!(world.run(seconds(300), World::is_complete), "seed {seed} did not complete");
        let banned: BTreeSet<NodeId> = world.bans().map(|(_, whom)| whom).collect();
        assert_eq!(banned, BTreeSet::from([ids[1]]), "seed {seed}");
    }
}

#[test]
fn a_peer_that_freezes_near_the_end_costs_little() {
    let geometry = geometry(256, 16);
    let run = |freezes: Option<Time>| {
        let mut hosts = vec![source(); 8];
        if let Some(at) = freezes {
            hosts[3].behaviour = Behaviour::FreezesAt(at);
        }
        hosts.push(NodeConfig { down: Rate::mbit_per_s(2_000), ..NodeConfig::default() });
        let (mut world, _) = swarm(geometry.clone(), 3, &hosts);
        assert!(world.run(seconds(60), World::is_complete));
        world.now()
    };
    let healthy = run(None);
    let frozen = run(Some(Time::from_micros(healthy.as_micros() * 95 / 100)));
    let later = frozen.since(healthy);
    assert!(later > Duration::ZERO && later < Duration::from_millis(1_500), "{healthy:?} {frozen:?}");
}

#[test]
fn a_frozen_peer_in_the_middle_does_not_hold_its_blocks() {
    let geometry = geometry(256, 4);
    let mut hosts = vec![source(), source(), NodeConfig::default()];
    hosts[0].behaviour = Behaviour::FreezesAt(Time::from_micros(500_000));
    let (mut world, ids) = swarm(geometry.clone(), 4, &hosts);
    assert!(world.run(seconds(60), World::is_complete));
    assert!(world.torrent(ids[2]).totals().bytes_wasted < geometry.total_len() / 20);
}

#[test]
fn unwanted_pieces_are_left_alone_and_sequential_order_is_kept() {
    let (mut world, ids) = swarm(geometry(16, 2), 5, &[source(), NodeConfig::default()]);
    world.with_torrent(ids[1], |torrent, now| {
        torrent.set_order(Order::Sequential);
        torrent.set_priorities(now, (0..8).map(|p| (PieceIndex(p), Priority::SKIP)));
    });
    assert!(world.run(seconds(20), World::is_complete));
    assert_eq!(
        world.torrent(ids[1]).have().iter().map(|p| p.0).collect::<Vec<_>>(),
        (8..16).collect::<Vec<_>>()
    );
}

#[test]
fn full_memory_stops_requests_until_it_is_free() {
    let (mut world, ids) = swarm(geometry(64, 4), 6, &[source(), NodeConfig::default()]);
    world.run(Time::from_micros(300_000), |_| false);
    world.with_torrent(ids[1], |torrent, now| torrent.set_pressure(now, Pressure::Full));
    world.run(seconds(5), |_| false);
    let before = world.torrent(ids[1]).totals().bytes_down;
    world.run(seconds(10), |_| false);
    assert_eq!(world.torrent(ids[1]).totals().bytes_down, before);
    world.with_torrent(ids[1], |torrent, now| torrent.set_pressure(now, Pressure::None));
    assert!(world.run(seconds(60), World::is_complete));
}

#[test]
fn someone_who_comes_late_is_served_by_a_busy_seed() {
    let slow = NodeConfig { up: Rate::mbit_per_s(5), ..source() };
    let mut hosts = vec![slow];
    hosts.resize(13, NodeConfig { up: Rate(1_000), ..NodeConfig::default() });
    let (mut world, _) = swarm(geometry(128, 16), 7, &hosts);
    world.run(seconds(60), |_| false);
    let late = world.join(NodeConfig::default());
    world.introduce(late);
    let served = |world: &World| world.torrent(late).totals().bytes_down > 0;
    assert!(world.run(seconds(180), served), "nothing sent to the late comer in two minutes");
}

#[test]
fn a_super_seed_gives_up_hiding_where_nobody_passes_anything_on() {
    let mut world = World::new(geometry(64, 4), 8);
    world.template().super_seeding = true;
    let rider = NodeConfig { behaviour: Behaviour::FreeRider, ..NodeConfig::default() };
    let source = world.join(source());
    let riders: Vec<NodeId> = (0..6).map(|_| world.join(rider)).collect();
    world.introduce(source);
    assert!(world.run(seconds(300), |world| riders.iter().all(|&id| world.torrent(id).is_complete())));
}

#[test]
fn a_super_seed_finds_out_what_those_want_who_do_not_want_everything() {
    let mut world = World::new(geometry(64, 4), 9);
    world.template().super_seeding = true;
    let ids: Vec<NodeId> =
        (0..7).map(|i| world.join(NodeConfig { seed: i == 0, ..NodeConfig::default() })).collect();
    for &id in &ids[1..] {
        world.with_torrent(id, |torrent, now| {
            torrent.set_priorities(now, (0..60).map(|p| (PieceIndex(p), Priority::SKIP)));
        });
    }
    ids.iter().for_each(|&id| world.introduce(id));
    assert!(world.run(seconds(120), World::is_complete));
}

#[test]
fn peers_of_both_versions_carry_a_hybrid_between_those_of_one() {
    for (format, other) in [(Format::V1, Format::V2), (Format::V2, Format::V1)] {
        let lengths = [5 * 65_536 + 1_000, 0, 100, 30 * 65_536 - 7];
        let mut world = World::of_files(&lengths, 4 * BLOCK_LEN, Format::Hybrid, 3).unwrap();
        let host = |format| NodeConfig { format, ..NodeConfig::default() };
        let hosts = [
            NodeConfig { format, ..source() },
            host(other),
            host(other),
            host(Format::Hybrid),
            host(format),
            { host(Format::Hybrid) },
        ];
        let ids: Vec<NodeId> = hosts.into_iter().map(|host| world.join(host)).collect();
        ids.iter().for_each(|&id| world.introduce(id));
        // Whoever meets knows what the other speaks.
        let meets_its_own = |world: &World| {
            ids.iter().all(|&id| {
                let format = world.config(id).format;
                world
                    .torrent(id)
                    .peers()
                    .all(|peer| if peer.info.v2 { format.has_v2() } else { format.has_v1() })
            })
        };
        let mut is_apart = true;
        assert!(world.run(seconds(300), |world| {
            is_apart &= meets_its_own(world);
            world.is_complete()
        }));
        assert!(is_apart && world.bytes_of_sources() > 0);
    }
}

/// A poison mix: how many bytes came in vain to those who download, until all have everything.
fn poisoned(mut world: World, poisoners: usize) -> u64 {
    let poisoner = NodeConfig { seed: true, behaviour: Behaviour::Poisoner, ..NodeConfig::default() };
    let mut hosts = vec![source(); 2];
    hosts.extend(vec![poisoner; poisoners]);
    hosts.extend(vec![NodeConfig::default(); 8]);
    world.set_checks(swarm_sim::Checks::Every(Duration::from_secs(1)));
    let ids: Vec<NodeId> = hosts.into_iter().map(|host| world.join(host)).collect();
    ids.iter().for_each(|&id| world.introduce(id));
    assert!(world.run(seconds(600), World::is_complete));
    assert!(world.bans().all(|(_, banned)| (2..2 + poisoners as u32).contains(&banned.0)));
    let honest = ids.iter().skip(2 + poisoners);
    honest.map(|&id| world.totals(id).bytes_corrupt).sum()
}

#[test]
fn a_bad_block_costs_a_block_in_version_2_and_a_piece_in_version_1() {
    let (pieces, piece_len) = (64u32, 32 * BLOCK_LEN);
    let len = u64::from(pieces) * u64::from(piece_len);
    let of = |format| {
        let of_seed =
            |seed| poisoned(World::of_files(&[len - 100_000, 100_000], piece_len, format, seed).unwrap(), 3);
        (0..3).map(of_seed).sum::<u64>()
    };
    let [v1, v2, hybrid] = [Format::V1, Format::V2, Format::Hybrid].map(of);
    println!("{v1} bytes in vain in version 1, {v2} in version 2, {hybrid} in a hybrid");
    assert!(
        v2 * 2 < v1 && hybrid * 2 < v1,
        "{v1} bytes in vain in version 1, {v2} in version 2, {hybrid} in a hybrid"
    );
}
