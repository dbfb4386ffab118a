//! What befalls hosts and networks, and that it means something: each test also shows what is lost meanwhile.

use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::time::{Duration, Time};
use swarm_sim::{DiskConfig, NodeConfig, NodeId, PathFaults, Rate, World};

fn geometry(pieces: u32, blocks: u32) -> Geometry {
    let piece_len = u64::from(blocks * BLOCK_LEN);
    Geometry::new(piece_len * u64::from(pieces) - 5_000, piece_len).unwrap()
}

fn seconds(s: u64) -> Time {
    Time::ZERO + Duration::from_secs(s)
}

fn source() -> NodeConfig {
    NodeConfig { seed: true, ..NodeConfig::default() }
}

fn slow_source() -> NodeConfig {
    NodeConfig { up: Rate::mbit_per_s(10), ..source() }
}

fn with_disk(disk: DiskConfig) -> NodeConfig {
    NodeConfig { disk: Some(disk), ..NodeConfig::default() }
}

/// A swarm in which everyone knows everyone.
fn swarm(geometry: Geometry, seed: u64, hosts: &[NodeConfig]) -> (World, Vec<NodeId>) {
    let mut world = World::new(geometry, seed);
    let ids: Vec<NodeId> = hosts.iter().map(|host| world.join(*host)).collect();
    ids.iter().for_each(|&id| world.introduce(id));
    (world, ids)
}

#[test]
fn loss_and_jitter_cost_time_and_nothing_else() {
    let run = |faults| {
        let mut world = World::new(geometry(64, 4), 1);
        world.set_path_faults(faults);
        let ids = [world.join(source()), world.join(NodeConfig::default())];
        ids.iter().for_each(|&id| world.introduce(id));
        assert!(world.run(seconds(60), World::is_complete));
        (world.now(), world.torrent(ids[1]).totals().bytes_wasted)
    };
    let ideal = run(PathFaults::default());
    let lossy = run(PathFaults { jitter: Duration::from_millis(5), loss_permille: 30 });
    assert!(lossy.0 > ideal.0, "{lossy:?} {ideal:?}");
    assert_eq!(lossy.1, 0, "blocks that only came late are wanted all the same");
}

#[test]
fn a_crash_loses_only_what_was_not_synced() {
    let hosts = [slow_source(), with_disk(DiskConfig::default())];
    let (mut world, ids) = swarm(geometry(128, 4), 2, &hosts);
    // The first sync is about 5 s after the first piece, and 0.06 s pass between two pieces.
    world.run(seconds(4), |_| false);
    let early = world.torrent(ids[1]).have().count();
    world.crash(ids[1]);
    world.come_back(ids[1]);
    let kept = world.torrent(ids[1]).have().count();
    assert!(early > 40 && kept < early * 3 / 4 && kept > early / 4, "{kept} of {early}");

    world.introduce(ids[1]);
    world.run(world.now() + Duration::from_secs(10), World::is_complete);
    world.run(world.now() + Duration::from_secs(6), |_| false);
    assert!(world.torrent(ids[1]).is_complete());
    world.crash(ids[1]);
    world.come_back(ids[1]);
    assert!(world.torrent(ids[1]).is_complete(), "everything was synced");
}

#[test]
fn the_peers_of_a_crashed_host_find_out_by_themselves() {
    let (mut world, ids) = swarm(geometry(64, 16), 3, &[source(), source(), NodeConfig::default()]);
    world.run(Time::from_micros(800_000), |_| false);
    world.crash(ids[0]);
    assert_eq!(world.torrent(ids[2]).peers().count(), 2, "nobody told it");
    assert!(
        world.run(seconds(40), World::is_complete),
        "what the crashed host was asked for goes to the other"
    );
    world.come_back(ids[0]);
    world.run(world.now() + Duration::from_secs(1), |_| false);
    world.check();
}

#[test]
fn a_full_disk_is_waited_for() {
    let geometry = geometry(64, 4);
    let disk = DiskConfig { size: Some(geometry.total_len() / 2), ..DiskConfig::default() };
    let (mut world, ids) = swarm(geometry.clone(), 4, &[source(), with_disk(disk)]);
    world.run(seconds(30), World::is_complete);
    assert!(world.torrent(ids[1]).is_disk_stalled());
    let (have, down) = (world.torrent(ids[1]).have().count(), world.torrent(ids[1]).totals().bytes_down);
    assert_eq!(have, 32, "as many pieces as have room");
    world.run(seconds(60), World::is_complete);
    assert_eq!(world.torrent(ids[1]).totals().bytes_down, down, "nothing is asked for meanwhile");
    world.free_space(ids[1]);
    assert!(world.run(seconds(63), World::is_complete));
    assert_eq!(world.torrent(ids[1]).totals().bytes_down, geometry.total_len(), "nothing is fetched twice");
}

#[test]
fn a_write_error_ends_the_torrent_and_a_restart_goes_on() {
    let disk = DiskConfig { write_fails: Some(20), ..DiskConfig::default() };
    let (mut world, ids) = swarm(geometry(64, 4), 5, &[source(), with_disk(disk)]);
    world.run(seconds(30), |world| !world.is_online(NodeId(1)));
    assert!(!world.is_online(ids[1]));
    world.come_back(ids[1]);
    assert_eq!(world.torrent(ids[1]).have().count(), 19);
    world.introduce(ids[1]);
    assert!(world.run(world.now() + Duration::from_secs(30), World::is_complete));
}

#[test]
fn what_one_seed_cannot_read_another_gives() {
    let disk = Some(DiskConfig { unreadable_one_in: Some(4), ..DiskConfig::default() });
    let bad = NodeConfig { disk, ..source() };
    let (mut world, ids) = swarm(geometry(64, 4), 6, &[bad, NodeConfig::default()]);
    assert!(!world.run(seconds(60), World::is_complete), "a quarter of the pieces is nowhere to be had");
    let good = world.join(source());
    world.introduce(good);
    assert!(world.run(world.now() + Duration::from_secs(60), World::is_complete));
    assert!(world.torrent(ids[1]).is_complete());
}

#[test]
fn a_slow_disk_holds_its_host_to_its_rate() {
    let geometry = geometry(256, 4);
    let disk = DiskConfig { rate: Some(Rate::mbit_per_s(20)), ..DiskConfig::default() };
    let (mut world, _) = swarm(geometry.clone(), 7, &[source(), with_disk(disk)]);
    assert!(world.run(seconds(60), World::is_complete));
    let disk_time = Rate::mbit_per_s(20).time_for(geometry.total_len());
    let took = world.now().since(Time::ZERO);
    assert!(took > disk_time && took < disk_time * 3 / 2, "{took:?} for {disk_time:?}");
}

#[test]
fn whoever_comes_while_the_tracker_is_down_is_served_after_it_is_back() {
    let mut world = World::new(geometry(64, 4), 8);
    world.add_tracker();
    world.join(source());
    let early = world.join(NodeConfig::default());
    assert!(world.run(seconds(30), World::is_complete), "they found each other by the tracker alone");
    world.set_tracker_up(false);
    let late = world.join(NodeConfig::default());
    world.run(world.now() + Duration::from_secs(60), World::is_complete);
    assert_eq!(world.torrent(late).totals().bytes_down, 0);
    world.set_tracker_up(true);
    assert!(world.run(world.now() + Duration::from_secs(120), World::is_complete));
    assert!(world.torrent(early).is_complete() && world.torrent(late).is_complete());
}

#[test]
fn a_network_that_was_cut_in_two_grows_together_again() {
    let mut world = World::new(geometry(256, 4), 9);
    world.add_tracker();
    let ids: Vec<NodeId> =
        [slow_source(), NodeConfig::default(), NodeConfig::default()].map(|host| world.join(host)).into();
    world.run(seconds(3), |_| false);
    world.partition(|id| id == ids[2]);
    let before = world.torrent(ids[2]).have().count();
    world.run(seconds(33), |_| false);
    assert!(world.torrent(ids[1]).is_complete());
    assert!(before > 0 && world.torrent(ids[2]).have().count() <= before + 1, "nothing came across");
    world.heal();
    assert!(world.run(world.now() + Duration::from_secs(120), World::is_complete));
}
