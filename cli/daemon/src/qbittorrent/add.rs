//! `torrents/add`.

use super::edit::{goal, seconds};
use super::{Answer, Ask, Fault};
use crate::adding::{self, AddOptions};
use crate::torrents::edit::Place;
use crate::torrents::{Edit, Id, New, Refusal};
use axum::http::StatusCode;
use std::path::PathBuf;

/// How many links a request may have.
const LINKS_MAX: usize = 256;

/// Adds each file and each link of a form. "Ok." if one of them at least was added.
pub async fn add(ask: &Ask) -> Result<Answer, Fault> {
    let options = options(ask)?;
    let links: Vec<&str> = ask.form.list("urls", '\n').collect();
    if links.len() > LINKS_MAX {
        return Err(Fault::invalid(format!("urls: at most {LINKS_MAX}")));
    }
    if links.is_empty() && ask.form.files.is_empty() {
        return Err(Fault::missing("urls"));
    }
    let mut outcomes = Vec::new();
    for file in &ask.form.files {
        let new = adding::of_bytes(file.to_vec(), options.clone(), ask.app.terms()).await;
        if let Err(Refusal::Invalid(why)) = &new {
            return Err(Fault(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("it is not a valid torrent file: {why}"),
            ));
        }
        outcomes.push(added(ask, new).await);
    }
    for link in links {
        let new = adding::of_source(link, options.clone(), ask.app.terms(), &ask.app.session).await;
        outcomes.push(added(ask, new).await);
    }
    let ids: Vec<Id> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok().copied()).collect();
    if ids.is_empty() {
        return match outcomes.into_iter().find_map(Result::err) {
            // Clients know what to make of a torrent that is here already, or a link that leads nowhere, by this word.
            None | Some(Refusal::AlreadyAdded { .. } | Refusal::Fetch(_) | Refusal::Invalid(_)) => {
                Answer::text("Fails.")
            }
            Some(refusal) => Err(refusal.into()),
        };
    }
    if ask.form.flag("addToTopOfQueue") == Some(true) {
        ask.app.manager.edit(ids, Edit { position: Some(Place::Top), ..Edit::default() }).await?;
    }
    Answer::text("Ok.")
}

async fn added(ask: &Ask, new: Result<New, Refusal>) -> Result<Id, Refusal> {
    let mut new = new?;
    new.options.name = ask.form.some("rename").map(str::to_owned);
    new.options.first_last = ask.form.flag("firstLastPiecePrio") == Some(true);
    ask.app.manager.add(new).await
}

/// What a form wants of the torrents. That data is to be believed without a look (`skip_checking`) is passed over: it is looked at.
fn options(ask: &Ask) -> Result<AddOptions, Fault> {
    let form = &ask.form;
    let rename = Edit { name: form.some("rename").map(|name| Some(name.to_owned())), ..Edit::default() };
    rename.check()?;
    let limit = |name: &str| {
        let limit = form.whole(name)?;
        Ok::<_, Fault>(limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0))
    };
    let tags = form.list("tags", ',').map(str::to_owned).collect();
    let paused = form.flag("stopped").or(form.flag("paused")).unwrap_or(false);
    Ok(AddOptions {
        dir: form.some("savepath").map(PathBuf::from),
        paused,
        forced: form.flag("forced") == Some(true),
        sequential: form.flag("sequentialDownload") == Some(true),
        upload_limit: limit("upLimit")?,
        download_limit: limit("dlLimit")?,
        ratio_limit: form.number("ratioLimit")?.map(|ratio| goal(ratio, |ratio| ratio)),
        seed_time_limit: form.number("seedingTimeLimit")?.map(|minutes| goal(minutes, seconds)),
        category: form.some("category").map(str::to_owned),
        tags,
        ..AddOptions::default()
    })
}
