//! What clients say and are told, without a daemon.

use super::change::{self, Source};
use super::dialect::{Answer, Call, Code, Dialect, Fault, Outcome, Params, Request, older, read};
use super::fields::{Field, Live, Needs, Scene, Torrents, View, named};
use super::kept::Kept;
use super::outline::outline;
use super::session::Facts;
use crate::config::Rules;
use crate::settings::{SettingsEdit, Standing};
use crate::table::{Row, State, Summary};
use crate::torrents::goals::{Goal, GoalWord};
use crate::torrents::{Edit, Id, Place};
use serde_json::{Value, json};
use std::sync::Arc;
use swarm_engine::{Metainfo, SessionOptions};

fn params(value: Value) -> Params {
    value.as_object().cloned().unwrap()
}

fn call(body: &str) -> Call {
    match read(&outline(body.as_bytes()).unwrap()) {
        Request::One(Ok(call)) => call,
        other => panic!("{other:?}"),
    }
}

fn answered(call: &Call, result: Result<Outcome<Torrents>, Fault>) -> Value {
    serde_json::to_value(Answer { dialect: call.dialect, id: call.id.clone(), result }).unwrap()
}

/// Two files of 20,000 and 5 bytes in pieces of 16 KiB, a pad file between them, and a tracker in each of two tiers.
fn row() -> Row {
    let info = [
        &b"d5:filesld6:lengthi20000e4:pathl1:aeed4:attr1:p6:lengthi12768e4:pathl4:.pad5:12768eed6:lengthi5e4:pathl1:c5:b.mkveee"[..],
        b"4:name1:t12:piece lengthi16384e6:pieces60:",
        &[b'x'; 60],
        b"7:privatei1ee",
    ]
    .concat();
    let head = b"d8:announce21:http://a.example.org/13:announce-listll21:http://a.example.org/el26:udp://b.example:7/announceee7:comment2:hi4:info";
    let metainfo = Metainfo::parse(&[&head[..], &info, b"e"].concat()).unwrap();
    let summary = Summary {
        id: Id(7),
        info_hash: Some("ab".repeat(20)),
        name: "t".into(),
        dir: "/srv/d".into(),
        state: State::Downloading,
        bytes_total: 20_005,
        bytes_verified: 16_384,
        pieces: 3,
        pieces_have: 1,
        rate_down: 100,
        bytes_down: 17_000,
        tags: vec!["x".into()],
        category: Some("iso".into()),
        added_at: 1_000,
        download_limit: Some(50_000),
        ..Summary::default()
    };
    Row {
        summary: Arc::new(summary),
        tiers: metainfo.trackers.clone().into(),
        metainfo: Some(Arc::new(metainfo)),
        ..Row::default()
    }
}

fn changed(row: &Row, change: impl FnOnce(&mut Summary)) -> Row {
    let mut summary = Summary::clone(&row.summary);
    change(&mut summary);
    Row { summary: Arc::new(summary), ..row.clone() }
}

fn show(row: &Row, dialect: Dialect, is_table: bool, fields: &[&str]) -> Value {
    let fields = named(&fields.iter().map(|field| json!(field)).collect::<Vec<_>>());
    let torrents = vec![(row.clone(), Live::default())];
    let scene = Scene { now: 2_000, peers_max: 500, ..Scene::default() };
    serde_json::to_value(Torrents { dialect, is_table, fields, torrents, removed: None, scene }).unwrap()
}

#[test]
fn a_call_of_the_older_dialect_means_the_same_as_one_of_json_rpc() {
    let older = call(
        r#"{"method": "torrent-get", "arguments": {"fields": ["hashString", "file-count"], "ids": "recently-active"}, "tag": 4}"#,
    );
    let newer = call(
        r#"{"jsonrpc": "2.0", "method": "torrent_get", "params": {"fields": ["hash_string", "file_count"], "ids": "recently_active"}, "id": 4}"#,
    );
    assert_eq!((older.method.as_str(), older.dialect), ("torrent_get", Dialect::Older));
    assert_eq!((&older.method, &older.params, &older.id), (&newer.method, &newer.params, &newer.id));
    let by_hash =
        call(r#"{"method": "torrent-start", "arguments": {"ids": ["90804BCCE72F", "recently-active"]}}"#);
    assert_eq!(by_hash.params["ids"], json!(["90804BCCE72F", "recently_active"]));
    // A tag that is no number is not told back; nor is there one if there was none.
    assert_eq!(call(r#"{"method": "session-stats", "tag": "x"}"#).id, None);
    assert_eq!(call(r#"{"method": "session-stats"}"#).params, Params::new());
    let encryption = call(r#"{"method": "session-set", "arguments": {"encryption": "tolerated"}}"#);
    assert_eq!(encryption.params["encryption"], "allowed");
    // In JSON-RPC names are as they are.
    assert_eq!(call(r#"{"jsonrpc": "2.0", "method": "torrent-get", "id": "a"}"#).method, "torrent-get");
}

#[test]
fn what_is_no_call_is_answered_by_its_error() {
    let code = |body: &str| match read(&outline(body.as_bytes()).unwrap()) {
        Request::One(Err(answer)) => answer["error"]["code"].as_i64().unwrap(),
        other => panic!("{body}: {other:?}"),
    };
    assert_eq!(code("{"), -32700);
    assert_eq!(code("7"), -32600);
    assert_eq!(code(r#"{"jsonrpc": "1.0", "method": "session_get", "id": 1}"#), -32600);
    assert_eq!(code(r#"{"jsonrpc": "2.0", "method": "session_get", "id": []}"#), -32600);
    let many = format!("[{}1]", "1,".repeat(100));
    assert_eq!(code(&many), -32600);
    match read(
        &outline(br#"[{"jsonrpc": "2.0", "method": "session_get", "id": 1}, {"method": "session-get"}]"#)
            .unwrap(),
    ) {
        Request::Batch(calls) => assert!(calls[0].is_ok() && calls[1].is_err()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_are_written_in_the_dialect_of_the_call() {
    let values =
        params(json!({"download_dir": "/d", "encryption": "allowed", "units": {"speed_bytes": 1000}}));
    let old = call(r#"{"method": "session-get", "tag": 9}"#);
    assert_eq!(
        answered(&old, Ok(Outcome::Values(values.clone()))),
        json!({"arguments": {"download-dir": "/d", "encryption": "tolerated", "units": {"speed-bytes": 1000}}, "result": "success", "tag": 9})
    );
    let new = call(r#"{"jsonrpc": "2.0", "method": "session_get", "id": "q"}"#);
    assert_eq!(
        answered(&new, Ok(Outcome::Values(values.clone()))),
        json!({"jsonrpc": "2.0", "result": values, "id": "q"})
    );
    let space = params(json!({"path": "/d", "size_bytes": 5, "total_size": 6}));
    assert_eq!(Value::from(older(&space)), json!({"path": "/d", "size-bytes": 5, "total_size": 6}));

    let fault = Fault { result: params(json!({"ip_protocol": "ipv4"})), ..Fault::new(Code::Http, "why") };
    assert_eq!(
        answered(&old, Err(fault.clone())),
        json!({"arguments": {"ip_protocol": "ipv4"}, "result": "why", "tag": 9})
    );
    assert_eq!(
        answered(&new, Err(fault))["error"],
        json!({"code": 8, "message": "HTTP error from backend service", "data": {"error_string": "why", "result": {"ip_protocol": "ipv4"}}})
    );
    assert_eq!(answered(&old, Err(Fault::of(Code::Method)))["result"], "no method name");
    assert_eq!(
        answered(&new, Err(Fault::of(Code::FileIndex)))["error"]["message"],
        "file index out of range"
    );
}

/// What Sonarr and Radarr ask for, word for word.
#[test]
fn a_torrent_is_shown_as_media_managers_read_it() {
    let asked = call(
        r#"{"method":"torrent-get","arguments":{"fields":["id","hashString","name","downloadDir","totalSize","leftUntilDone","isFinished","eta","status","secondsDownloading","secondsSeeding","errorString","uploadedEver","downloadedEver","seedRatioLimit","seedRatioMode","seedIdleLimit","seedIdleMode","fileCount","file-count","labels"]}}"#,
    );
    let fields: Vec<&str> =
        asked.params["fields"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let shown = show(&row(), Dialect::Older, false, &fields);
    assert_eq!(
        shown["torrents"],
        json!([{
            "id": 7, "hashString": "ab".repeat(20), "name": "t", "downloadDir": "/srv/d", "totalSize": 20_005,
            "leftUntilDone": 3_621, "isFinished": false, "eta": 36, "status": 4, "secondsDownloading": 0, "secondsSeeding": 0,
            "errorString": "", "uploadedEver": 0, "downloadedEver": 17_000, "seedRatioLimit": 2.0, "seedRatioMode": 0,
            "seedIdleLimit": 30, "seedIdleMode": 0, "file-count": 2, "labels": ["x"],
        }])
    );
}

#[test]
fn files_are_counted_without_pads_and_flags_are_numbers_in_the_older_dialect() {
    let fields = ["files", "file_stats", "wanted", "priorities", "pieces", "availability"];
    let row = Row { priorities: Some(Arc::from([7, 4, 0])), ..row() };
    let new = &show(&row, Dialect::JsonRpc, false, &fields)["torrents"][0];
    assert_eq!(
        new["files"],
        json!([
            {"begin_piece": 0, "end_piece": 2, "bytes_completed": 0, "length": 20_000, "name": "t/a"},
            {"begin_piece": 2, "end_piece": 3, "bytes_completed": 0, "length": 5, "name": "t/c/b.mkv"},
        ])
    );
    assert_eq!((&new["wanted"], &new["priorities"]), (&json!([true, false]), &json!([1, 0])));
    assert_eq!((&new["pieces"], &new["availability"]), (&json!("AA=="), &json!([0, 0, 0])));
    let old = &show(&row, Dialect::Older, false, &fields)["torrents"][0];
    assert_eq!(old["wanted"], json!([1, 0]));
    assert_eq!(old["fileStats"][0], json!({"bytesCompleted": 0, "priority": 1, "wanted": true}));
    assert_eq!(old["files"][0]["bytesCompleted"], 0);
    let complete = changed(&row, |summary| (summary.pieces_have, summary.bytes_verified) = (3, 20_005));
    let shown = &show(&complete, Dialect::Older, false, &["pieces", "availability", "files"])["torrents"][0];
    assert_eq!((&shown["pieces"], &shown["availability"]), (&json!("4A=="), &json!([-1, -1, -1])));
    assert_eq!(shown["files"][0]["bytesCompleted"], 20_000);
}

#[test]
fn a_table_has_its_keys_first() {
    let fields = ["id", "download_dir", "nonsense", "id", "tracker_list"];
    let shown = show(&row(), Dialect::Older, true, &fields);
    let list = "http://a.example.org/\n\nudp://b.example:7/announce";
    assert_eq!(shown["torrents"], json!([["id", "downloadDir", "trackerList"], [7, "/srv/d", list]]));
    assert_eq!(
        show(&row(), Dialect::JsonRpc, true, &fields)["torrents"][0],
        json!(["id", "download_dir", "tracker_list"])
    );
}

#[test]
fn every_field_has_a_value_whatever_the_torrent_is() {
    let link = Row { metainfo: None, link: Some("magnet:?xt=urn:btih:x".into()), ..row() };
    let (live, scene) = (Live::default(), Scene::default());
    for row in [row(), link, Row::default()] {
        for field in Field::ALL {
            let value = View { row: &row, live: &live, scene: &scene }.value(*field);
            assert!(!value.is_null(), "{}", field.name());
        }
    }
    assert_eq!(named(&[json!("id"), json!(1), json!("no")]), [Field::Id]);
    assert_eq!(Needs::of(&[Field::Id, Field::Trackers, Field::Wanted]), Needs::default(), "the table knows");
}

#[test]
fn states_become_those_that_clients_know() {
    let of = |state: State, change: fn(&mut Summary)| {
        let row = changed(&row(), |summary| {
            summary.state = state;
            change(summary);
        });
        show(&row, Dialect::Older, false, &["status"])["torrents"][0]["status"].as_u64().unwrap()
    };
    assert_eq!(of(State::Paused, |_| {}), 0);
    assert_eq!(of(State::Checking, |_| {}), 1);
    assert_eq!(of(State::Checking, |summary| summary.pieces_checked = Some(1)), 2);
    assert_eq!(of(State::Queued, |_| {}), 3);
    assert_eq!(of(State::Queued, |summary| summary.completed_at = Some(5)), 5);
    assert_eq!(
        [State::Metadata, State::Downloading, State::Seeding].map(|state| of(state, |_| {})),
        [4, 4, 6]
    );
    let failed =
        changed(&row(), |summary| (summary.state, summary.error) = (State::Failed, Some("disk".into())));
    let shown = &show(&failed, Dialect::Older, false, &["status", "error", "error_string"])["torrents"][0];
    assert_eq!(shown, &json!({"status": 0, "error": 3, "errorString": "disk"}));
}

fn edit(row: &Row, value: Value) -> Result<Edit, Fault> {
    change::edit(&params(value), row, &mut Kept::default(), 500)
}

#[test]
fn a_limit_and_whether_it_counts_may_come_apart() {
    let mut kept = Kept::default();
    let mut set =
        |row: &Row, value: Value| change::edit(&params(value), row, &mut kept, 500).unwrap().upload_limit;
    let row = row();
    assert_eq!(set(&row, json!({"upload_limit": 20})), Some(None), "it does not count yet");
    assert_eq!(set(&row, json!({"upload_limited": true})), Some(Some(20_000)));
    assert_eq!(set(&row, json!({"download_limit": 7})), None);
    let limited = changed(&row, |summary| summary.upload_limit = Some(1_234));
    assert_eq!(set(&limited, json!({"upload_limited": true})), Some(Some(1_234)), "as it is");
    assert_eq!(set(&limited, json!({"upload_limit": 3})), Some(Some(3_000)));
    assert_eq!(set(&limited, json!({"upload_limited": false})), Some(None));
    assert_eq!(set(&row, json!({"upload_limited": true, "upload_limit": 0})), Some(Some(1)));
}

/// Sonarr: a ratio and a time after it has added one. Flood: files. transmission-remote: trackers, labels, the queue.
#[test]
fn what_clients_set_is_what_the_manager_is_told() {
    let row = Row { priorities: Some(Arc::from([4, 4, 0])), ..row() };
    let sonarr = edit(
        &row,
        json!({"seed_ratio_limit": 1.5, "seed_ratio_mode": 1, "seed_idle_limit": 90, "seed_idle_mode": 1}),
    );
    let expected = Edit {
        ratio_limit: Some(Goal::Value(1.5)),
        seed_time_limit: Some(Goal::Value(5_400)),
        ..Edit::default()
    };
    assert_eq!(sonarr, Ok(expected));
    assert_eq!(
        edit(&row, json!({"seed_ratio_mode": 2})).unwrap().ratio_limit,
        Some(Goal::Word(GoalWord::None))
    );

    let priorities =
        |value: Value| edit(&row, value).map(|edit| edit.priorities.into_iter().collect::<Vec<_>>());
    assert_eq!(priorities(json!({"files_unwanted": [0], "priority_normal": [0]})), Ok(vec![(0, 0)]));
    assert_eq!(
        priorities(json!({"files_wanted": [1], "priority_high": [1]})),
        Ok(vec![(2, 7)]),
        "pads do not count"
    );
    assert_eq!(priorities(json!({"files_wanted": []})), Ok(vec![(2, 4)]));
    assert_eq!(priorities(json!({"priority_low": []})), Ok(vec![(0, 1)]), "what is not wanted stays so");
    assert_eq!(priorities(json!({"files_wanted": [2]})), Err(Fault::of(Code::FileIndex)));

    assert_eq!(edit(&row, json!({"labels": [" b", "a"]})).unwrap().tags, Some(vec!["b".into(), "a".into()]));
    assert_eq!(edit(&row, json!({"labels": ["a,b"]})).unwrap_err().code, Code::Params);
    assert_eq!(edit(&row, json!({"queue_position": 3})).unwrap().position, Some(Place::At(3)));
    assert_eq!(edit(&row, json!({"group": " "})).unwrap().category, Some(None));
    assert_eq!(edit(&row, json!({"sequential_download": 1})).unwrap().sequential, Some(true));
    assert_eq!(
        edit(&row, json!({"bandwidth_priority": 0, "peer_limit": 500, "unknown": 7})),
        Ok(Edit::default())
    );
    for wish in
        [json!({"bandwidth_priority": 1}), json!({"peer_limit": 5}), json!({"honors_session_limits": false})]
    {
        assert_eq!(edit(&row, wish).unwrap_err().code, Code::Params);
    }
}

#[test]
fn trackers_are_added_removed_and_replaced() {
    let row = row();
    let id = |at: usize| super::parts::tracker_id(&row.tiers[at][0]);
    let tiers = |value: Value| edit(&row, value).map(|edit| edit.tiers);
    let (one, two, new) = ("http://a.example.org/", "udp://b.example:7/announce", "http://c/announce");
    assert_eq!(edit(&row, json!({"tracker_add": [new, one]})).unwrap().trackers, [new]);
    assert_eq!(tiers(json!({"tracker_remove": [id(0)]})), Ok(Some(vec![vec![two.into()]])));
    let replaced = Ok(Some(vec![vec![one.to_owned()], vec![new.to_owned()]]));
    assert_eq!(tiers(json!({"tracker_replace": [id(1), new]})), replaced);
    assert_eq!(tiers(json!({"tracker_replace": [[id(1), new]]})), replaced);
    assert_eq!(
        tiers(json!({"tracker_list": format!("{new}\n{two}\n\n\n{one}\n")})),
        Ok(Some(vec![vec![new.into(), two.into()], vec![one.into()]]))
    );
    assert_eq!(tiers(json!({"tracker_list": "nonsense"})), Err(Fault::of(Code::TrackerList)));
    for nothing in
        [json!({"tracker_add": [one]}), json!({"tracker_remove": [1]}), json!({"tracker_replace": [1, new]})]
    {
        assert_eq!(tiers(nothing), Err(Fault::of(Code::AnnounceList)));
    }
}

#[test]
fn a_torrent_is_added_by_what_is_said_of_it() {
    let add = |value: Value| change::add(&params(value), true, false);
    let link = add(json!({"filename": "magnet:?xt=x", "paused": "true", "labels": ["a"], "cookies": "a=b", "peer_limit": 5})).unwrap();
    assert_eq!(
        (link.source, link.options.paused, link.options.tags),
        (Source::Link("magnet:?xt=x".into()), true, vec!["a".into()])
    );
    assert_eq!(
        add(json!({"filename": "/srv/x.torrent"})).unwrap().source,
        Source::Path("/srv/x.torrent".into())
    );
    for text in ["aGk=", "aGk", "aG\nk="] {
        let added = add(json!({"metainfo": text, "download_dir": "/srv"})).unwrap();
        assert_eq!((added.source, added.options.paused), (Source::Metainfo(b"hi".to_vec()), false));
        assert_eq!(added.options.dir.as_deref(), Some(std::path::Path::new("/srv")));
    }
    let code = |value: Value| add(value).unwrap_err().code;
    assert_eq!(code(json!({})), Code::Params);
    assert_eq!(code(json!({"metainfo": "!"})), Code::Unrecognized);
    assert_eq!(code(json!({"filename": "x", "download_dir": "srv"})), Code::NotAbsolute);
    let chosen = change::priorities(
        &params(json!({"files_unwanted": [0, 9], "priority_high": [1]})),
        &[false, true, false],
    );
    assert_eq!(chosen, Some(vec![0, 4, 7]));
    assert_eq!(change::priorities(&params(json!({"priority_normal": []})), &[false]), None);
    assert_eq!(change::renamed("t/a", "b"), Ok("t/b".into()));
    assert_eq!(change::renamed("t", "u"), Ok("u".into()));
    assert!(change::renamed("t/a", "b/c").is_err() && change::renamed("t/a", "").is_err());
}

#[test]
fn a_torrent_is_started_that_does_not_run_or_will_not_after_its_move() {
    let rests = |state, paused| super::calls::rests(&Summary { state, paused, ..Summary::default() });
    assert!(rests(State::Paused, true) && rests(State::Moving, true) && rests(State::Failed, false));
    assert!(!rests(State::Moving, false) && !rests(State::Seeding, false) && !rests(State::Queued, false));
}

fn facts() -> Facts {
    let configured = Rules { dir: "/srv/d".into(), upload_limit: Some(20_000), ..Rules::default() };
    Facts {
        standing: Arc::new(Standing { configured, ..Standing::default() }),
        session: SessionOptions::new().facts(),
        session_id: "s".into(),
        state_dir: "/state".into(),
        peer_port: 6_881,
        free: Some(5),
        kept: Kept::default(),
    }
}

#[test]
fn the_session_is_shown_whole_or_as_asked_for() {
    let all = facts().get(&Params::new());
    // What Sonarr, Flood and transmission-remote read of it.
    for (key, value) in [
        ("download_dir", json!("/srv/d")),
        ("rpc_version", json!(18)),
        ("rpc_version_semver", json!("6.0.0")),
        ("peer_port", json!(6_881)),
        ("speed_limit_up", json!(20)),
        ("speed_limit_up_enabled", json!(true)),
        ("speed_limit_down", json!(100)),
        ("speed_limit_down_enabled", json!(false)),
        ("script_torrent_done_enabled", json!(false)),
        ("download_dir_free_space", json!(5)),
    ] {
        assert_eq!(all[key], value, "{key}");
    }
    assert!(all["version"].as_str().unwrap().starts_with("4.1.0 ("));
    let some = facts().get(&params(json!({"fields": ["version", "nonsense"]})));
    assert_eq!(some.keys().collect::<Vec<_>>(), ["version"]);
}

#[test]
fn what_stands_in_the_configuration_alone_is_not_changed() {
    let set = |value: Value| facts().set(&params(value));
    for wish in [
        json!({"script_torrent_done_enabled": true}),
        json!({"script_torrent_done_filename": "/bin/sh"}),
        json!({"script_torrent_added_filename": "/bin/sh", "speed_limit_up": 5}),
        json!({"download_dir": "/etc"}),
        json!({"incomplete_dir": "/etc"}),
        json!({"peer_port": 1}),
        json!({"peer_port_random_on_start": true}),
        json!({"blocklist_url": "http://x/"}),
        json!({"anti_brute_force_enabled": false}),
        json!({"encryption": "required"}),
    ] {
        assert_eq!(set(wish.clone()).unwrap_err().code, Code::Params, "{wish}");
    }
    // Told back as it is, read only, or unknown.
    let same = json!({
        "download_dir": "/srv/d/", "peer_port": 6_881, "dht_enabled": 1, "pex_enabled": true, "version": "9", "rpc_version": 1,
        "rpc_bind_address": "0.0.0.0", "rpc_authentication_required": false, "config_dir": "/etc", "session_id": "x",
    });
    assert_eq!(set(same), Ok((SettingsEdit::default(), Kept::default())));
}

#[test]
fn limits_queues_and_goals_of_all_together_are_set() {
    let set = |value: Value| facts().set(&params(value)).unwrap().0;
    let none = Goal::Word(GoalWord::None);
    assert_eq!(
        set(json!({"speed_limit_down": 7, "speed_limit_down_enabled": true})).download_limit,
        Some(Goal::Value(7_000))
    );
    assert_eq!(set(json!({"speed_limit_up": 7.9})).upload_limit, Some(Goal::Value(7_000)));
    assert_eq!(set(json!({"speed_limit_up_enabled": false})).upload_limit, Some(none));
    assert_eq!(set(json!({"download_queue_enabled": true})).max_active_downloads, Some(Goal::Value(5)));
    assert_eq!(set(json!({"seed_queue_size": 3})).max_active_seeds, Some(none), "it does not count yet");
    let seeding = set(
        json!({"seed_ratio_limit": 1.5, "seed_ratio_limited": true, "idle_seeding_limit": 2, "idle_seeding_limit_enabled": true}),
    );
    assert_eq!(seeding.ratio_limit, Some(Goal::Value(1.5)));
    assert_eq!(seeding.seed_time_limit, Some(Goal::Value(120)));
    let turtle = set(json!({"alt_speed_enabled": true, "alt_speed_up": 9}));
    assert_eq!((turtle.alternative, turtle.alternative_upload_limit), (Some(true), Some(Some(9_000))));
    assert_eq!(turtle.alternative_download_limit, Some(Some(50_000)), "to clients it was never unlimited");
    // Saturday and Sunday: its first and last bit for clients, two neighbours here.
    let days = set(json!({"alt_speed_time_day": 65, "alt_speed_time_begin": 60})).schedule.unwrap();
    assert_eq!((days.days, days.from), (0b110_0000, 60));
}
