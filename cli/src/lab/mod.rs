//! `swarm lab`: a whole swarm on this machine, and the proof that every copy is identical.
//!
//! Each peer is a process of its own: this same executable, running `swarm seed` or `swarm get` as users do.
//! So a peer can really be killed, and what is tried is what is shipped. The lab reads its `--json` events
//! and ends it by signals; whatever happens to the lab, no process outlives it.

mod compare;
mod fault;
mod material;
mod network;
mod origin;
mod peer;
mod plan;
mod process;
mod record;
mod report;
mod swarm;
mod view;

use self::fault::Fault;
use self::material::Material;
use self::plan::{Outcome, Plan};
use self::record::Record;
use self::report::Report;
use self::swarm::{Swarm, interrupted};
use crate::context::Context;
use crate::events::About;
use crate::exit::{Exit, Failure, fail, label_of};
use crate::format::FormatArg;
use crate::interrupt::Interrupt;
use crate::selection::listed;
use crate::{source, units};
use anyhow::{Context as _, Result};
use clap::{Args, ValueHint};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// Peers and seeds that a lab has at most, each: with the source and one that poisons they have addresses of
/// one network of 256.
const PEERS_MAX: u16 = 120;
/// What the lab needs besides the copies, in bytes.
#[cfg(unix)]
const SPACE_SPARE: u64 = 16 * 1024 * 1024;

#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct LabArgs {
    /// A file or folder to distribute, or a metainfo file with its data beside it. Default: generated data
    #[arg(value_name = "PATH|SOURCE", value_parser = source::parser(), value_hint = ValueHint::AnyPath)]
    source: Option<OsString>,

    /// Number of downloaders
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = units::whole::<u16>(1..=PEERS_MAX.into()))]
    peers: u16,

    /// Number of seeds besides the source
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = units::whole::<u16>(0..=PEERS_MAX.into()))]
    seeds: u16,

    /// Size of the generated data
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size, conflicts_with = "source")]
    size: u64,

    /// Set the versions of BitTorrent of the torrent that is made
    #[arg(long, value_enum, default_value_t = FormatArg::V1)]
    format: FormatArg,

    /// Inject a fault; repeatable
    #[arg(long = "fault", value_name = "KIND", value_enum)]
    faults: Vec<Fault>,

    /// Run a DHT in place of the tracker
    #[arg(long)]
    trackerless: bool,

    /// Run a web server with the data in place of the source, as a web seed of every downloader
    #[arg(long)]
    web_seed: bool,

    /// Encrypt all connections between peers
    #[arg(long)]
    encrypt: bool,

    /// Connect peers over uTP only
    #[arg(long)]
    utp: bool,

    /// Write a report: JUnit XML if the name ends in .xml, else JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    report: Option<PathBuf>,

    /// Give up after this time. Default: a minute, and more for much data
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    timeout: Option<Duration>,

    /// Keep all files and logs, in a new folder in this one. Default: a temporary folder, removed at the end
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    keep: Option<PathBuf>,

    /// Print events as JSON, one object a line
    #[arg(long)]
    pub json: bool,

    /// Damage a copy before copies are compared
    #[arg(long, hide = true)]
    inject_damage: bool,
}

const EXAMPLES: &str = "\
Examples:
  swarm lab
  swarm lab release.iso --peers 20 --fault kill-peer --fault slow-peer
  swarm lab release.meta --report lab.xml
  swarm lab --trackerless
  swarm lab --web-seed --peers 20
  swarm lab --encrypt
  swarm lab --utp
  swarm lab --format hybrid

Every peer is a process with an address of its own in 127.0.0.0/8; nothing leaves this machine. The exit status is 0 if \
every downloader's copy is complete and, compared byte by byte, identical; else it is 4.";

pub async fn run(args: LabArgs, cx: &mut Context) -> Result<Exit> {
    let result = lab(args, cx).await;
    cx.end(&About::default(), result)
}

async fn lab(args: LabArgs, cx: &mut Context) -> Result<Exit> {
    let mut interrupt = Interrupt::install()?;
    let mut faults = args.faults.clone();
    faults.sort_unstable();
    faults.dedup();
    if args.trackerless && faults.contains(&Fault::TrackerDown) {
        let message = "--fault tracker-down needs a tracker, which --trackerless leaves out";
        return fail(Exit::Usage, message);
    }
    let plan = Plan {
        peers: args.peers.into(),
        seeds: args.seeds.into(),
        faults,
        timeout: args.timeout,
        trackerless: args.trackerless,
        web_seed: args.web_seed,
        encrypt: args.encrypt,
        utp: args.utp,
    };
    if plan.web_seed && plan.faults.contains(&Fault::LateSeed) {
        let message = "--fault late-seed needs the source, whose place --web-seed takes";
        return fail(Exit::Usage, message);
    }
    if let Some(path) = &args.report {
        // Better now than after the run.
        open_report(path)?;
    }
    let scratch = scratch_dir(args.keep.as_deref())?;
    let material = prepare(&args, scratch.path(), cx, &mut interrupt).await?;
    if plan.trackerless && material.metainfo.info.private {
        let message =
            format!("{}: is private, and private torrents need a tracker", material.metainfo.info.name);
        return fail(Exit::Usage, message);
    }
    require_space(scratch.path(), material.len().saturating_mul(plan.peers as u64))?;
    let outcome = Swarm::new(&plan, &material, scratch.path(), cx)?.run(&mut interrupt).await?;
    if args.inject_damage {
        damage(&material, &outcome)?;
    }
    let wrong = tokio::select! {
        wrong = compare_all(&material, &outcome) => wrong?,
        signal = interrupt.wait() => return Err(interrupted(signal)),
    };
    let report = Report::new(&plan, &material, &outcome, &wrong);
    view::print(&report, &mut cx.console);
    for peer in &report.peers {
        cx.record(&Record::PeerResult(peer));
    }
    if let Some(path) = &args.report {
        write_report(&report, path)?;
    }
    if let Some(failure) = report.failure() {
        return fail(Exit::Data, failure);
    }
    cx.record(&Record::LabComplete(&report));
    let time = units::duration(Duration::from_secs_f64(report.seconds));
    let verdict = format!("{0} of {0} copies are identical, after {time}.", report.peers.len());
    let verdict = cx.console.paint().good(&verdict);
    cx.console.say(&format!("  {verdict}"));
    Ok(Exit::Done)
}

async fn prepare(
    args: &LabArgs,
    scratch: &Path,
    cx: &mut Context,
    interrupt: &mut Interrupt,
) -> Result<Material> {
    let stop = Arc::new(AtomicBool::new(false));
    let (dir, asked, format) = (scratch.to_owned(), Arc::clone(&stop), args.format.into());
    let mut work = match args.source.clone() {
        Some(source) => {
            cx.console.note(&format!("reading {}", label_of(&source)));
            tokio::task::spawn_blocking(move || Material::given(&source, format, &dir))
        }
        None => {
            let size = args.size;
            require_space(scratch, size.saturating_mul(u64::from(args.peers) + 1))?;
            cx.console.note(&format!("generating {}", units::size(size)));
            tokio::task::spawn_blocking(move || Material::generated(size, format, &dir, &asked))
        }
    };
    let material = tokio::select! {
        material = &mut work => material??,
        signal = interrupt.wait() => {
            stop.store(true, Ordering::Relaxed);
            if args.source.is_none() {
                // Nobody writes to the folder any more when it is removed.
                let _ = work.await;
            }
            return Err(interrupted(signal));
        }
    };
    material.warnings.iter().for_each(|warning| cx.warn(warning));
    Ok(material)
}

fn parse_size(text: &str) -> Result<u64, String> {
    match units::parse_size(text)? {
        0 => Err("is zero; there is nothing to distribute".to_owned()),
        size => Ok(size),
    }
}

/// Creates the folder in which the lab works. It is removed at the end, unless it is to be kept.
fn scratch_dir(keep: Option<&Path>) -> Result<TempDir> {
    let dir = keep.map_or_else(std::env::temp_dir, Path::to_owned);
    let option = if keep.is_some() { "--keep: " } else { "" };
    let label = || format!("{option}{}: cannot create a folder", label_of(&dir));
    if keep.is_some() {
        fs::create_dir_all(&dir).with_context(label)?;
    }
    // Processes are given absolute paths.
    let real = fs::canonicalize(&dir).with_context(label)?;
    let made =
        tempfile::Builder::new().prefix("swarm-lab-").disable_cleanup(keep.is_some()).tempdir_in(&real);
    made.with_context(|| Failure::new(Exit::Destination, label()))
}

/// Refuses to begin what would fill the disk.
#[cfg(unix)]
fn require_space(dir: &Path, needed: u64) -> Result<()> {
    let label = || label_of(dir.parent().unwrap_or(dir));
    let stat = rustix::fs::statvfs(dir).with_context(label)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = needed.saturating_add(SPACE_SPARE);
    if free >= needed {
        return Ok(());
    }
    let message = format!(
        "{}: the copies need {}, and {} are free; --keep or TMPDIR names another place, --peers and --size less",
        label(),
        units::size(needed),
        units::size(free)
    );
    fail(Exit::Destination, message)
}

#[cfg(not(unix))]
fn require_space(_dir: &Path, _needed: u64) -> Result<()> {
    Ok(())
}

/// What is wrong with the copies, by peer. Those that are not complete are not looked at.
async fn compare_all(material: &Material, outcome: &Outcome) -> Result<BTreeMap<String, String>> {
    let files: Vec<(PathBuf, u64)> = regular_files(material).collect();
    let source = material.dir.clone();
    let complete = outcome.peers.iter().filter(|peer| peer.is_counted() && peer.completed_in.is_some());
    let copies: Vec<(String, PathBuf)> = complete.map(|peer| (peer.name.clone(), peer.dir.clone())).collect();
    let compared = tokio::task::spawn_blocking(move || {
        let wrong = Mutex::new(BTreeMap::new());
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some((name, dir)) = copies.get(next.fetch_add(1, Ordering::Relaxed)) {
                for (path, len) in &files {
                    let difference = compare::difference(&source.join(path), &dir.join(path), *len)
                        .with_context(|| label_of(source.join(path)))?;
                    if let Some(what) = difference {
                        let what = format!("{} {what}", label_of(path));
                        let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                        wrong.entry(name.clone()).or_insert(what);
                    }
                }
            }
            Ok(())
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(copies.len());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("comparing does not panic"))
        })?;
        anyhow::Ok(wrong.into_inner().unwrap_or_else(PoisonError::into_inner))
    });
    compared.await?
}

/// Paths below the folder that holds the torrent, and lengths, of everything that is neither padding nor a
/// link.
fn regular_files(material: &Material) -> impl Iterator<Item = (PathBuf, u64)> {
    let files = listed(&material.metainfo.info.files).filter(|(_, file)| !file.attr.symlink);
    files.map(|(_, file)| (file.path.iter().collect(), file.length))
}

/// Flips the bits of a byte in the middle of the first downloader's largest file.
fn damage(material: &Material, outcome: &Outcome) -> Result<()> {
    let peer = outcome.peers.iter().find(|peer| peer.is_counted()).context("there is no copy")?;
    let (path, len) = regular_files(material).max_by_key(|(_, len)| *len).context("there is no file")?;
    let path = peer.dir.join(path);
    let mut bytes = fs::read(&path)?;
    if let Some(byte) = bytes.get_mut(len as usize / 2) {
        *byte = !*byte;
    }
    Ok(fs::write(&path, bytes)?)
}

fn write_report(report: &Report, path: &Path) -> Result<()> {
    let is_xml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml"));
    let text = match is_xml {
        true => report.to_junit(),
        false => serde_json::to_string_pretty(report)? + "\n",
    };
    let mut file = open_report(path)?;
    let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
    written.map_err(|error| unwritable(path, error))
}

fn open_report(path: &Path) -> Result<File> {
    // What is there from before stays until there is something new.
    File::options().create(true).append(true).open(path).map_err(|error| unwritable(path, error))
}

fn unwritable(path: &Path, error: io::Error) -> anyhow::Error {
    let failure = Failure::new(Exit::of_write(&error), format!("--report: {}: cannot write", label_of(path)));
    anyhow::Error::new(error).context(failure)
}
