//! What holds for all torrents together, categories, tags, and who is banned.

use super::graph::{self, Graph};
use super::options::{bytes, mib, tags};
use super::{Ctx, Fault, Fields, Frame, PageResult, format, html};
use crate::adding;
use crate::settings::{SettingsEdit, Standing};
use crate::torrents::goals::GoalWord;
use crate::torrents::schedule::Schedule;
use crate::torrents::{CategoryEdit, Goal, LabelsEdit, SharedLimits};
use askama::Template;
use axum::extract::RawQuery;
use axum::response::Response;
use std::net::IpAddr;
use std::path::PathBuf;

/// Days of the week, as bits of a schedule count them.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// How many banned addresses are listed.
const BANS_MAX: usize = 1_000;

/// A category, as it is shown.
#[derive(Debug)]
struct CategoryView {
    name: String,
    dir: String,
    upload_limit: String,
    download_limit: String,
}

/// Limits of a tracker, as they are shown.
#[derive(Debug)]
struct TrackerView {
    host: String,
    upload_limit: String,
    download_limit: String,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    graph: Graph,
    upload_limit: String,
    download_limit: String,
    alternative: bool,
    alternative_upload_limit: String,
    alternative_download_limit: String,
    scheduled: bool,
    from: String,
    to: String,
    days: Vec<(usize, &'static str, bool)>,
    max_active_downloads: String,
    max_active_seeds: String,
    ratio: String,
    minutes: String,
    categories: Vec<CategoryView>,
    tags: Vec<String>,
    trackers: Vec<TrackerView>,
    bans: Vec<String>,
    bans_more: usize,
    version: &'static str,
    dir: String,
    listening: String,
    started: String,
}

fn text(number: Option<impl ToString>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The settings.
pub async fn show(ctx: Ctx, RawQuery(query): RawQuery) -> PageResult<Response> {
    let (standing, labels) = (ctx.app.standing.borrow().clone(), ctx.app.labels.borrow().clone());
    let (limits, turns, goals) = (standing.limits(), standing.turns(), standing.goals());
    let settings = &standing.settings;
    let bans = ctx.app.table.read().bans();
    let categories = labels.categories.iter().map(|(name, category)| CategoryView {
        name: name.clone(),
        dir: category.dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default(),
        upload_limit: mib(category.limits.upload_limit),
        download_limit: mib(category.limits.download_limit),
    });
    let trackers = labels.trackers.iter().map(|(host, limits)| TrackerView {
        host: host.clone(),
        upload_limit: mib(limits.upload_limit),
        download_limit: mib(limits.download_limit),
    });
    let is_part = query.is_some_and(|query| super::detail::wants_part(&query));
    let listening: Vec<String> = ctx.app.listening.iter().map(ToString::to_string).collect();
    html(&SettingsPage {
        frame: Frame { is_part, ..ctx.frame("settings", "/live") },
        graph: graph::draw(&ctx.app.history.all()),
        upload_limit: mib(limits.upload_limit),
        download_limit: mib(limits.download_limit),
        alternative: standing.alternative,
        alternative_upload_limit: mib(settings.alternative_upload_limit),
        alternative_download_limit: mib(settings.alternative_download_limit),
        scheduled: settings.schedule.enabled,
        from: clock(settings.schedule.from),
        to: clock(settings.schedule.to),
        days: DAYS
            .iter()
            .enumerate()
            .map(|(day, name)| (day, *name, settings.schedule.days >> day & 1 == 1))
            .collect(),
        max_active_downloads: text(turns.downloads),
        max_active_seeds: text(turns.seeds),
        ratio: text(goals.ratio),
        minutes: text(goals.seed_time.map(|seconds| seconds / 60)),
        categories: categories.collect(),
        tags: labels.tags.iter().cloned().collect(),
        trackers: trackers.collect(),
        bans: bans.iter().take(BANS_MAX).map(ToString::to_string).collect(),
        bans_more: bans.len().saturating_sub(BANS_MAX),
        version: env!("CARGO_PKG_VERSION"),
        dir: ctx.app.rules.borrow().dir.display().to_string(),
        listening: listening.join(", "),
        started: format::ago(crate::manager::now(), ctx.app.started_at),
    })
}

/// A number that is kept, or none.
fn goal<T>(value: Option<T>) -> Option<Goal<T>> {
    Some(value.map_or(Goal::Word(GoalWord::None), Goal::Value))
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> PageResult<Option<T>> {
    let wrong = || Fault::invalid(format!("{name}: {} is not a number from 0 up", format::name(text)));
    if text.is_empty() { Ok(None) } else { text.replace(',', ".").parse().map(Some).map_err(|_| wrong()) }
}

fn minute(text: &str) -> PageResult<u16> {
    let parse = || {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.get(..2)?.parse::<u16>().ok()?);
        (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
    };
    parse().ok_or_else(|| Fault::invalid("schedule: a time is written as in 08:30"))
}

fn schedule(fields: &Fields) -> PageResult<Schedule> {
    let days = fields.all("day").filter_map(|day| day.parse::<u8>().ok()).filter(|day| *day < 7);
    Ok(Schedule {
        enabled: fields.has("scheduled"),
        from: minute(fields.get("from"))?,
        to: minute(fields.get("to"))?,
        days: days.fold(0, |days, day| days | 1 << day),
    })
}

/// The form of the alternative limits. A schedule that is the same is none: one that is set ends what was said by hand.
fn alternative(fields: &Fields, standing: &Standing) -> PageResult<SettingsEdit> {
    let (on, schedule) = (fields.has("alternative"), schedule(fields)?);
    Ok(SettingsEdit {
        alternative: (on != standing.alternative).then_some(on),
        alternative_upload_limit: Some(bytes("up", fields.get("upload_limit"))?),
        alternative_download_limit: Some(bytes("down", fields.get("download_limit"))?),
        schedule: (schedule != standing.settings.schedule).then_some(schedule),
        ..SettingsEdit::default()
    })
}

/// Changes what one of the forms has.
pub async fn save(ctx: Ctx, fields: Fields) -> PageResult<Response> {
    let none = SettingsEdit::default();
    let edit = match fields.get("what") {
        "limits" => SettingsEdit {
            upload_limit: goal(bytes("up", fields.get("upload_limit"))?),
            download_limit: goal(bytes("down", fields.get("download_limit"))?),
            ..none
        },
        "alternative" => {
            let standing = ctx.app.standing.borrow().clone();
            alternative(&fields, &standing)?
        }
        "queue" => SettingsEdit {
            max_active_downloads: goal(number("downloads", fields.get("downloads"))?),
            max_active_seeds: goal(number("seeds", fields.get("seeds"))?),
            ..none
        },
        "goals" => SettingsEdit {
            ratio_limit: goal(number("ratio", fields.get("ratio"))?),
            seed_time_limit: goal(
                number::<u64>("minutes", fields.get("minutes"))?.map(|time| time.saturating_mul(60)),
            ),
            ..none
        },
        "category" | "tags" | "tracker" => return save_labels(&ctx, &fields).await,
        "unban" => {
            let address: IpAddr =
                fields.get("address").parse().map_err(|_| Fault::invalid("that is no address"))?;
            ctx.app.manager.unban(vec![address]).await?;
            return Ok(ctx.done_at("The ban is lifted", Some("/settings")));
        }
        _ => return Err(Fault::invalid("the form says nothing")),
    };
    ctx.app.manager.set_settings(edit).await?;
    Ok(ctx.done("Saved"))
}

async fn save_labels(ctx: &Ctx, fields: &Fields) -> PageResult<Response> {
    let name = fields.get("name").to_owned();
    let removes = fields.get("do") == "remove";
    let edit = match (fields.get("what"), removes) {
        ("category", true) => LabelsEdit::RemoveCategories(vec![name]),
        ("category", false) => {
            let rules = ctx.app.rules.borrow().clone();
            let dir = match fields.get("dir") {
                "" => None,
                dir => Some(adding::folder(PathBuf::from(dir), rules).await?),
            };
            let edit = CategoryEdit {
                dir: Some(dir),
                upload_limit: Some(bytes("up", fields.get("upload_limit"))?),
                download_limit: Some(bytes("down", fields.get("download_limit"))?),
            };
            match ctx.app.labels.borrow().categories.contains_key(&name) {
                true => LabelsEdit::EditCategory(name, edit),
                false => LabelsEdit::CreateCategory(name, edit),
            }
        }
        ("tracker", true) => LabelsEdit::LimitTracker(name, SharedLimits::default()),
        ("tracker", false) => {
            let limits = SharedLimits {
                upload_limit: bytes("up", fields.get("upload_limit"))?,
                download_limit: bytes("down", fields.get("download_limit"))?,
            };
            if limits.is_none() {
                return Err(Fault::invalid("down or up: a tracker has a limit of one of them at least"));
            }
            LabelsEdit::LimitTracker(name, limits)
        }
        (_, true) => LabelsEdit::RemoveTags(vec![name]),
        (_, false) => LabelsEdit::CreateTags(tags(&name)),
    };
    ctx.app.manager.set_labels(edit).await?;
    // The page shows them anew.
    Ok(ctx.done_at("Saved", Some("/settings")))
}

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    frame: Frame,
}

/// What keys do.
pub async fn keys(ctx: Ctx) -> PageResult<Response> {
    html(&KeysPage { frame: ctx.frame("keys", "") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::torrents::schedule::Minute;

    #[test]
    fn limits_that_were_turned_on_by_hand_stay_when_others_are_saved() {
        let schedule = Schedule { enabled: true, from: 10, to: 20, days: 0x7f };
        let by_hand = SettingsEdit { alternative: Some(true), ..SettingsEdit::default() };
        let settings = Settings { schedule, ..Settings::default() }.with(&by_hand, 1_300);
        let standing = Standing { settings, alternative: true, ..Standing::default() };
        let form = |from: &str| {
            let days = (0..7).map(|day| ("day", day.to_string()));
            let one = |name, value: &str| (name, value.to_owned());
            let fields = [one("alternative", "on"), one("download_limit", "1"), one("scheduled", "on")];
            let times = [one("from", from), one("to", "00:20")];
            let all = fields.into_iter().chain(times).chain(days);
            Fields(all.map(|(name, value)| (name.to_owned(), value)).collect())
        };
        let holds = |form: &Fields| {
            let edit = alternative(form, &standing).unwrap();
            assert_eq!(edit.alternative_download_limit, Some(Some(1 << 20)));
            standing.settings.with(&edit, 1_320).is_alternative(1_320, Minute::new(3, 0, 22))
        };
        assert!(holds(&form("00:10")));
        assert!(!holds(&form("00:11")), "another schedule is followed");
    }

    #[test]
    fn times_of_day_are_read_as_they_are_shown() {
        assert_eq!(
            (clock(510), minute("08:30").unwrap(), minute("08:30:00").unwrap()),
            ("08:30".into(), 510, 510)
        );
        for wrong in ["", "24:00", "8", "08:60", "a:b", "08:1ü"] {
            assert!(minute(wrong).is_err(), "{wrong}");
        }
        assert_eq!(number::<u64>("x", "").unwrap(), None);
        assert!(number::<u64>("x", "-1").is_err());
    }
}
