use super::*;

/// Metainfo of a torrent with these files, all of one byte.
fn metainfo(name: &str, files: &[&str]) -> Arc<Metainfo> {
    let list: String = files
        .iter()
        .map(|path| {
            let path: String = path.split('/').map(|part| format!("{}:{part}", part.len())).collect();
            format!("d6:lengthi1e4:pathl{path}ee")
        })
        .collect();
    let content = if files.is_empty() { "6:lengthi1e".to_owned() } else { format!("5:filesl{list}e") };
    let info =
        format!("{content}4:name{}:{name}12:piece lengthi16384e6:pieces20:{}", name.len(), "a".repeat(20));
    Arc::new(Metainfo::parse(format!("d4:infod{info}ee").as_bytes()).unwrap())
}

fn new(name: &str, files: &[&str], dir: &str) -> New {
    let what = What::Metainfo(metainfo(name, files));
    New { what, dir: dir.into(), is_default_dir: false, options: Options::default(), past: None }
}

fn add(book: &mut Book, new: New) -> Result<Id, Refusal> {
    let (id, change) = book.plan_add(new, 1)?;
    book.apply(change);
    Ok(id)
}

#[test]
fn the_same_torrent_and_the_same_path_are_refused_by_name() {
    let mut book = Book::default();
    let first = add(&mut book, new("a", &["1"], "/d")).unwrap();
    let again = add(&mut book, new("a", &["1"], "/other")).unwrap_err();
    assert_eq!(again, Refusal::AlreadyAdded { id: first, name: "a".into() });
    let taken = add(&mut book, new("a", &["2"], "/d")).unwrap_err();
    assert_eq!(taken, Refusal::PathTaken { path: "/d/a".into(), id: first, name: "a".into() });
    add(&mut book, new("a", &["2"], "/other")).unwrap();
    let inside = add(&mut book, new("1", &[], "/d/a")).unwrap_err();
    assert!(matches!(inside, Refusal::PathTaken { id, .. } if id == first), "{inside}");
    add(&mut book, new("3", &[], "/d/a")).unwrap();
    // What only reads may share.
    let seed = New { options: Options { seed: true, ..Options::default() }, ..new("a", &["4"], "/d") };
    add(&mut book, seed).unwrap();
}

#[test]
fn nothing_changes_before_a_plan_is_applied() {
    let mut book = Book::default();
    let (first, _) = book.plan_add(new("a", &[], "/d"), 1).unwrap();
    assert!(book.get(first).is_none());
    let id = add(&mut book, new("a", &[], "/d")).unwrap();
    let edit = Edit { paused: Some(true), ..Edit::default() };
    let change = book.plan_edit(&[id], &edit).unwrap();
    assert!(!book.get(id).unwrap().record.options.paused);
    book.apply(change);
    assert!(book.get(id).unwrap().record.options.paused);
    let none = book.plan_edit(&[id, Id(99)], &edit).unwrap_err();
    assert_eq!(none, Refusal::NoSuchTorrent("99".into()));
}

#[test]
fn a_number_is_never_given_twice() {
    let mut book = Book::load(Vec::new(), Labels::default(), 7);
    let id = add(&mut book, new("a", &[], "/d")).unwrap();
    assert_eq!(id, Id(8));
    book.apply(Change::gone(id));
    assert_eq!(add(&mut book, new("a", &[], "/d")).unwrap(), Id(9), "the path and the hash are free again");
}

#[test]
fn a_link_owns_its_path_once_its_metadata_is_here_and_else_waits() {
    let mut book = Book::default();
    let theirs = metainfo("a", &["1"]);
    let link = |metainfo: &Metainfo| New {
        what: What::Link {
            text: metainfo.magnet().to_string(),
            name: "a link".into(),
            hashes: metainfo.info.info_hashes(),
        },
        is_default_dir: false,
        past: None,
        dir: "/d".into(),
        options: Options::default(),
    };
    let (one, other) = (metainfo("a", &["2"]), metainfo("a", &["3"]));
    let first = add(&mut book, link(&one)).unwrap();
    let second = add(&mut book, link(&other)).unwrap();
    assert!(matches!(add(&mut book, link(&one)), Err(Refusal::AlreadyAdded { .. })));
    for (id, metainfo) in [(first, &one), (second, &other)] {
        let change = book.plan_metadata(id, Arc::clone(metainfo)).unwrap();
        book.apply(change);
    }
    assert_eq!(book.get(first).unwrap().conflict, None);
    let waits = book.get(second).unwrap();
    assert_eq!(waits.conflict, Some(Refusal::PathTaken { path: "/d/a".into(), id: first, name: "a".into() }));
    assert!(!book.running(queue::Turns::default(), |_| false).contains(&second));
    let resume = Edit { paused: Some(false), ..Edit::default() };
    assert!(matches!(book.plan_edit(&[second], &resume), Err(Refusal::PathTaken { .. })));
    assert!(add(&mut book, New { what: What::Metainfo(theirs), ..new("a", &["1"], "/d") }).is_err());

    book.apply(Change::gone(first));
    let change = book.plan_edit(&[second], &resume).unwrap();
    book.apply(change);
    assert_eq!(book.get(second).unwrap().conflict, None);
}

/// All torrents as a restart finds them.
fn restarted(book: &Book) -> Book {
    let kept = book.iter().map(|torrent| (torrent.record.clone(), torrent.metainfo.clone())).collect();
    Book::load(kept, Labels::default(), 0)
}

#[test]
fn who_has_waited_for_a_path_waits_on_after_a_restart() {
    let mut book = Book::default();
    let own = metainfo("a", &["2"]);
    let what =
        What::Link { text: own.magnet().to_string(), name: "a link".into(), hashes: own.info.info_hashes() };
    let link = add(&mut book, New { what, ..new("a", &["2"], "/d") }).unwrap();
    // It is named later, and owns the path first.
    let owner = add(&mut book, new("a", &["1"], "/d")).unwrap();
    book.apply(book.plan_metadata(link, own).unwrap());
    let conflict = |book: &Book, id| book.get(id).unwrap().conflict.clone();
    let waits = Some(Refusal::PathTaken { path: "/d/a".into(), id: owner, name: "a".into() });
    for book in [&book, &restarted(&book), &restarted(&restarted(&book))] {
        assert_eq!((conflict(book, link), conflict(book, owner)), (waits.clone(), None));
    }
    // Resumed once the path is free, it owns that as any other.
    let mut book = restarted(&book);
    book.apply(Change::gone(owner));
    book.apply(book.plan_edit(&[link], &Edit { paused: Some(false), ..Edit::default() }).unwrap());
    assert!(!book.get(link).unwrap().record.waits_for_path);
    assert!(matches!(add(&mut book, new("a", &["1"], "/d")), Err(Refusal::PathTaken { .. })));
    assert_eq!(conflict(&restarted(&book), link), None);
}

#[test]
fn files_of_an_unfinished_torrent_of_another_program_are_its_own_until_they_are_complete() {
    let mut book = Book::default();
    let past = |is_unfinished| Some(Past { is_unfinished, ..Past::default() });
    let overwrites = |book: &Book, id| book.get(id).unwrap().record.options.overwrite;
    let whole = add(&mut book, New { past: past(false), ..new("a", &["1"], "/d") }).unwrap();
    let some = add(&mut book, New { past: past(true), ..new("b", &["1", "2"], "/d") }).unwrap();
    assert!(!overwrites(&book, whole) && overwrites(&book, some));
    let skip = Edit { priorities: BTreeMap::from([(1, 0)]), ..Edit::default() };
    book.apply(book.plan_edit(&[some], &skip).unwrap());
    book.apply(book.plan_completed(some, 5, false).unwrap());
    assert!(overwrites(&book, some), "a part of the other file may be there");
    book.apply(book.plan_incomplete(some).unwrap());
    let want = Edit { priorities: BTreeMap::from([(1, 4)]), ..Edit::default() };
    book.apply(book.plan_edit(&[some], &want).unwrap());
    book.apply(book.plan_completed(some, 6, false).unwrap());
    assert!(!overwrites(&book, some));
}

#[test]
fn priorities_need_metadata_and_files_that_there_are() {
    let mut book = Book::default();
    let id = add(&mut book, new("a", &["1", "2", "3"], "/d")).unwrap();
    let edit = |file, priority| Edit { priorities: BTreeMap::from([(file, priority)]), ..Edit::default() };
    let change = book.plan_edit(&[id], &edit(1, 0)).unwrap();
    book.apply(change);
    assert_eq!(book.get(id).unwrap().record.options.priorities.as_deref(), Some(&[4, 0, 4][..]));
    assert!(matches!(book.plan_edit(&[id], &edit(3, 0)), Err(Refusal::Invalid(_))));
    let hash = metainfo("b", &[]).info.info_hashes();
    let link = What::Link { text: "magnet:".into(), name: "b".into(), hashes: hash };
    let id = add(&mut book, New { what: link, ..new("b", &[], "/d") }).unwrap();
    assert_eq!(book.plan_edit(&[id], &edit(0, 0)), Err(Refusal::NoMetadata));
}

#[test]
fn torrents_move_in_the_queue_and_few_others_change() {
    let mut book = Book::default();
    let ids: Vec<Id> =
        ["a", "b", "c", "d"].map(|name| add(&mut book, new(name, &[], "/d")).unwrap()).to_vec();
    let order = |book: &Book| {
        let mut all: Vec<_> =
            book.iter().map(|t| (t.record.options.position, t.record.name.clone())).collect();
        all.sort();
        all.into_iter().map(|(_, name)| name).collect::<String>()
    };
    for (moved, place, expected, changed) in [
        (&ids[2..3], Place::Top, "cabd", 1),
        (&ids[0..1], Place::Down, "cbad", 2),
        (&ids[0..2], Place::Up, "bacd", 3),
        (&ids[1..2], Place::Up, "bacd", 0),
        (&ids[1..2], Place::Bottom, "acdb", 1),
        (&ids[2..4], Place::Top, "cdab", 2),
    ] {
        let change = book.plan_edit(moved, &Edit { position: Some(place), ..Edit::default() }).unwrap();
        let others = change.put.iter().filter(|r| r.options.position != book.position(r.id)).count();
        assert_eq!(others, changed, "{place:?} {expected}");
        book.apply(change);
        assert_eq!(order(&book), expected, "{place:?}");
    }
}

#[test]
fn what_a_goal_has_stopped_goes_on_when_somebody_resumes_it() {
    let mut book = Book::default();
    let id = add(&mut book, new("a", &[], "/d")).unwrap();
    book.update(id, |record| record.totals = Totals { bytes_up: 10, ..Totals::default() });
    let goals = goals::Goals { ratio: Some(2.0), seed_time: None };
    assert!(book.plan_goal(id, &goals, 0).is_none());
    let completed = book.plan_completed(id, 5, true).unwrap();
    book.apply(completed);
    let (why, change) = book.plan_goal(id, &goals, 0).unwrap();
    assert_eq!(why, StoppedBy::Ratio);
    book.apply(change);
    assert!(book.get(id).unwrap().record.options.paused);
    let change = book.plan_edit(&[id], &Edit { paused: Some(false), ..Edit::default() }).unwrap();
    book.apply(change);
    assert!(book.plan_goal(id, &goals, 0).is_none());
    let new_goal = Edit { ratio_limit: Some(goals::Goal::Value(3.0)), ..Edit::default() };
    let change = book.plan_edit(&[id], &new_goal).unwrap();
    book.apply(change);
    assert!(book.plan_goal(id, &goals, 0).is_some());
}

#[test]
fn a_torrent_goes_to_its_categorys_folder_unless_it_names_one() {
    let mut book = Book::default();
    let edit = crate::torrents::CategoryEdit { dir: Some(Some("/iso".into())), ..Default::default() };
    book.apply(book.plan_labels(LabelsEdit::CreateCategory("iso".into(), edit)).unwrap());
    let of = |name: &str, category: &str, is_default_dir| {
        let options = Options { category: Some(category.into()), ..Options::default() };
        New { options, is_default_dir, ..new(name, &[], "/d") }
    };
    let dir_of = |book: &Book, id| book.get(id).unwrap().record.dir.clone();
    let id = add(&mut book, of("a", "iso", true)).unwrap();
    assert_eq!(dir_of(&book, id), PathBuf::from("/iso"));
    let id = add(&mut book, of("b", "iso", false)).unwrap();
    assert_eq!(dir_of(&book, id), PathBuf::from("/d"));
    let id = add(&mut book, of("c", "new", true)).unwrap();
    assert_eq!(dir_of(&book, id), PathBuf::from("/d"));
    assert!(book.labels().categories.contains_key("new"), "what a torrent has is there");
}

#[test]
fn a_category_or_tag_that_is_removed_leaves_its_torrents() {
    let mut book = Book::default();
    let ids = ["a", "b"].map(|name| add(&mut book, new(name, &[], "/d")).unwrap());
    let edit = Edit {
        category: Some(Some("c".into())),
        tags: Some(vec!["s".into(), "t".into()]),
        ..Edit::default()
    };
    book.apply(book.plan_edit(&ids[..1], &edit).unwrap());
    for (removal, names) in [
        (LabelsEdit::RemoveTags(vec!["t".into(), "none".into()]), Some("c")),
        (LabelsEdit::RemoveCategories(vec!["c".into()]), None),
    ] {
        let change = book.plan_labels(removal).unwrap();
        assert_eq!(change.put.len(), 1, "nobody else changes");
        book.apply(change);
        let options = &book.get(ids[0]).unwrap().record.options;
        assert_eq!((options.category.as_deref(), &options.tags[..]), (names, &["s".to_owned()][..]));
    }
    assert_eq!(book.labels().tags.len(), 1);
}

#[test]
fn a_program_is_due_once_for_what_was_downloaded() {
    let mut book = Book::default();
    let id = add(&mut book, new("a", &[], "/d")).unwrap();
    let is_due = |change: &Change| change.put[0].program_due;
    assert!(!is_due(&book.plan_completed(id, 5, true).unwrap()), "all was there from the start");
    book.update(id, |record| record.totals.bytes_down = 1);
    assert!(!is_due(&book.plan_completed(id, 5, false).unwrap()), "there is none to run");
    let completed = book.plan_completed(id, 5, true).unwrap();
    assert!(is_due(&completed));
    book.apply(completed);
    assert_eq!(book.plan_completed(id, 6, true), None);
    assert!(!is_due(&book.plan_incomplete(id).unwrap()));
}

#[test]
fn a_move_respects_the_places_of_others_and_those_they_move_to() {
    let mut book = Book::default();
    let first = add(&mut book, new("a", &["1", "sub/2"], "/d")).unwrap();
    let second = add(&mut book, new("b", &["1"], "/d")).unwrap();
    let taken = |refusal: Result<Change, Refusal>| matches!(refusal, Err(Refusal::PathTaken { .. }));
    assert!(taken(book.plan_rename(second, "b", "a")));
    // Where one goes is its own from then on.
    let change = book.plan_relocation(first, "/e".into()).unwrap();
    book.apply(change);
    assert_eq!(book.get(first).unwrap().record.root(), Some("/d/a".into()), "it is not there yet");
    assert!(taken(book.plan_rename(second, "b", "a")), "it is still here");
    let there = add(&mut book, new("a", &["3"], "/e")).unwrap_err();
    assert!(matches!(there, Refusal::PathTaken { id, .. } if id == first), "{there}");
    assert_eq!(book.plan_relocation(first, "/f".into()).unwrap_err(), Refusal::Moving);
    assert_eq!(book.plan_removal(first, Data::Keep).unwrap_err(), Refusal::Moving);
    let change = book.plan_moved(first, true).unwrap();
    book.apply(change);
    let record = &book.get(first).unwrap().record;
    assert_eq!((record.root(), &record.moving), (Some("/e/a".into()), &None));
    let change = book.plan_rename(second, "b", "a").unwrap();
    book.apply(change);
    // It fails: the place is free again, and the old one is kept.
    let change = book.plan_moved(second, false).unwrap();
    book.apply(change);
    assert_eq!(book.get(second).unwrap().record.root(), Some("/d/b".into()));
    add(&mut book, new("a", &["4"], "/d")).unwrap();
    assert!(taken(book.plan_rename(second, "b", "a")));
}

#[test]
fn renamed_files_are_where_others_may_not_be() {
    let mut book = Book::default();
    let first = add(&mut book, new("a", &["1", "2"], "/d")).unwrap();
    let inside = add(&mut book, new("x", &[], "/d/a")).unwrap();
    let refused = book.plan_rename(first, "a/1", "a/x").unwrap_err();
    assert!(matches!(refused, Refusal::PathTaken { id, .. } if id == inside), "{refused}");
    let change = book.plan_rename(first, "a/1", "a/y").unwrap();
    book.apply(change);
    let change = book.plan_moved(first, true).unwrap();
    book.apply(change);
    let refused = add(&mut book, new("y", &[], "/d/a")).unwrap_err();
    assert!(matches!(refused, Refusal::PathTaken { id, .. } if id == first), "{refused}");
    add(&mut book, new("1", &[], "/d/a")).unwrap();
    for (from, to) in [("a/1", "a/3"), ("a/y", "../y"), ("a/y", "a/2"), ("a", "b/c")] {
        assert!(matches!(book.plan_rename(first, from, to), Err(Refusal::Invalid(_))), "{from} {to}");
    }
    assert_eq!(book.plan_rename(first, "a/y", "a/y"), Ok(Change::default()));
}
