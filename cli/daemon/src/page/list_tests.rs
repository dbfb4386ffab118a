use super::*;
use crate::page::assets::NAMES;
use crate::table::{Row, Table};
use crate::torrents::Id;

/// What ends badly in a page that does not escape it.
const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' hx-get='/x' hx-trigger='load",
    "a\u{202e}gpj.exe",
    "{{ frame.base }}{% include \"x\" %}",
    "&lt;b&gt;",
];

fn torrent(id: i64, name: &str) -> Summary {
    Summary {
        id: Id(id),
        name: name.to_owned(),
        bytes_total: 100,
        bytes_verified: 40,
        state: State::Downloading,
        added_at: id,
        ..Summary::default()
    }
}

fn table(torrents: impl IntoIterator<Item = Summary>) -> Shared {
    let mut table = Table::new(1);
    for summary in torrents {
        table.put(Row { summary: Arc::new(summary), ..Row::default() });
    }
    Shared::new(table)
}

fn window(table: &Shared, query: &str, since: u64) -> Window {
    Window::of(table, &ListQuery::parse(query), "", 1_000, since)
}

fn frame(base: &str) -> Frame {
    Frame {
        base: base.to_owned(),
        section: "list",
        live: format!("{base}/live"),
        sums: Sums::default(),
        names: &NAMES,
        can_leave: true,
        is_part: false,
    }
}

fn page(table: &Shared, query: &str, base: &str) -> String {
    let query = ListQuery::parse(query);
    let window = Window::of(table, &query, base, 1_000, 0);
    let page =
        ListPage { frame: frame(base), window, headings: headings(&query), encoded: query.encode(), query };
    page.render().unwrap()
}

#[test]
fn whatever_a_torrent_is_called_stays_text() {
    for name in HOSTILE {
        let hostile = Summary {
            error: Some(name.to_owned()),
            category: Some(name.to_owned()),
            tags: vec![name.to_owned()],
            ..torrent(1, name)
        };
        let table = table([hostile]);
        assert!(!page(&table, "", "").contains('\u{202e}'));
        let search: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        for query in [String::new(), format!("q={search}"), format!("category={search}&tag={search}")] {
            let text = page(&table, &query, "");
            for bad in ["<script>alert", "<img src=x", "hx-get='/x'", "onerror=alert(1)>"] {
                assert!(!text.contains(bad), "{name}: {bad}");
            }
            assert_eq!(text.matches("<script").count(), 2, "only the page's own");
        }
    }
    assert!(
        page(&table([torrent(1, HOSTILE[4])]), "", "").contains("{{ frame.base }}"),
        "a name is no template"
    );
}

#[test]
fn a_name_of_ten_kilobytes_is_cut() {
    let long = page(&table([torrent(1, &"<".repeat(10_000))]), "", "");
    assert!(long.len() < page(&table([torrent(1, "a")]), "", "").len() + 10_000, "{}", long.len());
}

#[test]
fn all_links_begin_with_the_base() {
    let text = page(&table([torrent(1, "a")]), "", "/below/it");
    for attribute in ["href=\"", "src=\"", "action=\"", "hx-post=\"", "formaction=\"", "data-live=\""] {
        for (at, _) in text.match_indices(attribute) {
            let link = &text[at + attribute.len()..];
            assert!(link.starts_with("/below/it/") || link.starts_with('#'), "{attribute}{}", &link[..30]);
        }
    }
    assert!(!text.contains("style=") && !text.contains("onclick"), "the policy would refuse it");
}

#[test]
fn a_window_has_the_rows_that_are_seen_and_says_what_is_around_them() {
    let table = table((1..=1_000).map(|id| torrent(id, &format!("t{id}"))));
    let middle = window(&table, "sort=added&from=500&count=20", 0);
    let ids: Vec<_> = middle.rows.iter().map(|row| row.id).collect();
    assert_eq!((ids[0], ids.len(), middle.rows[0].index), (500, 20, 501));
    assert_eq!((middle.from, middle.after, middle.total, middle.all), (500, 480, 1_000, 1_000));
    let end = window(&table, "from=999999&count=20", 0);
    assert_eq!((end.from, end.after, end.rows.len()), (980, 0, 20));
    let found = window(&table, "q=t99", 0);
    assert_eq!((found.total, found.all), (11, 1_000));
}

#[test]
fn who_has_seen_the_rest_gets_only_what_changed() {
    let table = table((1..=100).map(|id| torrent(id, &format!("t{id}"))));
    let first = window(&table, "count=50", 0);
    let same = window(&table, "count=50", first.revision);
    assert_eq!((&same.key, &same.sides_key, same.changed.len()), (&first.key, &first.sides_key, 0));

    let faster = Summary { rate_down: 9, ..torrent(80, "t80") };
    table.write(|table| table.put(Row { summary: Arc::new(faster), ..Row::default() }));
    let mut next = window(&table, "count=50", first.revision);
    assert_eq!((&next.key, next.changed.len()), (&first.key, 1), "the same rows, one of them new");
    assert_ne!(next.sides_key, first.sides_key, "one is active");
    next.is_part = true;
    let part = RowsPart { window: next }.render().unwrap();
    assert!(
        part.contains("id=\"t80\"") && !part.contains("id=\"t81\"") && !part.contains("<tbody"),
        "{part}"
    );

    table.write(|table| table.remove(Id(81)));
    assert_ne!(window(&table, "count=50", 0).key, first.key);
}

#[test]
fn a_reason_is_what_people_should_know_first() {
    let peers = Summary { peers: 3, seeds: 1, ..torrent(1, "a") };
    assert_eq!(why(&peers), "3 peers, 1 seed");
    let waiting = Summary { waiting: Some("no peers yet".into()), ..peers.clone() };
    assert_eq!(why(&waiting), "no peers yet");
    let stopped = Summary { state: State::Paused, stopped_by: Some(StoppedBy::Ratio), ..peers.clone() };
    assert!(why(&stopped).contains("ratio"));
    let failed = Summary { error: Some("disk".into()), ..waiting };
    assert_eq!(why(&failed), "disk");
    let checked =
        Summary { state: State::Checking, pieces_checked: Some(1), pieces_to_check: Some(4), ..peers };
    assert_eq!(
        (why(&checked).as_str(), progress(&checked), percent(&checked)),
        ("1 of 4 pieces", 250, "25 %".into())
    );
}
