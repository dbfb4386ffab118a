//! The fields of a torrent. No I/O here: what has to be asked for comes with the torrent.

use super::dialect::{Dialect, older_value};
use super::kept::{Kept, kilobytes};
use super::{names, parts};
use crate::table::{Row, State, Summary};
use crate::torrents::Id;
use crate::torrents::goals::{Goal, GoalWord, Goals};
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use swarm_engine::{Magnet, PieceMap, TorrentStats};

/// How many fields may be named.
pub const FIELDS_MAX: usize = 1_000;

macro_rules! fields {
    ($($field:ident $name:literal,)*) => {
        /// A field of a torrent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($field,)* }

        impl Field {
            #[cfg(test)]
            pub const ALL: &[Field] = &[$(Field::$field,)*];

            /// Its key.
            pub fn name(self) -> &'static str {
                match self { $(Field::$field => $name,)* }
            }

            fn of(name: &str) -> Option<Field> {
                match name { $($name => Some(Field::$field),)* _ => None }
            }
        }
    };
}

fields! {
    ActivityDate "activity_date", AddedDate "added_date", Availability "availability",
    BandwidthPriority "bandwidth_priority", BytesCompleted "bytes_completed", Comment "comment", CorruptEver "corrupt_ever",
    Creator "creator", DateCreated "date_created", DesiredAvailable "desired_available", DoneDate "done_date",
    DownloadDir "download_dir", DownloadLimit "download_limit", DownloadLimited "download_limited",
    DownloadedEver "downloaded_ever", EditDate "edit_date", Error "error", ErrorString "error_string", Eta "eta",
    EtaIdle "eta_idle", FileCount "file_count", FileStats "file_stats", Files "files", Group "group",
    HashString "hash_string", HaveUnchecked "have_unchecked", HaveValid "have_valid",
    HonorsSessionLimits "honors_session_limits", Id "id", IsFinished "is_finished", IsPrivate "is_private",
    IsStalled "is_stalled", Labels "labels", LeftUntilDone "left_until_done", MagnetLink "magnet_link",
    ManualAnnounceTime "manual_announce_time", MaxConnectedPeers "max_connected_peers",
    MetadataPercentComplete "metadata_percent_complete", Name "name", PeerLimit "peer_limit", Peers "peers",
    PeersConnected "peers_connected", PeersFrom "peers_from", PeersGettingFromUs "peers_getting_from_us",
    PeersSendingToUs "peers_sending_to_us", PercentComplete "percent_complete", PercentDone "percent_done",
    PieceCount "piece_count", PieceSize "piece_size", Pieces "pieces", PrimaryMimeType "primary_mime_type",
    Priorities "priorities", QueuePosition "queue_position", RateDownload "rate_download", RateUpload "rate_upload",
    RecheckProgress "recheck_progress", SecondsDownloading "seconds_downloading", SecondsSeeding "seconds_seeding",
    SeedIdleLimit "seed_idle_limit", SeedIdleMode "seed_idle_mode", SeedRatioLimit "seed_ratio_limit",
    SeedRatioMode "seed_ratio_mode", SequentialDownload "sequential_download",
    SequentialDownloadFromPiece "sequential_download_from_piece", SizeWhenDone "size_when_done", Source "source",
    StartDate "start_date", Status "status", TorrentFile "torrent_file", TotalSize "total_size",
    TrackerList "tracker_list", TrackerStats "tracker_stats", Trackers "trackers", UploadLimit "upload_limit",
    UploadLimited "upload_limited", UploadRatio "upload_ratio", UploadedEver "uploaded_ever", Wanted "wanted",
    Webseeds "webseeds", WebseedsEx "webseeds_ex", WebseedsSendingToUs "webseeds_sending_to_us",
}

/// The fields that a list names, each once. What is no field counts as not named.
pub fn named(list: &[Value]) -> Vec<Field> {
    let mut fields = Vec::new();
    for field in list.iter().take(FIELDS_MAX).filter_map(Value::as_str).filter_map(Field::of) {
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    fields
}

/// What a field needs beside the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What the session knows of the torrent.
    pub stats: bool,
    /// The same only while it has peers.
    pub peers: bool,
    /// Verified bytes of each file.
    pub files: bool,
    /// How each piece stands.
    pub pieces: bool,
    /// Its place in the queue.
    pub queue: bool,
}

impl Needs {
    pub fn of(fields: &[Field]) -> Needs {
        let has = |some: &[Field]| fields.iter().any(|field| some.contains(field));
        Needs {
            stats: has(&[
                Field::CorruptEver,
                Field::DesiredAvailable,
                Field::HaveUnchecked,
                Field::TrackerStats,
                Field::WebseedsEx,
                Field::WebseedsSendingToUs,
            ]),
            peers: has(&[Field::Peers, Field::PeersFrom, Field::PeersGettingFromUs, Field::PeersSendingToUs]),
            files: has(&[Field::BytesCompleted, Field::FileStats, Field::Files]),
            pieces: has(&[Field::Availability, Field::Pieces]),
            queue: has(&[Field::QueuePosition]),
        }
    }
}

/// What is known of a torrent beside the table, as far as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub stats: Option<TorrentStats>,
    pub verified: Option<Vec<u64>>,
    pub pieces: Option<PieceMap>,
}

/// What is the same for all torrents of an answer.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// Seconds since 1970.
    pub now: i64,
    /// How many connections the session may have.
    pub peers_max: usize,
    /// What holds for torrents without goals of their own.
    pub goals: Goals,
    /// Places in the queue, from 0, if they are wanted.
    pub queue: BTreeMap<Id, usize>,
    /// What is not in force now.
    pub kept: BTreeMap<Id, Kept>,
}

/// A torrent to be shown.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub row: &'a Row,
    pub live: &'a Live,
    pub scene: &'a Scene,
}

impl View<'_> {
    /// The value of a field.
    pub fn value(self, field: Field) -> Value {
        let of = self.of_state(field);
        let of = of.or_else(|| self.of_amounts(field)).or_else(|| self.of_times(field));
        let of = of.or_else(|| self.of_metainfo(field)).or_else(|| self.of_limits(field));
        of.or_else(|| self.of_parts(field)).unwrap_or(Value::Null)
    }

    fn summary(&self) -> &Summary {
        &self.row.summary
    }

    fn of_state(self, field: Field) -> Option<Value> {
        let summary = self.summary();
        Some(match field {
            Field::Id => summary.id.0.into(),
            Field::Name => summary.name.as_str().into(),
            Field::HashString => summary.info_hash.as_deref().unwrap_or_default().into(),
            Field::Status => status(summary).into(),
            Field::Error => if summary.error.is_some() { 3 } else { 0 }.into(),
            Field::ErrorString => summary.error.as_deref().unwrap_or_default().into(),
            Field::IsFinished => (summary.paused && summary.stopped_by.is_some()).into(),
            Field::IsStalled => (summary.state == State::Downloading && summary.waiting.is_some()).into(),
            Field::Labels => summary.tags.clone().into(),
            Field::Group => summary.category.as_deref().unwrap_or_default().into(),
            Field::DownloadDir => summary.dir.to_string_lossy().into(),
            Field::QueuePosition => self.scene.queue.get(&summary.id).copied().unwrap_or(0).into(),
            Field::PeersConnected => summary.peers.into(),
            Field::MetadataPercentComplete => if self.row.metainfo.is_some() { 1.0 } else { 0.0 }.into(),
            Field::RecheckProgress => match (summary.pieces_checked, summary.pieces_to_check) {
                (Some(done), Some(of)) if of > 0 => (f64::from(done) / f64::from(of)).into(),
                _ => 0.0.into(),
            },
            Field::SequentialDownload => summary.sequential.into(),
            _ => return None,
        })
    }

    fn of_amounts(self, field: Field) -> Option<Value> {
        let summary = self.summary();
        let stats = self.live.stats.as_ref();
        let share = |of: u64| if of > 0 { (summary.bytes_verified as f64 / of as f64).min(1.0) } else { 0.0 };
        Some(match field {
            Field::SizeWhenDone => summary.bytes_total.into(),
            Field::TotalSize => self.total_size().into(),
            Field::HaveValid => summary.bytes_verified.into(),
            Field::HaveUnchecked => stats.map_or(0, |stats| stats.bytes_unverified).into(),
            Field::LeftUntilDone => self.left().into(),
            Field::PercentDone => share(summary.bytes_total).into(),
            Field::PercentComplete => share(self.total_size()).into(),
            Field::DownloadedEver => summary.bytes_down.into(),
            Field::UploadedEver => summary.bytes_up.into(),
            Field::CorruptEver => stats.map_or(0, |stats| stats.totals.bytes_corrupt).into(),
            Field::DesiredAvailable => parts::available(stats, self.left()).into(),
            Field::RateDownload => summary.rate_down.into(),
            Field::RateUpload => summary.rate_up.into(),
            Field::UploadRatio => if summary.bytes_total > 0 { summary.ratio } else { -1.0 }.into(),
            Field::PieceCount => summary.pieces.into(),
            _ => return None,
        })
    }

    fn total_size(&self) -> u64 {
        let metainfo = self.row.metainfo.as_ref();
        metainfo.map_or(0, |metainfo| metainfo.info.payload_len())
    }

    fn left(&self) -> u64 {
        self.summary().bytes_total.saturating_sub(self.summary().bytes_verified)
    }

    fn of_times(self, field: Field) -> Option<Value> {
        let (summary, now) = (self.summary(), self.scene.now);
        let running = summary.running_since.map_or(0, |since| u64::try_from(now - since).unwrap_or(0));
        let is_complete = summary.seed || summary.completed_at.is_some();
        let before = summary.seconds_active.saturating_sub(summary.seconds_seeding);
        Some(match field {
            Field::AddedDate => summary.added_at.into(),
            Field::DoneDate => summary.completed_at.unwrap_or(0).into(),
            Field::StartDate => summary.running_since.unwrap_or(0).into(),
            Field::ActivityDate => summary.active_at.unwrap_or(0).into(),
            Field::EditDate | Field::ManualAnnounceTime => 0.into(),
            Field::SecondsSeeding => (summary.seconds_seeding + if is_complete { running } else { 0 }).into(),
            Field::SecondsDownloading => (before + if is_complete { 0 } else { running }).into(),
            Field::Eta => self.eta().into(),
            Field::EtaIdle => (-1).into(),
            _ => return None,
        })
    }

    /// In how many seconds it is complete, or has reached its ratio; -1: that is no question, -2: nobody knows.
    fn eta(&self) -> i64 {
        let summary = self.summary();
        let at = |bytes: u64, rate: u64| bytes.checked_div(rate).map_or(-2, |seconds| seconds as i64);
        match summary.state {
            State::Downloading => at(self.left(), summary.rate_down),
            State::Metadata => -2,
            State::Seeding => match summary.ratio_limit.unwrap_or_default().or(self.scene.goals.ratio) {
                Some(ratio) => {
                    let goal = (ratio * summary.bytes_total as f64) as u64;
                    at(goal.saturating_sub(summary.bytes_up), summary.rate_up)
                }
                None => -1,
            },
            _ => -1,
        }
    }

    fn of_metainfo(self, field: Field) -> Option<Value> {
        let metainfo = self.row.metainfo.as_deref();
        let text = |text: Option<&String>| Value::from(text.map(String::as_str).unwrap_or_default());
        Some(match field {
            Field::Comment => text(metainfo.and_then(|metainfo| metainfo.comment.as_ref())),
            Field::Creator => text(metainfo.and_then(|metainfo| metainfo.created_by.as_ref())),
            Field::DateCreated => metainfo.and_then(|metainfo| metainfo.creation_date).unwrap_or(0).into(),
            Field::IsPrivate => metainfo.is_some_and(|metainfo| metainfo.info.private).into(),
            Field::Source => text(metainfo.and_then(|metainfo| metainfo.info.source.as_ref())),
            Field::PieceSize => metainfo.map_or(0, |metainfo| metainfo.info.geometry.piece_len()).into(),
            Field::MagnetLink => self.magnet().into(),
            // It is kept in the database.
            Field::TorrentFile => "".into(),
            Field::PrimaryMimeType => parts::mime_type(self.row).into(),
            _ => return None,
        })
    }

    fn magnet(&self) -> String {
        let Some(metainfo) = &self.row.metainfo else { return self.row.link.clone().unwrap_or_default() };
        let mut magnet = Magnet::new(metainfo.info.info_hash);
        magnet.info_hash_v2 = metainfo.info.info_hash_v2;
        magnet.name = Some(metainfo.info.name.clone());
        magnet.trackers = self.row.tiers.iter().flatten().cloned().collect();
        magnet.to_string()
    }

    fn of_limits(self, field: Field) -> Option<Value> {
        let summary = self.summary();
        let kept = self.scene.kept.get(&summary.id).copied().unwrap_or_default();
        Some(match field {
            Field::DownloadLimited => summary.download_limit.is_some().into(),
            Field::DownloadLimit => summary.download_limit.map_or(kept.down, kilobytes).into(),
            Field::UploadLimited => summary.upload_limit.is_some().into(),
            Field::UploadLimit => summary.upload_limit.map_or(kept.up, kilobytes).into(),
            Field::SeedRatioMode => mode(summary.ratio_limit).into(),
            Field::SeedRatioLimit => match summary.ratio_limit {
                Some(Goal::Value(ratio)) => ratio.into(),
                _ => kept.ratio.into(),
            },
            Field::SeedIdleMode => mode(summary.seed_time_limit).into(),
            Field::SeedIdleLimit => match summary.seed_time_limit {
                Some(Goal::Value(seconds)) => seconds.div_ceil(60).into(),
                _ => kept.minutes.into(),
            },
            Field::HonorsSessionLimits => true.into(),
            Field::PeerLimit | Field::MaxConnectedPeers => self.scene.peers_max.into(),
            Field::BandwidthPriority | Field::SequentialDownloadFromPiece => 0.into(),
            _ => return None,
        })
    }

    fn of_parts(self, field: Field) -> Option<Value> {
        let (row, stats) = (self.row, self.live.stats.as_ref());
        Some(match field {
            Field::FileCount => parts::files(row).count().into(),
            Field::Files => parts::files_shown(row, self.live),
            Field::FileStats => parts::file_stats(row, self.live),
            Field::BytesCompleted => {
                parts::each_file(row, |file| parts::completed(row, self.live, &file).into())
            }
            Field::Wanted => parts::each_file(row, |file| (file.priority > 0).into()),
            Field::Priorities => parts::each_file(row, |file| parts::level(file.priority).into()),
            Field::Pieces => parts::pieces(row, self.live).into(),
            Field::Availability => parts::availability(row, self.live),
            Field::Trackers => parts::trackers(row),
            Field::TrackerStats => parts::tracker_stats(row, stats, self.scene.now),
            Field::TrackerList => parts::tracker_list(row).into(),
            Field::Peers => parts::peers(self.summary(), stats),
            Field::PeersFrom => parts::peers_from(stats),
            Field::PeersGettingFromUs => {
                parts::count_peers(stats, |peer| !peer.am_choking && peer.peer_interested).into()
            }
            Field::PeersSendingToUs => {
                parts::count_peers(stats, |peer| !peer.peer_choking && peer.am_interested).into()
            }
            Field::Webseeds => row.web_seeds.to_vec().into(),
            Field::WebseedsEx => parts::web_seeds_shown(row, stats),
            Field::WebseedsSendingToUs => parts::web_seeds_active(stats).into(),
            _ => return None,
        })
    }
}

/// 0: stopped, 1 and 2: checked, or to be, 3 and 4: downloading, or to be, 5 and 6: seeding, or to be.
pub fn status(summary: &Summary) -> u8 {
    match summary.state {
        State::Paused | State::Failed | State::Removing | State::Moving => 0,
        State::Checking if summary.pieces_checked.is_some() => 2,
        State::Checking => 1,
        State::Queued if summary.seed || summary.completed_at.is_some() => 5,
        State::Queued => 3,
        State::Metadata | State::Downloading => 4,
        State::Seeding => 6,
    }
}

/// 0: as configured, 1: of its own, 2: none.
pub fn mode<T>(goal: Option<Goal<T>>) -> u8 {
    match goal {
        Some(Goal::Value(_)) => 1,
        Some(Goal::Word(GoalWord::None)) => 2,
        _ => 0,
    }
}

/// The answer to `torrent_get`.
pub struct Torrents {
    pub dialect: Dialect,
    /// One list of keys, and a list of values for each torrent.
    pub is_table: bool,
    pub fields: Vec<Field>,
    pub torrents: Vec<(Row, Live)>,
    pub removed: Option<Vec<Id>>,
    pub scene: Scene,
}

impl Serialize for Torrents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(removed) = &self.removed {
            map.serialize_entry("removed", removed)?;
        }
        map.serialize_entry("torrents", &List(self))?;
        map.end()
    }
}

struct List<'a>(&'a Torrents);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = self.0;
        let mut list = serializer.serialize_seq(None)?;
        let key = |field: &Field| match of.dialect {
            Dialect::Older => names::older(field.name(), true),
            Dialect::JsonRpc => field.name(),
        };
        let keys: Vec<&str> = of.fields.iter().map(key).collect();
        if of.is_table {
            list.serialize_element(&keys)?;
        }
        for (row, live) in &of.torrents {
            list.serialize_element(&One { of, keys: &keys, view: View { row, live, scene: &of.scene } })?;
        }
        list.end()
    }
}

struct One<'a> {
    of: &'a Torrents,
    keys: &'a [&'a str],
    view: View<'a>,
}

impl One<'_> {
    fn value(&self, field: Field) -> Value {
        let value = self.view.value(field);
        match (self.of.dialect, field) {
            (Dialect::JsonRpc, _) => value,
            // They were never flags there, whatever was written about them.
            (Dialect::Older, Field::Wanted) => value
                .as_array()
                .into_iter()
                .flatten()
                .map(|wanted| json!(u8::from(*wanted == true)))
                .collect(),
            (Dialect::Older, _) if value.is_array() || value.is_object() => older_value(&value),
            (Dialect::Older, _) => value,
        }
    }
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = &self.of.fields;
        if self.of.is_table {
            return serializer.collect_seq(fields.iter().map(|field| self.value(*field)));
        }
        serializer.collect_map(self.keys.iter().zip(fields).map(|(key, field)| (key, self.value(*field))))
    }
}
