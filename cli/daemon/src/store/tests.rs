use super::*;
use crate::torrents::goals::{Goal, GoalWord};
use crate::torrents::record::StoppedBy;
use crate::torrents::{Category, Moving, Options, Progress, SharedLimits, Totals};
use std::sync::Arc;
use swarm_engine::{Data, FileIndex, InfoHash, InfoHashV2, InfoHashes, Layout, Metainfo};
use tempfile::TempDir;

fn metainfo_in(store: &Store) -> Vec<(Id, Arc<Metainfo>)> {
    let mut all = Vec::new();
    store.each_metainfo(|id, bytes| all.push((id, Arc::new(Metainfo::parse(bytes).unwrap())))).unwrap();
    all
}

fn metainfo() -> Arc<Metainfo> {
    let bytes = b"d8:announce9:http://a/4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    Arc::new(Metainfo::parse(bytes).unwrap())
}

/// A record with something in every field.
fn full(id: i64) -> Record {
    Record {
        id: Id(id),
        hashes: InfoHashes { v1: Some(InfoHash([id as u8; 20])), v2: Some(InfoHashV2([7; 32])) },
        name: "näme".into(),
        link: Some("magnet:?xt=urn:btih:00".into()),
        dir: "/srv/a b".into(),
        options: Options {
            paused: true,
            forced: true,
            seed: true,
            sequential: true,
            recheck: true,
            overwrite: true,
            priorities: Some(vec![0, 4, 7]),
            upload_limit: Some(1),
            download_limit: Some(i64::MAX as u64),
            ratio_limit: Goal::Value(1.5),
            seed_time_limit: Goal::Word(GoalWord::None),
            trackers: vec!["http://a/".into(), "udp://b:1".into()],
            web_seeds: vec!["http://c/".into()],
            peers: vec!["[::1]:5".parse().unwrap()],
            category: Some("c".into()),
            tags: vec!["t".into()],
            position: -3,
            name: Some("shown".into()),
            first_last: true,
            tiers: Some(vec![vec!["http://d/".into()], vec!["udp://e:1".into()]]),
            all_web_seeds: Some(vec![]),
        },
        totals: Totals { bytes_down: 1, bytes_up: 2, seconds_active: 3, seconds_seeding: 4 },
        progress: Progress { bytes_total: 5, bytes_verified: 6, pieces: 7, pieces_have: 8 },
        added_at: 9,
        completed_at: Some(10),
        running_since: Some(11),
        stopped_by: Some(StoppedBy::SeedTime),
        removing: Some(Data::Delete),
        layout: Layout::new(
            Some("other".into()),
            BTreeMap::from([(FileIndex(3), vec!["a".into(), "ü".into()])]),
        ),
        moving: Some(Moving { dir: "/srv/c".into(), layout: Layout::default() }),
        stream_token: Some("abc".into()),
        program_due: true,
        waits_for_path: true,
    }
}

fn put(records: &[Record]) -> Change {
    Change { put: records.to_vec(), ..Change::default() }
}

fn at(dir: &TempDir) -> PathBuf {
    dir.path().join("daemon.db")
}

#[test]
fn everything_of_a_record_comes_back() {
    let dir = TempDir::new().unwrap();
    let bare = Record { id: Id(2), name: "b".into(), ..Record::default() };
    let mut records = vec![full(1), bare];
    {
        let mut store = Store::open(&at(&dir)).unwrap();
        store.commit(&put(&records)).unwrap();
        let mut metainfo_of = put(&[]);
        metainfo_of.metainfo = vec![(Id(1), metainfo())];
        store.commit(&metainfo_of).unwrap();
        records[1].options.ratio_limit = Goal::Word(GoalWord::None);
        records[1].options.seed_time_limit = Goal::Value(60);
        store.save(&put(&records[1..]), 77).unwrap();
        store.set(&[("a", Some("1".into())), ("b", Some(String::new()))]).unwrap();
        store.set(&[("a", None)]).unwrap();
        store.set_bans(&BTreeSet::from([[10, 0, 0, 9].into()])).unwrap();
        store.set_bans(&BTreeSet::from([[10, 0, 0, 1].into(), "2001:db8::1".parse().unwrap()])).unwrap();
    }
    let store = Store::open(&at(&dir)).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.records, records);
    assert_eq!(metainfo_in(&store), [(Id(1), metainfo())]);
    let settings: Vec<_> = loaded.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(settings, [("alive_at", "77"), ("b", "")]);
    let bans: Vec<_> = loaded.bans.iter().map(ToString::to_string).collect();
    assert_eq!(bans, ["10.0.0.1", "2001:db8::1"]);
}

#[test]
fn what_is_gone_takes_its_metainfo_along_and_its_number_stays_taken() {
    let dir = TempDir::new().unwrap();
    {
        let mut store = Store::open(&at(&dir)).unwrap();
        let change = Change { put: vec![full(5)], metainfo: vec![(Id(5), metainfo())], ..Change::default() };
        store.commit(&change).unwrap();
        store.commit(&Change::gone(Id(5))).unwrap();
    }
    let store = Store::open(&at(&dir)).unwrap();
    let loaded = store.load().unwrap();
    assert!(loaded.records.is_empty() && metainfo_in(&store).is_empty());
    assert_eq!(loaded.last_id, 5);
}

#[test]
fn a_second_daemon_is_kept_out() {
    let dir = TempDir::new().unwrap();
    let first = Store::open(&at(&dir)).unwrap();
    let error = Store::open(&at(&dir)).unwrap_err();
    assert!(matches!(error, StoreError::InUse { pid, .. } if pid == Some(std::process::id())), "{error}");
    drop(first);
    Store::open(&at(&dir)).unwrap();
}

/// What is at the path before and after it is refused.
fn refused(path: &Path, migrations: &[&str]) -> StoreError {
    let before = std::fs::read(path).unwrap();
    let error = Store::open_with(path, migrations).unwrap_err();
    assert_eq!(std::fs::read(path).unwrap(), before, "it is left as it is");
    let again = Store::open_with(path, migrations).unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    error
}

#[test]
fn a_newer_database_is_named_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let newer = [schema::MIGRATIONS, &["CREATE TABLE more (a)"]].concat();
    drop(Store::open_with(&at(&dir), &newer).unwrap());
    let error = refused(&at(&dir), schema::MIGRATIONS);
    let expected = schema::MIGRATIONS.len();
    assert!(
        matches!(error, StoreError::Newer { found, known, .. } if found == expected as i64 + 1 && known == expected)
    );
    assert!(error.to_string().contains("daemon.db"), "{error}");
}

#[test]
fn a_newer_database_is_known_by_what_its_log_says() {
    let dir = TempDir::new().unwrap();
    drop(Store::open(&at(&dir)).unwrap());
    let newer = [schema::MIGRATIONS, &["CREATE TABLE more (a)"]].concat();
    let mut store = Store::open_with(&at(&dir), schema::MIGRATIONS).unwrap();
    schema::migrate(&mut store.connection, schema::MIGRATIONS.len(), &newer).unwrap();
    // As after a crash: the log is not in the database yet.
    let copy = TempDir::new().unwrap();
    for name in ["daemon.db", "daemon.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    assert!(matches!(refused(&at(&copy), schema::MIGRATIONS), StoreError::Newer { .. }));
}

#[test]
fn an_older_database_is_migrated_in_one_go() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(&at(&dir)).unwrap();
    store.commit(&put(&[full(1)])).unwrap();
    drop(store);
    let failing = [schema::MIGRATIONS, &["ALTER TABLE torrents ADD COLUMN more TEXT", "no SQL"]].concat();
    assert!(Store::open_with(&at(&dir), &failing).is_err());
    // Nothing of the first step is left.
    let later = [schema::MIGRATIONS, &["ALTER TABLE torrents ADD COLUMN more TEXT"]].concat();
    let store = Store::open_with(&at(&dir), &later).unwrap();
    assert_eq!(store.load().unwrap().records, [full(1)]);
    drop(store);
    drop(Store::open_with(&at(&dir), &later).unwrap());
}

/// What versions before knew of categories is in the torrents, and limits are numbers or nothing.
#[test]
fn categories_tags_and_settings_of_older_versions_are_taken_over() {
    let dir = TempDir::new().unwrap();
    {
        let mut store = Store::open_with(&at(&dir), &schema::MIGRATIONS[..1]).unwrap();
        let numbers = "added_at, paused, forced, seed, sequential, recheck, position, bytes_down, bytes_up, seconds_active, \
            seconds_seeding, bytes_total, bytes_verified, pieces, pieces_have";
        let zeros = ["0"; 15].join(", ");
        for (category, tags) in [("'c'", "[\"t\"]"), ("NULL", "[]")] {
            let sql = format!(
                "INSERT INTO torrents (name, dir, trackers, web_seeds, peers, tags, category, {numbers}) \
                 VALUES ('a', x'2f', '[]', '[]', '[]', '{tags}', {category}, {zeros})"
            );
            store.connection.execute(&sql, []).unwrap();
        }
        store.set(&[("upload_limit", Some(String::new())), ("download_limit", Some("7".into()))]).unwrap();
    }
    let loaded = Store::open(&at(&dir)).unwrap().load().unwrap();
    assert_eq!(loaded.labels.categories.keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!(loaded.labels.tags.iter().collect::<Vec<_>>(), ["t"]);
    let settings = crate::settings::Settings::of_kept(&loaded.settings);
    assert_eq!(
        (settings.upload_limit, settings.download_limit),
        (Goal::Word(GoalWord::None), Goal::Value(7))
    );
}

#[test]
fn labels_come_back() {
    let dir = TempDir::new().unwrap();
    let limits = SharedLimits { upload_limit: Some(5), download_limit: None };
    let mut labels = Labels::default();
    labels.categories.insert("a".into(), Category { dir: Some("/srv/a".into()), limits });
    labels.categories.insert("b".into(), Category::default());
    labels.tags.insert("t".into());
    labels.trackers.insert("tracker.example.org".into(), limits);
    for labels in [labels, Labels::default()] {
        let mut store = Store::open(&at(&dir)).unwrap();
        let change = Change { labels: Some(Arc::new(labels.clone())), ..Change::default() };
        store.commit(&change).unwrap();
        drop(store);
        assert_eq!(Store::open(&at(&dir)).unwrap().load().unwrap().labels, labels);
    }
}

#[test]
fn a_damaged_database_is_named_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(&at(&dir)).unwrap();
    store.commit(&put(&(1..300).map(full).collect::<Vec<_>>())).unwrap();
    drop(store);
    let whole = std::fs::read(at(&dir)).unwrap();
    let mut torn = whole.clone();
    torn[8_192..24_576].fill(0x5a);
    for bytes in
        [&torn[..], &whole[..whole.len() / 2], b"not a database at all, but some text that is long enough\n"]
    {
        std::fs::write(at(&dir), bytes).unwrap();
        let error = refused(&at(&dir), schema::MIGRATIONS);
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
    let mut odd = whole;
    std::fs::write(at(&dir), &odd).unwrap();
    {
        let store = Store::open(&at(&dir)).unwrap();
        store.connection.execute("UPDATE torrents SET tags = 'no JSON' WHERE id = 7", []).unwrap();
        assert!(matches!(store.load(), Err(StoreError::Damaged { what, .. }) if what.contains("tags")));
    }
    odd.clear();
    std::fs::write(at(&dir), odd).unwrap();
    Store::open(&at(&dir)).unwrap();
}

#[test]
fn another_programs_database_is_left_alone() {
    let dir = TempDir::new().unwrap();
    Connection::open(at(&dir)).unwrap().execute_batch("CREATE TABLE bookmarks (a)").unwrap();
    assert!(matches!(refused(&at(&dir), schema::MIGRATIONS), StoreError::Foreign(_)));
}

#[test]
fn a_full_disk_refuses_changes_and_keeps_what_was_written() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(&at(&dir)).unwrap();
    store.commit(&put(&[full(1)])).unwrap();
    let pages: i64 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connection.pragma_update(None, "max_page_count", pages + 2).unwrap();
    let many: Vec<_> = (2..200).map(full).collect();
    let error = store.commit(&put(&many)).unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!(store.load().unwrap().records, [full(1)], "all or nothing");
    store.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
    store.commit(&put(&many)).unwrap();
    drop(store);
    assert_eq!(Store::open(&at(&dir)).unwrap().load().unwrap().records.len(), 199);
}

#[cfg(unix)]
#[test]
fn only_its_owner_reads_the_database() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(&at(&dir)).unwrap();
    store.commit(&put(&[full(1)])).unwrap();
    for name in ["daemon.db", "daemon.db-wal", "daemon.db-shm"] {
        let mode = dir.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}
