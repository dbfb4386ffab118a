//! What holds for all torrents together.

use super::graph::{self, Graph};
use super::options::{bytes, mib};
use super::{Ctx, Fields, Frame, PageResult, html};
use crate::manager::commands::Limits;
use askama::Template;
use axum::response::Response;

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    upload_limit: String,
    download_limit: String,
    graph: Graph,
    version: &'static str,
    dir: String,
    listening: Vec<String>,
    bans: Vec<String>,
}

/// The settings.
pub async fn show(ctx: Ctx) -> PageResult<Response> {
    let rules = ctx.app.rules.borrow().clone();
    let bans = ctx.app.table.read().bans();
    html(&SettingsPage {
        frame: ctx.frame("settings", "/live"),
        upload_limit: mib(rules.upload_limit),
        download_limit: mib(rules.download_limit),
        graph: graph::draw(&ctx.app.history.all()),
        version: env!("CARGO_PKG_VERSION"),
        dir: rules.dir.display().to_string(),
        listening: ctx.app.listening.iter().map(ToString::to_string).collect(),
        bans: bans.iter().map(ToString::to_string).collect(),
    })
}

/// Changes what one of the forms has.
pub async fn save(ctx: Ctx, fields: Fields) -> PageResult<Response> {
    let limits = Limits {
        upload: Some(bytes("upload", fields.get("upload_limit"))?),
        download: Some(bytes("download", fields.get("download_limit"))?),
    };
    ctx.app.manager.set_limits(limits).await?;
    Ok(ctx.done("Saved"))
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
