//! `swarm ctl settings`, `categories`, `tags` and `tracker-limits`: what holds for all torrents together, or for several.

use super::Daemon;
use super::client::Body;
use super::shared_args::{CategoriesArgs, SettingsArgs, Switch, TagsArgs, TrackerLimitsArgs, show_schedule};
use super::values::Limit;
use crate::context::Context;
use crate::exit::{Exit, fail, printable};
use crate::units;
use anyhow::Result;
use hyper::Method;
use serde_json::{Map, Value, json};

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
        // What is not said stays. The daemon has hosts as URLs do, in small letters.
        let plain = url::Url::parse(&format!("http://{host}/")).ok();
        let plain = plain.and_then(|url| url.host_str().map(str::to_owned));
        let mut limits = all[plain.as_deref().unwrap_or(&host)].take();
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
    fn names_are_parts_of_paths() {
        assert_eq!(part("a b/ü+?"), "a%20b%2F%C3%BC%2B%3F");
    }
}
