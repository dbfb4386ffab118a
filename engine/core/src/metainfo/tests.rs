//! What cannot be said by a file in `testdata/metainfo`: limits, other systems' paths, and all of [`Create`].

use super::*;
use proptest::prelude::*;

/// A metainfo file of this info dictionary.
fn torrent(info: &str) -> Vec<u8> {
    format!("d4:info{info}e").into_bytes()
}

/// A folder of empty files, given as a bencoded list of dictionaries.
fn folder(files: &str) -> Vec<u8> {
    torrent(&format!("d5:filesl{files}e4:name1:n12:piece lengthi16384e6:pieces0:e"))
}

fn text(text: &str) -> String {
    format!("{}:{text}", text.len())
}

fn file(path: &str) -> SourceFile {
    SourceFile { path: path.split('/').map(str::to_owned).collect(), ..SourceFile::default() }
}

fn link(path: &str, target: &str) -> SourceFile {
    SourceFile {
        attr: FileAttr { symlink: true, ..FileAttr::default() },
        symlink_target: Some(file(target).path),
        ..file(path)
    }
}

fn create(files: Vec<SourceFile>) -> Create {
    Create::new("n".to_owned(), Content::Folder(files), 16_384)
}

#[test]
fn an_info_dictionary_alone_is_enough() {
    let bytes = torrent("d6:lengthi5e4:name1:n12:piece lengthi16384e6:pieces20:AAAAAAAAAAAAAAAAAAAAe");
    let metainfo = Metainfo::parse(&bytes).unwrap();
    assert_eq!(Info::parse(&metainfo.info_bytes), Ok((*metainfo.info).clone()));
    assert!(matches!(Info::parse(b"le"), Err(MetainfoError::Field { .. })));
    assert!(matches!(Info::parse(b"de"), Err(MetainfoError::Field { .. })));
    assert!(matches!(Info::parse(b"d4:name"), Err(MetainfoError::Bencode(_))));
}

#[test]
fn a_root_stands_for_files_of_one_length() {
    let root = text(&"R".repeat(32));
    let file = |length: u64| format!("d0:d6:lengthi{length}e11:pieces root{root}ee");
    let parse = |lengths: [u64; 3]| {
        let tree = format!("d1:a{}1:b{}1:c{}e", file(lengths[0]), file(lengths[1]), file(lengths[2]));
        let info = format!("d9:file tree{tree}12:meta versioni2e4:name1:n12:piece lengthi32768ee");
        Info::parse(info.as_bytes())
    };
    assert!(parse([70_000, 70_000, 70_000]).is_ok());
    let same = |a: &str, b: &str| Err(MetainfoError::SameRoot(a.to_owned(), b.to_owned()));
    // Of one piece and of several, and both of several.
    assert_eq!(parse([70_000, 70_000, 10]), same("n/b", "n/c"));
    assert_eq!(parse([70_000, 7_000_000, 70_000]), same("n/a", "n/b"));
    assert_eq!(
        parse([1, 2, 2]).unwrap_err().to_string(),
        r#""n/a" and "n/b" have the same `pieces root` and different lengths"#
    );
}

#[test]
fn an_info_dictionary_can_be_kept_elsewhere() {
    let bytes = torrent("d6:lengthi5e4:name1:n12:piece lengthi16384e6:pieces20:AAAAAAAAAAAAAAAAAAAAe");
    let metainfo = Metainfo::parse(&bytes).unwrap();
    let place = bytes::Bytes::copy_from_slice(&metainfo.info_bytes);
    let moved = metainfo.clone().moved(|info| {
        assert_eq!(info, place);
        place.clone()
    });
    assert_eq!(moved, metainfo);
    let range = place.as_ptr_range();
    assert_eq!(moved.info_bytes.as_ptr_range(), range);
    assert!(range.contains(&moved.info.piece_hashes.as_ref().unwrap().as_ptr()), "they are kept once");
}

#[test]
fn padding_counts_nowhere_and_is_known_by_its_attribute_or_its_name() {
    let file = |attr: &str, length: u64, path: &str| {
        let attr = if attr.is_empty() { String::new() } else { format!("4:attr{}", text(attr)) };
        format!("d{attr}6:lengthi{length}e4:pathl{}ee", text(path))
    };
    let files = [
        file("", 1_000, "a"),
        file("p", 15_384, "pad"),
        file("", 6_384, "b"),
        file("", 10_000, "_____padding_file_0_if you see this file, please update____"),
        file("", 384, "c"),
        // It does not fill the piece up.
        file("", 1_000, "_____padding_file_1_"),
        file("", 15_000, "d"),
    ];
    let info = format!("d5:filesl{}e4:name1:n12:piece lengthi16384e6:pieces60:", files.concat());
    let metainfo = Metainfo::parse(&torrent(&format!("{info}{}e", "A".repeat(60)))).unwrap();
    let info = &metainfo.info;
    assert_eq!(
        info.files.iter().map(|file| file.attr.pad).collect::<Vec<_>>(),
        [0, 1, 0, 1, 0, 0, 0].map(|p| p == 1)
    );
    assert_eq!(info.payload_len(), 1_000 + 6_384 + 384 + 1_000 + 15_000);
    assert_eq!(metainfo.magnet().length, Some(info.payload_len()));
    assert_eq!([0, 1, 2].map(|piece| info.payload_of(PieceIndex(piece))), [1_000, 6_384, 16_384]);
    assert!(!info.padding.is_assumed_in(&info.geometry, PieceIndex(0)));
    assert!(info.padding.is_assumed_in(&info.geometry, PieceIndex(1)));
}

#[test]
fn legacy_encodings_are_honoured_and_utf8_keys_come_first() {
    // "联通" in GBK, which is valid UTF-8 for something else; "日本" in Shift_JIS, "Фото" in windows-1251.
    let names: [(&str, &[u8], &str); 5] = [
        ("GBK", b"\xc1\xaa\xcd\xa8", "联通"),
        ("CP936", b"\xc1\xaa\xcd\xa8", "联通"),
        ("Shift_JIS", b"\x93\xfa\x96\x7b", "日本"),
        ("windows-1251", b"\xd4\xee\xf2\xee", "Фото"),
        ("UTF-8", "ü".as_bytes(), "ü"),
    ];
    let plain = |raw: &[u8]| [format!("{}:", raw.len()).as_bytes(), raw].concat();
    let made = |encoding: &str, raw: &[u8], more: &str| {
        let file = [b"d6:lengthi0e4:pathl", &*plain(raw), b"e", more.as_bytes(), b"e"].concat();
        let info =
            [b"d5:filesl", &*file, b"e4:name", &*plain(raw), b"12:piece lengthi16384e6:pieces0:e"].concat();
        [b"d8:encoding", text(encoding).as_bytes(), b"4:info", &*info, b"e"].concat()
    };
    for (encoding, raw, name) in names {
        let bytes = made(encoding, raw, "");
        let metainfo = Metainfo::parse(&bytes).unwrap();
        assert_eq!(metainfo.info.files[0].path, [name, name], "{encoding}");
        assert_eq!(metainfo.warnings, [""; 0]);
        assert_eq!(metainfo.info.info_hash, Info::parse(&metainfo.info_bytes).unwrap().info_hash);
    }
    let both = made("GBK", b"\xc1\xaa", "10:path.utf-8l3:\u{8054}e");
    assert_eq!(Metainfo::parse(&both).unwrap().info.files[0].path, ["联", "联"]);
    // What is not in the encoding, and an encoding that nobody knows: as before.
    assert_eq!(Metainfo::parse(&made("GBK", b"\xff", "")).unwrap().info.name, "\u{fffd}");
    assert_eq!(Metainfo::parse(&made("EBCDIC", b"\xc3\xbc", "")).unwrap().info.name, "ü");
}

#[test]
fn names_that_a_file_system_does_not_take_are_changed_in_the_same_way_each_time() {
    let long = "x".repeat(200);
    let paths = ["Readme", "README", "a:b/x", "a_b/x", "tail.", &format!("{long}.iso"), "plain"];
    let files: String = paths
        .iter()
        .map(|path| format!("d6:lengthi0e4:pathl{}ee", path.split('/').map(text).collect::<String>()))
        .collect();
    let info = Metainfo::parse_for(&folder(&files), PathRules::UNIX).unwrap().info;
    let renamed = |rules: PathRules| -> Vec<String> {
        let renamed = info.renamed(rules);
        assert_eq!(renamed, info.renamed(rules));
        assert_eq!(renamed.info_hash, info.info_hash);
        renamed.files.iter().map(|file| file.path[1..].join("/")).collect()
    };
    let long = format!("{long}.iso");
    let short = format!("{}.iso", "x".repeat(136));
    assert_eq!(renamed(PathRules::UNIX), ["Readme", "README", "a:b/x", "a_b/x", "tail.", &long, "plain"]);
    assert_eq!(
        renamed(PathRules::MACOS),
        ["Readme", "README (2)", "a:b/x", "a_b/x", "tail.", &long, "plain"]
    );
    assert_eq!(
        renamed(PathRules::WINDOWS),
        ["Readme", "README (2)", "a_b/x", "a_b/x (2)", "tail_", &long, "plain"]
    );
    assert_eq!(
        renamed(PathRules::SHORT),
        ["Readme", "README (2)", "a_b/x", "a_b/x (2)", "tail_", &short, "plain"]
    );
}

#[test]
fn a_file_that_others_take_for_padding_is_not_put_into_a_torrent() {
    let path = "a/_____padding_file_3";
    assert_eq!(create(vec![file(path)]).encode(Hashes::v1(&[])), Err(CreateError::Path(path.to_owned())));
}

#[test]
fn limits_hold() {
    assert_eq!(
        Metainfo::parse(&vec![b'x'; METAINFO_LEN_MAX + 1]),
        Err(MetainfoError::TooLong(METAINFO_LEN_MAX + 1))
    );
    let file = "d6:lengthi0e4:pathl1:aee";
    assert_eq!(
        Metainfo::parse(&folder(&file.repeat(FILES_MAX + 1))),
        Err(MetainfoError::TooManyFiles(FILES_MAX + 1))
    );
    let deep = |depth| folder(&format!("d6:lengthi0e4:pathl{}ee", "1:a".repeat(depth)));
    assert_eq!(Metainfo::parse(&deep(PATH_DEPTH_MAX)), Err(MetainfoError::PathTooDeep(0)));
    let metainfo = Metainfo::parse(&deep(PATH_DEPTH_MAX - 1)).unwrap();
    assert_eq!(metainfo.info.files[0].path.len(), PATH_DEPTH_MAX);
}

#[test]
fn addresses_and_warnings_are_bounded() {
    let info = "d6:lengthi0e4:name1:n12:piece lengthi16384e6:pieces0:e";
    let urls: String = (0..2 * ADDRESSES_MAX).map(|n| text(&format!("http://{n}"))).collect();
    let nodes: String = (0..2 * ADDRESSES_MAX).map(|n| format!("l{}i1ee", text(&n.to_string()))).collect();
    let long = text(&"x".repeat(URL_LEN_MAX + 1));
    let bytes = format!("d13:announce-listll{long}{urls}ee4:info{info}5:nodesl{nodes}ee");
    let metainfo = Metainfo::parse(bytes.as_bytes()).unwrap();
    assert_eq!(metainfo.trackers.iter().flatten().count(), ADDRESSES_MAX);
    assert_eq!(metainfo.nodes.len(), ADDRESSES_MAX);
    assert_eq!(metainfo.warnings.len(), 101);
    assert_eq!(metainfo.warnings[100], "and 902 more warnings");
}

#[test]
fn warnings_are_safe_to_print() {
    let bytes = folder("d6:lengthi0e4:pathl10:/\x1b[31m\n\r\t\x07ee");
    let metainfo = Metainfo::parse_for(&bytes, PathRules::UNIX).unwrap();
    assert_eq!(metainfo.warnings.len(), 1);
    assert!(metainfo.warnings[0].chars().all(|c| !c.is_control()), "{:?}", metainfo.warnings);
}

#[test]
fn other_systems_have_other_rules() {
    let bytes = create(vec![
        file("Read:me"),
        file("READ:ME"),
        link("l", "Read:me"),
        link("back", "..\\x"),
        file("nul/x"),
        link("m", "nul/x"),
    ])
    .encode(Hashes::v1(&[]))
    .unwrap();
    let parse = |rules| Metainfo::parse_for(&bytes, rules).unwrap();
    let paths =
        |metainfo: &Metainfo| metainfo.info.files.iter().map(|f| f.path.join("/")).collect::<Vec<_>>();
    let targets = |metainfo: &Metainfo| {
        let targets = metainfo.info.files.iter().filter(|file| file.attr.symlink);
        targets.map(|file| file.symlink_target.as_ref().map(|path| path.join("/"))).collect::<Vec<_>>()
    };
    let some = |path: &str| Some(path.to_owned());

    let unix = parse(PathRules::UNIX);
    assert_eq!(paths(&unix), ["n/Read:me", "n/READ:ME", "n/l", "n/back", "n/nul/x", "n/m"]);
    assert_eq!(targets(&unix), [some("n/Read:me"), some("n/..\\x"), some("n/nul/x")]);
    assert!(unix.warnings.is_empty());

    let windows = parse(PathRules::WINDOWS);
    assert_eq!(paths(&windows), ["n/Read_me", "n/READ_ME (2)", "n/l", "n/back", "n/_nul/x", "n/m"]);
    assert_eq!(targets(&windows), [some("n/Read_me"), None, some("n/_nul/x")]);
    assert_eq!(windows.info.info_hash, unix.info.info_hash);
}

#[test]
fn default_piece_lengths() {
    const KIB: u64 = 1024;
    for (total, len) in [
        (0, 16 * KIB),
        (1, 16 * KIB),
        (32 * KIB * KIB, 16 * KIB),
        (32 * KIB * KIB + 1, 32 * KIB),
        (KIB * KIB * KIB, 512 * KIB),
        (32 * KIB * KIB * KIB, 16 * KIB * KIB),
        (u64::MAX, 16 * KIB * KIB),
    ] {
        assert_eq!(u64::from(default_piece_length(total)), len, "for {total} bytes");
    }
}

#[test]
fn files_are_sorted_by_their_whole_paths() {
    let order = ["A", "a!", "a-b", "a.d/x", "a.txt", "a/b", "a/b/c", "aé", "é"];
    let mut files: Vec<_> = order.iter().rev().map(|path| file(path)).collect();
    sort_files(&mut files);
    assert_eq!(files.iter().map(|file| file.path.join("/")).collect::<Vec<_>>(), order);
}

#[test]
fn everything_that_is_put_in_comes_out() {
    let content = Content::Folder(vec![
        SourceFile {
            length: 20_000,
            attr: FileAttr { executable: true, ..FileAttr::default() },
            ..file("b")
        },
        file("a/empty"),
        SourceFile { length: 5, attr: FileAttr { hidden: true, ..FileAttr::default() }, ..file("a/.x") },
        link("l", "a/empty"),
    ]);
    let urls = |tier: &[&str]| tier.iter().map(|url| format!("http://{url}/announce")).collect::<Vec<_>>();
    let create = Create {
        private: true,
        source: Some("S".to_owned()),
        trackers: vec![urls(&["a", "b"]), vec![], urls(&["c"])],
        web_seeds: urls(&["w"]),
        nodes: vec![("router.example".to_owned(), 6881)],
        comment: Some("A comment".to_owned()),
        created_by: Some("a test".to_owned()),
        creation_date: Some(1_700_000_000),
        ..Create::new("name".to_owned(), content, 16_384)
    };
    let hashes = [7; 40];
    let metainfo = Metainfo::parse(&create.encode(Hashes::v1(&hashes)).unwrap()).unwrap();
    assert_eq!(metainfo.trackers, [urls(&["a", "b"]), urls(&["c"])]);
    assert_eq!((metainfo.web_seeds, metainfo.nodes), (create.web_seeds, create.nodes));
    assert_eq!((metainfo.comment, metainfo.created_by), (create.comment, create.created_by));
    assert_eq!((metainfo.creation_date, metainfo.info.info_hash_v2), (create.creation_date, None));
    assert!(metainfo.warnings.is_empty(), "{:?}", metainfo.warnings);
    let info = metainfo.info;
    assert_eq!((&*info.name, info.single_file, info.private), ("name", false, true));
    assert_eq!((info.source.clone(), &info.piece_hashes.as_ref().unwrap()[..]), (create.source, &hashes[..]));
    assert_eq!((info.geometry.total_len(), info.geometry.pieces()), (20_005, 2));
    let read: Vec<_> = info.files.iter().map(|f| (f.path.join("/"), f.length, f.attr.letters())).collect();
    let expected = [("b", 20_000, "x"), ("a/empty", 0, ""), ("a/.x", 5, "h"), ("l", 0, "l")];
    let expected = expected.map(|(path, length, attr)| (format!("name/{path}"), length, attr.to_owned()));
    assert_eq!(read, expected);
    assert_eq!(info.files[3].symlink_target, Some(file("name/a/empty").path));
}

#[test]
fn one_tracker_needs_no_tiers_and_nothing_leaves_nothing() {
    let mut create =
        Create::new("n".to_owned(), Content::File { length: 0, attr: FileAttr::default() }, 16_384);
    let info = "d6:lengthi0e4:name1:n12:piece lengthi16384e6:pieces0:e";
    assert_eq!(create.encode(Hashes::v1(&[])).unwrap(), torrent(info));
    create.trackers = vec![vec!["udp://t".to_owned()]];
    assert_eq!(
        create.encode(Hashes::v1(&[])).unwrap(),
        format!("d8:announce7:udp://t4:info{info}e").into_bytes()
    );
}

#[test]
fn what_cannot_be_read_back_is_not_made() {
    let fails = |files: Vec<SourceFile>| create(files).encode(Hashes::v1(&[])).unwrap_err();
    let path = |path: &str| CreateError::Path(path.to_owned());
    assert_eq!(fails(vec![file("../x")]), path("../x"));
    assert_eq!(fails(vec![file("a//b")]), path("a//b"));
    assert_eq!(fails(vec![file("a\0")]), path("a\0"));
    assert_eq!(fails(vec![file(&"x".repeat(256))]), path(&"x".repeat(256)));
    assert_eq!(fails(vec![file("a"), file("a")]), path("a"));
    assert_eq!(fails(vec![file("a"), file("a/b")]), path("a/b"));
    assert_eq!(fails(vec![link("l", "../x")]), CreateError::Link("l".to_owned()));
    assert_eq!(fails(vec![]), MetainfoError::NoFiles.into());
    let missing = SourceFile { length: 1, ..file("a") };
    assert_eq!(fails(vec![missing]), MetainfoError::PieceCount { found: 0, expected: 1 }.into());
    let huge = SourceFile { length: u64::MAX, ..file("a") };
    assert!(matches!(fails(vec![huge]), CreateError::Metainfo(_)));
    assert!(matches!(
        Create { piece_length: 0, ..create(vec![file("a")]) }.encode(Hashes::v1(&[])),
        Err(CreateError::Metainfo(_))
    ));
    assert_eq!(
        Create { name: "..".to_owned(), ..create(vec![file("a")]) }.encode(Hashes::v1(&[])),
        Err(path(".."))
    );
}

#[test]
fn magnet_links_escape_what_would_end_a_parameter() {
    let mut create = create(vec![file("a")]);
    create.name = "a&b=c d é+".to_owned();
    create.trackers = vec![vec!["http://t/announce?x=1&y=2".to_owned()], vec!["udp://u:80".to_owned()]];
    create.web_seeds = vec!["http://w/~a_b-c.d".to_owned()];
    let metainfo = Metainfo::parse(&create.encode(Hashes::v1(&[])).unwrap()).unwrap();
    assert_eq!(
        metainfo.magnet().to_string(),
        format!(
            "magnet:?xt=urn:btih:{}&dn=a%26b%3Dc%20d%20%C3%A9%2B&xl=0&tr=http%3A%2F%2Ft%2Fannounce%3Fx%3D1%26y%3D2\
             &tr=udp%3A%2F%2Fu%3A80&ws=http%3A%2F%2Fw%2F~a_b-c.d",
            metainfo.info.info_hash
        )
    );
}

/// Everything that the types promise of a torrent that was read.
fn assert_sound(metainfo: &Metainfo) {
    let info = &metainfo.info;
    assert_eq!(info.piece_hashes.as_ref().unwrap().len(), 20 * info.geometry.pieces() as usize);
    let mut offset = 0;
    for file in &info.files {
        assert_eq!((file.offset, &file.path[0]), (offset, &info.name));
        offset += file.length;
        let targets = file.symlink_target.iter().flatten();
        assert!(file.path.iter().chain(targets).all(|name| PathRules::UNIX.is_safe(name)));
        assert_eq!(
            file.symlink_target.as_ref().map(|target| &target[0]),
            file.symlink_target.as_ref().map(|_| &info.name)
        );
    }
    assert_eq!(offset, info.geometry.total_len());
    let mut bytes = 0;
    for piece in info.geometry.piece_indices() {
        bytes += info.segments(piece).map(|segment| segment.len).sum::<u64>();
    }
    assert_eq!(bytes, offset);
}

proptest! {
    #[test]
    fn damaged_files_are_refused_or_sound(
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(prop::sample::select(&b"0123456789deil:/.\0\xff"[..]), 0..4),
        len in 0usize..4,
    ) {
        let mut create = create(vec![
            SourceFile { length: 9, ..file("a/b") },
            link("a/l", "a/b"),
            SourceFile { length: 7, ..file("c") },
        ]);
        create.private = true;
        create.trackers = vec![vec!["http://a".to_owned(), "http://b".to_owned()]];
        create.nodes = vec![("h".to_owned(), 1)];
        let mut bytes = create.encode(Hashes::v1(&[0; 20])).unwrap();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + len);
        bytes.splice(at..end, with);
        if let Ok(metainfo) = Metainfo::parse_for(&bytes, PathRules::UNIX) {
            assert_sound(&metainfo);
        }
    }

    #[test]
    fn trees_survive_being_made_and_read(
        names in prop::collection::btree_set("[^/\0.]{1,8}(/[^/\0.]{1,8}){0,2}/[^/\0.]{9}", 1..12),
        lengths in prop::collection::vec(0u64..50_000, 12),
    ) {
        let mut files: Vec<_> = names
            .iter()
            .zip(&lengths)
            .map(|(path, &length)| SourceFile { length, ..file(path) })
            .collect();
        sort_files(&mut files);
        let total: u64 = files.iter().map(|file| file.length).sum();
        let hashes = vec![1; 20 * total.div_ceil(16_384) as usize];
        let bytes = create(files.clone()).encode(Hashes::v1(&hashes)).unwrap();
        let metainfo = Metainfo::parse_for(&bytes, PathRules::UNIX).unwrap();
        assert_sound(&metainfo);
        prop_assert!(metainfo.warnings.is_empty());
        let read: Vec<_> = metainfo.info.files.iter().map(|file| (&file.path[1..], file.length)).collect();
        let made: Vec<_> = files.iter().map(|file| (&file.path[..], file.length)).collect();
        prop_assert_eq!(read, made);
    }
}

#[test]
fn renamed_paths_are_as_their_maker_wrote_them() {
    let file = |name: &str| SourceFile { path: vec![name.to_owned()], length: 1, ..SourceFile::default() };
    let files = vec![file("plain"), file("a:b"), file("c+d")];
    let create = Create::new("dir?".to_owned(), Content::Folder(files), 16_384);
    let bytes = create.encode(Hashes::v1(&[0; 20])).unwrap();
    let unix = Metainfo::parse_for(&bytes, PathRules::UNIX).unwrap();
    assert!(unix.info.renamed_paths(&unix.info_bytes).is_empty());
    let windows = Metainfo::parse_for(&bytes, PathRules::WINDOWS).unwrap();
    let raw = windows.info.renamed_paths(&windows.info_bytes);
    assert_eq!(raw.len(), 3, "the folder's name is another in each");
    assert_eq!(raw[&FileIndex(1)], [b"dir?".to_vec(), b"a:b".to_vec()]);
}

#[test]
fn http_seeds_are_read_and_nothing_else() {
    let create = Create::new("f".to_owned(), Content::File { length: 1, attr: FileAttr::default() }, 16_384);
    let mut bytes = create.encode(Hashes::v1(&[0; 20])).unwrap();
    bytes.splice(1..1, b"9:httpseedsl17:http://h/seed.phpe".iter().copied());
    let metainfo = Metainfo::parse(&bytes).unwrap();
    assert_eq!(metainfo.http_seeds.len(), 1);
    assert!(metainfo.web_seeds.is_empty() && metainfo.magnet().web_seeds.is_empty());
}

/// A folder is named once, and stands in the path of each of its files.
#[test]
fn a_deep_file_tree_costs_no_more_than_its_paths_may() {
    let depth = 90;
    let file = |n: usize| format!("6:{n:06}d0:d6:lengthi0eee");
    let torrent = |files: usize| {
        let name = format!("200:{}d", "x".repeat(200)).repeat(depth);
        let files: String = (0..files).map(file).collect();
        format!(
            "d4:infod9:file treed{name}{files}{}e12:meta versioni2e4:name1:n12:piece lengthi16384eee",
            "e".repeat(depth)
        )
    };
    assert!(Metainfo::parse(torrent(1_000).as_bytes()).is_ok());
    assert_eq!(Metainfo::parse(torrent(10_000).as_bytes()), Err(MetainfoError::PathsTooLong));
}
