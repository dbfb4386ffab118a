use super::*;
use crate::page::assets::NAMES;
use crate::page::list::Sums;
use crate::table::Summary;
use std::sync::Arc;
use swarm_engine::Metainfo;

fn frame(is_part: bool) -> Frame {
    let sums = Sums::default();
    Frame {
        base: "/b".into(),
        section: "torrent",
        live: "/b/live".into(),
        sums,
        names: &NAMES,
        can_leave: true,
        is_part,
    }
}

/// A torrent whose maker means no good.
fn hostile() -> Row {
    let bad = "<script>alert(1)</script>";
    let bencoded = format!(
        "d7:comment{0}:{bad}10:created by{0}:{bad}4:infod5:filesld6:lengthi5e4:pathl3:dir29:x\"onerror=alert(1)\u{202e}<b>c.exeeee4:name{0}:{bad}12:piece lengthi16384e6:pieces20:{1}ee",
        bad.len(),
        "a".repeat(20)
    );
    let metainfo = Metainfo::parse(bencoded.as_bytes()).unwrap();
    let summary =
        Summary { id: Id(7), name: bad.into(), own_name: bad.into(), pieces: 1, ..Summary::default() };
    Row {
        summary: Arc::new(summary),
        metainfo: Some(Arc::new(metainfo)),
        tiers: Arc::from([vec![format!("http://t/{bad}")]]),
        web_seeds: Arc::from([format!("javascript:{bad}")]),
        ..Row::default()
    }
}

fn overview(row: &Row, is_part: bool) -> String {
    let page = OverviewPage {
        frame: frame(is_part),
        head: Head::of(row, "overview"),
        facts: facts(row, 1_000),
        graph: graph::draw(&[]),
        map: None,
        magnet: row.metainfo.as_ref().map(|metainfo| metainfo.magnet().to_string()),
        has_metainfo: true,
    };
    page.render().unwrap()
}

fn assert_is_safe(text: &str) {
    for bad in ["<script>alert", "<b>c", "\u{202e}", "href=\"javascript", "style="] {
        assert!(!text.contains(bad), "{bad}: {text}");
    }
}

#[test]
fn what_a_torrent_says_of_itself_stays_text() {
    let row = hostile();
    for is_part in [false, true] {
        assert_is_safe(&overview(&row, is_part));
    }
    let file = FileView {
        index: 0,
        folder: "<script>alert(1)</script>".into(),
        name: format::name(&path(&row, 0)),
        size: String::new(),
        thousandths: Some(5),
        percent: String::new(),
        priority: 4,
        is_playable: true,
    };
    let files = FilesPage {
        frame: frame(false),
        head: Head::of(&row, "files"),
        files: vec![file],
        search: "\"><script>alert(1)</script>".into(),
        total: 1,
        before: Some(0),
        after: Some(9),
        is_known: true,
        has_links: true,
    };
    assert_is_safe(&files.render().unwrap());
    let trackers = TrackersPage {
        frame: frame(false),
        head: Head::of(&row, "trackers"),
        trackers: tracker_views(&row, None),
        web_seeds: web_seed_views(&row, None),
    };
    let text = trackers.render().unwrap();
    assert_is_safe(&text);
    assert_eq!(text.matches("name=\"remove\"").count(), 2);
}

#[test]
fn a_part_is_only_what_changes() {
    let part = overview(&hostile(), true);
    assert!(part.contains("id=\"head\"") && part.contains("hx-swap-oob") && part.contains("id=\"sums\""));
    assert!(!part.contains("<html") && !part.contains("class=\"tabs\""), "{part}");
}

#[test]
fn a_page_is_known_by_its_torrent() {
    for (path, is_it) in
        [("/t/7", true), ("/b/t/7/files?x", true), ("/t/77", false), ("/", false), ("/t/7?part", true)]
    {
        assert_eq!(NameOf(Id(7)).is_in(path), is_it, "{path}");
    }
}
