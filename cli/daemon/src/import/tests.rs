use super::*;
use crate::torrents::goals::{Goal, GoalWord};
use tempfile::TempDir;

/// Bencoding of text, numbers, lists and dictionaries, as other programs write it.
enum B {
    N(i64),
    T(String),
    L(Vec<B>),
    D(Vec<(&'static str, B)>),
}

impl B {
    fn bytes(&self) -> Vec<u8> {
        match self {
            B::N(number) => format!("i{number}e").into_bytes(),
            B::T(text) => format!("{}:{text}", text.len()).into_bytes(),
            B::L(list) => [b"l".to_vec(), list.iter().flat_map(B::bytes).collect(), b"e".to_vec()].concat(),
            B::D(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| *key);
                let fields =
                    fields.into_iter().flat_map(|(key, value)| [t(key).bytes(), value.bytes()].concat());
                [b"d".to_vec(), fields.collect(), b"e".to_vec()].concat()
            }
        }
    }
}

fn t(text: &str) -> B {
    B::T(text.to_owned())
}

fn torrent(name: &str) -> Vec<u8> {
    let file = |name: &str| B::D(vec![("length", B::N(1)), ("path", B::L(vec![t(name)]))]);
    let info = B::D(vec![
        ("files", B::L(vec![file("a"), file("b")])),
        ("name", t(name)),
        ("piece length", B::N(16_384)),
        ("pieces", t(&"a".repeat(20))),
    ]);
    B::D(vec![("announce", t("http://tracker.example.org/")), ("info", info)]).bytes()
}

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn what_qbittorrent_has_set_is_taken_over() {
    let dir = TempDir::new().unwrap();
    write(&dir, "BT_backup/11.torrent", &torrent("t"));
    write(&dir, "BT_backup/00.fastresume", b"not bencoded");
    write(&dir, "BT_backup/queue", b"11\n");
    write(&dir, "categories.json", br#"{"iso": {"save_path": "/srv/iso"}, "other": {"save_path": ""}}"#);
    let resume = B::D(vec![
        ("save_path", t("/srv/data")),
        ("qBt-savePath", t("/srv/later")),
        ("qBt-category", t("iso")),
        ("qBt-tags", B::L(vec![t("x"), t("y")])),
        ("qBt-name", t("shown")),
        ("qBt-ratioLimit", B::N(1_500)),
        ("qBt-seedingTimeLimit", B::N(-1)),
        ("paused", B::N(0)),
        ("auto_managed", B::N(0)),
        ("sequential_download", B::N(1)),
        ("file_priority", B::L(vec![B::N(0), B::N(7)])),
        ("upload_rate_limit", B::N(1_000)),
        ("download_rate_limit", B::N(-1)),
        ("total_downloaded", B::N(5)),
        ("total_uploaded", B::N(6)),
        ("active_time", B::N(70)),
        ("seeding_time", B::N(60)),
        ("added_time", B::N(1_000)),
        ("completed_time", B::N(0)),
        ("pieces", t("\u{1}")),
        ("trackers", B::L(vec![B::L(vec![t("http://other.example.org/")])])),
    ]);
    write(&dir, "BT_backup/11.fastresume", &resume.bytes());
    let Found { files, categories } = qbittorrent::find(dir.path()).unwrap();
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["11.fastresume", "00.fastresume"], "in the order of its queue");
    assert_eq!(categories["iso"], Some("/srv/iso".into()));
    assert_eq!(categories["other"], None);
    let Entry { what, dir: folder, options, past } = qbittorrent::read(&files[0]).unwrap();
    assert!(matches!(what, What::Metainfo(metainfo) if metainfo.info.name == "t"));
    assert_eq!(folder, PathBuf::from("/srv/data"));
    assert_eq!((options.paused, options.forced, options.sequential), (false, true, true));
    assert_eq!(
        (options.category.as_deref(), &options.tags[..]),
        (Some("iso"), &["x".to_owned(), "y".to_owned()][..])
    );
    assert_eq!((options.name.as_deref(), options.priorities), (Some("shown"), Some(vec![0, 7])));
    assert_eq!((options.upload_limit, options.download_limit), (Some(1_000), None));
    assert_eq!(options.ratio_limit, Goal::Value(1.5));
    assert_eq!(options.seed_time_limit, Goal::Word(GoalWord::None));
    assert_eq!(options.tiers, Some(vec![vec!["http://other.example.org/".to_owned()]]));
    assert_eq!((past.added_at, past.completed_at), (Some(1_000), Some(1_000)));
    let totals = past.totals;
    assert_eq!(
        (totals.bytes_down, totals.bytes_up, totals.seconds_active, totals.seconds_seeding),
        (5, 6, 70, 60)
    );
    assert!(qbittorrent::read(&files[1]).unwrap_err().contains("00.fastresume"));
}

#[test]
fn qbittorrent_has_stopped_what_is_paused_and_not_managed() {
    let dir = TempDir::new().unwrap();
    write(&dir, "1.torrent", &torrent("t"));
    for (paused, managed, expected) in
        [(0, 0, (false, true)), (0, 1, (false, false)), (1, 0, (true, false)), (1, 1, (false, false))]
    {
        let fields = vec![("paused", B::N(paused)), ("auto_managed", B::N(managed)), ("save_path", t("/d"))];
        let path = write(&dir, "1.fastresume", &B::D(fields).bytes());
        let options = qbittorrent::read(&path).unwrap().options;
        assert_eq!((options.paused, options.forced), expected, "paused {paused}, managed {managed}");
    }
}

#[test]
fn what_was_not_complete_is_known_by_its_pieces() {
    let dir = TempDir::new().unwrap();
    write(&dir, "1.torrent", &torrent("t"));
    for (pieces, received, completed, expected) in [
        (Some("\u{1}\u{0}"), 0, 0, true),
        (Some("\u{1}\u{0}"), 5, 9, true),
        (Some("\u{0}\u{0}"), 5, 0, true),
        (Some("\u{0}\u{0}"), 0, 0, false),
        (Some("\u{1}\u{1}"), 5, 9, false),
        (None, 5, 0, true),
        (None, 5, 9, false),
        (None, 0, 0, false),
    ] {
        let mut fields = vec![
            ("completed_time", B::N(completed)),
            ("save_path", t("/d")),
            ("total_downloaded", B::N(received)),
        ];
        fields.extend(pieces.map(|pieces| ("pieces", t(pieces))));
        let path = write(&dir, "1.fastresume", &B::D(fields).bytes());
        let past = qbittorrent::read(&path).unwrap().past;
        assert_eq!(past.is_unfinished, expected, "{pieces:?}, {received} received, completed {completed}");
    }
    let path = write(&dir, "torrents/t.torrent", &torrent("t"));
    for (blocks, received, done, expected) in [
        (Some("\u{40}"), 0, 0, true),
        (Some("none"), 5, 0, true),
        (Some("none"), 0, 0, false),
        (Some("all"), 5, 9, false),
        (None, 5, 0, true),
        (None, 5, 9, false),
    ] {
        let blocks = blocks.map(|blocks| ("blocks", t(blocks))).into_iter().collect();
        let fields = vec![
            ("destination", t(dir.path().to_str().unwrap())),
            ("done-date", B::N(done)),
            ("downloaded", B::N(received)),
            ("progress", B::D(blocks)),
        ];
        write(&dir, "resume/t.resume", &B::D(fields).bytes());
        let past = transmission::read(&path).map(|entry| entry.past.is_unfinished);
        assert_eq!(past, Ok(expected), "{received} received, done {done}");
        // What it calls so would be overlooked, and received anew.
        let part = write(&dir, "t/b.part", b"x");
        let refused = transmission::read(&path);
        assert_eq!(refused.is_err(), expected, "{refused:?}");
        assert!(refused.err().is_none_or(|why| why.contains("t/b.part")));
        std::fs::remove_file(part).unwrap();
    }
}

/// Where an entry's files are.
fn places(entry: Result<Entry, String>) -> Result<Vec<String>, String> {
    let Entry { what, dir, past, .. } = entry?;
    let What::Metainfo(metainfo) = what else { panic!("a link") };
    let named = past.layout.apply(&metainfo.info).unwrap();
    Ok(named.files.iter().map(|file| format!("{}/{}", dir.display(), file.path.join("/"))).collect())
}

#[test]
fn what_qbittorrent_has_renamed_keeps_its_names() {
    let dir = TempDir::new().unwrap();
    let single = B::D(vec![
        ("length", B::N(1)),
        ("name", t("s")),
        ("piece length", B::N(16_384)),
        ("pieces", t(&"a".repeat(20))),
    ]);
    write(&dir, "1.torrent", &torrent("t"));
    write(&dir, "2.torrent", &B::D(vec![("info", single)]).bytes());
    let read = |torrent: &str, paths: &[&str]| {
        let paths = B::L(paths.iter().map(|path| t(path)).collect());
        let fields = vec![("mapped_files", paths), ("save_path", t("/d"))];
        places(qbittorrent::read(&write(&dir, &format!("{torrent}.fastresume"), &B::D(fields).bytes())))
    };
    for (torrent, paths, expected) in [
        ("1", &[][..], &["/d/t/a", "/d/t/b"][..]),
        ("1", &["t/a", "t/b"], &["/d/t/a", "/d/t/b"]),
        ("1", &["", "t/c"], &["/d/t/a", "/d/t/c"]),
        ("1", &["t/x/y"], &["/d/t/x/y", "/d/t/b"]),
        ("1", &["u/a", "u/c"], &["/d/u/a", "/d/u/c"]),
        ("2", &["r"], &["/d/r"]),
        ("2", &["s/s"], &["/d/s/s"]),
    ] {
        assert_eq!(read(torrent, paths).unwrap(), expected, "{paths:?}");
    }
    for (torrent, paths) in [
        ("1", &["a", "b"][..]),
        ("1", &["u/a"]),
        ("1", &["t/../../a", "t/b"]),
        ("1", &["../a", "../b"]),
        ("1", &["/etc/a", "/etc/b"]),
        ("1", &["t/a\0", "t/b"]),
        ("1", &["t/b", "t/b"]),
        ("1", &["t/a", "t/b", "t/c"]),
        ("1", &["t/a.!qB", "t/b"]),
        ("2", &["../s"]),
        ("2", &["a/../../s"]),
        ("2", &["/etc/s"]),
        ("2", &["s/"]),
        ("2", &["s/.."]),
    ] {
        let refused = read(torrent, paths);
        assert!(refused.is_err(), "{paths:?}: {refused:?}");
    }
    let path = write(&dir, "1.fastresume", &B::D(vec![("paused", B::N(1))]).bytes());
    assert!(qbittorrent::read(&path).unwrap_err().contains("save_path"));
}

#[test]
fn what_transmission_has_set_is_taken_over_by_old_and_new_names() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "torrents/t.torrent", &torrent("t"));
    for (added, speed) in [("added-date", "speed-limit-up"), ("added_date", "speed_limit_up")] {
        let resume = B::D(vec![
            ("destination", t("/srv/data")),
            ("name", t("t")),
            ("paused", B::N(1)),
            ("downloaded", B::N(5)),
            ("uploaded", B::N(6)),
            (added, B::N(1_000)),
            ("done-date", B::N(2_000)),
            ("downloading-time-seconds", B::N(10)),
            ("seeding-time-seconds", B::N(60)),
            ("dnd", B::L(vec![B::N(1), B::N(0)])),
            ("priority", B::L(vec![B::N(0), B::N(1)])),
            ("labels", B::L(vec![t("x")])),
            ("files", B::L(vec![t("t/a"), t("t/b")])),
            (speed, B::D(vec![("speed-Bps", B::N(1_000)), ("use-speed-limit", B::N(1))])),
            ("ratio-limit", B::D(vec![("ratio-limit", t("2.500000")), ("ratio-mode", B::N(1))])),
        ]);
        write(&dir, "resume/t.resume", &resume.bytes());
        assert_eq!(transmission::find(dir.path()).unwrap().files, std::slice::from_ref(&path));
        let Entry { dir: folder, options, past, .. } = transmission::read(&path).unwrap();
        assert_eq!((folder, options.paused), (PathBuf::from("/srv/data"), true));
        assert_eq!((options.priorities, &options.tags[..]), (Some(vec![0, 7]), &["x".to_owned()][..]));
        assert_eq!((options.upload_limit, options.ratio_limit), (Some(1_000), Goal::Value(2.5)));
        assert_eq!((past.added_at, past.completed_at), (Some(1_000), Some(2_000)));
        assert_eq!((past.totals.seconds_active, past.totals.seconds_seeding), (70, 60));
    }
}

#[test]
fn what_transmission_has_renamed_keeps_its_names() {
    let dir = TempDir::new().unwrap();
    let path = write(&dir, "torrents/t.torrent", &torrent("t"));
    let read = |name: &str, paths: &[&str]| {
        let paths = B::L(paths.iter().map(|path| t(path)).collect());
        let fields = vec![("destination", t("/d")), ("name", t(name)), ("files", paths)];
        write(&dir, "resume/t.resume", &B::D(fields).bytes());
        let entry = transmission::read(&path);
        let shown = entry.as_ref().ok().and_then(|entry| entry.options.name.clone());
        places(entry).map(|places| (places, shown))
    };
    for (name, paths, expected, shown) in [
        ("t", &["t/a", "t/c"][..], ["/d/t/a", "/d/t/c"], None),
        ("u", &["u/a", "u/b"], ["/d/u/a", "/d/u/b"], None),
        ("t", &["", "t/c"], ["/d/t/a", "/d/t/c"], None),
        ("u", &[], ["/d/t/a", "/d/t/b"], Some("u")),
    ] {
        let expected = expected.map(str::to_owned).to_vec();
        assert_eq!(read(name, paths).unwrap(), (expected, shown.map(str::to_owned)), "{paths:?}");
    }
    for paths in [&["t/a"][..], &["t/a", "u/b"], &["t/../a", "t/b"], &["/t/a", "/t/b"], &["a", "b"]] {
        assert!(read("t", paths).is_err(), "{paths:?}");
    }
}

#[test]
fn folders_that_may_not_be_used_and_odd_labels_are_not_taken_over() {
    let dir = TempDir::new().unwrap();
    let allowed = dir.path().join("allowed");
    std::fs::create_dir(&allowed).unwrap();
    let rules = Rules { dir: allowed.clone(), ..Rules::default() };
    let entry = |dir: PathBuf| Entry {
        what: What::Metainfo(metainfo_of(&torrent("t")).unwrap()),
        dir,
        options: Options { tags: vec!["a,b".into(), "c".into(), "c".into()], ..Options::default() },
        past: Past::default(),
    };
    assert_eq!(new(entry(allowed), &rules).unwrap().options.tags, ["c"]);
    for folder in [dir.path().to_owned(), "relative".into(), "/".into()] {
        assert!(new(entry(folder), &rules).is_err());
    }
}
