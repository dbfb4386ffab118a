//! `swarm get`: download a torrent.

use crate::context::Context;
use crate::exit::{Exit, fail};
use crate::network::{NetworkArgs, parse_web_seed};
use crate::selection::{Selection, parse_glob, parse_indices};
use crate::source;
use crate::transfer::{self, Plan, SeedUntil};
use crate::units;
use anyhow::{Context as _, Result};
use clap::{Args, ValueHint};
use globset::Glob;
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use swarm_engine::Mode;

#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct GetArgs {
    /// Metainfo files, URLs of them, magnet links or info-hashes
    #[arg(value_name = "SOURCE", value_parser = source::parser(), value_hint = ValueHint::FilePath, long_help = source::HELP_SEVERAL, required = true)]
    sources: Vec<OsString>,

    /// Download into this folder; created if missing
    #[arg(short = 'o', long = "output", value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    dir: PathBuf,

    /// Download only the files that match; repeatable
    ///
    /// The pattern is matched against the file's path, with and without the torrent's name in front. `*`
    /// matches anything, `/` included; `?` one character; `[a-z]` a range; `{a,b}` either. It overrides the
    /// file selection of a magnet link (BEP 53).
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    files: Vec<Glob>,

    /// Download only the files with these indices, as `swarm show` lists them
    ///
    /// Those that --files selects are downloaded too.
    #[arg(long, value_name = "INDICES", value_parser = parse_indices, value_delimiter = ',')]
    select_file: Vec<RangeInclusive<usize>>,

    /// Download pieces in order
    #[arg(long)]
    sequential: bool,

    /// Print an address on this machine that plays a file while it is downloaded
    ///
    /// What a player asks for comes first. It is the largest file of audio or video among those that --files selects, or else the largest.
    /// The command goes on until it is interrupted, unless --seed names a ratio or a time.
    #[arg(long)]
    stream: bool,

    /// Seed when complete: forever (also without a value), up to a ratio such as 2.0, or for a time such as
    /// 30m
    #[arg(
        long, value_name = "never|forever|RATIO|DURATION", value_parser = parse_seed,
        num_args = 0..=1, require_equals = true, default_value = "never", default_missing_value = "forever",
    )]
    seed: SeedUntil,

    /// While it seeds, read all data again over time, at this rate, to find what has rotted on the disk
    ///
    /// What is bad is no longer sent, is named, and is fetched again from peers into its place. Without this, it is when somebody asks for
    /// it. Several torrents take turns; a round takes at least an hour.
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    scrub: Option<u64>,

    /// Overwrite existing files that differ
    ///
    /// Without this, they end the command with status 4 and stay as they are.
    #[arg(long)]
    overwrite: bool,

    /// Check all existing data, even if resume data is valid
    #[arg(long)]
    recheck: bool,

    /// Take what this folder has of the torrent, under whatever names, instead of downloading it; repeatable
    ///
    /// Files of the same content, and those pieces of changed files that are still the same, are cloned where the file system can have
    /// files share their space (Btrfs, XFS), else copied, and then verified. What --state-dir knows of complete torrents is taken too.
    /// Links in DIR are not followed. If there is no DIR, the status is 1.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    reuse: Vec<PathBuf>,

    /// When the disk is full, wait this long for space, then exit with status 5
    ///
    /// Without this, the download waits until there is space. Other disk errors are retried in any case.
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    space_wait: Option<Duration>,

    /// When nothing has come for this long, exit with status 4
    ///
    /// The time runs while peers, metadata or blocks are waited for, not while existing data is checked. If
    /// the disk is full then, the status is 5.
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    stall_timeout: Option<Duration>,

    /// Print events as JSON, one object a line
    #[arg(long)]
    pub json: bool,

    /// Fetch from this web server too (BEP 19); repeatable
    ///
    /// URL is that of a single file, or of the folder that holds the torrent's file or folder. Beside peers a web seed is
    /// asked only for what none of them has.
    #[arg(long = "web-seed", value_name = "URL", value_parser = parse_web_seed)]
    web_seeds: Vec<String>,

    /// Behave as if the disk were full after so many bytes, for so long
    #[arg(long, hide = true, value_name = "SIZE,DURATION", value_parser = parse_simulated_disk)]
    inject_disk_full: Option<(u64, Duration)>,

    #[command(flatten)]
    network: NetworkArgs,
}

const EXAMPLES: &str = "\
Examples:
  swarm get https://example.org/release.iso.meta
  swarm get release.meta -o downloads --files '*.iso' --max-down 80Mbit/s
  swarm get release.meta --select-file 1,3-5 --stall-timeout 10m
  swarm get release.meta --seed=2.0 --json
  swarm get film.torrent --stream --files '*.mkv'
  swarm get a.meta b.torrent -o downloads
  swarm get app-1.1.meta --reuse app-1.0
  swarm get 'magnet:?xt=urn:btih:...'

A file gets its final name once all of its pieces are verified. Run the same command again to resume an interrupted \
download, unfinished pieces included (after kill -9 those start again). With --files, parts of pieces that belong to other files \
are kept in a part file in the work folder .NAME.swarm.

Disk space is preallocated, and a hundredth of the disk (at most 1 GiB) left free. A download that the disk can never hold ends \
with status 5; one that it cannot hold now waits. Disk errors are retried.

Ctrl-C, SIGTERM and SIGHUP save resume data and end the command with status 130, 130 and 129; when it seeds a complete \
download, with 130, 0 and 129.";

pub async fn run(mut args: GetArgs, cx: &mut Context) -> Result<Exit> {
    if !args.select_file.is_empty() && source::may_be_several(&args.sources) {
        let message =
            "--select-file: the files of several torrents have no common index; --files takes patterns";
        return fail(Exit::Usage, message);
    }
    if args.stream && source::may_be_several(&args.sources) {
        return fail(Exit::Usage, "--stream: one torrent at a time can be played");
    }
    if args.seed == SeedUntil::Interrupted
        && let Some(value) = args.sources.iter().find_map(|source| value_of_seed(source))
    {
        let message =
            format!("{value}: no such file; a value of --seed follows an equals sign: --seed={value}");
        return fail(Exit::Usage, message);
    }
    for dir in &args.reuse {
        dir.metadata().with_context(|| format!("--reuse: {}: cannot open", dir.display()))?;
    }
    args.network.web_seeds = args.web_seeds;
    let plan = Plan {
        selection: Selection { globs: args.files, indices: args.select_file },
        sequential: args.sequential,
        overwrite: args.overwrite,
        recheck: args.recheck,
        reuse: args.reuse,
        scrub: args.scrub,
        until: match args.seed {
            SeedUntil::Complete if args.stream => SeedUntil::Interrupted,
            until => until,
        },
        stream: args.stream,
        space_wait: args.space_wait,
        stall_timeout: args.stall_timeout,
        simulated_disk: args.inject_disk_full,
        ..Plan::new(Mode::Download, args.dir)
    };
    transfer::run(&args.sources, plan, &args.network, cx).await
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

/// In `--seed 2.0`, 2.0 is a SOURCE; which is what the user did not mean, if there is no such file.
fn value_of_seed(source: &OsStr) -> Option<&str> {
    const LEN_MAX: usize = 16;
    let text = source.to_str().filter(|text| text.len() <= LEN_MAX)?;
    (parse_seed(text).is_ok() && !Path::new(text).exists()).then_some(text)
}

fn parse_simulated_disk(text: &str) -> Result<(u64, Duration), String> {
    let (bytes, time) = text.split_once(',').ok_or("is not SIZE,DURATION")?;
    let bytes = units::parse_size(bytes)?;
    Ok((bytes, units::parse_duration(time)?))
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
    fn a_value_of_seed_without_an_equals_sign_is_told_from_a_source() {
        for text in ["2.0", "30m", "never"] {
            assert_eq!(value_of_seed(text.as_ref()), Some(text));
        }
        // A file, a name, and an info-hash of digits.
        for text in ["Cargo.toml", "film.torrent", "1234567890123456789012345678901234567890"] {
            assert_eq!(value_of_seed(text.as_ref()), None, "{text}");
        }
    }
}
