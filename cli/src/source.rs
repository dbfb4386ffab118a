//! SOURCE: where a command finds out what the torrent is.

use crate::exit::{Exit, Failure, fail, label_of, printable};
use anyhow::{Context as _, Result};
use clap::builder::{PathBufValueParser, TypedValueParser};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use swarm_core::dht::MutableTorrentLink;
use swarm_core::metainfo::{METAINFO_LEN_MAX, Magnet, MagnetError, Metainfo, MetainfoError, parse_info_hash};
use swarm_engine::SessionOptions;
use url::Url;

/// The forms of a SOURCE, for `--help`: metainfo files and their URLs, and what only peers can fill in.
macro_rules! forms {
    ($before:literal, files $between:literal, links) => {
        concat!(
            $before,
            "  x.meta, x.torrent         a metainfo file\n",
            "  https://host/x.meta       the URL of a metainfo file\n",
            $between,
            "  magnet:?xt=urn:btih:HASH  a magnet link\n",
            "  magnet:?xs=urn:btpk:KEY   the link of a mutable torrent (BEP 46)\n",
            "  HASH                      an info-hash in hexadecimal or base32"
        )
    };
}

pub const HELP: &str = forms!("The torrent, in one of these forms:\n", files "", links);
/// The same where several can be given.
pub const HELP_SEVERAL: &str = forms!(
    "The torrents, each in one of these forms:\n",
    files "  folder                    all .meta and .torrent files in it\n", links
);
/// The same where only `--fetch` asks peers.
pub const HELP_FETCH: &str =
    forms!("The torrent, in one of these forms:\n", files "and with --fetch:\n", links);

/// The same where peers are never asked.
pub const HELP_METAINFO: &str = "\
The torrent, in one of these forms:
  x.meta, x.torrent    a metainfo file
  https://host/x.meta  the URL of a metainfo file
A magnet link or an info-hash does not contain the piece hashes; `swarm show --fetch` and `swarm get` fetch them from peers.";

/// Takes a SOURCE; an empty one, as an unset variable gives it, is refused with the name of the argument.
pub fn parser() -> impl TypedValueParser<Value = OsString> {
    PathBufValueParser::new().map(PathBuf::into_os_string)
}

#[derive(Debug)]
pub enum Source {
    /// Everything about the torrent.
    Metainfo(Box<Metainfo>),
    /// Which torrent; what is in it, only peers know.
    Link(Link),
}

/// What names a torrent and no more.
#[derive(Clone, Debug)]
pub enum Link {
    /// A magnet link, or an info-hash.
    Magnet(Magnet),
    /// A mutable torrent (BEP 46): which torrent that is now, the DHT knows.
    Mutable(MutableTorrentLink),
}

impl Link {
    /// What to call it until its metadata is there.
    pub fn label(&self) -> String {
        match self {
            Link::Magnet(magnet) => {
                printable(&magnet.name.clone().unwrap_or_else(|| magnet.info_hash.to_string()))
            }
            Link::Mutable(link) => link.to_string(),
        }
    }
}

/// What SOURCE names: a metainfo file, an http(s) URL of one, fetched from the addresses and the device of a
/// session with these options, a magnet link, the link of a mutable torrent, or an info-hash.
///
/// # Errors
/// One line that starts with the source. Invalid metainfo, and what is no source at all, ends with status 3.
pub async fn open(source: &OsStr, options: &SessionOptions) -> Result<Source> {
    let label = || label_of(source);
    if let Some(link) = link(source).with_context(label)? {
        return Ok(Source::Link(link));
    }
    let bytes = read(source, options).await.with_context(label)?;
    Ok(Source::Metainfo(Box::new(Metainfo::parse(&bytes).with_context(label)?)))
}

/// Whether these SOURCEs may name several torrents: a folder may hold one today, and two tomorrow.
pub fn may_be_several(sources: &[OsString]) -> bool {
    sources.len() != 1 || sources.iter().any(|source| is_folder(source))
}

/// Whether SOURCE is a folder of metainfo files.
fn is_folder(source: &OsStr) -> bool {
    Path::new(source).is_dir()
}

/// Whether it is called as a metainfo file is.
pub fn is_metainfo_name(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    ["meta", "torrent"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The metainfo files in a folder, by name; what is no folder stands for itself.
///
/// # Errors
/// In place of what cannot be listed, and of a folder without any.
pub fn listed(source: &OsStr) -> Vec<(OsString, Result<()>)> {
    if !is_folder(source) {
        return vec![(source.to_owned(), Ok(()))];
    }
    let is_metainfo = |path: &PathBuf| path.is_file() && is_metainfo_name(path);
    let found = std::fs::read_dir(source).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(is_metainfo).collect::<Vec<_>>())
    });
    let label = label_of(source);
    match found {
        Ok(paths) if paths.is_empty() => {
            let message = format!("{label}: holds no metainfo file, no *.meta and no *.torrent");
            vec![(source.to_owned(), fail(Exit::Metainfo, message))]
        }
        Ok(mut paths) => {
            paths.sort_unstable();
            paths.into_iter().map(|path| (path.into_os_string(), Ok(()))).collect()
        }
        Err(error) => {
            vec![(source.to_owned(), Err(error).with_context(|| format!("{label}: cannot list")))]
        }
    }
}

/// The metainfo that SOURCE names.
///
/// # Errors
/// As for [`open`]; links end with status 2.
pub async fn load(source: &OsStr, options: &SessionOptions) -> Result<Metainfo> {
    match open(source, options).await? {
        Source::Metainfo(metainfo) => Ok(*metainfo),
        Source::Link(_) => {
            let message = "only peers know what is in it; `swarm get` and `swarm show --fetch` ask them";
            let label = label_of(source);
            fail(Exit::Usage, format!("{label}: {message}"))
        }
    }
}

/// The link or info-hash that a SOURCE is. A file of that name comes before an info-hash.
fn link(source: &OsStr) -> Result<Option<Link>> {
    let Some(text) = source.to_str() else { return Ok(None) };
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    if scheme.eq_ignore_ascii_case("magnet") {
        return Ok(Some(match text.parse() {
            // A mutable torrent has no info-hash of its own.
            Err(MagnetError::NoInfoHash) if text.contains("urn:btpk:") => {
                let wrong = |error| Failure::new(Exit::Metainfo, format!("{error}"));
                Link::Mutable(text.parse::<MutableTorrentLink>().map_err(wrong)?)
            }
            magnet => Link::Magnet(magnet?),
        }));
    }
    let info_hash = parse_info_hash(text).filter(|_| !Path::new(text).exists());
    Ok(info_hash.map(|info_hash| Link::Magnet(Magnet::new(info_hash))))
}

async fn read(source: &OsStr, options: &SessionOptions) -> Result<Vec<u8>> {
    let Some(text) = source.to_str() else { return read_file(Path::new(source)) };
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    match scheme.as_str() {
        "http" | "https" => {
            let url = Url::parse(text)
                .map_err(|error| Failure::new(Exit::Metainfo, format!("is not a valid URL: {error}")))?;
            Ok(swarm_engine::fetch(&url, METAINFO_LEN_MAX, options).await?)
        }
        _ => read_file(Path::new(text)),
    }
}

pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).context("cannot open")?;
    let len = file.metadata().ok().filter(Metadata::is_file).map_or(0, |metadata| metadata.len());
    if len > METAINFO_LEN_MAX as u64 {
        return Err(MetainfoError::TooLong(usize::try_from(len).unwrap_or(usize::MAX)).into());
    }
    let mut bytes = Vec::new();
    // A byte more than allowed, so that the parser refuses it.
    file.take(METAINFO_LEN_MAX as u64 + 1).read_to_end(&mut bytes).context("cannot read")?;
    Ok(bytes)
}
