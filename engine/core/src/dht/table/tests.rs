use super::*;
use std::net::Ipv4Addr;

fn at(seconds: u64) -> Time {
    Time::from_micros(1) + Duration::from_secs(seconds)
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0100_0000 + n), 6881))
}

/// A node that has exactly `bits` bits in common with the table's own id.
fn node(table: &Table, bits: usize, n: u32) -> NodeInfo {
    NodeInfo { id: table.own.random_near(bits, &mut Rng::new(n.into())), addr: addr(n) }
}

fn table() -> Table {
    Table::new(at(0), NodeId::random(&mut Rng::new(99)))
}

fn has(table: &Table, info: NodeInfo) -> bool {
    table.nodes().any(|known| known == info)
}

/// A table with a full bucket of far nodes, which it returns, and near ones.
fn full() -> (Table, Vec<NodeInfo>) {
    let mut table = table();
    let far: Vec<NodeInfo> = (0..8).map(|n| node(&table, 0, n)).collect();
    for (n, info) in far.iter().enumerate() {
        table.answered(at(n as u64), *info);
    }
    table.answered(at(8), node(&table, 5, 100));
    assert_eq!(table.len(), 9);
    (table, far)
}

#[test]
fn the_table_knows_more_nodes_the_nearer_they_are() {
    let mut table = table();
    for n in 0..2_000 {
        let bits = n as usize % 20;
        table.answered(at(0), node(&table, bits, n));
    }
    let own = table.own();
    for bits in 0..15 {
        let count = table.nodes().filter(|info| own.common_bits(info.id) == bits).count();
        assert_eq!(count, BUCKET_LEN_MAX, "{bits} bits in common");
    }
    assert_eq!(table.closest(own, 8).len(), 8);
}

#[test]
fn the_closest_are_the_closest() {
    let mut table = table();
    let mut rng = Rng::new(5);
    for n in 0..500 {
        table.answered(at(0), NodeInfo { id: NodeId::random(&mut rng), addr: addr(n) });
    }
    let target = NodeId::random(&mut rng);
    let mut all: Vec<NodeInfo> = table.nodes().collect();
    all.sort_by_key(|info| target.distance(info.id));
    assert_eq!(table.closest(target, 8), all[..8]);
}

#[test]
fn who_only_asks_enters_when_it_has_answered() {
    let mut table = table();
    let info = node(&table, 3, 1);
    table.queried(at(0), info);
    assert_eq!(table.len(), 0);
    assert_eq!(table.poll_check(at(0)), Some(info), "there is room: see whether it answers");
    assert_eq!(table.poll_check(at(0)), None, "one at a time");
    table.answered(at(1), info);
    assert!(has(&table, info));
    assert_eq!(table.poll_check(at(1)), None);
}

#[test]
fn only_questionable_nodes_are_pinged_and_only_if_somebody_waits() {
    let (mut table, far) = full();
    let newcomer = node(&table, 0, 50);
    assert_eq!(table.poll_check(at(10_000)), None, "nobody waits");
    table.queried(at(10), newcomer);
    assert_eq!(table.poll_check(at(10)), None, "nobody is questionable");
    assert_eq!(table.poll_check(at(901)), Some(far[0]), "the longest silent");
    table.answered(at(902), far[0]);
    assert_eq!(table.poll_check(at(902)), Some(far[1]));
    table.failed(far[1]);
    assert!(has(&table, far[1]), "once is no proof");
    assert_eq!(table.poll_check(at(903)), Some(far[1]));
    table.failed(far[1]);
    assert!(!has(&table, far[1]));
    assert_eq!(table.poll_check(at(904)), Some(newcomer), "there is room for it if it answers");
    table.answered(at(905), newcomer);
    assert!(has(&table, newcomer));
    assert_eq!(table.len(), 9);
}

#[test]
fn who_is_named_enters_when_it_has_answered_where_there_is_room() {
    let (mut table, _) = full();
    table.named(node(&table, 0, 50));
    assert_eq!(table.poll_check(at(10_000)), None, "that bucket is full");
    let welcome = node(&table, 6, 51);
    table.named(welcome);
    assert_eq!(table.poll_check(at(10)), Some(welcome));
    assert!(!has(&table, welcome));
    table.answered(at(10), welcome);
    assert!(has(&table, welcome));
    table.named(welcome);
    assert_eq!(table.poll_check(at(10)), None, "it is known");
    (0..1_000).for_each(|n| table.named(node(&table, 7, 100 + n)));
    assert_eq!(table.buckets.last().unwrap().spares.len(), BUCKET_LEN_MAX);
}

#[test]
fn neighbours_are_let_in_however_many_ask() {
    let mut table = table();
    for n in 0..8 {
        table.answered(at(0), node(&table, 4, n));
    }
    let nearer = node(&table, 6, 50);
    table.queried(at(1), nearer);
    assert_eq!(table.poll_check(at(1)), Some(nearer), "the last bucket is full, but can be split");
    table.answered(at(2), nearer);
    assert!(has(&table, nearer));
}

#[test]
fn a_bucket_that_is_split_off_is_filled_soon() {
    let mut table = table();
    let mut rng = Rng::new(3);
    (0..4).for_each(|n| table.answered(at(0), node(&table, 0, n)));
    (4..8).for_each(|n| table.answered(at(0), node(&table, 1, n)));
    assert_eq!(table.refresh_at(), Some(at(0) + QUESTIONABLE_AFTER), "as long as there is one bucket");
    table.answered(at(100), node(&table, 1, 8));
    assert_eq!(table.refresh_at(), Some(at(100) + NEW_BUCKET_STEP));
    let target = table.refresh_target(&mut rng);
    assert_eq!(table.own.common_bits(target), 0);
    table.looked_up(at(105), target);
    assert!(table.refresh_at() > Some(at(800)), "once is enough");
    let full = full().0;
    assert_eq!(full.refresh_at(), Some(at(0) + QUESTIONABLE_AFTER), "a full one needs nothing");
}

#[test]
fn a_spare_that_has_answered_replaces_a_bad_node_at_once() {
    let (mut table, far) = full();
    let newcomer = node(&table, 0, 50);
    table.answered(at(10), newcomer);
    assert!(!has(&table, newcomer));
    table.failed(far[3]);
    table.failed(far[3]);
    assert!(has(&table, newcomer) && !has(&table, far[3]));
}

#[test]
fn a_host_has_one_place_and_an_id_stays_with_who_answers() {
    let (mut table, far) = full();
    let mut second = node(&table, 9, 60);
    second.addr = SocketAddr::new(far[0].addr.ip(), 1);
    table.answered(at(10), second);
    assert!(!has(&table, second), "another port of a host that is known");
    let thief = NodeInfo { id: far[0].id, addr: addr(70) };
    table.answered(at(11), thief);
    assert!(!has(&table, thief) && has(&table, far[0]));
    let renamed = NodeInfo { id: node(&table, 4, 61).id, addr: far[0].addr };
    table.answered(at(12), renamed);
    assert!(has(&table, renamed) && !has(&table, far[0]), "a node that was started anew has a new id");
}

#[test]
fn buckets_without_lookups_are_refreshed() {
    let (mut table, _) = full();
    let mut rng = Rng::new(3);
    let own = table.own();
    assert_eq!(table.refresh_at(), Some(at(0) + QUESTIONABLE_AFTER));
    let mut targets: Vec<usize> = Vec::new();
    for _ in 0..table.buckets.len() {
        let target = table.refresh_target(&mut rng);
        targets.push(own.common_bits(target));
        table.looked_up(at(900), target);
    }
    targets.sort_unstable();
    assert_eq!(targets, (0..table.buckets.len() - 1).chain([ID_BITS]).collect::<Vec<_>>());
    assert_eq!(table.refresh_at(), Some(at(900) + QUESTIONABLE_AFTER));
    assert_eq!(Table::new(at(0), own).refresh_at(), None);
}

#[test]
fn whatever_happens_a_table_keeps_its_shape() {
    let mut rng = Rng::new(11);
    let mut table = table();
    for step in 0..20_000u64 {
        let n = rng.below(300) as u32;
        let info = node(&table, n as usize % 30, n);
        match rng.below(4) {
            0 => table.answered(at(step), info),
            1 => table.queried(at(step), info),
            2 => table.failed(info),
            _ => drop(table.poll_check(at(step))),
        }
        let mut hosts: Vec<Host> = table.contacts().map(|contact| Host::of(contact.info.addr)).collect();
        let count = hosts.len();
        hosts.sort_unstable();
        hosts.dedup();
        assert_eq!(hosts.len(), count, "one node for each host");
        for (at, bucket) in table.buckets.iter().enumerate() {
            assert!(bucket.contacts.len() <= BUCKET_LEN_MAX && bucket.spares.len() <= BUCKET_LEN_MAX);
            let ids =
                bucket.contacts.iter().map(|c| c.info.id).chain(bucket.spares.iter().map(|s| s.info.id));
            assert!(ids.into_iter().all(|id| table.index(id) == at));
        }
    }
}
