use super::form::Form;
use super::prefs;
use crate::config::Rules;
use crate::settings::{Settings, SettingsEdit, Standing};
use crate::table::{Row, State, Summary};
use crate::torrents::Goal;
use crate::torrents::goals::GoalWord;
use crate::torrents::queue::Turns;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use swarm_engine::{DhtOptions, Encryption, SessionOptions};

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

fn network(session: SessionOptions) -> prefs::Network<'static> {
    prefs::Network { facts: session.facts(), listening: &[], serving: &[] }
}

fn wanted(value: Value, standing: &Standing) -> prefs::Wanted {
    prefs::wanted(&map(value), standing).unwrap()
}

#[test]
fn states_are_told_in_the_words_that_clients_know() {
    let of = |state: State, change: fn(&mut Summary)| {
        let mut summary = Summary { state, bytes_total: 10, ..Summary::default() };
        change(&mut summary);
        super::state::of(&summary)
    };
    let all = |summary: &mut Summary| summary.bytes_verified = 10;
    assert_eq!(of(State::Paused, |_| {}), "stoppedDL");
    assert_eq!(of(State::Paused, all), "stoppedUP");
    assert_eq!(of(State::Queued, |_| {}), "queuedDL");
    assert_eq!(of(State::Queued, |summary| summary.seed = true), "queuedUP");
    assert_eq!(of(State::Downloading, |_| {}), "stalledDL");
    assert_eq!(of(State::Downloading, |summary| summary.rate_down = 1), "downloading");
    assert_eq!(of(State::Downloading, |summary| summary.forced = true), "forcedDL");
    assert_eq!(of(State::Seeding, all), "stalledUP");
    assert_eq!(of(State::Seeding, |summary| summary.rate_up = 1), "uploading");
    assert_eq!(of(State::Seeding, |summary| summary.forced = true), "forcedUP");
    assert_eq!(of(State::Checking, |_| {}), "checkingResumeData");
    assert_eq!(of(State::Checking, |summary| summary.pieces_to_check = Some(5)), "checkingDL");
    assert_eq!(of(State::Metadata, |_| {}), "metaDL");
    assert_eq!(of(State::Moving, all), "moving");
    assert_eq!(of(State::Failed, all), "error");
}

#[test]
fn what_was_shown_can_be_sent_back_and_changes_nothing() {
    for turns in [Turns::default(), Turns { downloads: Some(2), seeds: None }] {
        let mut standing = Standing {
            configured: Rules { turns, upload_limit: Some(77), ..Rules::default() },
            ..Standing::default()
        };
        let bans = BTreeSet::from([[10, 0, 0, 1].into()]);
        let before = prefs::shown(&standing, &bans, &network(SessionOptions::new()));
        let sent = wanted(before.clone(), &standing);
        standing.settings = standing.settings.with(&sent.settings, 0);
        assert_eq!(prefs::shown(&standing, &sent.bans.unwrap(), &network(SessionOptions::new())), before);
    }
}

#[test]
fn what_the_session_was_told_is_shown() {
    let on = SessionOptions::new().dht(DhtOptions::default()).lsd(true).port_mapping(true);
    let off =
        SessionOptions::new().dht(None).pex(false).lsd(false).port_mapping(false).utp(false).peers_max(7);
    let off = off.encryption(Encryption::Require);
    let serving = ["192.0.2.7:6868".parse().unwrap()];
    let shown = |session: &SessionOptions| {
        let network = prefs::Network { serving: &serving, ..network(session.clone()) };
        prefs::shown(&Standing::default(), &BTreeSet::new(), &network)
    };
    let (with, without) = (shown(&on), shown(&off));
    for (key, expected) in [
        ("dht", [json!(true), json!(false)]),
        ("pex", [json!(true), json!(false)]),
        ("lsd", [json!(true), json!(false)]),
        ("upnp", [json!(true), json!(false)]),
        ("encryption", [json!(0), json!(1)]),
        ("bittorrent_protocol", [json!(0), json!(1)]),
        ("max_connec", [json!(on.facts().peers_max), json!(7)]),
        ("proxy_type", [json!("None"), json!("None")]),
        ("web_ui_address", [json!("192.0.2.7"), json!("192.0.2.7")]),
        ("web_ui_port", [json!(6_868), json!(6_868)]),
    ] {
        assert_eq!([&with[key], &without[key]], [&expected[0], &expected[1]], "{key}");
    }
    let proxied = SessionOptions::new().proxy("http://127.0.0.1:9".parse::<swarm_engine::Proxy>().unwrap());
    assert_eq!(shown(&proxied)["proxy_type"], "HTTP");
    let sources = |session: &SessionOptions, is_private| {
        let shown = super::details::own_sources(is_private, &session.facts());
        shown.iter().map(|one| one["status"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((sources(&on, false), sources(&off, false)), (vec![2, 2, 2], vec![0, 0, 0]));
    assert_eq!(sources(&on, true), [0, 0, 0]);
}

#[test]
fn the_last_activity_is_when_something_was_moved() {
    let context = super::info::Context { now: 5_000, goals: Default::default(), places: Default::default() };
    let of = |active_at, completed_at| {
        let summary = Summary {
            added_at: 1_000,
            running_since: Some(4_000),
            active_at,
            completed_at,
            ..Summary::default()
        };
        let row = Row { summary: summary.into(), ..Row::default() };
        serde_json::to_value(super::info::entry(&row, &context)).unwrap()["last_activity"].clone()
    };
    assert_eq!([of(Some(3_000), None), of(None, Some(2_000)), of(None, None)], [3_000, 2_000, 1_000]);
}

#[test]
fn preferences_never_reach_programs_folders_sockets_and_passwords() {
    let attack = json!({
        "autorun_enabled": true,
        "autorun_program": "/bin/sh -c id",
        "autorun_on_torrent_added_enabled": true,
        "autorun_on_torrent_added_program": "/bin/sh -c id",
        "web_ui_username": "evil",
        "web_ui_password": "evil",
        "web_ui_address": "*",
        "web_ui_port": 80,
        "web_ui_host_header_validation_enabled": false,
        "web_ui_csrf_protection_enabled": false,
        "web_ui_domain_list": "*",
        "bypass_local_auth": true,
        "bypass_auth_subnet_whitelist": "0.0.0.0/0",
        "bypass_auth_subnet_whitelist_enabled": true,
        "alternative_webui_enabled": true,
        "alternative_webui_path": "/etc",
        "save_path": "/etc",
        "temp_path": "/etc",
        "export_dir": "/etc",
        "scan_dirs": {"/etc": 1},
        "listen_port": 1,
        "proxy_ip": "evil.example",
        "python_executable_path": "/bin/sh",
    });
    assert_eq!(wanted(attack, &Standing::default()), prefs::Wanted::default());
}

#[test]
fn preferences_mean_limits_turns_goals_and_the_schedule() {
    let standing = Standing::default();
    let of = |value| wanted(value, &standing).settings;
    assert_eq!(
        of(json!({"dl_limit": 5, "up_limit": 0})),
        SettingsEdit {
            download_limit: Some(Goal::Value(5)),
            upload_limit: Some(Goal::Word(GoalWord::None)),
            ..SettingsEdit::default()
        }
    );
    let queue = of(json!({"queueing_enabled": true}));
    assert_eq!(queue.max_active_downloads, Some(Goal::Value(3)));
    let queue = of(json!({"queueing_enabled": true, "max_active_downloads": 1, "max_active_uploads": -1}));
    assert_eq!(queue.max_active_downloads, Some(Goal::Value(1)));
    assert_eq!(queue.max_active_seeds, Some(Goal::Word(GoalWord::None)));
    assert_eq!(of(json!({"max_active_downloads": 1})).max_active_downloads, None, "there is no queue");
    let goals = of(json!({"max_ratio_enabled": true, "max_ratio": 1.5, "max_seeding_time": 2}));
    assert_eq!((goals.ratio_limit, goals.seed_time_limit), (Some(Goal::Value(1.5)), Some(Goal::Value(120))));
    assert_eq!(
        of(json!({"max_ratio_enabled": false, "max_ratio": 1.5})).ratio_limit,
        Some(Goal::Word(GoalWord::None))
    );
    let schedule = json!({"scheduler_enabled": true, "schedule_from_hour": 1, "schedule_from_min": 2, "scheduler_days": 4});
    let schedule = of(schedule).schedule.unwrap();
    assert_eq!((schedule.enabled, schedule.from, schedule.to, schedule.days), (true, 62, 20 * 60, 0b10));
    let shown = prefs::shown(
        &Standing { settings: Settings { schedule, ..Settings::default() }, ..Standing::default() },
        &BTreeSet::new(),
        &network(SessionOptions::new()),
    );
    assert_eq!(shown["scheduler_days"], 4);
    assert!(prefs::wanted(&map(json!({"dl_limit": "fast"})), &standing).is_err());
    assert!(prefs::wanted(&map(json!({"schedule_from_hour": 24})), &standing).is_err());
}

#[test]
fn fields_are_read_as_clients_write_them() {
    let form = Form::of("a=true&b=False&c=1&d=x&n=1.5&e=&l=a|%20b||c");
    assert_eq!(
        (form.flag("a"), form.flag("b"), form.flag("c"), form.flag("d")),
        (Some(true), Some(false), Some(true), None)
    );
    assert_eq!((form.number("n").unwrap(), form.number("e").unwrap()), (Some(1.5), None));
    assert!(form.number("d").is_err());
    assert_eq!(form.list("l", '|').collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(form.need("e").is_err() && form.get("e") == Some(""));
}

async fn multipart(body: Vec<u8>, limit: usize) -> Result<Form, super::Fault> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "multipart/form-data; boundary=XX".parse().unwrap());
    Form::read(Some("paused=false&x=1"), &headers, Body::from(body), limit).await
}

fn part(head: &str, value: &[u8]) -> Vec<u8> {
    [b"--XX\r\ncontent-disposition: form-data; ", head.as_bytes(), b"\r\n\r\n", value, b"\r\n"].concat()
}

#[tokio::test]
async fn forms_with_files_are_read_up_to_a_bound() {
    let end = b"--XX--\r\n".to_vec();
    let body = [
        part("name=\"paused\"", b"true"),
        part("name=\"torrents\"; filename=\"a.torrent\"", b"d4:infoe"),
        part("name=\"fileselect[]\"; filename=\"b\"", b"2"),
        end.clone(),
    ];
    let form = multipart(body.concat(), 10_000).await.unwrap();
    assert_eq!((form.get("paused"), form.get("x")), (Some("true"), Some("1")));
    assert_eq!(form.files, [&b"d4:infoe"[..], b"2"]);
    let long = [part("name=\"torrents\"; filename=\"a\"", &vec![b'x'; 20_000]), end.clone()].concat();
    let Err(fault) = multipart(long, 10_000).await else { panic!("it is taken") };
    assert_eq!(fault.0, StatusCode::PAYLOAD_TOO_LARGE);
    let many: Vec<u8> = (0..300).flat_map(|nth| part(&format!("name=\"f{nth}\""), b"")).chain(end).collect();
    assert!(multipart(many, 1_000_000).await.is_err());
    assert!(multipart(b"--XX\r\nno end".to_vec(), 10_000).await.is_err());
}
