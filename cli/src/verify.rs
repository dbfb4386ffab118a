//! `swarm verify`: compare what is on disk with a torrent.

use crate::context::Context;
use crate::exit::{Exit, fail, printable};
use crate::interrupt::Interrupt;
use crate::network::NetworkArgs;
use crate::progress::WorkBar;
use crate::selection::listed;
use crate::transfer::{self, Plan, SeedUntil};
use crate::{source, units};
use anyhow::Result;
use clap::{Args, ValueHint};
use serde::Serialize;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use swarm_core::metainfo::Info;
use swarm_engine::Mode;
use swarm_engine::hash::Workers;
use swarm_engine::verify::{self, FileState, Report};

#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct VerifyArgs {
    /// A metainfo file or a URL of one
    #[arg(value_name = "SOURCE", value_parser = source::parser(), value_hint = ValueHint::FilePath, long_help = source::HELP_METAINFO)]
    source: OsString,

    /// The folder that contains the torrent's file or folder
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: PathBuf,

    /// Fetch what is not right from the swarm, into place
    ///
    /// What is right stays as it is, and is not read again: pieces, and in version 2 also the blocks (16 KiB) of bad pieces, where peers
    /// have hashes of blocks. A file that is too long is cut. While it is mended, a damaged file is in the work folder .NAME.swarm; run
    /// the same command again to go on after an interruption.
    #[arg(long)]
    repair: bool,

    /// Print one JSON object; with --repair, if something is not right, the events of `get` instead
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    network: NetworkArgs,
}

const EXAMPLES: &str = "\
Examples:
  swarm verify release.meta downloads
  swarm verify release.meta downloads --repair

The exit status is 0 if all data verifies, and 4 if not. A file is `ok`, `missing`, `short`, `long` or `corrupt` (one of its \
pieces does not verify). Without --repair data is not changed. If something is corrupt, saved state that differs is deleted, so that \
`seed` and `get` check again, also a seed that runs. The network options are for --repair.";

#[derive(Serialize)]
struct Verified {
    pieces: u32,
    pieces_ok: u32,
    bytes_ok: u64,
    bad_pieces: Vec<u32>,
    files: Vec<VerifiedFile>,
}

#[derive(Serialize)]
struct VerifiedFile {
    path: String,
    state: &'static str,
}

pub async fn run(args: VerifyArgs, cx: &mut Context) -> Result<Exit> {
    let mut interrupt = Interrupt::install()?;
    let metainfo = source::load(&args.source, &args.network.session_options()?).await?;
    let info = Arc::clone(&metainfo.info);
    let dir = Plan::new(Mode::Seed, args.dir).dir_of(&info);
    let path = dir.join(&info.name);
    let bar = WorkBar::new(&cx.console, "checking", info.payload_len());
    let (shown, layout) = (bar.clone(), Arc::clone(&info));
    let (state_dir, data) = (args.network.state_dir(), dir.clone());
    let work = move || {
        let report = verify::run(&layout, &dir, Workers::default_threads(), &|bytes| shown.set(bytes));
        let is_wrong = report.as_ref().is_ok_and(|report| report.pieces_wrong.count() > 0);
        let ended = match is_wrong {
            true => verify::end_trust(&layout, &dir, state_dir.as_deref()),
            false => Ok(()),
        };
        (report, ended)
    };
    let (report, ended) = bar.show_until(interrupt.during(work), &mut cx.console).await?;
    let report = report.map_err(|error| match error.is_contradiction() {
        true => swarm_engine::Error::Storage(Arc::new(error)).into(),
        false => anyhow::Error::from(error).context("cannot verify"),
    })?;
    if let Err(error) = ended {
        cx.warn(&format!("{error}; use --recheck the next time that this is seeded or downloaded"));
    }
    let verified = Verified::of(&info, &report);
    let is_ok = report.is_ok();
    // What is to be repaired has the events of `get`.
    if is_ok || !args.repair || !cx.console.is_json() {
        print(&verified, &path.display().to_string(), is_ok, cx);
    }
    if is_ok {
        return Ok(Exit::Done);
    }
    if args.repair {
        cx.one_object = false;
        for file in verified.files.iter().filter(|file| file.state == "long") {
            cx.warn(&format!("{}: what is beyond its end will be cut off", printable(&file.path)));
        }
        let plan = Plan {
            overwrite: true,
            found: Some(Arc::new(report)),
            until: SeedUntil::Complete,
            ..Plan::new(Mode::Download, data)
        };
        return transfer::run_one(metainfo, &args.source, plan, &args.network, cx, &mut interrupt).await;
    }
    let bad = verified.files.iter().filter(|file| file.state != "ok").count();
    let message = format!(
        "{}: {} of {} pieces verify, {} not as the metainfo says",
        path.display(),
        verified.pieces_ok,
        verified.pieces,
        if bad == 1 { "1 file is".to_owned() } else { format!("{bad} files are") },
    );
    fail(Exit::Data, message)
}

impl Verified {
    fn of(info: &Info, report: &Report) -> Verified {
        let pieces = info.geometry.piece_indices();
        let files = listed(&info.files).map(|(at, file)| (file, report.files[at]));
        Verified {
            pieces: info.geometry.pieces(),
            pieces_ok: report.pieces_ok.count(),
            bytes_ok: report.bytes_ok,
            bad_pieces: pieces.filter(|&piece| !report.pieces_ok.has(piece)).map(|piece| piece.0).collect(),
            files: files
                .map(|(file, state)| VerifiedFile { path: file.path.join("/"), state: word(state) })
                .collect(),
        }
    }
}

fn word(state: FileState) -> &'static str {
    match state {
        FileState::Ok => "ok",
        FileState::Missing => "missing",
        FileState::Short => "short",
        FileState::Corrupt => "corrupt",
        FileState::Long => "long",
        _ => "bad",
    }
}

fn print(verified: &Verified, path: &str, is_ok: bool, cx: &mut Context) {
    if cx.console.is_json() {
        cx.console.json(verified);
        return;
    }
    let paint = cx.console.paint();
    for file in verified.files.iter().filter(|file| file.state != "ok") {
        let state = format!("{:<8}", file.state);
        cx.console.result(&format!("{} {}", paint.bad(&state), printable(&file.path)));
    }
    if is_ok {
        let (size, time) = (units::size(verified.bytes_ok), units::duration(cx.start.elapsed()));
        let pieces = units::count(verified.pieces as usize, "piece");
        let ok = paint.good("ok");
        cx.console.say(&format!("{ok}       {}: {pieces}, {size} in {time}", printable(path)));
    }
}
