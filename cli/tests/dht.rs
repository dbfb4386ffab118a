//! `swarm dht`, and transfers that nothing but the DHT brings together, as processes over loopback.

mod common;

use common::{Running, bytes, run, run_ok, tree, write};

for_both_families![
    what_one_announces_another_finds,
    known_nodes_are_kept_in_a_file,
    seed_and_get_find_each_other_without_a_tracker,
    items_are_put_and_got_and_replaced,
    mutable_torrents_are_put_and_resolved,
    a_mutable_torrents_link_is_enough_to_get_it,
    swarms_are_counted_and_sampled,
    a_node_keeps_its_id_where_it_listens,
    several_addresses_are_several_nodes,
];

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

/// Port 7777 of this host.
fn peer(host: [&str; 2]) -> String {
    format!("{}7777", host[1].trim_end_matches('0'))
}

/// A node for others to join by, and its address.
fn node(dir: &std::path::Path, host: [&str; 2], more: &[&str]) -> (Running, String) {
    let mut node = Running::start(dir, [&["dht"], &host[..], more].concat());
    let address = node.address();
    (node, address)
}

fn what_one_announces_another_finds(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_node, address) = node(dir.path(), host, &[]);
    let local = [host[0], host[1], "--bootstrap", &address];
    let none = run_ok(dir.path(), [&["dht", "get-peers", HASH], &local[..]].concat());
    assert_eq!(none.stdout, "");
    run_ok(dir.path(), [&["dht", "announce", HASH, "--port", "7777"], &local[..]].concat());
    let found = run_ok(dir.path(), [&["dht", "get-peers", HASH], &local[..]].concat());
    assert_eq!(found.stdout, format!("{}\n", peer(host)));
    let told = run_ok(dir.path(), [&["dht", "get-peers", HASH, "--json"], &local[..]].concat());
    assert!(told.stdout.contains(&format!(r#""peers":["{}"]"#, peer(host))), "{told:?}");
    assert!(told.stdout.contains(r#""event":"done""#), "{told:?}");
}

#[test]
fn nobody_to_ask_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let alone = run(dir.path(), ["dht", "get-peers", HASH, "--listen", "127.0.0.1:0"]);
    assert_eq!(alone.code, Some(1));
    assert!(alone.stderr.contains("no node of the DHT answered"), "{alone:?}");
    let wrong = run(dir.path(), ["dht", "get-peers", "0123"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("40 hexadecimal digits"), "{wrong:?}");
}

fn known_nodes_are_kept_in_a_file(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_node, address) = node(dir.path(), host, &[]);
    let ask = ["dht", "get-peers", HASH, host[0], host[1], "--save", "nodes"];
    run_ok(dir.path(), [&ask[..], &["--bootstrap", &address]].concat());
    let saved = std::fs::read_to_string(dir.path().join("nodes")).unwrap();
    assert!(saved.lines().any(|line| line == address), "{saved}");
    run_ok(dir.path(), ask);
}

fn seed_and_get_find_each_other_without_a_tracker(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("data/file"), bytes(3, 200_000));
    run_ok(dir.path(), ["create", "data/file", "-l", "16KiB"]);
    let (_node, address) = node(dir.path(), host, &[]);
    let local = [host[0], host[1], "--dht-bootstrap", &address];
    let _seed = Running::start(dir.path(), [&["seed", "file.meta", "data"], &local[..]].concat());
    let mut got = Running::start(dir.path(), [&["get", "file.meta", "-o", "out"], &local[..]].concat());
    got.complete();
    assert!(tree(&dir.path().join("data")) == tree(&dir.path().join("out")));
}

fn items_are_put_and_got_and_replaced(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_node, address) = node(dir.path(), host, &[]);
    let dht = |args: &[&str]| {
        let local = [host[0], host[1], "--bootstrap", &address];
        run(dir.path(), [&["dht"], args, &local[..]].concat())
    };
    let put = dht(&["put", "Hello World!"]);
    assert_eq!(put.stdout, "e5f96f6f38320f0f33959cb4d3d656452117aadb\n", "{put:?}");
    assert_eq!(dht(&["get", put.stdout.trim()]).stdout, "Hello World!\n");
    assert_eq!(dht(&["get", HASH]).code, Some(1));

    let signed = ["--key", "key", "--salt", "s"];
    let first = dht(&[&["put", "one", "--seq", "1"], &signed[..]].concat());
    let second = dht(&[&["put", "two", "--seq", "2"], &signed[..]].concat());
    assert_eq!((first.code, &first.stdout), (Some(0), &second.stdout), "{first:?}");
    assert_eq!(dht(&["get", first.stdout.trim(), "--salt", "s"]).stdout, "two\n");
    assert_eq!(dht(&[&["put", "old", "--seq", "1"], &signed[..]].concat()).code, Some(1));
}

fn mutable_torrents_are_put_and_resolved(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_node, address) = node(dir.path(), host, &[]);
    let dht = |args: &[&str]| {
        let local = [host[0], host[1], "--bootstrap", &address];
        run(dir.path(), [&["dht"], args, &local[..]].concat())
    };
    let put = dht(&["put", "--torrent", HASH, "--key", "key", "--salt", "n", "--seq", "1"]);
    let (target, link) = put.stdout.split_once('\n').expect("a target and a link");
    assert!(link.starts_with("magnet:?xs=urn:btpk:") && link.ends_with("&s=6e\n"), "{put:?}");
    assert_eq!(dht(&["get", link.trim()]).stdout, format!("{HASH}\n"));
    assert_eq!(dht(&["get", target, "--salt", "n"]).stdout, format!("{HASH}\n"));
    let other = HASH.replace('0', "f");
    dht(&["put", "--torrent", &other, "--key", "key", "--salt", "n", "--seq", "2"]);
    let told = dht(&["get", link.trim(), "--json"]).stdout;
    assert!(told.contains(&format!(r#""torrent":"{other}""#)), "{told}");
    assert_eq!(dht(&["put", "--torrent", HASH]).code, Some(2), "a mutable torrent without a key");
    assert_eq!(dht(&["get", "magnet:?xt=urn:btih:0"]).code, Some(2));
}

fn a_mutable_torrents_link_is_enough_to_get_it(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("data/file"), bytes(3, 200_000));
    run_ok(dir.path(), ["create", "data/file", "-l", "16KiB"]);
    let (_node, address) = node(dir.path(), host, &[]);
    let local = [host[0], host[1], "--dht-bootstrap", &address];
    let _seed = Running::start(dir.path(), [&["seed", "file.meta", "data"], &local[..]].concat());
    let shown = run_ok(dir.path(), ["show", "file.meta", "--json"]).json();
    let hash = shown["info_hash_v1"].as_str().unwrap();
    let put = ["dht", "put", "--torrent", hash, "--key", "key", "--salt", "n", host[0], host[1]];
    let put = run_ok(dir.path(), [&put[..], &["--bootstrap", &address]].concat());
    let link = put.stdout.lines().nth(1).expect("a link");
    let mut got = Running::start(dir.path(), [&["get", link, "-o", "out"], &local[..]].concat());
    got.complete();
    assert!(tree(&dir.path().join("data")) == tree(&dir.path().join("out")));
    let fetched = run_ok(dir.path(), [&["show", "--fetch", link, "--json"], &local[..]].concat()).json();
    assert_eq!(fetched["files"], shown["files"]);

    assert_eq!(run_ok(dir.path(), ["magnet", link]).stdout.trim(), link);
    let alone = run(dir.path(), ["get", link, "--no-dht", host[0], host[1]]);
    assert_eq!(alone.code, Some(2), "{alone:?}");
    assert!(alone.stderr.contains("only the DHT knows what a mutable torrent is"), "{alone:?}");
    let wrong = run(dir.path(), ["get", "magnet:?xs=urn:btpk:12"]);
    assert_eq!(wrong.code, Some(3), "{wrong:?}");
    assert!(wrong.stderr.contains("64 hexadecimal digits"), "{wrong:?}");
}

fn swarms_are_counted_and_sampled(host: [&str; 2]) {
    let family = if host[1].starts_with('[') { "IPv6" } else { "IPv4" };
    let dir = tempfile::tempdir().unwrap();
    let (_node, address) = node(dir.path(), host, &[]);
    let dht = |args: &[&str]| {
        let local = [host[0], host[1], "--bootstrap", &address];
        run_ok(dir.path(), [&["dht"], args, &local[..]].concat()).stdout
    };
    assert_eq!(dht(&["scrape", HASH]), format!("{family}: 0 seeds, 0 downloaders\n"));
    assert_eq!(dht(&["sample"]), "");
    dht(&["announce", HASH, "--port", "7777"]);
    assert_eq!(dht(&["scrape", HASH]), format!("{family}: 0 seeds, 1 downloaders\n"));
    assert_eq!(dht(&["sample"]), format!("{HASH}\n"));
    assert!(dht(&["sample", HASH, "--json"]).contains(r#""count":1"#));
}

fn a_node_keeps_its_id_where_it_listens(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (_node, address) = node(dir.path(), host, &[]);
    let id = |listen: &str| {
        let ask =
            ["dht", "get-peers", HASH, "--json", "--save", "state", "--bootstrap", &address, "--listen"];
        let told = run_ok(dir.path(), [&ask[..], &[listen]].concat()).stdout;
        let listening = told.lines().next().expect("a record").to_owned();
        let after = |key: &str| listening.split_once(key).expect(key).1.split('"').next().unwrap().to_owned();
        (after(r#""addresses":[""#), after(r#""ids":[""#))
    };
    let (first_addr, first) = id(host[1]);
    let (again_addr, again) = id(&first_addr);
    assert_eq!(first_addr == again_addr, first == again, "the id goes with the address");
    assert_ne!(id(host[1]).1, first);
}

fn several_addresses_are_several_nodes(host: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = node(dir.path(), host, &[host[0], host[1]]);
    let told = node.seen("listening")[0].clone();
    assert_eq!(told["addresses"][0], address);
    assert_ne!(told["addresses"][1], address);
    assert_ne!(told["ids"][0], told["ids"][1]);
    let second = told["addresses"][1].as_str().unwrap();
    let local = [host[0], host[1], "--bootstrap", second];
    run_ok(dir.path(), [&["dht", "announce", HASH, "--port", "7777"], &local[..]].concat());
}
