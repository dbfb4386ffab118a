//! Cases collected from other projects, which are not part of this one: the folder that `SWARM_CORPORA` names. Without
//! it these tests have nothing to do, and say so.

#[path = "corpora/table.rs"]
mod table;

use std::path::Path;
use swarm_core::bencode::{Limits, parse};
use swarm_core::net::Family;
use swarm_core::tracker::udp::{Response, TransactionId};
use table::{base64, rows, text};

#[test]
fn bencoded_data_is_taken_or_refused_as_others_do() {
    let wrong: Vec<String> = rows("bencode.json")
        .iter()
        .filter_map(|row| {
            let input = base64(text(row, "b64"));
            let found = parse(&input, &Limits::default()).map(|document| document.root().raw() == input);
            let is_right = match text(row, "expect") {
                "ok" => found == Ok(true),
                "error" => found.is_err(),
                "either" => found != Ok(false),
                other => panic!("{other} in {row}"),
            };
            (!is_right).then(|| format!("{row}: {found:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_recorded_reply_of_a_udp_tracker_is_read() {
    let Some(folder) = std::env::var_os("SWARM_CORPORA") else {
        return eprintln!("skipped: SWARM_CORPORA names no folder with a recorded reply");
    };
    let path = Path::new(&folder).join("wire/udp-tracker-announce-response.bin");
    let datagram = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let Ok(Response::Announce { transaction, response }) = Response::parse(&datagram, Family::V4) else {
        panic!("not an announce");
    };
    assert_eq!(transaction, TransactionId(0xe594_dd14));
    assert_eq!(response.interval.as_secs(), 1652);
    assert_eq!((response.incomplete, response.complete), (Some(257), Some(3341)));
    assert_eq!(response.peers.len(), 200);
    assert_eq!(response.peers[0].addr.to_string(), "46.0.63.105:6881");
}
