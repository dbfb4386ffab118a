//! `swarm create`: make a metainfo file.

use crate::context::Context;
use crate::events::seconds;
use crate::exit::{Exit, Failure, fail, label_of, printable};
use crate::format::FormatArg;
use crate::interrupt::Interrupt;
use crate::network::{NetworkArgs, parse_node, parse_tracker, parse_web_seed};
use crate::progress::WorkBar;
use crate::selection::listed;
use crate::transfer::{self, Plan, folder_of, parent_of};
use crate::{source, units};
use anyhow::{Context as _, Result};
use clap::{Args, ValueHint};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use swarm_core::geometry::PIECE_LEN_MAX;
use swarm_core::metainfo::{self, Content, Format, Info, METAINFO_LEN_MAX, Metainfo, default_piece_length};
use swarm_engine::create::{CreateError, Source, WalkOptions, check_pattern, hash, walk};
use swarm_engine::hash::Workers;
use swarm_engine::{Mode, verify};
use tempfile::{NamedTempFile, PersistError};

/// How many pieces clients with libtorrent 2 take at most.
const LIBTORRENT_PIECES_MAX: u64 = 2_097_152;

/// How long metadata from peers may be for clients with libtorrent 2, in bytes.
const LIBTORRENT_METADATA_LEN_MAX: u64 = 30 * 1024 * 1024;

/// The shortest pieces that can be asked for, in bytes: a block.
const PIECE_LEN_MIN: u64 = swarm_core::geometry::BLOCK_LEN as u64;

#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct CreateArgs {
    /// The file or folder to create a torrent of
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    path: PathBuf,

    /// Write the metainfo to this file. Default: NAME.meta in the working directory
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Replace an existing output file, and only warn of an --exclude that matches nothing
    ///
    /// Only a regular file is replaced, or the one that a symbolic link leads to.
    #[arg(short, long)]
    force: bool,

    /// Add a tracker, in a tier of its own; repeatable
    #[arg(short = 'a', long, value_name = "URL", value_parser = parse_tracker)]
    announce: Vec<String>,

    /// Add a tier of trackers (BEP 12), after those of -a; repeatable
    #[arg(long = "tier", value_name = "URL,URL", value_parser = parse_tier)]
    tiers: Vec<Tier>,

    /// Add a web seed (BEP 19); repeatable
    #[arg(short, long = "web-seed", value_name = "URL", value_parser = parse_web_seed)]
    web_seeds: Vec<String>,

    /// Set the piece length, a power of two from 16KiB to 256MiB
    ///
    /// Default: the shortest from 16KiB to 16MiB that gives at most 2,048 pieces.
    #[arg(short = 'l', long, value_name = "SIZE", value_parser = parse_piece_length)]
    piece_length: Option<u32>,

    /// Set the versions of BitTorrent that it is for. Default: v1; many clients read no other
    #[arg(long, value_enum)]
    format: Option<FormatArg>,

    /// Make it another version of this torrent, so that both share as much as possible
    ///
    /// The piece length and the format are those of OLD, a metainfo file or a URL of one. Its files keep their order, and new ones come
    /// after them; if it has padding (BEP 47), so has the new one. Who has OLD gets the new one with `swarm get --reuse`.
    #[arg(long, value_name = "OLD", value_parser = source::parser(), value_hint = ValueHint::FilePath)]
    like: Option<OsString>,

    /// Set the torrent's name. Default: that of PATH
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,

    /// Set the comment
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,

    /// Make it private: peers from trackers only (BEP 27)
    #[arg(long)]
    private: bool,

    /// Set the `source` key, which changes the info-hash
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,

    /// Add a DHT node (BEP 5); repeatable
    #[arg(long = "node", value_name = "HOST:PORT", value_parser = parse_node)]
    nodes: Vec<(String, u16)>,

    /// Omit the creation date, so that the same files give the same metainfo file
    #[arg(long)]
    no_date: bool,

    /// Follow symbolic links
    ///
    /// Without this, links within the folder are kept as links (BEP 47), and others are omitted with a
    /// warning.
    #[arg(long)]
    follow_symlinks: bool,

    /// Include only files that match; repeatable
    ///
    /// Patterns are those of gitignore files: NAME matches files and folders of that name anywhere, DIR/
    /// folders only, and one with a `/` inside the path below PATH; `*` matches no `/`, `**` does. PATH or
    /// its name may stand before it.
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    include: Vec<String>,

    /// Exclude files and folders that match; repeatable
    ///
    /// Patterns are as for --include; the last one that matches decides, and `!` in front of one includes its
    /// files again. One that matches nothing is an error, since it would publish what was not meant to be
    /// published; with -f it is a warning.
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    exclude: Vec<String>,

    /// Seed when created, as `swarm seed` does, without hashing again
    #[arg(long, conflicts_with = "no_state")]
    seed: bool,

    /// Print one JSON object about the new torrent; with --seed, events as `swarm seed` does
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    network: NetworkArgs,
}

const EXAMPLES: &str = "\
Examples:
  swarm create release.iso -a http://tracker.example:6969/announce
  swarm create site --exclude '*.tmp' --exclude .git -o site.meta --no-date
  swarm create release.iso --tier http://a.example/announce,udp://b.example:80
  swarm create release.iso -w https://example.org/release.iso
  swarm create release.iso -a http://tracker.example:6969/announce --seed
  swarm create app-1.1 --like app-1.0.meta

The network options are for --seed.";

/// Trackers of which any will do.
#[derive(Clone, Debug)]
struct Tier(Vec<String>);

#[derive(Serialize)]
struct Created<'a> {
    /// The event's name, with --seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    name: &'a str,
    info_hash_v1: Option<String>,
    info_hash_v2: Option<String>,
    piece_length: u32,
    pieces: u32,
    total_size: u64,
    /// Number of files, padding left out.
    files: usize,
    output: &'a str,
    magnet: String,
    seconds: f64,
}

pub async fn run(args: CreateArgs, cx: &mut Context) -> Result<Exit> {
    let mut interrupt = Interrupt::install()?;
    let name = args.name.clone().map_or_else(|| name_of(&args.path), Ok)?;
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.meta")));
    let output = Output::new(output, args.force)?;
    let mut options = WalkOptions::default();
    options.follow_symlinks = args.follow_symlinks;
    options.name = Some(name.clone());
    options.include.clone_from(&args.include);
    options.exclude.clone_from(&args.exclude);
    refuse_inside(&output.target, &args.path, &options)?;
    if args.private && args.announce.is_empty() && args.tiers.is_empty() {
        cx.warn("a private torrent without a tracker finds no peers; name one with -a");
    }
    let like = match &args.like {
        Some(like) => Some(args.like(like).await?),
        None => None,
    };
    let path = args.path.clone();
    let mut source = interrupt.during(move || walk(&path, &options)).await??;
    for (path, why) in &source.skipped {
        cx.warn(&format!("{} {why}; it is left out", path.display()));
    }
    tell_idle_patterns(&source, args.force, cx)?;
    let dir = if args.seed { Some(seed_dir(&args.path, &name)?) } else { None };
    let (format, piece_length) = match &like {
        Some(like) => (like.format(), like.geometry.piece_len()),
        None => {
            let default = || default_piece_length(source.total_len());
            (args.format.map_or(Format::V1, Into::into), args.piece_length.unwrap_or_else(default))
        }
    };
    let bar = WorkBar::new(&cx.console, "hashing", source.total_len());
    match &like {
        Some(like) => source.arrange_like(like),
        None => source.arrange(format, piece_length),
    }
    check_size(&source, format, piece_length, cx)?;
    let hashing = bar.clone();
    let work = interrupt.during(move || {
        let before = source.looks();
        let hashes =
            hash(&source, format, piece_length, Workers::default_threads(), &|bytes| hashing.set(bytes));
        (source, hashes, before)
    });
    let (source, hashes, before) = bar.show_until(work, &mut cx.console).await?;
    let network = args.network.clone();
    let bytes = args.into_metainfo(name, source.content, format, piece_length).encode(hashes?.hashes())?;
    output.write(&bytes)?;
    let metainfo = Metainfo::parse(&bytes)?;
    print(&metainfo, &output.path, dir.is_some(), cx);
    let Some(dir) = dir else { return Ok(Exit::Done) };
    if let Some(state_dir) = network.state_dir() {
        let saved = verify::begin_trust(&metainfo.info, &dir, &state_dir, &before);
        saved.unwrap_or_else(|error| cx.warn(&format!("{error}; all data is checked again")));
    }
    let plan = Plan { needs_all: true, ..Plan::new(Mode::Seed, dir) };
    transfer::run_one(metainfo, &output.path.into_os_string(), plan, &network, cx, &mut interrupt).await
}

/// What nobody could read is refused, and what others do not take is told, before it is hashed.
fn check_size(source: &Source, format: Format, piece_length: u32, cx: &mut Context) -> Result<()> {
    let pieces = source.pieces(format, piece_length);
    if source.hashes_len(format, piece_length) > METAINFO_LEN_MAX as u64 {
        let message = format!(
            "{}: the hashes of {pieces} pieces are longer than a metainfo file may be ({}); choose longer pieces with -l",
            source.path.display(),
            units::size(METAINFO_LEN_MAX as u64),
        );
        return fail(Exit::Usage, message);
    }
    if pieces > LIBTORRENT_PIECES_MAX {
        cx.warn(&format!(
            "{pieces} pieces are more than clients with libtorrent take ({LIBTORRENT_PIECES_MAX}); choose longer ones with -l"
        ));
    } else if source.info_len(format, piece_length) > LIBTORRENT_METADATA_LEN_MAX {
        let of_pieces = if format.has_v1() { 20 * pieces } else { 0 };
        let (what, mend) = match 2 * of_pieces > LIBTORRENT_METADATA_LEN_MAX {
            true => (format!("{pieces} pieces"), "choose longer ones with -l, or "),
            false => ("so many files and long names".to_owned(), ""),
        };
        cx.warn(&format!(
            "with {what} the metadata is longer than clients with libtorrent take for a magnet link ({}); {mend}give people the \
             metainfo file",
            units::size(LIBTORRENT_METADATA_LEN_MAX)
        ));
    }
    Ok(())
}

/// The folder that holds the data by the torrent's name.
fn seed_dir(path: &Path, name: &str) -> Result<PathBuf> {
    folder_of(path, name).with_context(|| {
        let what = path.display();
        let message = format!("--seed: {what} is not called {name}, as the torrent is; leave --name out");
        Failure::new(Exit::Usage, message)
    })
}

impl CreateArgs {
    /// The torrent that the new one is to be like.
    async fn like(&self, like: &OsString) -> Result<Arc<Info>> {
        let loaded = source::load(like, &self.network.session_options()?).await;
        let info = loaded.context("--like")?.info;
        let old = label_of(like);
        let differs = |flag: &str, of_old: &str| {
            fail(
                Exit::Usage,
                format!("{flag}: differs from --like {old}, which has {of_old}; leave one of the two out"),
            )
        };
        let piece_len = info.geometry.piece_len();
        if self.piece_length.is_some_and(|len| len != piece_len) {
            return differs("--piece-length", &format!("pieces of {}", units::size(piece_len.into())));
        }
        if self.format.is_some_and(|format| Format::from(format) != info.format()) {
            return differs("--format", &format!("the format {}", FormatArg::from(info.format())));
        }
        Ok(info)
    }

    fn into_metainfo(
        self,
        name: String,
        content: Content,
        format: Format,
        piece_length: u32,
    ) -> metainfo::Create {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        let mut create = metainfo::Create::new(name, content, piece_length);
        create.format = format;
        create.private = self.private;
        create.source = self.source;
        create.trackers = self.announce.into_iter().map(|url| vec![url]).collect();
        create.trackers.extend(self.tiers.into_iter().map(|Tier(urls)| urls));
        create.web_seeds = self.web_seeds;
        create.nodes = self.nodes;
        create.comment = self.comment;
        create.created_by = Some(concat!("Swarm/", env!("CARGO_PKG_VERSION")).to_owned());
        create.creation_date = now.filter(|_| !self.no_date).map(|since| since.as_secs() as i64);
        create
    }
}

/// What the file or folder is called, also if it is given as `.` or by a link.
fn name_of(path: &Path) -> Result<String> {
    let named = path.file_name().map(ToOwned::to_owned);
    let name = match named {
        Some(name) => name,
        None => {
            let real = path.canonicalize().with_context(|| format!("{}: cannot open", path.display()))?;
            let name = real.file_name().map(ToOwned::to_owned);
            name.with_context(|| format!("{}: has no name; give it one with --name", path.display()))?
        }
    };
    let not_utf8 = || format!("{}: the name is not UTF-8; give another with --name", path.display());
    name.into_string().ok().with_context(not_utf8)
}

/// A metainfo file cannot be part of what it describes.
fn refuse_inside(output: &Path, path: &Path, options: &WalkOptions) -> Result<()> {
    // Whichever does not exist fails soon enough, and with a better message.
    let folder = parent_of(output).canonicalize();
    let (Ok(folder), Ok(root)) = (folder, path.canonicalize()) else { return Ok(()) };
    let output = folder.join(output.file_name().unwrap_or_default());
    match output.strip_prefix(&root) {
        Ok(inside) if options.takes(&root, inside)? => {
            let message = format!(
                "{}: lies in what it is to describe; write it elsewhere with -o, or add --exclude {}",
                output.display(),
                inside.file_name().unwrap_or_default().display(),
            );
            fail(Exit::Usage, message)
        }
        _ => Ok(()),
    }
}

/// Patterns that match nothing are mistakes, and one to exclude would publish what should have stayed
/// private.
fn tell_idle_patterns(source: &Source, is_forced: bool, cx: &mut Context) -> Result<()> {
    for pattern in &source.idle_includes {
        cx.warn(&format!("--include {pattern} matches nothing"));
    }
    if source.idle_excludes.is_empty() {
        return Ok(());
    }
    let patterns = source.idle_excludes.join(" and --exclude ");
    let wrong = format!("{}: --exclude {patterns} matches nothing", source.path.display());
    if is_forced {
        cx.warn(&wrong);
        return Ok(());
    }
    fail(Exit::Usage, format!("{wrong}; mend the pattern, or go on with -f"))
}

struct Output {
    /// As the user named it.
    path: PathBuf,
    /// The file itself, if that is a link.
    target: PathBuf,
    replaces: bool,
}

impl Output {
    /// Looks at what is there before anything is hashed.
    fn new(path: PathBuf, replaces: bool) -> Result<Output> {
        let mut output = Output { target: path.clone(), path, replaces };
        output.check()?;
        if replaces && output.path.is_symlink() {
            // It is there, as was just seen.
            output.target = output.path.canonicalize().unwrap_or(output.target);
        }
        Ok(output)
    }

    /// Nothing may be there, or else a regular file that is to be replaced.
    fn check(&self) -> Result<()> {
        let path = &self.path;
        let refuse = |what: &str| {
            let message =
                format!("{}: is {what}, which is never replaced; write elsewhere with -o", path.display());
            fail(Exit::Runtime, message)
        };
        match (path.symlink_metadata(), path.metadata()) {
            (Err(_), _) => Ok(()),
            (Ok(_), _) if !self.replaces => Err(exists(path).into()),
            (Ok(_), Err(_)) => refuse("a link to nothing"),
            (Ok(_), Ok(meta)) if meta.is_dir() => refuse("a folder"),
            (Ok(_), Ok(meta)) if !meta.is_file() => refuse("neither a file nor a folder"),
            (Ok(_), Ok(_)) => Ok(()),
        }
    }

    /// Writes all of the file or nothing.
    fn write(&self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let written = temporary_in(parent_of(&self.target)).and_then(|mut file| {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            let renamed = match self.replaces {
                true => file.persist(&self.target),
                false => file.persist_noclobber(&self.target),
            };
            renamed.map_err(|PersistError { error, .. }| error)
        });
        match written {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(&self.path).into()),
            Err(error) => {
                // What follows names a temporary file.
                let text = error.to_string();
                let cause = text.split(" at path ").next().unwrap_or(&text);
                let what = format!("{}: cannot write: {cause}", self.path.display());
                fail(Exit::of_write(&error), what)
            }
        }
    }
}

fn temporary_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".swarm-create-");
    // As any new file, readable by whom the user's umask lets read.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn exists(output: &Path) -> Failure {
    let what =
        format!("{}: exists already; replace it with -f, or write elsewhere with -o", output.display());
    Failure::new(Exit::Runtime, what)
}

fn print(metainfo: &Metainfo, output: &Path, is_event: bool, cx: &mut Context) {
    let info = &metainfo.info;
    let created = Created {
        event: is_event.then_some("created"),
        name: &info.name,
        info_hash_v1: info.info_hash_v1().map(|hash| hash.to_string()),
        info_hash_v2: info.info_hash_v2.map(|hash| hash.to_string()),
        piece_length: info.geometry.piece_len(),
        pieces: info.geometry.pieces(),
        total_size: info.payload_len(),
        files: listed(&info.files).count(),
        output: &output.to_string_lossy(),
        magnet: metainfo.magnet().to_string(),
        seconds: seconds(cx.start.elapsed()),
    };
    if cx.console.is_json() {
        match is_event {
            true => cx.record(&created),
            false => cx.console.json(&created),
        }
        return;
    }
    let Created { total_size, pieces, piece_length, output, info_hash_v1, info_hash_v2, magnet, .. } =
        created;
    cx.console.say(&printable(&format!(
        "{output}: {} in {}, {} of {}, in {}",
        units::size(total_size),
        units::count(created.files, "file"),
        units::count(pieces as usize, "piece"),
        units::size(piece_length.into()),
        units::duration(cx.start.elapsed()),
    )));
    for (label, hash) in [("info-hash", info_hash_v1), ("info-hash v2", info_hash_v2)] {
        if let Some(hash) = hash {
            cx.console.say(&format!("{label} {hash}"));
        }
    }
    cx.console.say(&magnet);
}

fn parse_piece_length(text: &str) -> Result<u32, String> {
    let bytes = units::parse_size(text)?;
    if !bytes.is_power_of_two() {
        let below = units::size(1 << bytes.max(1).ilog2());
        return Err(format!("is not a power of two; the next one below is {below}"));
    }
    match u32::try_from(bytes) {
        Ok(len) if bytes >= PIECE_LEN_MIN && len <= PIECE_LEN_MAX => Ok(len),
        _ => {
            let (min, max) = (units::size(PIECE_LEN_MIN), units::size(PIECE_LEN_MAX.into()));
            Err(format!("is out of range: a piece has from {min} to {max}"))
        }
    }
}

fn parse_name(text: &str) -> Result<String, &'static str> {
    match text {
        "" | "." | ".." => Err("is not a name"),
        _ if text.contains(['/', '\0']) => Err("is a path, not a name"),
        _ => Ok(text.to_owned()),
    }
}

fn parse_tier(text: &str) -> Result<Tier, String> {
    let parse = |url| parse_tracker(url).map_err(|error| format!("has {url}, which {error}"));
    text.split(',').map(parse).collect::<Result<_, _>>().map(Tier)
}

fn parse_glob(text: &str) -> Result<String, String> {
    match check_pattern(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(CreateError::Pattern { why, .. }) => Err(format!("is not a pattern: {why}")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two_within_limits() {
        assert_eq!(parse_piece_length("16KiB"), Ok(16_384));
        assert_eq!(parse_piece_length("256MiB"), Ok(PIECE_LEN_MAX));
        for (text, wrong) in [
            ("12345", "is not a power of two; the next one below is 8 KiB"),
            ("0", "is not a power of two; the next one below is 1 B"),
            ("8KiB", "is out of range: a piece has from 16 KiB to 256 MiB"),
            ("512MiB", "is out of range: a piece has from 16 KiB to 256 MiB"),
        ] {
            assert_eq!(parse_piece_length(text), Err(wrong.to_owned()));
        }
        assert!(parse_piece_length("4Mb").is_err());
    }

    #[test]
    fn nodes_are_hosts_with_ports() {
        assert_eq!(parse_node("dht.example:6881"), Ok(("dht.example".to_owned(), 6881)));
        assert_eq!(parse_node("[2001:db8::7]:1"), Ok(("2001:db8::7".to_owned(), 1)));
        for text in ["dht.example", ":6881", "dht.example:0", "dht.example:x", "a b:1", "2001:db8::7:1"] {
            assert!(parse_node(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tier_is_a_list_of_trackers() {
        let Tier(urls) = parse_tier("http://a.example/announce,udp://b.example:80").unwrap();
        assert_eq!(urls, ["http://a.example/announce", "udp://b.example:80"]);
        assert!(parse_tier("http://a.example/announce,").is_err());
    }
}
