//! The daemon as a whole: `session_get` and `session_set`, without I/O.

use super::change;
use super::dialect::{Asked as _, Code, Fault, Params};
use super::kept::{Kept, kilobytes};
use crate::config::Rules;
use crate::manager::commands::Limits;
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
    pub rules: Arc<Rules>,
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
        let Facts { rules, kept, .. } = self;
        json!({
            "alt_speed_down": 50,
            "alt_speed_enabled": false,
            "alt_speed_time_begin": 540,
            "alt_speed_time_day": 127,
            "alt_speed_time_enabled": false,
            "alt_speed_time_end": 1_020,
            "alt_speed_up": 50,
            "download_queue_enabled": rules.turns.downloads.is_some(),
            "download_queue_size": rules.turns.downloads.unwrap_or(5),
            "idle_seeding_limit": rules.goals.seed_time.map_or(kept.minutes, |seconds| seconds.div_ceil(60)),
            "idle_seeding_limit_enabled": rules.goals.seed_time.is_some(),
            "queue_stalled_enabled": false,
            "queue_stalled_minutes": 30,
            "seed_queue_enabled": rules.turns.seeds.is_some(),
            "seed_queue_size": rules.turns.seeds.unwrap_or(10),
            "seed_ratio_limit": rules.goals.ratio.unwrap_or(kept.ratio),
            "seed_ratio_limited": rules.goals.ratio.is_some(),
            "speed_limit_down": rules.download_limit.map_or(kept.down, kilobytes),
            "speed_limit_down_enabled": rules.download_limit.is_some(),
            "speed_limit_up": rules.upload_limit.map_or(kept.up, kilobytes),
            "speed_limit_up_enabled": rules.upload_limit.is_some(),
        })
    }

    fn of_folders(&self) -> Value {
        let dir = self.rules.dir.to_string_lossy();
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
            "script_torrent_done_enabled": false,
            "script_torrent_done_filename": "",
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

    /// What `session_set` means: limits, and what is remembered after that. What stands in the configuration alone is refused, and nothing
    /// done, if it is to be other than it is.
    pub fn set(&self, params: &Params) -> Result<(Limits, Kept), Fault> {
        let now = self.all();
        for (key, given) in params {
            if let Some((_, option)) = FIXED.iter().find(|(fixed, _)| fixed == key)
                && !is_same(given, now.get(key).unwrap_or(&Value::Null))
            {
                return Err(refused(key, option));
            }
        }
        let mut kept = self.kept;
        let rules = &self.rules;
        let limits = Limits {
            upload: change::limit(
                params,
                ["speed_limit_up", "speed_limit_up_enabled"],
                rules.upload_limit,
                &mut kept.up,
            ),
            download: change::limit(
                params,
                ["speed_limit_down", "speed_limit_down_enabled"],
                rules.download_limit,
                &mut kept.down,
            ),
        };
        Ok((limits, kept))
    }
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
