//! The options of `swarm ctl`.

use super::shared_args::{CategoriesArgs, SettingsArgs, TagsArgs, TrackerLimitsArgs};
use super::values::{Limit, parse_limit, parse_ratio, parse_seed_time};
use crate::network::{parse_tracker, parse_web_seed};
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use serde_json::Value;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct CtlArgs {
    /// The daemon's Unix socket. Default: daemon/socket in the state folder, or else that of the system's daemon
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,

    /// Print what the daemon answers, as JSON
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    pub command: Ctl,
}

const EXAMPLES: &str = "\
Examples:
  swarm ctl add release.meta 'magnet:?xt=urn:btih:…' --category iso
  swarm ctl add metas --seed --dir /srv/isos
  swarm ctl list
  swarm ctl files 7 --skip 0,3-5
  swarm ctl limit --down 10MB/s
  swarm ctl remove 7 --delete-data

TORRENT is its number in the list, its info-hash, or its name. There has to be a daemon: `swarm daemon` starts one.";

#[derive(Debug, Subcommand)]
pub enum Ctl {
    /// Add torrents
    Add(Box<AddArgs>),
    /// List torrents
    List(ListArgs),
    /// Show a torrent
    Show(One),
    /// Pause torrents
    Pause(Several),
    /// Resume torrents, also those that have failed
    Resume(ResumeArgs),
    /// Remove torrents, and keep their data unless told otherwise
    Remove(RemoveArgs),
    /// Check all data of torrents again
    Recheck(Several),
    /// Announce torrents to their trackers now, as far as these allow
    Reannounce(Several),
    /// List a torrent's files, or choose which are wanted
    Files(FilesArgs),
    /// Limit rates and seeding: of torrents, or of all together
    Limit(LimitArgs),
    /// Move torrents in the queue, or have them run without a turn
    Queue(QueueArgs),
    /// Move a torrent's files to another folder
    Move(MoveArgs),
    /// Rename a torrent, or a file or folder of it
    Rename(RenameArgs),
    /// Choose in which order pieces are downloaded
    Order(OrderArgs),
    /// Show which pieces are there
    Pieces(One),
    /// Print addresses of a torrent's files for players, or take them back
    Stream(StreamArgs),
    /// Ban addresses, lift bans, or list them
    Ban(BanArgs),
    /// List a torrent's peers, or add some
    Peers(PeersArgs),
    /// List a torrent's trackers, or change them
    Trackers(TrackersArgs),
    /// List a torrent's web seeds, or change them
    WebSeeds(WebSeedsArgs),
    /// Show or change what holds for all torrents together
    Settings(Box<SettingsArgs>),
    /// List categories, or make, change or remove one
    Categories(CategoriesArgs),
    /// List tags, or make or remove some
    Tags(TagsArgs),
    /// List limits that the torrents of a tracker share, or set some
    TrackerLimits(TrackerLimitsArgs),
    /// Print what happens, until interrupted
    Events(EventsArgs),
    /// Show the daemon as a whole
    Session,
}

#[derive(Args, Debug)]
pub struct One {
    /// Its number, info-hash or name
    pub torrent: String,
}

#[derive(Args, Debug)]
pub struct Several {
    /// Their numbers, info-hashes or names
    #[arg(value_name = "TORRENT", required = true)]
    pub torrents: Vec<String>,
}

#[derive(Args, Debug)]
pub struct AddArgs {
    /// Metainfo files, folders of them, URLs of metainfo files, magnet links or info-hashes
    #[arg(value_name = "SOURCE", required = true, value_hint = ValueHint::AnyPath)]
    pub sources: Vec<OsString>,

    /// Download to this folder, or to one of this name below the daemon's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,

    /// Add them paused
    #[arg(long)]
    pub paused: bool,

    /// Seed what is there already; nothing is written to the data
    #[arg(long)]
    pub seed: bool,

    /// Run them without a turn in the queue
    #[arg(long)]
    pub force: bool,

    /// Download pieces in their order
    #[arg(long)]
    pub sequential: bool,

    /// Download the first and the last piece of each file before all others
    #[arg(long)]
    pub first_last: bool,

    /// Download only these files, as in 0,3-5: `swarm ctl files` lists them. A magnet link can name them itself (so=0,3-5)
    #[arg(long, value_name = "FILES", value_parser = parse_files)]
    pub files: Option<FileList>,

    /// Replace what does not match the torrent in files that are there already; without it, they are only read
    #[arg(long, conflicts_with = "seed")]
    pub overwrite: bool,

    /// Put them into this category
    #[arg(long, value_name = "NAME")]
    pub category: Option<String>,

    /// Give them this tag; repeatable
    #[arg(long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,

    /// Connect to this peer; repeatable
    #[arg(long = "peer", value_name = "ADDR:PORT")]
    pub peers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only torrents in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,

    /// Only torrents of this category
    #[arg(long, value_name = "NAME")]
    pub category: Option<String>,

    /// Only torrents with this tag
    #[arg(long, value_name = "NAME")]
    pub tag: Option<String>,
}

#[derive(Args, Debug)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub several: Several,

    /// Run them without a turn in the queue from now on; `swarm ctl queue --force off` has them take turns again
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct RemoveArgs {
    #[command(flatten)]
    pub several: Several,

    /// Delete what was verified of their data, and what is unfinished
    #[arg(long)]
    pub delete_data: bool,
}

#[derive(Args, Debug)]
pub struct FilesArgs {
    #[command(flatten)]
    pub one: One,

    /// Do not download these files, as in 0,3-5
    #[arg(long, value_name = "FILES", value_parser = parse_files)]
    pub skip: Option<FileList>,

    /// Download these files
    #[arg(long, value_name = "FILES", value_parser = parse_files)]
    pub want: Option<FileList>,

    /// Download these files before the others
    #[arg(long, value_name = "FILES", value_parser = parse_files)]
    pub first: Option<FileList>,
}

#[derive(Clone, Debug)]
pub struct FileList(pub Vec<u32>);

fn parse_files(text: &str) -> Result<FileList, &'static str> {
    swarm_daemon::units::parse_files(text).map(FileList)
}

#[derive(Args, Debug)]
pub struct LimitArgs {
    /// Their numbers, info-hashes or names; without any, the limits are of all together
    #[arg(value_name = "TORRENT")]
    pub torrents: Vec<String>,

    /// Limit the upload rate, as in 10MB/s; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit)]
    pub up: Option<Limit>,

    /// Limit the download rate; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit)]
    pub down: Option<Limit>,

    /// Stop when this many times the size is sent; `none`, or `default` for the daemon's own
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio, requires = "torrents")]
    pub ratio: Option<Value>,

    /// Stop when seeded for this long; `none`, or `default` for the daemon's own
    #[arg(long, value_name = "DURATION", value_parser = parse_seed_time, requires = "torrents")]
    pub seed_time: Option<Value>,
}

#[derive(Args, Debug)]
pub struct QueueArgs {
    #[command(flatten)]
    pub several: Several,

    /// Where to
    #[arg(long, value_name = "PLACE", value_enum, required_unless_present = "force")]
    pub to: Option<PlaceArg>,

    /// Whether they run without a turn
    #[arg(long, value_name = "on|off", value_parser = parse_switch)]
    pub force: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PlaceArg {
    Top,
    Up,
    Down,
    Bottom,
}

#[derive(Args, Debug)]
pub struct PeersArgs {
    #[command(flatten)]
    pub one: One,

    /// Connect to this peer; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub add: Vec<String>,
}

#[derive(Args, Debug)]
pub struct TrackersArgs {
    #[command(flatten)]
    pub one: One,

    /// Announce to this tracker too; repeatable
    #[arg(long, value_name = "URL", value_parser = parse_tracker)]
    pub add: Vec<String>,

    /// Put those that are added into this tier, counted from 0
    #[arg(long, requires = "add")]
    pub tier: Option<usize>,

    /// Announce to this tracker no more; repeatable
    #[arg(long, value_name = "URL")]
    pub remove: Vec<String>,

    /// Announce to another tracker in the place of one; repeatable
    #[arg(long, value_names = ["URL", "NEW"], num_args = 2)]
    pub replace: Vec<String>,
}

#[derive(Args, Debug)]
pub struct WebSeedsArgs {
    #[command(flatten)]
    pub one: One,

    /// Use this web seed too; repeatable
    #[arg(long, value_name = "URL", value_parser = parse_web_seed)]
    pub add: Vec<String>,

    /// Use this web seed no more; repeatable
    #[arg(long, value_name = "URL", conflicts_with = "add")]
    pub remove: Vec<String>,
}

#[derive(Args, Debug)]
pub struct MoveArgs {
    #[command(flatten)]
    pub one: One,

    /// The folder to move it to, or one of this name below the daemon's
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,

    /// Move no files: what is in DIR is checked, and what is in the old folder stays
    #[arg(long)]
    pub leave: bool,
}

#[derive(Args, Debug)]
pub struct RenameArgs {
    #[command(flatten)]
    pub one: One,

    /// The file or folder to rename, with the torrent's own name first, as `files` lists them. Without it, the name in lists changes
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,

    /// What it is to be called: a whole path for PATH, a name for the torrent
    pub to: String,
}

#[derive(Args, Debug)]
pub struct OrderArgs {
    #[command(flatten)]
    pub several: Several,

    /// Download pieces in their order
    #[arg(long, value_name = "on|off", value_parser = parse_switch)]
    pub sequential: Option<bool>,

    /// Download the first and the last piece of each file before all others
    #[arg(long, value_name = "on|off", value_parser = parse_switch)]
    pub first_last: Option<bool>,
}

fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is not on or off"),
    }
}

#[derive(Args, Debug)]
pub struct BanArgs {
    /// Addresses without ports; without any, those that are banned are listed
    #[arg(value_name = "ADDR")]
    pub addresses: Vec<IpAddr>,

    /// Lift their bans
    #[arg(long, requires = "addresses")]
    pub lift: bool,
}

#[derive(Args, Debug)]
pub struct StreamArgs {
    #[command(flatten)]
    pub one: One,

    /// Take them back: streams that run end, and the next addresses are others
    #[arg(long)]
    pub end: bool,
}

#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Only events of this torrent
    pub torrent: Option<String>,
}
