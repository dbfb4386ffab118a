//! `swarm get`: download a torrent.

use crate::app::Context;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::network::NetworkArgs;
use crate::source;
use crate::transfer::{self, Plan, SeedUntil};
use crate::units;
use anyhow::Result;
use clap::{Args, ValueHint};
use globset::{Glob, GlobSet, GlobSetBuilder};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::id::FileIndex;
use swarm_core::metainfo::Metainfo;
use swarm_core::picker::Order;
use swarm_engine::{AddTorrent, Files, Mode, Source, SpaceBudget};

/// Options of `swarm get`.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct GetArgs {
    /// A metainfo file, a URL of one, a magnet link or an info-hash
    #[arg(value_name = "SOURCE", value_hint = ValueHint::FilePath, long_help = source::HELP)]
    source: OsString,

    /// Download into this folder; created if missing
    #[arg(short = 'o', long = "output", value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    dir: PathBuf,

    /// Download only the files that match; repeatable
    ///
    /// The pattern is matched against the file's path, with and without the torrent's name in front. `*` matches
    /// anything, `/` included; `?` one character; `[a-z]` a range; `{a,b}` either. It overrides the file selection of a
    /// magnet link (BEP 53).
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    files: Vec<Glob>,

    /// Download pieces in order
    #[arg(long)]
    sequential: bool,

    /// Seed when complete: forever (also without a value), up to a ratio such as 2.0, or for a time such as 30m
    #[arg(
        long, value_name = "never|forever|RATIO|DURATION", value_parser = parse_seed,
        num_args = 0..=1, require_equals = true, default_value = "never", default_missing_value = "forever",
    )]
    seed: SeedUntil,

    /// Overwrite existing files that differ
    ///
    /// Without this, they end the command with status 4 and stay as they are.
    #[arg(long)]
    overwrite: bool,

    /// Check all existing data, whatever the resume data says
    #[arg(long)]
    recheck: bool,

    /// When the disk is full, wait this long for space, then exit with status 5
    ///
    /// Without this, the download waits until there is space. Other disk errors are retried in any case.
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    space_wait: Option<Duration>,

    /// Print events as JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Behave as if the disk were full after so many bytes, for so long
    #[arg(long, hide = true, value_name = "SIZE,DURATION", value_parser = parse_made_up_disk)]
    inject_disk_full: Option<(u64, Duration)>,

    #[command(flatten)]
    network: NetworkArgs,
}

const EXAMPLES: &str = "\
Examples:
  swarm get https://example.org/release.iso.meta
  swarm get release.meta -o downloads --files '*.iso' --max-down 80Mbit/s
  swarm get release.meta --seed=2.0 --json
  swarm get 'magnet:?xt=urn:btih:...'

A file gets its final name once all of its pieces are verified. Run the same command again to resume an interrupted \
download, unfinished pieces included (after kill -9 those start again). With --files, parts of pieces that belong to other files \
are kept in the part file .NAME.swarm.

Disk space is preallocated, and a hundredth of the disk (at most 1 GiB) left free. A download that the disk can never hold ends \
with status 5; one that it cannot hold now waits. Disk errors are retried now and then.

Ctrl-C, SIGTERM and SIGHUP save resume data and end the command with status 130, 130 and 129; when it seeds a complete \
download, with 130, 0 and 129.";

/// Downloads, and seeds for as long as the user wants.
pub async fn run(args: GetArgs, cx: &mut Context) -> Result<Exit> {
    if args.json {
        cx.console.set_json();
    }
    let result = get(args, cx).await;
    transfer::end(result, cx)
}

async fn get(args: GetArgs, cx: &mut Context) -> Result<Exit> {
    let mut interrupt = Interrupt::install()?;
    let begun = transfer::begin(&args.source, &args.dir, &args.network, cx, &mut interrupt).await?;
    let mut torrent = AddTorrent::download(begun.source.clone(), &args.dir)
        .order(if args.sequential { Order::Sequential } else { Order::RarestFirst })
        .overwrite(args.overwrite)
        .recheck(args.recheck);
    let made_up_disk = args.inject_disk_full.map(|(bytes, time)| (Arc::new(SpaceBudget::new(bytes)), time));
    if let Some((disk, _)) = &made_up_disk {
        torrent = torrent.space(Arc::clone(disk));
    }
    let (globs, source) = (args.files, begun.source.clone());
    let plan = Plan {
        choose: Box::new(move |metainfo| match &globs[..] {
            [] => selected(&source, metainfo),
            globs => matching(metainfo, globs),
        }),
        until: args.seed,
        space_wait: args.space_wait,
        made_up_disk,
        ..Plan::seed(args.dir, Mode::Download)
    };
    transfer::run(begun, torrent, plan, &args.network, cx, &mut interrupt).await
}

/// The files that a link selects (BEP 53).
fn selected(source: &Source, metainfo: &Metainfo) -> Result<Files> {
    let Source::Magnet(magnet) = source else { return Ok(Files::all()) };
    let selected = magnet.wanted(metainfo.info.files.len());
    if selected.as_ref().is_some_and(|selected| !selected.contains(&true)) {
        let message = format!("{}: the link selects none of its files", metainfo.info.name);
        return Err(Failure::new(Exit::Metainfo, message).into());
    }
    Ok(selected.map_or_else(Files::all, only))
}

fn only(wanted: Vec<bool>) -> Files {
    Files::only((0..).map(FileIndex).zip(wanted).filter(|(_, wanted)| *wanted).map(|(file, _)| file))
}

/// The files that match one of the patterns.
fn matching(metainfo: &Metainfo, globs: &[Glob]) -> Result<Files> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.clone());
    }
    let set = set.build()?;
    let files = &metainfo.info.files;
    let wanted: Vec<bool> = files.iter().map(|file| !file.attr.pad && matches(&set, &file.path)).collect();
    if !wanted.contains(&true) {
        let globs: Vec<_> = globs.iter().map(Glob::glob).collect();
        let message = format!("{}: no file matches --files {}", metainfo.info.name, globs.join(" "));
        return Err(Failure::new(Exit::Usage, message).into());
    }
    Ok(only(wanted))
}

fn matches(set: &GlobSet, path: &[String]) -> bool {
    set.is_match(path.join("/")) || (path.len() > 1 && set.is_match(path[1..].join("/")))
}

fn parse_glob(text: &str) -> Result<Glob, String> {
    Glob::new(text).map_err(|error| format!("is not a pattern: {}", error.kind()))
}

fn parse_seed(text: &str) -> Result<SeedUntil, String> {
    match text {
        "never" => return Ok(SeedUntil::Complete),
        "forever" => return Ok(SeedUntil::Interrupted),
        _ => {}
    }
    if let Ok(ratio) = text.parse::<f64>() {
        let is_usable = ratio.is_finite() && ratio >= 0.0;
        return is_usable
            .then_some(SeedUntil::Ratio(ratio))
            .ok_or_else(|| "is not a ratio from 0 up".to_owned());
    }
    units::parse_duration(text)
        .map(SeedUntil::Elapsed)
        .map_err(|_| "is not never, forever, a ratio such as 2.0, or a duration such as 30m".to_owned())
}

fn parse_made_up_disk(text: &str) -> Result<(u64, Duration), String> {
    let (bytes, time) = text.split_once(',').ok_or("is not SIZE,DURATION")?;
    let bytes = units::parse_size(bytes).map_err(|error| error.to_string())?;
    Ok((bytes, units::parse_duration(time).map_err(|error| error.to_string())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeding_ends_as_the_user_says() {
        assert_eq!(parse_seed("never"), Ok(SeedUntil::Complete));
        assert_eq!(parse_seed("forever"), Ok(SeedUntil::Interrupted));
        assert_eq!(parse_seed("1.5"), Ok(SeedUntil::Ratio(1.5)));
        assert_eq!(parse_seed("90s"), Ok(SeedUntil::Elapsed(Duration::from_secs(90))));
        for text in ["", "-1", "inf", "NaN", "soon"] {
            assert!(parse_seed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_match_with_and_without_the_torrents_name() {
        let matches = |glob: &str, path: &str| {
            let set = GlobSetBuilder::new().add(parse_glob(glob).unwrap()).build().unwrap();
            let path: Vec<String> = path.split('/').map(str::to_owned).collect();
            super::matches(&set, &path)
        };
        assert!(matches("*.iso", "release/sub/a.iso"));
        assert!(matches("sub/*", "release/sub/a.iso"));
        assert!(matches("release/sub/*", "release/sub/a.iso"));
        assert!(matches("a.iso", "a.iso"));
        assert!(!matches("a.iso", "release/sub/a.iso"));
        assert!(parse_glob("[").is_err());
    }
}
