use super::walk::walk_within;
use super::*;
use crate::storage::testing::{Content as Bytes, Torrent};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn write(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn files(source: &Source) -> Vec<String> {
    match &source.content {
        Content::Folder(files) => files.iter().map(|file| file.path.join("/")).collect(),
        Content::File { .. } => panic!("a file"),
    }
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in ["b", "a/x", "a/deep/y.tmp", "a-b", "z.tmp", ".hidden", "logs/1", "logs/2"] {
        write(dir.path(), path, path.as_bytes());
    }
    dir
}

#[test]
fn globs_tell_ahead_what_is_taken() {
    let options = |include: &str, exclude: &str| WalkOptions {
        include: include.split_whitespace().map(str::to_owned).collect(),
        exclude: exclude.split_whitespace().map(str::to_owned).collect(),
        ..WalkOptions::default()
    };
    let root = Path::new("nowhere/NAME");
    let takes = |include, exclude, path: &str| options(include, exclude).takes(root, path.as_ref()).unwrap();
    assert!(takes("", "", "a/x"));
    assert!(takes("*.tmp", "logs", "a/y.tmp"));
    assert!(!takes("*.tmp", "logs", "a/x"));
    assert!(!takes("", "logs", "a/logs/1"));
    assert!(!takes("", "*.tmp", "y.tmp"));
    assert!(options("[", "").takes(root, "a".as_ref()).is_err());
}

#[test]
fn order_is_that_of_the_paths() {
    let source = walk(tree().path(), &WalkOptions::default()).unwrap();
    assert_eq!(files(&source), [".hidden", "a-b", "a/deep/y.tmp", "a/x", "b", "logs/1", "logs/2", "z.tmp"]);
    assert_eq!(source.total_len(), 7 + 3 + 12 + 3 + 1 + 6 + 6 + 5);
}

#[test]
fn globs_choose() {
    let dir = tree();
    let walk = |include: &[&str], exclude: &[&str]| {
        let strings = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect();
        let options =
            WalkOptions { include: strings(include), exclude: strings(exclude), ..Default::default() };
        walk(dir.path(), &options)
    };
    assert_eq!(files(&walk(&["*.tmp", "b"], &[]).unwrap()), ["a/deep/y.tmp", "b", "z.tmp"]);
    assert_eq!(files(&walk(&[], &["logs", "*.tmp", "a/x"]).unwrap()), [".hidden", "a-b", "b"]);
    assert!(matches!(walk(&["nothing"], &[]), Err(CreateError::Nothing { .. })));
    assert!(matches!(walk(&["["], &[]), Err(CreateError::Pattern { .. })));
}

#[test]
fn exclude_patterns_mean_what_they_mean_in_gitignore() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("NAME");
    for path in ["keep", "secret/key", "a/secret/b", "a/plain", "logs", "NAME/inner", "#1", "end "] {
        write(&root, path, b"x");
    }
    let left = |exclude: &[&str]| {
        let exclude = exclude.iter().map(|&glob| glob.to_owned()).collect();
        let source = walk(&root, &WalkOptions { exclude, ..Default::default() }).unwrap();
        (files(&source), source.idle_excludes)
    };
    let without = |gone: &[&str]| -> Vec<String> {
        let all = ["#1", "NAME/inner", "a/plain", "a/secret/b", "end ", "keep", "logs", "secret/key"];
        all.iter().filter(|path| !gone.contains(path)).map(|&path| path.to_owned()).collect()
    };
    let given = format!("{}/secret", root.display());
    for (pattern, gone) in [
        ("secret/", &["a/secret/b", "secret/key"][..]),
        ("secret", &["a/secret/b", "secret/key"]),
        ("./secret", &["secret/key"]),
        (".//./secret/", &["secret/key"]),
        ("/secret", &["secret/key"]),
        ("NAME/secret", &["secret/key"]),
        ("NAME/secret/", &["secret/key"]),
        ("NAME/inner", &["NAME/inner"]),
        (&given, &["secret/key"]),
        ("a/*", &["a/plain", "a/secret/b"]),
        ("**/b", &["a/secret/b"]),
        ("#1", &["#1"]),
        ("end ", &["end "]),
    ] {
        assert_eq!(left(&[pattern]), (without(gone), Vec::new()), "{pattern}");
    }
    // What matches nothing is told, and folders that are left out count as looked at.
    assert_eq!(left(&["logs/", "n*"]), (without(&[]), vec!["logs/".to_owned(), "n*".to_owned()]));
    assert_eq!(left(&["a", "a/secret/b", "plain"]), (without(&["a/plain", "a/secret/b"]), Vec::new()));
    assert_eq!(left(&["secret/*", "!b"]), (without(&["secret/key"]), Vec::new()));
}

#[test]
fn a_single_file_is_subject_to_patterns_too() {
    let dir = tree();
    let walk = |include: &[&str], exclude: &[&str]| {
        let strings = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect();
        let options =
            WalkOptions { include: strings(include), exclude: strings(exclude), ..Default::default() };
        walk(&dir.path().join("z.tmp"), &options)
    };
    assert!(matches!(walk(&[], &["*.tmp"]), Err(CreateError::Nothing { .. })));
    assert!(matches!(walk(&["*.iso"], &[]), Err(CreateError::Nothing { .. })));
    assert_eq!(walk(&["z.tmp"], &["y.tmp"]).unwrap().idle_excludes, ["y.tmp"]);
}

#[test]
fn linked_folders_that_contain_each_other_stop_the_walk() {
    let dir = tempfile::tempdir().unwrap();
    let folders: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    for folder in &folders {
        fs::create_dir(dir.path().join(folder)).unwrap();
        for other in &folders {
            symlink(format!("../{other}"), dir.path().join(folder).join(format!("to-{other}"))).unwrap();
        }
    }
    let options = WalkOptions { follow_symlinks: true, ..Default::default() };
    assert!(matches!(walk(dir.path(), &options), Err(CreateError::Loop { .. })));
    let without = WalkOptions { exclude: vec!["to-*".to_owned()], ..options.clone() };
    assert!(matches!(walk(dir.path(), &without), Err(CreateError::Nothing { .. })));
    // Without a loop, each level doubles what is below.
    let dir = tempfile::tempdir().unwrap();
    for level in 0..40 {
        fs::create_dir(dir.path().join(format!("{level:02}"))).unwrap();
        for link in ["a", "b"] {
            let path = dir.path().join(format!("{level:02}/{link}"));
            symlink(format!("../{:02}", level + 1), path).unwrap();
        }
    }
    fs::create_dir(dir.path().join("40")).unwrap();
    let stopped = walk_within(dir.path(), &options, 1_000);
    assert!(matches!(stopped, Err(CreateError::TooMany { follows: true, .. })));
}

#[test]
fn links_are_kept_or_followed() {
    let (dir, outside) = (tree(), tempfile::tempdir().unwrap());
    write(outside.path(), "far", b"far away");
    let link = |target: &Path, name: &str| symlink(target, dir.path().join(name)).unwrap();
    link(Path::new("../b"), "a/in");
    link(&dir.path().canonicalize().unwrap().join("a/x"), "abs");
    link(&outside.path().join("far"), "out");
    link(Path::new("nowhere"), "gone");
    let options = WalkOptions { exclude: vec!["logs".into(), "*.tmp".into()], ..Default::default() };
    let kept = walk(dir.path(), &options).unwrap();
    assert_eq!(files(&kept), [".hidden", "a-b", "a/in", "a/x", "abs", "b", "gone"]);
    let Content::Folder(entries) = &kept.content else { panic!() };
    assert_eq!(entries[2].symlink_target, Some(vec!["b".to_owned()]));
    assert_eq!(entries[4].symlink_target, Some(vec!["a".to_owned(), "x".to_owned()]));
    assert!(entries[2].attr.symlink && entries[2].length == 0);
    assert_eq!(kept.skipped.len(), 1);
    let followed = walk(dir.path(), &WalkOptions { follow_symlinks: true, ..options }).unwrap();
    assert_eq!(files(&followed), [".hidden", "a-b", "a/in", "a/x", "abs", "b", "out"]);
    assert!(followed.skipped.iter().any(|(path, _)| path.ends_with("gone")));
    hash(&followed, Format::V1, 16_384, 2, &|_| {}).unwrap();
}

#[test]
fn attributes_and_odd_names() {
    let dir = tree();
    fs::set_permissions(dir.path().join("b"), fs::Permissions::from_mode(0o744)).unwrap();
    let source = walk(dir.path(), &WalkOptions::default()).unwrap();
    let Content::Folder(files) = &source.content else { panic!() };
    assert!(files.iter().all(|file| file.attr.executable == (file.path == ["b"])));
    let single = walk(&dir.path().join("b"), &WalkOptions::default()).unwrap();
    assert!(matches!(single.content, Content::File { length: 1, attr } if attr.executable));
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"odd\xff");
    fs::write(dir.path().join(odd), b"").unwrap();
    assert!(matches!(walk(dir.path(), &WalkOptions::default()), Err(CreateError::NotUtf8 { .. })));
    let without = WalkOptions { exclude: vec!["odd*".to_owned()], ..Default::default() };
    walk(dir.path(), &without).unwrap();
    assert!(matches!(walk(&dir.path().join("no"), &without), Err(CreateError::Io { .. })));
}

fn note(last: &AtomicU64, done: u64) {
    last.fetch_max(done, Ordering::Relaxed);
}

fn hashed() -> (tempfile::TempDir, Torrent) {
    let files = [("a", Bytes::Random(100_000)), ("b", Bytes::Random(0)), ("c/d", Bytes::Random(30_000_000))];
    let (dir, torrent) = (tempfile::tempdir().unwrap(), Torrent::new("t", 32_768, &files));
    torrent.lay_out(dir.path());
    (dir, torrent)
}

#[test]
fn hashes_are_those_of_the_pieces() {
    let (dir, torrent) = hashed();
    let source = walk(&dir.path().join("t"), &WalkOptions::default()).unwrap();
    for threads in [1, 4] {
        let last = AtomicU64::new(0);
        let hashes = hash(&source, Format::V1, 32_768, threads, &|done| note(&last, done));
        assert!(hashes.unwrap().sha1[..] == torrent.info.piece_hashes.as_ref().unwrap()[..]);
        assert_eq!(last.into_inner(), torrent.data.len() as u64);
    }
}

/// Files of many sizes, so that some pieces are mapped and some are read, some lie in one file and some in hundreds, and some are more
/// than is read into memory at once.
#[test]
fn pieces_hash_alike_however_they_are_read() {
    use sha1::Digest as _;
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for n in 0..600_usize {
        let len = match n {
            0 => 3_000_000,
            100 => 70_000,
            200 => 0,
            300 => 1 << 20,
            n => n * 97 % 40_000,
        };
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + n * 131 + at / 251) as u8).collect();
        write(dir.path(), &format!("{n:03}"), &bytes);
        all.extend(bytes);
    }
    let source = walk(dir.path(), &WalkOptions::default()).unwrap();
    for piece_length in [1 << 14, 1 << 17, 1 << 20, 1 << 24] {
        let expected: Vec<u8> = all.chunks(piece_length).flat_map(sha1::Sha1::digest).collect();
        for threads in [1, 3] {
            let found = hash(&source, Format::V1, piece_length as u32, threads, &|_| ()).unwrap();
            assert!(found.sha1 == expected, "{piece_length} bytes a piece, {threads} threads");
        }
    }
}

#[test]
fn length_of_an_info_dictionary_is_told_before_it_is_made() {
    use swarm_core::metainfo::{Create, Metainfo};
    const PIECE_LEN: u32 = 1 << 15;
    let path = |n: usize| -> Vec<String> {
        let folder = |at: usize| format!("a folder of a name as people like it, number {at}");
        vec![folder(n / 100), folder(n / 10), format!("{}{n}", "x".repeat(n % 150))]
    };
    for (count, length) in [(1_000, 0), (1_000, 100_000), (3, 100_000_000)] {
        for format in [Format::V1, Format::V2, Format::Hybrid] {
            let files = (0..count).map(|n| SourceFile { path: path(n), length, ..SourceFile::default() });
            let mut source = Source {
                path: "t".into(),
                content: Content::Folder(files.collect()),
                skipped: Vec::new(),
                idle_includes: Vec::new(),
                idle_excludes: Vec::new(),
            };
            source.arrange(format, PIECE_LEN);
            let told = source.info_len(format, PIECE_LEN);
            let create = Create::new("t".to_owned(), source.content.clone(), PIECE_LEN);
            let create = Create { format, ..create };
            let nodes = create.piece_nodes(|_, _| [1; 32]);
            let sha1 = vec![0; 20 * source.pieces(format, PIECE_LEN) as usize];
            let nodes = if format.has_v2() { &nodes[..] } else { &[] };
            let hashes = Hashes { sha1: if format.has_v1() { &sha1 } else { &[] }, nodes };
            let made = Metainfo::parse(&create.encode(hashes).unwrap()).unwrap().info_bytes.len() as u64;
            // Some bytes belong to no file and no piece.
            let wrong = told.abs_diff(made).saturating_sub(100);
            assert!(wrong <= made / 10, "{told} of {made} bytes for {count} files in {format:?}");
        }
    }
}

/// Files of lengths about the edges of blocks and pieces; each format is checked with the files of an independent reading.
#[test]
fn pieces_of_version_2_hash_to_the_nodes_of_their_files() {
    use crate::storage::verify;
    use swarm_core::merkle::{self, Tree};
    use swarm_core::metainfo::{Create, Metainfo};
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    let lengths = [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 300_000, 3_000_000];
    let content = |n: usize| -> Vec<u8> { (0..lengths[n]).map(|at| (at * 7 + n + at / 251) as u8).collect() };
    (0..lengths.len()).for_each(|n| write(&root, &format!("{n:02}"), &content(n)));
    for format in [Format::V2, Format::Hybrid] {
        for piece_length in [1 << 14, 1 << 16, 1 << 20] {
            let mut source = walk(&root, &WalkOptions::default()).unwrap();
            source.arrange(format, piece_length);
            let found = hash(&source, format, piece_length, 2, &|_| ()).unwrap();
            let mut nodes: Vec<Node> = Vec::new();
            for n in 1..lengths.len() {
                let bytes = content(n);
                let tree = Tree::new(bytes.len() as u64, piece_length);
                let pieces = bytes.chunks(piece_length as usize);
                nodes.extend(pieces.map(|piece| {
                    let leaves: Vec<Node> = piece.chunks(16_384).map(merkle::leaf).collect();
                    tree.piece_node(&leaves)
                }));
            }
            assert!(found.nodes == nodes, "{format:?}, {piece_length} bytes a piece");
            let create = Create { format, ..Create::new("t".to_owned(), source.content, piece_length) };
            let info = Metainfo::parse(&create.encode(found.hashes()).unwrap()).unwrap().info;
            let report = verify::run(&info, dir.path(), 2, &|_| ()).unwrap();
            assert!(report.is_ok() && report.bytes_ok == info.payload_len(), "{report:?}");
            let mut bytes = content(9);
            bytes[1_000_000] ^= 1;
            write(&root, "09", &bytes);
            let report = verify::run(&info, dir.path(), 2, &|_| ()).unwrap();
            assert_eq!(report.pieces_wrong.count(), 1);
            write(&root, "09", &content(9));
        }
    }
}

#[test]
fn file_that_changes_is_named() {
    let (dir, torrent) = hashed();
    let source = walk(&dir.path().join("t"), &WalkOptions::default()).unwrap();
    for (file, len) in [(0, 99_999), (0, 100_001), (2, 29_000_000)] {
        let path = torrent.path(dir.path(), file);
        fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        let error = hash(&source, Format::V1, 32_768, 2, &|_| {}).unwrap_err();
        assert!(matches!(&error, CreateError::Changed { path: p } if *p == path), "{error}");
        torrent.lay_out(dir.path());
    }
    fs::remove_file(torrent.path(dir.path(), 0)).unwrap();
    assert!(matches!(hash(&source, Format::V1, 32_768, 2, &|_| {}), Err(CreateError::Io { .. })));
}
