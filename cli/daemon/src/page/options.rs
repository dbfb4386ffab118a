//! What users change of a torrent on its own page.

use super::detail::{self, Head};
use super::{Ctx, Fault, Fields, Frame, PageResult, format, html};
use crate::adding;
use crate::manager::operations::Files;
use crate::table::Row;
use crate::torrents::goals::GoalWord;
use crate::torrents::{Edit, Goal, Id, TrackerEdit};
use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse as _, Response};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use swarm_engine::FileIndex;
use url::form_urlencoded;

/// Bytes in the unit that limits are given in.
const MIB: f64 = 1_048_576.0;
/// Names that are offered for a category.
const CATEGORIES_MAX: usize = 200;

#[derive(Template)]
#[template(path = "options.html")]
struct OptionsPage {
    frame: Frame,
    head: Head,
    name: String,
    dir: String,
    is_seed: bool,
    sequential: bool,
    first_last: bool,
    forced: bool,
    upload_limit: String,
    download_limit: String,
    ratio_kind: &'static str,
    ratio: String,
    time_kind: &'static str,
    minutes: String,
    category: String,
    categories: Vec<String>,
    tags: String,
}

/// A limit as people write it.
pub fn mib(limit: Option<u64>) -> String {
    limit.map(|limit| ((limit as f64 / MIB * 1_000.0).round() / 1_000.0).to_string()).unwrap_or_default()
}

/// The same read: nothing means none.
pub fn bytes(name: &str, text: &str) -> PageResult<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let number =
        text.replace(',', ".").parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    let number = number.ok_or_else(|| {
        Fault::invalid(format!("{name}: {} is not a number of MiB/s above 0", format::name(text)))
    })?;
    // More than the largest number is none that anything reaches.
    Ok(Some(((number * MIB) as u64).max(1)))
}

fn kind<T>(goal: &Goal<T>) -> &'static str {
    match goal {
        Goal::Value(_) => "value",
        Goal::Word(GoalWord::None) => "none",
        _ => "default",
    }
}

fn goal<T: std::str::FromStr>(name: &str, kind: &str, value: &str) -> PageResult<Goal<T>> {
    match kind {
        "none" => Ok(Goal::Word(GoalWord::None)),
        "value" => {
            let number = value.replace(',', ".").parse().ok();
            let wrong =
                || Fault::invalid(format!("{name}: {} is not a number from 0 up", format::name(value)));
            number.map(Goal::Value).ok_or_else(wrong)
        }
        _ => Ok(Goal::Default),
    }
}

/// Tags from a text with commas.
pub fn tags(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

/// Categories that there are.
pub fn categories(ctx: &Ctx) -> Vec<String> {
    ctx.app.labels.borrow().categories.keys().take(CATEGORIES_MAX).cloned().collect()
}

/// What can be changed of it.
pub async fn show(ctx: Ctx, Path(id): Path<i64>, RawQuery(query): RawQuery) -> PageResult<Response> {
    let row = ctx.row(id)?;
    let summary = &*row.summary;
    let ratio_limit = summary.ratio_limit.unwrap_or_default();
    let seed_time_limit = summary.seed_time_limit.unwrap_or_default();
    html(&OptionsPage {
        frame: detail::frame(&ctx, id, &query.unwrap_or_default()),
        head: Head::of(&row, "options"),
        name: summary.name.clone(),
        dir: summary.dir.display().to_string(),
        is_seed: summary.seed,
        sequential: summary.sequential,
        first_last: summary.first_last,
        forced: summary.forced,
        upload_limit: mib(summary.upload_limit),
        download_limit: mib(summary.download_limit),
        ratio_kind: kind(&ratio_limit),
        ratio: if let Goal::Value(ratio) = ratio_limit { ratio.to_string() } else { String::new() },
        time_kind: kind(&seed_time_limit),
        minutes: if let Goal::Value(time) = seed_time_limit {
            (time / 60).to_string()
        } else {
            String::new()
        },
        category: summary.category.clone().unwrap_or_default(),
        categories: categories(&ctx),
        tags: summary.tags.join(", "),
    })
}

/// Changes what one of the forms of the page has.
pub async fn save(ctx: Ctx, Path(id): Path<i64>, fields: Fields) -> PageResult<Response> {
    let row = ctx.row(id)?;
    let none = Edit::default();
    let edit = match fields.get("what") {
        "limits" => Edit {
            upload_limit: Some(bytes("up", fields.get("upload_limit"))?),
            download_limit: Some(bytes("down", fields.get("download_limit"))?),
            ..none
        },
        "goals" => {
            let time = goal::<u64>("seeding time", fields.get("time_kind"), fields.get("minutes"))?;
            let seconds = match time {
                Goal::Value(minutes) => Goal::Value(minutes.saturating_mul(60)),
                other => other,
            };
            let ratio = goal::<f64>("ratio", fields.get("ratio_kind"), fields.get("ratio"))?;
            Edit { ratio_limit: Some(ratio), seed_time_limit: Some(seconds), ..none }
        }
        "order" => {
            let changed = |is: bool, was: bool| (is != was).then_some(is);
            Edit {
                sequential: changed(fields.has("sequential"), row.summary.sequential),
                first_last: changed(fields.has("first_last"), row.summary.first_last),
                forced: changed(fields.has("forced"), row.summary.forced),
                ..none
            }
        }
        "labels" => {
            let name = fields.get("name");
            let own = name.is_empty() || name == row.summary.own_name;
            let named = (name != row.summary.name).then(|| (!own).then(|| name.to_owned()));
            let category = Some(fields.get("category")).filter(|category| !category.is_empty());
            Edit {
                name: named,
                category: Some(category.map(str::to_owned)),
                tags: Some(tags(fields.get("tags"))),
                ..none
            }
        }
        "place" => return place(&ctx, Id(id), &fields).await,
        _ => return Err(Fault::invalid("the form says nothing")),
    };
    ctx.app.manager.edit(vec![Id(id)], edit).await?;
    Ok(ctx.done("Saved"))
}

/// Another folder.
async fn place(ctx: &Ctx, id: Id, fields: &Fields) -> PageResult<Response> {
    let given = fields.get("dir");
    if given.is_empty() {
        return Err(Fault::invalid("name a folder"));
    }
    let files = if fields.get("files") == "leave" { Files::Leave } else { Files::Move };
    let rules = ctx.app.rules.borrow().clone();
    let dir = adding::folder(PathBuf::from(given), rules).await?;
    ctx.app.manager.move_to(id, dir, files).await?;
    Ok(ctx.done(match files {
        Files::Move => "The files are being moved",
        Files::Leave => "It has another folder",
    }))
}

/// Priorities of files: of those whose field has the file's index, or of all that were searched for.
pub async fn files(ctx: Ctx, Path(id): Path<i64>, fields: Fields) -> PageResult<Response> {
    let row = ctx.row(id)?;
    let priority =
        |text: &str| text.parse::<u8>().map_err(|_| Fault::invalid("a priority is a number from 0 to 7"));
    let priorities = if fields.has("all") {
        let all = priority(fields.get("all"))?;
        detail::files_with(&row, fields.get("q")).into_iter().map(|at| (at as u32, all)).collect()
    } else {
        let named =
            fields.iter().filter_map(|(name, value)| Some((name.strip_prefix('f')?.parse().ok()?, value)));
        named.map(|(at, value): (u32, &str)| Ok((at, priority(value)?))).collect::<PageResult<_>>()?
    };
    ctx.app.manager.edit(vec![Id(id)], Edit { priorities, ..Edit::default() }).await?;
    Ok(ctx.done("Saved"))
}

#[derive(Template)]
#[template(path = "rename.html")]
struct RenamePage {
    frame: Frame,
    id: i64,
    path: String,
    name: String,
}

/// Asks for another path of a file, by its index in the query, or of the torrent's own file or folder.
pub async fn ask_name(ctx: Ctx, Path(id): Path<i64>, RawQuery(query): RawQuery) -> PageResult<Response> {
    let row = ctx.row(id)?;
    let query = query.unwrap_or_default();
    let file = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "file");
    let file = file.and_then(|(_, at)| at.parse().ok());
    let path = path_to_rename(&row, file).ok_or_else(|| Fault::invalid("there is no such file"))?;
    html(&RenamePage { frame: ctx.frame("torrent", ""), id, name: format::name(&row.summary.name), path })
}

/// A file's path, or that of the torrent's own file or folder.
fn path_to_rename(row: &Row, file: Option<u32>) -> Option<String> {
    let path = row.file_path(FileIndex(file.unwrap_or(0)))?;
    if file.is_some() { Some(path.join("/")) } else { path.into_iter().next() }
}

/// Gives a file another path.
pub async fn rename(ctx: Ctx, Path(id): Path<i64>, fields: Fields) -> PageResult<Response> {
    let (from, to) = (fields.get("from").to_owned(), fields.get("to").to_owned());
    ctx.app.manager.rename(Id(id), from, to).await?;
    Ok(ctx.done_at("Renamed", (!ctx.is_htmx).then_some(&format!("/t/{id}/files"))))
}

/// Leads to a file for players, whose address needs no cookie; or takes all such addresses of the torrent back.
pub async fn stream(ctx: Ctx, Path(id): Path<i64>, fields: Fields) -> PageResult<Response> {
    if fields.get("do") == "end" {
        ctx.app.manager.end_streams(Id(id)).await?;
        return Ok(ctx.done_at("The addresses are good no more", Some(&format!("/t/{id}/files"))));
    }
    let row = ctx.row(id)?;
    let files = row.metainfo.as_ref().map(|metainfo| &metainfo.info.files[..]).unwrap_or_default();
    let index = fields.get("file").parse().ok().map(FileIndex);
    let index = index.filter(|index| files.get(index.idx()).is_some_and(|file| !file.attr.pad));
    let index = index.ok_or_else(|| Fault::invalid("the torrent has no such file"))?;
    let name = row.file_path(index).and_then(|path| path.last().cloned()).unwrap_or_default();
    let token = ctx.app.manager.stream_token(Id(id)).await?;
    let address = format!("{}{}", ctx.base, crate::stream::address(&token, index.0, &name));
    Ok((StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response())
}

/// Adds peers, or bans one.
pub async fn add_peers(ctx: Ctx, Path(id): Path<i64>, fields: Fields) -> PageResult<Response> {
    let banned = fields.get("ban");
    if !banned.is_empty() {
        let address: IpAddr = banned.parse().map_err(|_| Fault::invalid("that is no address"))?;
        ctx.app.manager.ban(vec![address]).await?;
        return Ok(ctx.done("Banned; the settings list whom"));
    }
    let parse = |peer: &str| {
        let wrong =
            || Fault::invalid(format!("{}: is no peer; write it as in 192.0.2.7:6881", format::name(peer)));
        peer.parse::<SocketAddr>().map_err(|_| wrong())
    };
    let peers = fields.get("peers").split_whitespace().map(parse).collect::<PageResult<Vec<_>>>()?;
    if peers.is_empty() {
        return Err(Fault::invalid("name a peer, as in 192.0.2.7:6881"));
    }
    ctx.app.manager.edit(vec![Id(id)], Edit { peers, ..Edit::default() }).await?;
    Ok(ctx.done("The peers are tried"))
}

/// URLs, one a line.
fn urls(fields: &Fields) -> Vec<String> {
    fields.get("urls").split_whitespace().map(str::to_owned).collect()
}

/// Adds trackers, or removes one.
pub async fn add_trackers(ctx: Ctx, Path(id): Path<i64>, fields: Fields) -> PageResult<Response> {
    let (removed, added) = (fields.get("remove"), urls(&fields));
    let edit = match removed.is_empty() {
        true if added.is_empty() => return Err(Fault::invalid("name a tracker")),
        true => Edit { trackers: added, ..Edit::default() },
        false => {
            Edit { tracker_edits: vec![TrackerEdit::Remove { url: removed.to_owned() }], ..Edit::default() }
        }
    };
    ctx.app.manager.edit(vec![Id(id)], edit).await?;
    Ok(ctx.done(if removed.is_empty() { "Added" } else { "Removed" }))
}

/// Adds web seeds, or removes one.
pub async fn add_web_seeds(ctx: Ctx, Path(id): Path<i64>, fields: Fields) -> PageResult<Response> {
    let (removed, added) = (fields.get("remove"), urls(&fields));
    let edit = match removed.is_empty() {
        true if added.is_empty() => return Err(Fault::invalid("name a web seed")),
        true => Edit { web_seeds: added, ..Edit::default() },
        false => Edit { web_seeds_removed: vec![removed.to_owned()], ..Edit::default() },
    };
    ctx.app.manager.edit(vec![Id(id)], edit).await?;
    Ok(ctx.done(if removed.is_empty() { "Added" } else { "Removed" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_engine::Metainfo;

    #[test]
    fn a_file_is_renamed_by_its_number_and_without_one_the_whole() {
        let info = |files: &str| {
            format!("d4:infod{files}4:name1:t12:piece lengthi16384e6:pieces20:{}ee", "x".repeat(20))
        };
        let row = |files: &str| {
            let metainfo = Metainfo::parse(info(files).as_bytes()).unwrap();
            Row { metainfo: Some(metainfo.into()), ..Row::default() }
        };
        let folder = row("5:filesld6:lengthi5e4:pathl1:a1:beee");
        assert_eq!(path_to_rename(&folder, None).as_deref(), Some("t"));
        assert_eq!(path_to_rename(&folder, Some(0)).as_deref(), Some("t/a/b"));
        assert_eq!(path_to_rename(&folder, Some(1)), None);
        assert_eq!(path_to_rename(&row("6:lengthi5e"), None).as_deref(), Some("t"));
    }

    #[test]
    fn limits_are_read_as_they_are_shown() {
        assert_eq!((mib(None), mib(Some(1_572_864))), (String::new(), "1.5".into()));
        assert_eq!(bytes("up", "1.5").unwrap(), Some(1_572_864));
        assert_eq!((bytes("up", "").unwrap(), bytes("up", "0,5").unwrap()), (None, Some(524_288)));
        for wrong in ["0", "-1", "x", "inf", "NaN", "1 MiB"] {
            assert!(bytes("up", wrong).unwrap_err().message.contains("up: "), "{wrong}");
        }
    }

    #[test]
    fn goals_are_words_or_numbers() {
        assert!(matches!(goal::<f64>("ratio", "value", "1,5"), Ok(Goal::Value(1.5))));
        assert!(matches!(goal::<f64>("ratio", "none", ""), Ok(Goal::Word(GoalWord::None))));
        assert!(matches!(goal::<u64>("time", "", "7"), Ok(Goal::Default)));
        assert!(goal::<u64>("time", "value", "soon").is_err());
        assert_eq!(tags(" a, b,,c "), ["a", "b", "c"]);
    }
}
