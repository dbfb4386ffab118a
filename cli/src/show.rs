//! `swarm show`: what is in a metainfo file.

use crate::console::Paint;
use crate::context::Context;
use crate::exit::{Exit, printable};
use crate::interrupt::Interrupt;
use crate::network::NetworkArgs;
use crate::selection::listed;
use crate::source::{self, Source};
use crate::transfer;
use crate::units;
use anyhow::Result;
use clap::{Args, ValueHint};
use serde::Serialize;
use std::ffi::OsString;
use std::time::{Duration, SystemTime};
use swarm_core::metainfo::Metainfo;
use swarm_engine::SessionOptions;

#[derive(Args, Debug)]
pub struct ShowArgs {
    /// A metainfo file or a URL of one; with --fetch also a magnet link or an info-hash
    #[arg(value_name = "SOURCE", value_parser = source::parser(), value_hint = ValueHint::FilePath, long_help = source::HELP_FETCH)]
    source: OsString,

    /// Fetch the metadata of a magnet link or info-hash from peers (BEP 9)
    #[arg(long)]
    fetch: bool,

    /// With --fetch: give up after this time, with status 1
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, requires = "fetch")]
    timeout: Option<Duration>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    network: NetworkArgs,
}

pub async fn run(args: &ShowArgs, cx: &mut Context) -> Result<Exit> {
    let options = args.network.session_options()?;
    let metainfo = match args.fetch {
        true => fetch(args, &options, cx).await?,
        false => source::load(&args.source, &options).await?,
    };
    if cx.console.is_json() {
        cx.console.json(&Shown::of(&metainfo));
    } else {
        let text = table(&metainfo, cx.console.paint());
        cx.console.raw(text.as_bytes());
    }
    Ok(Exit::Done)
}

/// The torrent, from peers if SOURCE is a link.
async fn fetch(args: &ShowArgs, options: &SessionOptions, cx: &mut Context) -> Result<Metainfo> {
    let mut interrupt = Interrupt::install()?;
    let link = match source::open(&args.source, options).await? {
        Source::Metainfo(metainfo) => return Ok(*metainfo),
        Source::Link(link) => link,
    };
    transfer::fetch_metadata(link, args.timeout, &args.network, cx, &mut interrupt).await
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    info_hash_v1: Option<String>,
    info_hash_v2: Option<String>,
    piece_length: u32,
    pieces: u32,
    /// Pad files left out.
    total_size: u64,
    private: bool,
    files: Vec<ShownFile>,
    trackers: &'a [Vec<String>],
    web_seeds: &'a [String],
    http_seeds: &'a [String],
    nodes: &'a [(String, u16)],
    comment: Option<&'a str>,
    created_by: Option<&'a str>,
    creation_date: Option<i64>,
    source: Option<&'a str>,
    magnet: String,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct ShownFile {
    path: String,
    length: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    attr: String,
}

impl Shown<'_> {
    fn of(metainfo: &Metainfo) -> Shown<'_> {
        let info = &metainfo.info;
        Shown {
            name: &info.name,
            info_hash_v1: info.info_hash_v1().map(|hash| hash.to_string()),
            info_hash_v2: info.info_hash_v2.map(|hash| hash.to_string()),
            piece_length: info.geometry.piece_len(),
            pieces: info.geometry.pieces(),
            total_size: info.payload_len(),
            private: info.private,
            files: files(metainfo).collect(),
            trackers: &metainfo.trackers,
            web_seeds: &metainfo.web_seeds,
            http_seeds: &metainfo.http_seeds,
            nodes: &metainfo.nodes,
            comment: metainfo.comment.as_deref(),
            created_by: metainfo.created_by.as_deref(),
            creation_date: metainfo.creation_date,
            source: info.source.as_deref(),
            magnet: metainfo.magnet().to_string(),
            warnings: &metainfo.warnings,
        }
    }
}

/// The files that people see, in the order in which `get --select-file` counts them.
fn files(metainfo: &Metainfo) -> impl Iterator<Item = ShownFile> + '_ {
    listed(&metainfo.info.files).map(|(_, file)| ShownFile {
        path: file.path.join("/"),
        length: file.length,
        attr: file.attr.letters(),
    })
}

/// The same for people.
fn table(metainfo: &Metainfo, paint: Paint) -> String {
    let mut out = String::new();
    let mut row = |label: &str, value: &str| {
        let label = if label.is_empty() { String::new() } else { format!("{label}:") };
        out += &format!("{} {}\n", paint.strong(&format!("{label:<13}")), printable(value));
    };
    let info = &metainfo.info;
    let files: Vec<_> = files(metainfo).collect();
    row("name", &info.name);
    if let Some(v1) = info.info_hash_v1() {
        row("info-hash", &v1.to_string());
    }
    if let Some(v2) = info.info_hash_v2 {
        row("info-hash v2", &v2.to_string());
    }
    let bytes: u64 = files.iter().map(|file| file.length).sum();
    row("size", &format!("{} ({bytes} bytes) in {}", units::size(bytes), units::count(files.len(), "file")));
    let geometry = &info.geometry;
    row("pieces", &format!("{} of {}", geometry.pieces(), units::size(geometry.piece_len().into())));
    if info.private {
        row("private", "yes: peers come from the trackers only");
    }
    let tiers = metainfo.trackers.iter().map(|tier| tier.join(" or ")).collect();
    let nodes = metainfo.nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    let of = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
    for (label, values) in [
        ("trackers", tiers),
        ("web seeds", metainfo.web_seeds.clone()),
        ("http seeds", metainfo.http_seeds.iter().map(|url| format!("{url} (BEP 17, not used)")).collect()),
        ("nodes", nodes),
        ("comment", of(&metainfo.comment)),
        ("source", of(&info.source)),
        ("created by", of(&metainfo.created_by)),
    ] {
        values.iter().enumerate().for_each(|(n, value)| row(if n == 0 { label } else { "" }, value));
    }
    if let Some(seconds) = metainfo.creation_date {
        row("created", &utc(seconds));
    }
    row("magnet", &metainfo.magnet().to_string());
    for warning in &metainfo.warnings {
        out += &format!("{} {}\n", paint.warn(&format!("{:<13}", "warning:")), printable(warning));
    }
    out += &paint.strong("files:");
    out.push('\n');
    let width = files.len().to_string().len().max(3);
    for (file, index) in files.iter().zip(1..) {
        let index = format!("{index:>width$}");
        out += &format!("{}  {:>10}  {}", paint.dim(&index), units::size(file.length), printable(&file.path));
        if !file.attr.is_empty() {
            out += &paint.dim(&format!("  [{}]", file.attr));
        }
        out.push('\n');
    }
    out
}

/// A time in seconds since 1970 as `2024-02-29T23:59:59Z`; as a number where it is no date of ours.
fn utc(seconds: i64) -> String {
    const YEAR_10000: u64 = 253_402_300_800;
    match u64::try_from(seconds) {
        Ok(s) if s < YEAR_10000 => {
            humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(s)).to_string()
        }
        _ => seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_that_no_calendar_has_stay_numbers() {
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(253_402_300_799), "9999-12-31T23:59:59Z");
        for seconds in [-5, 253_402_300_800, i64::MAX] {
            assert_eq!(utc(seconds), seconds.to_string());
        }
    }
}
