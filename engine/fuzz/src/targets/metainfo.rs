//! Bencoded data, metainfo files, info dictionaries and magnet links.

use crate::Target;
use crate::memory::bounded;
use std::collections::HashSet;
use std::sync::Arc;
use swarm_core::bencode::{Kind, Limits, Value, parse};
use swarm_core::dht::MutableTorrentLink;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::PieceIndex;
use swarm_core::merkle::leaf;
use swarm_core::metainfo::{
    Content, Create, FileAttr, Format, HashTrees, Hashes, Info, Magnet, Metainfo, PathRules, SourceFile,
    pad_files,
};

pub(super) const BENCODE: Target =
    Target { name: "bencode", run: bencode, seeds: bencode_seeds, runs: 200_000 };
pub(super) const METAINFO: Target =
    Target { name: "metainfo", run: metainfo, seeds: metainfos, runs: 50_000 };
pub(super) const MAGNET: Target = Target { name: "magnet", run: magnet, seeds: magnets, runs: 100_000 };

/// What is written of the values that were read is the input, to the byte.
fn bencode(input: &[u8]) {
    let Ok(document) = bounded(input.len(), 48, || parse(input, &Limits::default())) else { return };
    let mut again = Vec::new();
    write(document.root(), &mut again);
    assert_eq!(again, input);
}

fn write(value: Value<'_>, out: &mut Vec<u8>) {
    let bytes = |bytes: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
    };
    match value.kind() {
        Kind::Int(number) => out.extend_from_slice(format!("i{number}e").as_bytes()),
        Kind::Bytes(string) => bytes(string, out),
        Kind::List(list) => {
            out.push(b'l');
            list.iter().for_each(|value| write(value, out));
            out.push(b'e');
        }
        Kind::Dict(dict) => {
            out.push(b'd');
            for (key, value) in dict.iter() {
                bytes(key, out);
                write(value, out);
            }
            if let Some((key, value)) = dict.iter().last() {
                assert_eq!(dict.get(key).map(Value::offset), Some(value.offset()));
            }
            out.push(b'e');
        }
    }
}

fn bencode_seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 4] = [
        b"d8:intervali1800e5:peers6:abcdefe",
        b"d1:bi-7e1:ad1:xleee",
        b"lli0eeli1eld0:0:eee",
        b"i9223372036854775807e",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

/// What is said of a torrent makes sense, whatever it was read from.
fn metainfo(input: &[u8]) {
    for rules in [PathRules::UNIX, PathRules::WINDOWS] {
        if let Ok(metainfo) = bounded(input.len(), PER_BYTE, || Metainfo::parse_for(input, rules)) {
            check_info(&metainfo.info, &metainfo.info_bytes, rules);
            let alone = Info::parse(&metainfo.info_bytes).expect("it was read within its metainfo file");
            assert_eq!(alone.info_hashes(), metainfo.info.info_hashes());
        }
    }
    if let Ok(info) = bounded(input.len(), PER_BYTE, || Info::parse(input)) {
        check_info(&info, input, PathRules::native());
    }
}

/// A file of a few bytes costs a few hundred; a tree of version 2 names a folder once for all its files.
const PER_BYTE: usize = 600;

fn check_info(info: &Info, info_bytes: &[u8], rules: PathRules) {
    check_paths(info, rules);
    let geometry = &info.geometry;
    let mut end = 0;
    for file in &info.files {
        assert!(file.offset >= end && (info.format() == Format::V2 || file.offset == end), "{file:?}");
        let piece_len = u64::from(geometry.piece_len());
        assert!(file.pieces_root.is_none() || file.offset.is_multiple_of(piece_len), "{file:?}");
        assert_eq!(
            file.pieces_root.is_some(),
            info.info_hash_v2.is_some() && file.length > 0 && !file.attr.pad
        );
        end = file.offset + file.length;
    }
    assert!(info.payload_len() <= geometry.total_len());
    assert!(info.format() == Format::V2 || end == geometry.total_len(), "{end} bytes in files");
    let pieces = geometry.pieces();
    let some = (0..pieces.min(20)).chain(pieces.saturating_sub(20).max(20)..pieces).map(PieceIndex);
    for piece in some {
        let in_files: u64 = info.segments(piece).map(|segment| segment.len).sum();
        assert!(in_files <= geometry.len_of(piece).into() && u64::from(info.payload_of(piece)) <= in_files);
        let shape = info.piece_shape(piece);
        assert_eq!(shape.tree.is_some(), info.info_hash_v2.is_some());
        if info.can_verify() {
            let hash = info.piece_hash(piece);
            assert_eq!((hash.sha1.is_some(), hash.node.is_some()), (shape.sha1, shape.tree.is_some()));
        }
    }
    info.renamed_paths(info_bytes);
    check_paths(&info.renamed(PathRules::WINDOWS), PathRules::WINDOWS);
    check_trees(info);
}

fn check_paths(info: &Info, rules: PathRules) {
    let mut seen = HashSet::new();
    for file in &info.files {
        assert!(file.path.iter().chain(file.symlink_target.iter().flatten()).all(|name| rules.is_safe(name)));
        assert_eq!(file.path[0], info.name);
        assert!(file.attr.pad || seen.insert(&file.path), "{:?} is there twice", file.path);
    }
}

fn check_trees(info: &Info) {
    let Some(trees) = HashTrees::of(&Arc::new(info.clone())) else { return };
    for file in info.files.iter().filter(|file| file.pieces_root.is_some()).take(20) {
        let root = file.pieces_root.expect("it has one");
        let piece = PieceIndex((file.offset / u64::from(info.geometry.piece_len())) as u32);
        assert_eq!(trees.of_piece(piece).map(|tree| (tree.root, tree.first)), Some((root, piece)));
        assert!(trees.with_root(root).any(|tree| tree.first == piece));
        // Each root's hashes are fetched once, for all files that have it.
        assert!(
            trees.with_root(root).all(|tree| Some(tree.tree) == trees.of_piece(piece).map(|own| own.tree))
        );
    }
}

/// A torrent of files of these lengths, in pieces of two blocks. The bytes of a block are those of its number within its file's piece.
fn torrent(lengths: &[u64], format: Format) -> Vec<u8> {
    const PIECE_LEN: u32 = 2 * BLOCK_LEN;
    let file = |(&length, n): (&u64, usize)| SourceFile {
        path: vec![format!("folder {}", n % 2), format!("{n:03}")],
        length,
        attr: FileAttr { executable: n == 1, ..FileAttr::default() },
        symlink_target: None,
    };
    let mut files: Vec<SourceFile> = lengths.iter().zip(0..).map(file).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if format == Format::Hybrid {
        files = pad_files(files, PIECE_LEN);
    }
    let total: u64 = files.iter().map(|file| file.length).sum();
    let sha1 = vec![b'h'; 20 * total.div_ceil(PIECE_LEN.into()) as usize];
    let mut create = Create::new("torrent".to_owned(), Content::Folder(files), PIECE_LEN);
    create.format = format;
    create.trackers = vec![vec!["http://a/".to_owned()], vec!["udp://b:1".to_owned()]];
    create.web_seeds = vec!["https://w/x/".to_owned()];
    let nodes = create.piece_nodes(|_, nth| leaf(&[nth as u8]));
    create.nodes = vec![("n".to_owned(), 9)];
    create.comment = Some("c".to_owned());
    create.encode(Hashes { sha1: &sha1, nodes: &nodes }).expect("a torrent")
}

/// An info dictionary of version 2 whose files are said to have the same root.
fn files_of_one_root(lengths: &[u64]) -> Vec<u8> {
    let files = lengths
        .iter()
        .zip(0..)
        .map(|(length, n)| format!("1:{n}d0:d6:lengthi{length}e11:pieces root32:{}ee", "R".repeat(32)));
    let tree = files.collect::<String>();
    format!("d9:file treed{tree}e12:meta versioni2e4:name1:n12:piece lengthi32768ee").into_bytes()
}

fn metainfos() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for format in [Format::V1, Format::V2, Format::Hybrid] {
        all.push(torrent(&[1], format));
        all.push(torrent(&[70_000, 0, 32_768, 32_769, 500], format));
    }
    let infos = all.iter().map(|bytes| Metainfo::parse(bytes).expect("a torrent").info_bytes.to_vec());
    let infos: Vec<Vec<u8>> = infos.collect();
    all.extend(infos);
    all.push(files_of_one_root(&[70_000, 70_000, 1]));
    all
}

/// What was read is written as a link that means the same.
fn magnet(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(link) = bounded(input.len(), 64, || text.parse::<MutableTorrentLink>()) {
        assert_eq!(link.to_string().parse(), Ok(link));
    }
    let Ok(magnet) = bounded(input.len(), 64, || text.parse::<Magnet>()) else { return };
    assert_eq!(magnet.to_string().parse(), Ok(magnet));
}

fn magnets() -> Vec<Vec<u8>> {
    let v1 = "xt=urn:btih:631a31dd0a46257d5078c0dee4e66e26f73e42ac";
    let v2 = "xt=urn:btmh:1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e";
    let rest = "dn=a+b%20c&xl=10&tr=http%3A%2F%2Ft%2Fa&tr.1=udp://u:1&ws=https://w/&x.pe=1.2.3.4:5&x.pe=[::1]:6&so=0,2,5-9";
    let base32 = "xt=urn:btih:MMNDDXIKIYSX2UDYYDPOJZTOE33T4QVM";
    let links = [format!("magnet:?{v1}&{rest}"), format!("magnet:?{v1}&{v2}"), format!("magnet:?{v2}"), {
        format!("magnet:?{base32}&dn=x")
    }];
    let mutable = format!("magnet:?xs=urn:btpk:{}&s=6162", "ab".repeat(32));
    let escaped = links[0].replace('&', "%26");
    links.into_iter().chain([escaped, mutable]).map(String::into_bytes).collect()
}
