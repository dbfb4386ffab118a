//! Reads every file of `testdata/metainfo` and compares what was understood, refused or warned of with
//! `expected.txt` there. To accept a change after looking at it, run with `BLESS=1`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use swarm_core::id::InfoHashV2;
use swarm_core::metainfo::{Content, Create, Hashes, Metainfo, PathRules, SourceFile};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/metainfo")
}

fn read(name: &str) -> Metainfo {
    let bytes = fs::read(folder().join(name)).expect("a file of testdata");
    Metainfo::parse_for(&bytes, PathRules::UNIX).expect("a metainfo file")
}

fn hashes_of(metainfo: &Metainfo) -> Hashes<'_> {
    let info = &metainfo.info;
    Hashes {
        sha1: info.piece_hashes.as_deref().unwrap_or_default(),
        nodes: info.piece_nodes.as_deref().unwrap_or_default(),
    }
}

/// All that is in a metainfo file, one line for each thing.
fn describe(metainfo: &Metainfo) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let info = &metainfo.info;
    let (total, pieces, len) = (info.geometry.total_len(), info.geometry.pieces(), info.geometry.piece_len());
    if let Some(hash) = info.info_hash_v1() {
        writeln!(text, "info-hash {hash}")?;
    }
    if let Some(hash) = metainfo.info.info_hash_v2 {
        writeln!(text, "info-hash v2 {hash}")?;
    }
    let kind = if info.single_file { "file" } else { "folder" };
    writeln!(text, "{kind} {:?}, {total} bytes, {pieces} pieces of {len}", info.name)?;
    for file in &info.files {
        write!(text, "  {:?}, {} bytes at {}", file.path.join("/"), file.length, file.offset)?;
        let letters = file.attr.letters();
        if !letters.is_empty() {
            write!(text, ", {letters}")?;
        }
        if let Some(target) = &file.symlink_target {
            write!(text, " to {:?}", target.join("/"))?;
        }
        if let Some(root) = &file.pieces_root {
            write!(text, ", root {}", InfoHashV2(*root))?;
        }
        writeln!(text)?;
    }
    if info.private {
        writeln!(text, "private")?;
    }
    for (name, value) in
        [("source", &info.source), ("comment", &metainfo.comment), ("created by", &metainfo.created_by)]
    {
        if let Some(value) = value {
            writeln!(text, "{name} {value:?}")?;
        }
    }
    if let Some(date) = metainfo.creation_date {
        writeln!(text, "created at {date}")?;
    }
    for tier in &metainfo.trackers {
        writeln!(text, "trackers {}", tier.join(" "))?;
    }
    for url in &metainfo.web_seeds {
        writeln!(text, "web seed {url}")?;
    }
    for (host, port) in &metainfo.nodes {
        writeln!(text, "node {host} port {port}")?;
    }
    for warning in &metainfo.warnings {
        writeln!(text, "warning: {warning}")?;
    }
    Ok(text)
}

#[test]
fn every_file_is_understood_as_expected() {
    let mut files: Vec<_> = fs::read_dir(folder())
        .expect("testdata/metainfo")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "torrent"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut found = String::new();
    for path in files {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = match Metainfo::parse_for(&fs::read(&path).expect("a readable file"), PathRules::UNIX) {
            Ok(metainfo) => describe(&metainfo).expect("writing to a string"),
            Err(error) => format!("error: {error}\n"),
        };
        found += &format!("== {name}\n{text}\n");
    }
    let expected_path = folder().join("expected.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&expected_path, &found).expect("expected.txt is written");
    }
    let expected = fs::read_to_string(&expected_path).expect("expected.txt");
    let cases = |text: &str| text.split("== ").map(str::to_owned).collect::<Vec<_>>();
    for (found, expected) in cases(&found).iter().zip(&cases(&expected)) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected);
}

/// What would make this torrent again.
fn recipe(metainfo: &Metainfo) -> Create {
    let info = &metainfo.info;
    let content = match &info.files[..] {
        [file] if info.single_file => Content::File { length: file.length, attr: file.attr },
        files => Content::Folder(
            files
                .iter()
                .map(|file| SourceFile {
                    path: file.path[1..].to_vec(),
                    length: file.length,
                    attr: file.attr,
                    symlink_target: file.symlink_target.as_ref().map(|target| target[1..].to_vec()),
                })
                .collect(),
        ),
    };
    Create {
        format: info.format(),
        private: info.private,
        source: info.source.clone(),
        trackers: metainfo.trackers.clone(),
        web_seeds: metainfo.web_seeds.clone(),
        nodes: metainfo.nodes.clone(),
        comment: metainfo.comment.clone(),
        created_by: metainfo.created_by.clone(),
        creation_date: metainfo.creation_date,
        ..Create::new(info.name.clone(), content, info.geometry.piece_len())
    }
}

#[test]
fn what_libtorrent_makes_we_make_byte_for_byte() {
    for name in [
        "libtorrent-v1-folder",
        "libtorrent-v1-file",
        "libtorrent-v1-executable",
        "libtorrent-v2-only",
        "libtorrent-hybrid",
    ] {
        let metainfo = read(&format!("{name}.torrent"));
        let bytes = recipe(&metainfo).encode(hashes_of(&metainfo)).expect("it can be made");
        let again = Metainfo::parse_for(&bytes, PathRules::UNIX).expect("it can be read");
        assert_eq!(
            again.info_bytes.escape_ascii().to_string(),
            metainfo.info_bytes.escape_ascii().to_string()
        );
        assert_eq!(again, metainfo);
    }
}

#[test]
fn what_is_encoded_again_says_the_same() {
    let paths = fs::read_dir(folder()).expect("testdata").map(|entry| entry.expect("a file").path());
    let known = paths.filter_map(|path| Metainfo::parse_for(&fs::read(path).ok()?, PathRules::UNIX).ok());
    let mut count = 0;
    for metainfo in known {
        let again = Metainfo::parse_for(&metainfo.encode(), PathRules::UNIX).expect("a metainfo file");
        assert_eq!(Metainfo { warnings: Vec::new(), ..again }, Metainfo { warnings: Vec::new(), ..metainfo });
        count += 1;
    }
    assert!(count > 20, "{count} files");
}

#[test]
fn libtorrents_order_is_ours() {
    let metainfo = read("libtorrent-v1-folder.torrent");
    let Content::Folder(files) = recipe(&metainfo).content else { panic!("not a folder") };
    let mut sorted = files.clone();
    sorted.reverse();
    swarm_core::metainfo::sort_files(&mut sorted);
    assert_eq!(sorted, files);
}
