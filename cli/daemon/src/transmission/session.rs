//! The daemon as a whole: `session_get` and `session_set`, without I/O.

use super::change;
use super::dialect::{Asked as _, Code, Fault, Params};
use super::kept::{COUNT, Kept, RATE, TIME, Unit, kilobytes};
use crate::settings::{SettingsEdit, Standing};
use crate::torrents::goals::{Goal, GoalWord};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use swarm_engine::{Encryption, SessionFacts};

/// The version of the protocol.
pub const RPC_SEMVER: &str = "6.0.0";
const RPC_VERSION: u32 = 18;
const RPC_VERSION_MIN: u32 = 14;
/// Clients read a number from the beginning of this.
const VERSION: &str = concat!("4.1.0 (swarm ", env!("CARGO_PKG_VERSION"), ")");

/// What is shown of the daemon.
#[derive(Clone, Debug)]
pub struct Facts {
    pub standing: Arc<Standing>,
    pub session: SessionFacts,
    pub session_id: String,
    pub state_dir: PathBuf,
    pub peer_port: u16,
    /// Bytes that are free in the folder for torrents, if it was asked for.
    pub free: Option<u64>,
    pub kept: Kept,
}

/// What clients may not change, and where it stands. They tell it back unchanged as often as not.
const FIXED: &[(&str, &str)] = &[
    ("download_dir", "dir"),
    ("incomplete_dir", ""),
    ("incomplete_dir_enabled", ""),
    ("peer_port", "listen"),
    ("peer_port_random_on_start", "listen"),
    ("port_forwarding_enabled", "no-port-mapping"),
    ("dht_enabled", "no-dht"),
    ("lpd_enabled", "no-lsd"),
    ("pex_enabled", "no-pex"),
    ("utp_enabled", "no-utp"),
    ("preferred_transports", "no-utp"),
    ("encryption", "encryption"),
    ("peer_limit_global", "max-peers"),
    ("peer_limit_per_torrent", ""),
    ("blocklist_enabled", "ip-filter"),
    ("blocklist_url", "ip-filter"),
    ("script_torrent_added_enabled", ""),
    ("script_torrent_added_filename", ""),
    ("script_torrent_done_enabled", "on-complete"),
    ("script_torrent_done_filename", "on-complete"),
    ("script_torrent_done_seeding_enabled", ""),
    ("script_torrent_done_seeding_filename", ""),
    ("anti_brute_force_enabled", ""),
    ("anti_brute_force_threshold", ""),
    ("cache_size_mib", ""),
    ("default_trackers", "tracker"),
    ("queue_stalled_enabled", ""),
    ("queue_stalled_minutes", ""),
    ("rename_partial_files", ""),
    ("sequential_download", ""),
    ("start_added_torrents", ""),
    ("reqq", ""),
    ("trash_original_torrent_files", ""),
];

impl Facts {
    /// All that there is to tell, or what `fields` names of it.
    pub fn get(&self, params: &Params) -> Params {
        let mut all = self.all();
        let named =
            params.list("fields").map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>());
        if let Some(named) = named.filter(|named| !named.is_empty()) {
            all.retain(|key, _| named.contains(&key.as_str()));
        }
        all
    }

    fn all(&self) -> Params {
        let parts = [self.of_network(), self.of_limits(), self.of_folders(), self.of_protocol()];
        let all = parts.into_iter().filter_map(|part| match part {
            Value::Object(map) => Some(map),
            _ => None,
        });
        all.flatten().collect()
    }

    fn of_network(&self) -> Value {
        let facts = &self.session;
        let transports: Vec<&str> = [(facts.utp, "utp"), (facts.tcp, "tcp")]
            .into_iter()
            .filter(|(is_on, _)| *is_on)
            .map(|(_, name)| name)
            .collect();
        json!({
            "blocklist_enabled": facts.ip_filter,
            "blocklist_size": 0,
            "blocklist_url": "",
            "dht_enabled": facts.dht,
            "encryption": encryption(facts.encryption),
            "lpd_enabled": facts.lsd,
            "peer_limit_global": facts.peers_max,
            "peer_limit_per_torrent": facts.peers_max,
            "peer_port": self.peer_port,
            "peer_port_random_on_start": false,
            "pex_enabled": facts.pex,
            "port_forwarding_enabled": facts.port_mapping,
            "preferred_transports": transports,
            "reqq": 2_000,
            "tcp_enabled": facts.tcp,
            "utp_enabled": facts.utp,
        })
    }

    fn of_limits(&self) -> Value {
        let (settings, kept) = (&self.standing.settings, &self.kept);
        let (limits, turns, goals) = (self.standing.limits(), self.standing.turns(), self.standing.goals());
        let schedule = settings.schedule;
        json!({
            "alt_speed_down": settings.alternative_download_limit.map_or(kept.alternative_down, kilobytes),
            "alt_speed_enabled": self.standing.alternative,
            "alt_speed_time_begin": schedule.from,
            "alt_speed_time_day": from_sunday(schedule.days),
            "alt_speed_time_enabled": schedule.enabled,
            "alt_speed_time_end": schedule.to,
            "alt_speed_up": settings.alternative_upload_limit.map_or(kept.alternative_up, kilobytes),
            "download_queue_enabled": turns.downloads.is_some(),
            "download_queue_size": turns.downloads.map_or(kept.downloads, |count| count as u64),
            "idle_seeding_limit": goals.seed_time.map_or(kept.minutes, TIME.shown),
            "idle_seeding_limit_enabled": goals.seed_time.is_some(),
            "queue_stalled_enabled": false,
            "queue_stalled_minutes": 30,
            "seed_queue_enabled": turns.seeds.is_some(),
            "seed_queue_size": turns.seeds.map_or(kept.seeds, |count| count as u64),
            "seed_ratio_limit": goals.ratio.unwrap_or(kept.ratio),
            "seed_ratio_limited": goals.ratio.is_some(),
            "speed_limit_down": limits.download_limit.map_or(kept.down, kilobytes),
            "speed_limit_down_enabled": limits.download_limit.is_some(),
            "speed_limit_up": limits.upload_limit.map_or(kept.up, kilobytes),
            "speed_limit_up_enabled": limits.upload_limit.is_some(),
        })
    }

    fn of_folders(&self) -> Value {
        let configured = &self.standing.configured;
        let dir = configured.dir.to_string_lossy();
        let script = configured.on_complete.as_ref().and_then(|program| program.arguments.first());
        json!({
            "cache_size_mib": 0,
            "config_dir": self.state_dir.to_string_lossy(),
            "default_trackers": "",
            "download_dir": dir,
            "download_dir_free_space": self.free.map_or(-1, |free| i64::try_from(free).unwrap_or(i64::MAX)),
            "incomplete_dir": dir,
            "incomplete_dir_enabled": false,
            "rename_partial_files": false,
            "script_torrent_added_enabled": false,
            "script_torrent_added_filename": "",
            "script_torrent_done_enabled": script.is_some(),
            "script_torrent_done_filename": script.map(String::as_str).unwrap_or_default(),
            "script_torrent_done_seeding_enabled": false,
            "script_torrent_done_seeding_filename": "",
            "sequential_download": false,
            "start_added_torrents": true,
            "trash_original_torrent_files": false,
        })
    }

    fn of_protocol(&self) -> Value {
        json!({
            "anti_brute_force_enabled": true,
            "anti_brute_force_threshold": 100,
            "rpc_version": RPC_VERSION,
            "rpc_version_minimum": RPC_VERSION_MIN,
            "rpc_version_semver": RPC_SEMVER,
            "session_id": self.session_id,
            "units": {
                "memory_bytes": 1_024,
                "memory_units": ["B", "KiB", "MiB", "GiB", "TiB"],
                "size_bytes": 1_000,
                "size_units": ["B", "kB", "MB", "GB", "TB"],
                "speed_bytes": 1_000,
                "speed_units": ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"],
            },
            "version": VERSION,
        })
    }

    /// What `session_set` means: settings, and what is remembered after that. What stands in the configuration alone is refused, and nothing
    /// done, if it is to be other than it is.
    pub fn set(&self, params: &Params) -> Result<(SettingsEdit, Kept), Fault> {
        let now = self.all();
        for (key, given) in params {
            if let Some((_, option)) = FIXED.iter().find(|(fixed, _)| fixed == key)
                && !is_same(given, now.get(key).unwrap_or(&Value::Null))
            {
                return Err(refused(key, option));
            }
        }
        Ok(self.wishes(params))
    }

    fn wishes(&self, params: &Params) -> (SettingsEdit, Kept) {
        let mut kept = self.kept;
        let standing = &self.standing;
        let (limits, turns, goals) = (standing.limits(), standing.turns(), standing.goals());
        let set = |name: &str, now: Option<u64>, kept: &mut u64, unit: Unit| {
            change::limit(params, [name, &on(name)], now, kept, unit).map(goal)
        };
        let count = |turns: Option<usize>| turns.map(|count| count as u64);
        let mut edit = SettingsEdit {
            upload_limit: set("speed_limit_up", limits.upload_limit, &mut kept.up, RATE),
            download_limit: set("speed_limit_down", limits.download_limit, &mut kept.down, RATE),
            max_active_downloads: set(
                "download_queue_size",
                count(turns.downloads),
                &mut kept.downloads,
                COUNT,
            ),
            max_active_seeds: set("seed_queue_size", count(turns.seeds), &mut kept.seeds, COUNT),
            seed_time_limit: set("idle_seeding_limit", goals.seed_time, &mut kept.minutes, TIME),
            ..SettingsEdit::default()
        };
        let (ratio, is_limited) = (params.number("seed_ratio_limit"), params.flag("seed_ratio_limited"));
        if ratio.is_some() || is_limited.is_some() {
            kept.ratio = ratio.or(goals.ratio).unwrap_or(kept.ratio).max(0.0);
            edit.ratio_limit = Some(goal(is_limited.unwrap_or(goals.ratio.is_some()).then_some(kept.ratio)));
        }
        self.alternative(params, &mut kept, &mut edit);
        (edit, kept)
    }

    fn alternative(&self, params: &Params, kept: &mut Kept, edit: &mut SettingsEdit) {
        let settings = &self.standing.settings;
        edit.alternative = params.flag("alt_speed_enabled");
        let mut schedule = settings.schedule;
        let minute =
            |key: &str, now: u16| params.whole(key).and_then(|minute| minute.try_into().ok()).unwrap_or(now);
        schedule.from = minute("alt_speed_time_begin", schedule.from);
        schedule.to = minute("alt_speed_time_end", schedule.to);
        schedule.enabled = params.flag("alt_speed_time_enabled").unwrap_or(schedule.enabled);
        let days = params.whole("alt_speed_time_day").and_then(|days| u8::try_from(days).ok());
        schedule.days = days.map_or(schedule.days, from_monday);
        edit.schedule = Some(schedule).filter(|schedule| *schedule != settings.schedule);
        // To clients they are always some number, which counts as soon as they hold.
        let begins = edit.alternative == Some(true) || schedule.enabled && !settings.schedule.enabled;
        let set = |key: &str, now: Option<u64>, kept: &mut u64| {
            let given = params.whole(key).map(|rate| u64::try_from(rate).unwrap_or(0));
            *kept = given.unwrap_or(*kept);
            (given.is_some() || begins && now.is_none()).then(|| Some((RATE.meant)(*kept)))
        };
        edit.alternative_upload_limit =
            set("alt_speed_up", settings.alternative_upload_limit, &mut kept.alternative_up);
        edit.alternative_download_limit =
            set("alt_speed_down", settings.alternative_download_limit, &mut kept.alternative_down);
    }
}

/// The key that tells whether another counts.
fn on(key: &str) -> String {
    format!("{}_enabled", key.strip_suffix("_size").unwrap_or(key))
}

fn goal<T>(limit: Option<T>) -> Goal<T> {
    limit.map_or(Goal::Word(GoalWord::None), Goal::Value)
}

/// Days as clients count them, bit 0 for Sunday, of days from Monday on.
fn from_sunday(days: u8) -> u8 {
    (days << 1 | days >> 6) & 0x7f
}

fn from_monday(days: u8) -> u8 {
    (days & 0x7f) >> 1 | (days & 1) << 6
}

fn refused(key: &str, option: &str) -> Fault {
    match (key, option) {
        ("download_dir", _) => {
            Fault::params("download_dir: folders come from the daemon's configuration alone (dir)")
        }
        (_, "") => Fault::params(format!("{key}: this daemon has no such setting")),
        _ => Fault::params(format!("{key}: comes from the daemon's configuration alone ({option})")),
    }
}

/// Whether a client tells what is so anyway.
fn is_same(given: &Value, now: &Value) -> bool {
    match (given, now) {
        (Value::String(given), Value::String(now)) if given.starts_with('/') => {
            Path::new(given) == Path::new(now)
        }
        (given, Value::Number(now)) => given.as_f64() == now.as_f64(),
        (Value::Number(given), Value::Bool(now)) => given.as_i64() == Some(i64::from(*now)),
        (given, now) => given == now,
    }
}

fn encryption(mode: Encryption) -> &'static str {
    match mode {
        Encryption::Require => "required",
        Encryption::Prefer => "preferred",
        _ => "allowed",
    }
}

/// The protocol that a port is to be tested for; `None`: any.
pub fn protocol(params: &Params) -> Result<Option<&'static str>, Fault> {
    match params.text("ip_protocol") {
        None => Ok(None),
        Some("ipv4") => Ok(Some("ipv4")),
        Some("ipv6") => Ok(Some("ipv6")),
        Some(_) => Err(Fault::params("invalid ip protocol string")),
    }
}

/// The folder whose free space is asked for.
pub fn space_of(params: &Params) -> Result<&Path, Fault> {
    let path = params.text("path").ok_or_else(|| Fault::params("directory path argument is missing"))?;
    match Path::new(path).is_absolute() {
        true => Ok(Path::new(path)),
        false => Err(Fault::new(Code::NotAbsolute, "directory path is not absolute")),
    }
}
