//! `swarm ctl settings`, `categories`, `tags` and `tracker-limits`: what holds for all torrents together, or for several.

use super::Daemon;
use super::client::Body;
use super::values::{Limit, parse_limit, parse_ratio, parse_seed_time};
use crate::context::Context;
use crate::exit::{Exit, fail, printable};
use crate::units;
use anyhow::Result;
use clap::{Args, ValueHint};
use hyper::Method;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct SettingsArgs {
    /// Limit the upload rate of all torrents together; `none`, or `default` for what the configuration says
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    up: Option<Value>,

    /// Limit the download rate of all torrents together
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    down: Option<Value>,

    /// Limit the upload rate while the alternative limits hold; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit)]
    alternative_up: Option<Limit>,

    /// Limit the download rate while the alternative limits hold; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit)]
    alternative_down: Option<Limit>,

    /// Have the alternative limits hold, or not: if a schedule is followed, until its next change
    #[arg(long, value_name = "on|off", value_parser = parse_switch)]
    alternative: Option<Switch>,

    /// Have the alternative limits hold at these hours, as in 22:00-06:00, on all days or as in mon-fri,sun/08:00-20:00; `off`: never
    #[arg(long, value_name = "HOURS", value_parser = parse_schedule)]
    schedule: Option<Value>,

    /// Let at most so many torrents download at a time; `none`, or `default` for what the configuration says
    #[arg(long, value_name = "N", value_parser = parse_count)]
    max_active_downloads: Option<Value>,

    /// Let at most so many torrents seed at a time
    #[arg(long, value_name = "N", value_parser = parse_count)]
    max_active_seeds: Option<Value>,

    /// Stop torrents when they have sent this many times their size, unless they have a goal of their own
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio)]
    seed_ratio: Option<Value>,

    /// Stop torrents when they have seeded for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_seed_time)]
    seed_time: Option<Value>,
}

#[derive(Args, Debug)]
pub struct CategoriesArgs {
    /// Make this category
    #[arg(long, value_name = "NAME", group = "which")]
    create: Option<String>,

    /// Change this category
    #[arg(long, value_name = "NAME", group = "which")]
    edit: Option<String>,

    /// Take this category away, from its torrents too; repeatable
    #[arg(long, value_name = "NAME", group = "which")]
    remove: Vec<String>,

    /// The folder of torrents that are added to it without one; `default` for the daemon's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "which", conflicts_with = "remove")]
    dir: Option<PathBuf>,

    /// Limit the upload rate of its torrents together; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit, requires = "which", conflicts_with = "remove")]
    up: Option<Limit>,

    /// Limit the download rate of its torrents together
    #[arg(long, value_name = "RATE", value_parser = parse_limit, requires = "which", conflicts_with = "remove")]
    down: Option<Limit>,
}

#[derive(Args, Debug)]
pub struct TagsArgs {
    /// Make this tag; repeatable
    #[arg(long, value_name = "NAME")]
    create: Vec<String>,

    /// Take this tag away, from its torrents too; repeatable
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
}

#[derive(Args, Debug)]
pub struct TrackerLimitsArgs {
    /// The host of a tracker, as in tracker.example.org
    host: Option<String>,

    /// Limit the upload rate of its torrents together; `none` lifts the limit
    #[arg(long, value_name = "RATE", value_parser = parse_limit, requires = "host")]
    up: Option<Limit>,

    /// Limit the download rate of its torrents together
    #[arg(long, value_name = "RATE", value_parser = parse_limit, requires = "host")]
    down: Option<Limit>,
}

#[derive(Clone, Copy, Debug)]
struct Switch(bool);

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
fn parse_schedule(text: &str) -> Result<Value, &'static str> {
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

fn show_schedule(schedule: &Value) -> String {
    if schedule["enabled"] != true {
        return "off".to_owned();
    }
    let at = |field: &str| schedule[field].as_u64().map_or((0, 0), |minute| (minute / 60, minute % 60));
    let ((from, from_minute), (to, to_minute)) = (at("from"), at("to"));
    let bits = schedule["days"].as_u64().unwrap_or(0);
    let days: Vec<&str> = (0..7).filter(|day| bits >> day & 1 == 1).map(|day| DAYS[day as usize]).collect();
    format!("{}/{from:02}:{from_minute:02}-{to:02}:{to_minute:02}", days.join(","))
}

fn rate(value: &Value) -> String {
    value.as_u64().map_or_else(|| "none".to_owned(), units::rate)
}

fn show_settings(cx: &mut Context, session: &Value) {
    let settings = &session["settings"];
    let plain = |field: &str| match &settings[field] {
        Value::Null => "none".to_owned(),
        value => value.to_string(),
    };
    let time = settings["seed_time_limit"].as_u64().map(std::time::Duration::from_secs);
    let holds = if session["alternative"] == true { "in force" } else { "not in force" };
    let alternative = format!(
        "down {}, up {}, {holds}",
        rate(&settings["alternative_download_limit"]),
        rate(&settings["alternative_upload_limit"])
    );
    let lines = [
        ("down limit", rate(&settings["download_limit"])),
        ("up limit", rate(&settings["upload_limit"])),
        ("alternative", alternative),
        ("schedule", show_schedule(&settings["schedule"])),
        ("downloads", plain("max_active_downloads")),
        ("seeds", plain("max_active_seeds")),
        ("seed ratio", plain("ratio_limit")),
        ("seed time", time.map_or_else(|| "none".to_owned(), units::duration)),
    ];
    let paint = cx.console.paint();
    for (name, value) in lines {
        cx.console.result(&format!("{}{value}", paint.dim(&format!("{name:<16}"))));
    }
}

/// A name as a part of a path.
fn part(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

impl Daemon<'_> {
    pub async fn settings(&mut self, args: SettingsArgs) -> Result<()> {
        let limit = |limit: Option<Limit>| limit.map(|Limit(rate)| Value::from(rate));
        let fields = [
            ("upload_limit", args.up),
            ("download_limit", args.down),
            ("alternative_upload_limit", limit(args.alternative_up)),
            ("alternative_download_limit", limit(args.alternative_down)),
            ("alternative", args.alternative.map(|Switch(on)| on.into())),
            ("schedule", args.schedule),
            ("max_active_downloads", args.max_active_downloads),
            ("max_active_seeds", args.max_active_seeds),
            ("ratio_limit", args.seed_ratio),
            ("seed_time_limit", args.seed_time),
        ];
        let edit: Map<String, Value> =
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        if !edit.is_empty() {
            return self.send(Method::PATCH, "/api/v1/session", edit.into()).await;
        }
        let session = self.client.get("/api/v1/session").await?;
        self.print(&session, show_settings);
        Ok(())
    }

    pub async fn categories(&mut self, args: CategoriesArgs) -> Result<()> {
        const PATH: &str = "/api/v1/categories";
        for name in &args.remove {
            self.client.json(Method::DELETE, &format!("{PATH}/{}", part(name)), Body::None).await?;
        }
        let mut body = Map::new();
        let dir = args.dir.map(|dir| match dir.to_str() {
            Some("default") => Value::Null,
            _ => dir.to_string_lossy().into_owned().into(),
        });
        let limit = |limit: Option<Limit>| limit.map(|Limit(rate)| Value::from(rate));
        for (name, value) in
            [("dir", dir), ("upload_limit", limit(args.up)), ("download_limit", limit(args.down))]
        {
            value.into_iter().for_each(|value| drop(body.insert(name.to_owned(), value)));
        }
        match (args.create, args.edit) {
            (Some(name), _) => {
                body.insert("name".to_owned(), name.into());
                self.send(Method::POST, PATH, body.into()).await
            }
            (_, Some(name)) => {
                self.send(Method::PATCH, &format!("{PATH}/{}", part(&name)), body.into()).await
            }
            _ if !args.remove.is_empty() => Ok(()),
            _ => {
                let all = self.client.get(PATH).await?;
                self.print(&all, show_categories);
                Ok(())
            }
        }
    }

    pub async fn tags(&mut self, args: TagsArgs) -> Result<()> {
        let is_list = args.create.is_empty() && args.remove.is_empty();
        if !args.create.is_empty() {
            self.send(Method::POST, "/api/v1/tags", json!({ "tags": args.create })).await?;
        }
        for name in &args.remove {
            self.client.json(Method::DELETE, &format!("/api/v1/tags/{}", part(name)), Body::None).await?;
        }
        if is_list {
            let all = self.client.get("/api/v1/tags").await?;
            self.print(&all, |cx, all| {
                let names = all.as_array().into_iter().flatten().filter_map(Value::as_str);
                names.for_each(|name| cx.console.result(&printable(name)));
            });
        }
        Ok(())
    }

    pub async fn tracker_limits(&mut self, args: TrackerLimitsArgs) -> Result<()> {
        const PATH: &str = "/api/v1/tracker-limits";
        let mut all = self.client.get(PATH).await?;
        let Some(host) = args.host else {
            self.print(&all, |cx, all| {
                let limits = all.as_object().into_iter().flatten().map(|(host, limits)| {
                    let [down, up] = ["download_limit", "upload_limit"].map(|field| rate(&limits[field]));
                    vec![down, up, printable(host)]
                });
                super::show::table(cx, &["DOWN", "UP", "TRACKER"], &[0, 1], &limits.collect::<Vec<_>>());
            });
            return Ok(());
        };
        if args.up.is_none() && args.down.is_none() {
            return fail(Exit::Usage, "which limit? --up or --down");
        }
        // What is not said stays.
        let mut limits = all[&host].take();
        for (field, limit) in [("upload_limit", args.up), ("download_limit", args.down)] {
            if let Some(Limit(rate)) = limit {
                limits[field] = rate.into();
            }
        }
        self.send(Method::PUT, &format!("{PATH}/{}", part(&host)), limits).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Value) -> Result<()> {
        self.client.json(method, path, Body::Json(body)).await.map(|_| ())
    }
}

fn show_categories(cx: &mut Context, all: &Value) {
    let row = |category: &Value| {
        let text = |field: &str| category[field].as_str().map(printable);
        vec![
            category["torrents"].to_string(),
            rate(&category["download_limit"]),
            rate(&category["upload_limit"]),
            text("name").unwrap_or_default(),
            text("dir").unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = all.as_array().into_iter().flatten().map(row).collect();
    super::show::table(cx, &["TORRENTS", "DOWN", "UP", "NAME", "FOLDER"], &[0, 1, 2], &rows);
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

    #[test]
    fn names_are_parts_of_paths() {
        assert_eq!(part("a b/ü+?"), "a%20b%2F%C3%BC%2B%3F");
    }
}
