//! The options of `swarm ctl settings`, `categories`, `tags` and `tracker-limits`.

use super::values::{Limit, parse_limit, parse_ratio, parse_seed_time};
use crate::units;
use clap::{Args, ValueHint};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct SettingsArgs {
    /// Limit the upload rate of all torrents together; `none`, or `default` for what the configuration says
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub up: Option<Value>,

    /// Limit the download rate of all torrents together
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub down: Option<Value>,

    /// Limit the upload rate while the alternative limits hold; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit)]
    pub alternative_up: Option<Limit>,

    /// Limit the download rate while the alternative limits hold; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit)]
    pub alternative_down: Option<Limit>,

    /// Have the alternative limits hold, or not: if a schedule is followed, until its next change
    #[arg(long, value_name = "on|off", value_parser = parse_switch)]
    pub alternative: Option<Switch>,

    /// Have the alternative limits hold at these hours, as in 22:00-06:00, on all days or as in mon-fri,sun/08:00-20:00; `off`: never
    #[arg(long, value_name = "HOURS", value_parser = parse_schedule)]
    pub schedule: Option<Value>,

    /// Let at most so many torrents download at a time; `none`, or `default` for what the configuration says
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub max_active_downloads: Option<Value>,

    /// Let at most so many torrents seed at a time
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub max_active_seeds: Option<Value>,

    /// Stop torrents when they have sent this many times their size, unless they have a goal of their own
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio)]
    pub seed_ratio: Option<Value>,

    /// Stop torrents when they have seeded for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_seed_time)]
    pub seed_time: Option<Value>,
}

#[derive(Args, Debug)]
pub struct CategoriesArgs {
    /// Make this category
    #[arg(long, value_name = "NAME", group = "which")]
    pub create: Option<String>,

    /// Change this category
    #[arg(long, value_name = "NAME", group = "which")]
    pub edit: Option<String>,

    /// Take this category away, from its torrents too; repeatable
    #[arg(long, value_name = "NAME", group = "which")]
    pub remove: Vec<String>,

    /// The folder of torrents that are added to it without one; `default` for the daemon's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "which", conflicts_with = "remove")]
    pub dir: Option<PathBuf>,

    /// Limit the upload rate of its torrents together; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit, requires = "which", conflicts_with = "remove")]
    pub up: Option<Limit>,

    /// Limit the download rate of its torrents together
    #[arg(long, value_name = "RATE", value_parser = parse_limit, requires = "which", conflicts_with = "remove")]
    pub down: Option<Limit>,
}

#[derive(Args, Debug)]
pub struct TagsArgs {
    /// Make this tag; repeatable
    #[arg(long, value_name = "NAME")]
    pub create: Vec<String>,

    /// Take this tag away, from its torrents too; repeatable
    #[arg(long, value_name = "NAME")]
    pub remove: Vec<String>,
}

#[derive(Args, Debug)]
pub struct TrackerLimitsArgs {
    /// The host of a tracker, as in tracker.example.org
    pub host: Option<String>,

    /// Limit the upload rate of its torrents together; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit, requires = "host")]
    pub up: Option<Limit>,

    /// Limit the download rate of its torrents together
    #[arg(long, value_name = "RATE", value_parser = parse_limit, requires = "host")]
    pub down: Option<Limit>,
}

/// On or off.
#[derive(Clone, Copy, Debug)]
pub struct Switch(pub bool);

fn parse_switch(text: &str) -> Result<Switch, &'static str> {
    match text {
        "on" => Ok(Switch(true)),
        "off" => Ok(Switch(false)),
        _ => Err("is not on or off"),
    }
}

fn parse_rate(text: &str) -> Result<Value, String> {
    match text {
        "none" | "default" => Ok(text.into()),
        _ => units::parse_rate(text).map(Value::from),
    }
}

fn parse_count(text: &str) -> Result<Value, &'static str> {
    match text {
        "none" | "default" => Ok(text.into()),
        _ => text.parse::<u32>().map(Value::from).map_err(|_| "is not a number from 0 up, none or default"),
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `off`, or `[DAYS/]HH:MM-HH:MM`.
pub fn parse_schedule(text: &str) -> Result<Value, &'static str> {
    const WRONG: &str = "is not off, and no hours as in 22:00-06:00 or mon-fri,sun/08:00-20:00";
    if text == "off" {
        return Ok(json!({ "enabled": false }));
    }
    let (days, hours) = match text.split_once('/') {
        Some((days, hours)) => (parse_days(days).ok_or(WRONG)?, hours),
        None => (0x7f, text),
    };
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let (from, to) = hours.split_once('-').ok_or(WRONG)?;
    let (from, to) = (minute(from).ok_or(WRONG)?, minute(to).ok_or(WRONG)?);
    Ok(json!({ "enabled": true, "from": from, "to": to, "days": days }))
}

/// Days as bits, Monday's first.
fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name.to_ascii_lowercase());
    text.split(',').try_fold(0, |days, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, mut last) = (day(first)?, day(last)?);
        if last < first {
            last += 7;
        }
        Some((first..=last).fold(days, |days, day| days | 1 << (day % 7)))
    })
}

pub fn show_schedule(schedule: &Value) -> String {
    if schedule["enabled"] != true {
        return "off".to_owned();
    }
    let at = |field: &str| schedule[field].as_u64().map_or((0, 0), |minute| (minute / 60, minute % 60));
    let ((from, from_minute), (to, to_minute)) = (at("from"), at("to"));
    let bits = schedule["days"].as_u64().unwrap_or(0);
    let days: Vec<&str> = (0..7).filter(|day| bits >> day & 1 == 1).map(|day| DAYS[day as usize]).collect();
    format!("{}/{from:02}:{from_minute:02}-{to:02}:{to_minute:02}", days.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_written_as_days_and_hours() {
        for (text, from, to, days) in [
            ("22:00-06:00", 1_320, 360, 0x7f),
            ("mon-fri/08:00-20:30", 480, 1_230, 0b1_1111),
            ("sat-mon,Wed/0:00-1:00", 0, 60, 0b110_0101),
        ] {
            let schedule = parse_schedule(text).unwrap();
            assert_eq!(schedule, json!({ "enabled": true, "from": from, "to": to, "days": days }), "{text}");
            assert_eq!(parse_schedule(&show_schedule(&schedule)).unwrap(), schedule);
        }
        assert_eq!(parse_schedule("off").unwrap(), json!({ "enabled": false }));
        for wrong in
            ["", "8-20", "24:00-1:00", "1:60-2:00", "never/1:00-2:00", "mon-/1:00-2:00", "/1:00-2:00"]
        {
            assert!(parse_schedule(wrong).is_err(), "{wrong}");
        }
    }
}
