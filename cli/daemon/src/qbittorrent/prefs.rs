//! `app/preferences`, as far as they mean something here, and what of them can be set: never what listens, who gets in, which folders may
//! be used, or which programs are run. Those come from the configuration alone.

use super::Fault;
use super::info::text;
use crate::settings::{SettingsEdit, Standing};
use crate::torrents::Goal;
use crate::torrents::goals::GoalWord;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use swarm_engine::{Encryption, ProxyKind, SessionFacts};

/// How many torrents have turns when a queue is turned on and nothing else is said.
const TURNS: u64 = 3;
/// How many addresses may be given at once.
const BANS_MAX: usize = 10_000;

/// Whether there is a queue: whether torrents wait for their turn.
pub fn has_queue(standing: &Standing) -> bool {
    let turns = standing.turns();
    turns.downloads.is_some() || turns.seeds.is_some()
}

/// What the session and the daemon were told at their start.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// How the session behaves.
    pub facts: SessionFacts,
    /// Where peers can reach it.
    pub listening: &'a [SocketAddr],
    /// Where HTTP is served.
    pub serving: &'a [SocketAddr],
}

/// What is shown.
pub fn shown(standing: &Standing, bans: &BTreeSet<IpAddr>, network: &Network<'_>) -> Value {
    let mut all = of_settings(standing, bans);
    for more in [of_configuration(standing), of_network(network), fixed()] {
        if let Value::Object(more) = more {
            all.extend(more);
        }
    }
    Value::Object(all)
}

fn of_settings(standing: &Standing, bans: &BTreeSet<IpAddr>) -> Map<String, Value> {
    let (limits, turns, goals) = (standing.limits(), standing.turns(), standing.goals());
    let settings = &standing.settings;
    let schedule = settings.schedule;
    let count = |turns: Option<usize>| turns.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX));
    let active = turns.downloads.zip(turns.seeds).map(|(downloads, seeds)| downloads.saturating_add(seeds));
    let bans: Vec<String> = bans.iter().map(ToString::to_string).collect();
    let all = json!({
        "dl_limit": limits.download_limit.unwrap_or(0),
        "up_limit": limits.upload_limit.unwrap_or(0),
        "alt_dl_limit": settings.alternative_download_limit.unwrap_or(0),
        "alt_up_limit": settings.alternative_upload_limit.unwrap_or(0),
        "scheduler_enabled": schedule.enabled,
        "schedule_from_hour": schedule.from / 60,
        "schedule_from_min": schedule.from % 60,
        "schedule_to_hour": schedule.to / 60,
        "schedule_to_min": schedule.to % 60,
        "scheduler_days": days_of_bits(schedule.days),
        "queueing_enabled": has_queue(standing),
        "max_active_downloads": count(turns.downloads),
        "max_active_uploads": count(turns.seeds),
        "max_active_torrents": count(active),
        "max_ratio_enabled": goals.ratio.is_some(),
        "max_ratio": goals.ratio.unwrap_or(-1.0),
        "max_ratio_act": 0,
        "max_seeding_time_enabled": goals.seed_time.is_some(),
        "max_seeding_time": goals.seed_time.map_or(-1, |seconds| i64::try_from(seconds / 60).unwrap_or(-1)),
        "max_inactive_seeding_time_enabled": false,
        "max_inactive_seeding_time": -1,
        "banned_IPs": bans.join("\n"),
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

/// What the configuration says, whatever clients send.
fn of_configuration(standing: &Standing) -> Value {
    let program = standing.configured.on_complete.as_ref().and_then(|program| program.arguments.first());
    json!({
        "autorun_enabled": program.is_some(),
        "autorun_program": program.map(String::as_str).unwrap_or_default(),
        "save_path": text(&standing.configured.dir),
        "temp_path_enabled": false,
        "temp_path": "",
        "export_dir": "",
        "export_dir_fin": "",
        "scan_dirs": {},
        "auto_tmm_enabled": false,
        "torrent_changed_tmm_enabled": false,
        "save_path_changed_tmm_enabled": false,
        "category_changed_tmm_enabled": false,
        "use_subcategories": false,
        "start_paused_enabled": false,
        "add_stopped_enabled": false,
        "add_to_top_of_queue": false,
        "torrent_content_layout": "Original",
        "torrent_stop_condition": "None",
        "create_subfolder_enabled": true,
        "preallocate_all": false,
        "incomplete_files_ext": false,
    })
}

/// What the session and the sockets were told.
fn of_network(network: &Network<'_>) -> Value {
    let Network { facts, listening, serving } = *network;
    json!({
        "listen_port": listening.first().map_or(0, SocketAddr::port),
        "random_port": false,
        "upnp": facts.port_mapping,
        "dht": facts.dht,
        "pex": facts.pex,
        "lsd": facts.lsd,
        "encryption": encryption(facts.encryption),
        // Both, TCP alone, uTP alone.
        "bittorrent_protocol": match (facts.tcp, facts.utp) { (true, false) => 1, (false, true) => 2, _ => 0 },
        "proxy_type": match facts.proxy { None => "None", Some(ProxyKind::Http) => "HTTP", Some(_) => "SOCKS5" },
        "ip_filter_enabled": facts.ip_filter,
        "max_connec": facts.peers_max,
        "max_connec_per_torrent": facts.peers_max,
        "web_ui_address": serving.first().map_or_else(String::new, |at| at.ip().to_string()),
        "web_ui_port": serving.first().map_or(0, SocketAddr::port),
    })
}

/// 0: encrypted and other connections, 1: encrypted ones only, 2: others only.
fn encryption(mode: Encryption) -> u8 {
    match mode {
        Encryption::Require => 1,
        Encryption::Off => 2,
        _ => 0,
    }
}

/// What is one way here, whatever clients send.
fn fixed() -> Value {
    json!({
        "anonymous_mode": false,
        "max_uploads": -1,
        "max_uploads_per_torrent": -1,
        "dont_count_slow_torrents": false,
        "limit_utp_rate": true,
        "limit_tcp_overhead": false,
        "limit_lan_peers": true,
        "add_trackers_enabled": false,
        "add_trackers": "",
        "announce_to_all_tiers": false,
        "announce_to_all_trackers": false,
        "autorun_on_torrent_added_enabled": false,
        "autorun_on_torrent_added_program": "",
        "mail_notification_enabled": false,
        "rss_processing_enabled": false,
        "rss_auto_downloading_enabled": false,
        "web_ui_username": "",
        "web_ui_csrf_protection_enabled": true,
        "web_ui_host_header_validation_enabled": true,
        "bypass_local_auth": false,
        "bypass_auth_subnet_whitelist_enabled": false,
        "dyndns_enabled": false,
        "locale": "en",
    })
}

/// What is to be set.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    /// Of the settings.
    pub settings: SettingsEdit,
    /// The addresses that are banned; `None`: as they are.
    pub bans: Option<BTreeSet<IpAddr>>,
}

/// What some preferences mean. Those that mean nothing here are passed over: clients send back all that they were shown.
pub fn wanted(given: &Map<String, Value>, standing: &Standing) -> Result<Wanted, Fault> {
    let number = |name: &str| number(given, name);
    let flag = |name: &str| given.get(name).and_then(Value::as_bool);
    let limit = |name: &str| Ok::<_, Fault>(number(name)?.map(|n| (n > 0.0).then_some(n as u64)));
    let goal = |limit: Option<Option<u64>>| limit.map(value_or_none);
    let mut settings = SettingsEdit {
        upload_limit: goal(limit("up_limit")?),
        download_limit: goal(limit("dl_limit")?),
        alternative_upload_limit: limit("alt_up_limit")?,
        alternative_download_limit: limit("alt_dl_limit")?,
        ..SettingsEdit::default()
    };
    settings.schedule = schedule(given, standing)?;
    let turns = |name: &str| Ok::<_, Fault>(number(name)?.map(|n| (n >= 0.0).then_some(n as u64)));
    let (downloads, seeds) = (turns("max_active_downloads")?, turns("max_active_uploads")?);
    match flag("queueing_enabled") {
        Some(false) => {
            settings.max_active_downloads = Some(Goal::Word(GoalWord::None));
            settings.max_active_seeds = Some(Goal::Word(GoalWord::None));
        }
        on => {
            // What is said of turns while there is no queue, and none is asked for, is what clients were shown.
            if on == Some(true) || has_queue(standing) {
                settings.max_active_downloads = goal(downloads);
                settings.max_active_seeds = goal(seeds);
            }
            let is_said = downloads.flatten().or(seeds.flatten()).is_some();
            if on == Some(true) && !has_queue(standing) && !is_said {
                settings.max_active_downloads = Some(Goal::Value(TURNS));
                settings.max_active_seeds = Some(Goal::Value(TURNS));
            }
        }
    }
    settings.ratio_limit = match (flag("max_ratio_enabled"), number("max_ratio")?) {
        (Some(false), _) => Some(Goal::Word(GoalWord::None)),
        (_, Some(ratio)) => Some(value_or_none(Some(ratio).filter(|ratio| *ratio >= 0.0))),
        _ => None,
    };
    settings.seed_time_limit = match (flag("max_seeding_time_enabled"), number("max_seeding_time")?) {
        (Some(false), _) => Some(Goal::Word(GoalWord::None)),
        (_, Some(minutes)) => Some(value_or_none((minutes >= 0.0).then_some(minutes as u64 * 60))),
        _ => None,
    };
    let bans = given.get("banned_IPs").and_then(Value::as_str).map(bans).transpose()?;
    Ok(Wanted { settings, bans })
}

fn value_or_none<T>(value: Option<T>) -> Goal<T> {
    value.map_or(Goal::Word(GoalWord::None), Goal::Value)
}

fn number(given: &Map<String, Value>, name: &str) -> Result<Option<f64>, Fault> {
    let wrong = || Fault::invalid(format!("{name}: is no number"));
    match given.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().filter(|n| n.abs() < 9.0e15).map(Some).ok_or_else(wrong),
    }
}

fn bans(text: &str) -> Result<BTreeSet<IpAddr>, Fault> {
    let lines = text.split(['\n', ',']).map(str::trim).filter(|line| !line.is_empty());
    let parse = |line: &str| line.parse::<IpAddr>().map(|address| address.to_canonical());
    // The program itself passes over what is no address.
    let bans: BTreeSet<IpAddr> = lines.filter_map(|line| parse(line).ok()).take(BANS_MAX + 1).collect();
    match bans.len() > BANS_MAX {
        true => Err(Fault::invalid(format!("banned_IPs: at most {BANS_MAX}"))),
        false => Ok(bans),
    }
}

fn schedule(
    given: &Map<String, Value>,
    standing: &Standing,
) -> Result<Option<crate::torrents::schedule::Schedule>, Fault> {
    let before = standing.settings.schedule;
    let mut new = before;
    new.enabled = given.get("scheduler_enabled").and_then(Value::as_bool).unwrap_or(new.enabled);
    let minute = |hours: &str, minutes: &str, before: u16| {
        let (hour, minute) = (number(given, hours)?, number(given, minutes)?);
        let hour = hour.unwrap_or(f64::from(before / 60));
        let minute = minute.unwrap_or(f64::from(before % 60));
        match (0.0..24.0).contains(&hour) && (0.0..60.0).contains(&minute) {
            true => Ok(hour as u16 * 60 + minute as u16),
            false => Err(Fault::invalid(format!("{hours}, {minutes}: is no time of the day"))),
        }
    };
    new.from = minute("schedule_from_hour", "schedule_from_min", before.from)?;
    new.to = minute("schedule_to_hour", "schedule_to_min", before.to)?;
    if let Some(days) = number(given, "scheduler_days")? {
        new.days = bits_of_days(days as i64, before.days);
    }
    Ok((new != before).then_some(new))
}

/// Every day, on weekdays, at weekends, or one day: 3 is Monday. Bit 0 is Monday too.
fn bits_of_days(days: i64, before: u8) -> u8 {
    match days {
        0 => 0x7f,
        1 => 0x1f,
        2 => 0x60,
        3..=9 => 1 << (days - 3),
        _ => before,
    }
}

fn days_of_bits(bits: u8) -> i64 {
    (0..=9).find(|days| bits_of_days(*days, 0) == bits).unwrap_or(0)
}
