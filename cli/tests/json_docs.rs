//! `docs/json.md` tells what `get`, `seed` and `create` print with `--json`: all of it, and nothing else.

mod common;

use common::{Running, bytes, run_ok, write};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use tempfile::TempDir;

const PIECE: usize = 64 << 10;
const LOCAL: [&str; 3] = ["--listen", "127.0.0.1:0", "--no-dht"];

/// Come only between hosts behind NATs: `.ci/interop/test_holepunch.py` reads them.
const BETWEEN_HOSTS: [&str; 2] = ["holepunched", "holepunch_failed"];

/// The fields of each event of the page, with their types; those of `create` are under its name.
type Fields = BTreeMap<String, BTreeMap<String, String>>;

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md")).unwrap()
}

/// The cells of a row of a table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
    Some(row.split(" | ").collect())
}

/// The text between backquotes, if all of it is.
fn code(text: &str) -> Option<&str> {
    text.strip_prefix('`')?.strip_suffix('`')
}

fn documented(page: &str) -> Fields {
    let (mut fields, mut every, mut event) = (Fields::new(), BTreeMap::new(), None);
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("### ").or(line.strip_prefix("## ")).and_then(code) {
            event = Some(name.to_owned());
            let common = if name == "create" { BTreeMap::new() } else { every.clone() };
            fields.insert(name.to_owned(), common);
        }
        let Some(&[name, type_name, _]) = cells(line).as_deref() else { continue };
        // The table of exit statuses has numbers there.
        let Some(name) = code(name).filter(|_| type_name.parse::<u8>().is_err()) else { continue };
        let of = event.as_ref().map_or(&mut every, |event| fields.get_mut(event).unwrap());
        assert!(
            of.insert(name.to_owned(), type_name.to_owned()).is_none(),
            "{name} stands twice in {event:?}"
        );
    }
    fields
}

/// The exit status of each `kind` of failure.
fn statuses(page: &str) -> BTreeMap<String, i32> {
    let rows = page.lines().filter_map(cells);
    rows.filter_map(|row| Some((code(row.first()?)?.to_owned(), row.get(1)?.parse().ok()?))).collect()
}

fn is_of(value: &Value, type_name: &str) -> bool {
    match type_name {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_f64(),
        "boolean" => value.is_boolean(),
        "number or null" => value.is_f64() || value.is_null(),
        "string or null" => value.is_string() || value.is_null(),
        "array of strings" => value.as_array().is_some_and(|values| values.iter().all(Value::is_string)),
        "array of objects" => value.as_array().is_some_and(|values| values.iter().all(Value::is_object)),
        _ => panic!("{type_name}: no type that this test knows"),
    }
}

/// Each field of an object, those of objects in arrays as `array[].field`.
fn flat(object: &Value) -> Vec<(String, &Value)> {
    let mut fields = Vec::new();
    for (name, value) in object.as_object().unwrap() {
        fields.push((name.clone(), value));
        for inner in value.as_array().into_iter().flatten().filter(|inner| inner.is_object()) {
            fields.extend(flat(inner).into_iter().map(|(field, value)| (format!("{name}[].{field}"), value)));
        }
    }
    fields
}

/// What came, compared with the page.
struct Seen {
    documented: Fields,
    statuses: BTreeMap<String, i32>,
    fields: BTreeSet<(String, String)>,
}

impl Seen {
    fn object(&mut self, event: &str, object: &Value) {
        let known = self.documented.get(event).unwrap_or_else(|| panic!("{event} is not in the page"));
        let fields = flat(object);
        for (field, value) in &fields {
            let type_name =
                known.get(field).unwrap_or_else(|| panic!("{event}: {field} is not in the page: {object}"));
            assert!(is_of(value, type_name), "{event}: {field} is no {type_name}: {object}");
        }
        for field in known.keys().filter(|field| !field.contains("[]")) {
            assert!(fields.iter().any(|(name, _)| name == field), "{event} has no {field}: {object}");
        }
        self.fields.extend(fields.into_iter().map(|(field, _)| (event.to_owned(), field)));
    }

    /// Waits for the end of a command and takes in all that it printed. The last event.
    fn all_of(&mut self, mut command: Running) -> Value {
        let (status, last) = command.finish();
        for event in &command.events {
            self.object(event["event"].as_str().unwrap(), event);
        }
        if last["event"] == "failed" {
            let kind = last["kind"].as_str().unwrap();
            assert_eq!(self.statuses.get(kind).copied(), status, "{kind}");
        }
        last
    }
}

fn start(dir: &Path, args: &[&str]) -> Running {
    Running::start(dir, [args, &LOCAL[..]].concat())
}

/// A gateway that speaks NAT-PMP and grants what it is asked for.
fn gateway() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut asked = [0; 100];
        while let Ok((_, from)) = socket.recv_from(&mut asked) {
            let head = [0, asked[1] | 0x80, 0, 0, 0, 0, 0, 1];
            let answer = match asked[..2] {
                [2, _] => [0, 0x80, 0, 1, 0, 0, 0, 0].to_vec(),
                [0, 0] => [&head[..], &[203, 0, 113, 5]].concat(),
                _ => [&head[..], &asked[4..12]].concat(),
            };
            let _ = socket.send_to(&answer, from);
        }
    });
    addr
}

/// Every event that the page has, from commands over loopback.
fn provoke(dir: &Path, seen: &mut Seen) {
    write(dir.join("data/file"), bytes(3, 64 * PIECE));
    let created = run_ok(dir, ["create", "data/file", "-l", "64KiB", "--json"]).json();
    seen.object("create", &created);
    let hash = created["info_hash_v1"].as_str().unwrap();

    let mut seed = start(dir, &["seed", "file.meta", "data"]);
    let peer = seed.address();
    seed.wait_for("checked");
    let get = |to: &str, more: &[&str]| start(dir, &[&["get", "file.meta", "-o", to], more].concat());

    // Nobody has this link's metadata, and its tracker is none.
    let mut lost = start(dir, &["get", &format!("magnet:?xt=urn:btih:{hash}&tr=none")]);
    lost.wait_for("fetching");
    lost.signal("INT");
    assert_eq!(seen.all_of(lost)["kind"], "interrupted");

    let mut full = get("full", &["--peer", &peer, "--inject-disk-full", "300KiB,50ms"]);
    full.wait_for("disk_resumed");
    assert_eq!(seen.all_of(full)["event"], "complete");
    let full = get("too-full", &["--peer", &peer, "--inject-disk-full", "300KiB,1h", "--space-wait", "50ms"]);
    assert_eq!(seen.all_of(full)["kind"], "destination");
    let reused = get("reused", &["--reuse", "data"]);
    assert_eq!(seen.all_of(reused)["event"], "complete");
    let mut streamed = get("streamed", &["--peer", &peer, "--stream"]);
    streamed.wait_for("stream");
    streamed.wait_for("complete");
    streamed.signal("TERM");
    assert_eq!(seen.all_of(streamed)["event"], "stopped");
    let full = get("full", &["--files", "nothing"]);
    assert_eq!(seen.all_of(full)["kind"], "usage");

    // A web server that has nothing, and one that is none. The peer comes later.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", server.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        while let Ok((mut stream, _)) = server.accept() {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let mut web = get("web", &["--web-seed", &url, "--web-seed", "http://127.0.0.1:1/file"]);
    web.wait_until("web_seed_fault", |event| event["file"].is_string());
    web.wait_until("web_seed_fault", |event| event["file"].is_null());
    web.signal("TERM");
    assert_eq!(seen.all_of(web)["kind"], "interrupted");
    let mut web = get("web", &["--web-seed", &url, "--peer", &peer, "--seed"]);
    web.wait_for("complete");
    web.signal("TERM");
    assert_eq!(seen.all_of(web)["event"], "stopped");

    // A gateway that grants the port, and one that is not there.
    let (gateway, nobody) = (gateway(), UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for (gateway, event) in [(gateway, "port_mapped"), (nobody, "port_not_mapped")] {
        let mut mapped = get("mapped", &["--gateway", &gateway.to_string()]);
        mapped.wait_for(event);
        mapped.signal("INT");
        assert_eq!(seen.all_of(mapped)["kind"], "interrupted");
    }

    // A peer that the filter blocks.
    write(dir.join("filter"), "nobody:127.0.0.9-127.0.0.9\nnonsense\n");
    let mut wary = get("wary", &["--peer", "127.0.0.9:6881", "--ip-filter", "filter"]);
    wary.wait_for("ip_filter_blocked");
    wary.signal("INT");
    assert_eq!(seen.all_of(wary)["kind"], "interrupted");

    // A download whose file another program cuts.
    let mut changed = get("changed", &["--peer", &peer, "--max-down", "2MiB/s"]);
    changed.wait_until("progress", |event| event["pieces_have"].as_u64() > Some(10));
    let part = fs::File::options().write(true).open(dir.join("changed/.file.swarm/0.part")).unwrap();
    part.set_len(PIECE as u64).unwrap();
    changed.wait_for("data_bad");
    seen.all_of(changed);

    // A seed whose data has rotted, and that has it fetched again.
    get("rotten", &["--peer", &peer]).complete();
    let file = fs::File::options().write(true).open(dir.join("rotten/file")).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"rot", 9).unwrap();
    file.set_modified(time).unwrap();
    let mut mended = start(dir, &["seed", "file.meta", "rotten", "--scrub", "1G", "--peer", &peer]);
    mended.wait_for("data_mended");
    mended.signal("TERM");
    assert_eq!(seen.all_of(mended)["reason"], "terminated");

    let mut poisoner = start(dir, &["seed", "file.meta", "data", "--inject-poison"]);
    let mut poisoned = get("poisoned", &["--peer", &poisoner.address()]);
    poisoned.wait_for("peer_banned");
    // SIGHUP would do too, but under `nohup` it is ignored.
    poisoned.signal("TERM");
    assert_eq!(seen.all_of(poisoned)["kind"], "interrupted");

    seed.signal("TERM");
    assert_eq!(seen.all_of(seed)["reason"], "terminated");
    assert_eq!(seen.all_of(start(dir, &["seed", "file.meta", "nowhere"]))["kind"], "data");
    assert_eq!(seen.all_of(start(dir, &["get", "data/file"]))["kind"], "metainfo");
    assert_eq!(seen.all_of(start(dir, &["get", "missing.meta"]))["kind"], "runtime");

    let mut seed = start(dir, &["create", "data/file", "--seed", "-o", "again.meta"]);
    let peer = seed.address();
    let several = start(dir, &["get", "again.meta", "missing.meta", "-o", "several", "--peer", &peer]);
    assert_eq!(seen.all_of(several)["event"], "summary");
    seed.signal("TERM");
    assert_eq!(seen.all_of(seed)["event"], "stopped");
}

#[test]
fn the_page_has_what_comes_and_what_it_has_comes() {
    let dir = TempDir::new().unwrap();
    let page = page();
    let mut seen = Seen { documented: documented(&page), statuses: statuses(&page), fields: BTreeSet::new() };
    assert_eq!(seen.statuses.len(), 7, "{:?}", seen.statuses);
    provoke(dir.path(), &mut seen);
    let documented = seen.documented.iter().filter(|(event, _)| !BETWEEN_HOSTS.contains(&event.as_str()));
    let missing: Vec<_> = documented
        .flat_map(|(event, fields)| fields.keys().map(move |field| (event.clone(), field.clone())))
        .filter(|field| !seen.fields.contains(field))
        .collect();
    assert!(missing.is_empty(), "in the page, and never printed: {missing:?}");
}
