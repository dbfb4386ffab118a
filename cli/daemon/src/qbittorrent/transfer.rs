//! `transfer/…`: all torrents together.

use super::{Answer, Ask, Fault, rows, sync};
use crate::settings::SettingsEdit;
use crate::torrents::Goal;
use crate::torrents::goals::GoalWord;
use std::net::{IpAddr, SocketAddr};

/// Answers a request.
pub async fn answer(name: &str, ask: &Ask) -> Result<Answer, Fault> {
    let standing = ask.app.standing.borrow().clone();
    let set = async |edit: SettingsEdit| {
        ask.app.manager.set_settings(edit).await?;
        Ok(Answer::Done)
    };
    let alternative =
        |alternative| SettingsEdit { alternative: Some(alternative), ..SettingsEdit::default() };
    match name {
        "info" => Answer::json(&sync::transfer_info(&ask.app, &rows(&ask.app))),
        "speedLimitsMode" => Answer::text(if standing.alternative { "1" } else { "0" }),
        "toggleSpeedLimitsMode" => set(alternative(!standing.alternative)).await,
        "setSpeedLimitsMode" => {
            set(alternative(ask.form.flag("mode").ok_or_else(|| Fault::missing("mode"))?)).await
        }
        "uploadLimit" => Answer::text(ask.app.rules.borrow().upload_limit.unwrap_or(0).to_string()),
        "downloadLimit" => Answer::text(ask.app.rules.borrow().download_limit.unwrap_or(0).to_string()),
        "setUploadLimit" | "setDownloadLimit" => {
            let limit = ask.form.whole("limit")?.ok_or_else(|| Fault::missing("limit"))?;
            // Those that hold now are meant, the alternative ones too.
            set(limited(name == "setUploadLimit", standing.alternative, limit)).await
        }
        "banPeers" => {
            let peers: Vec<IpAddr> = ask.form.list("peers", '|').filter_map(address).collect();
            ask.app.manager.ban(peers).await?;
            Ok(Answer::Done)
        }
        _ => Err(Fault::not_found()),
    }
}

fn limited(up: bool, alternative: bool, limit: i64) -> SettingsEdit {
    let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0);
    let goal = limit.map_or(Goal::Word(GoalWord::None), Goal::Value);
    let mut edit = SettingsEdit::default();
    match (up, alternative) {
        (true, false) => edit.upload_limit = Some(goal),
        (false, false) => edit.download_limit = Some(goal),
        (true, true) => edit.alternative_upload_limit = Some(limit),
        (false, true) => edit.alternative_download_limit = Some(limit),
    }
    edit
}

fn address(peer: &str) -> Option<IpAddr> {
    peer.parse::<SocketAddr>().map(|addr| addr.ip()).or_else(|_| peer.parse()).ok()
}
