//! `app/…`: the program itself, as clients of the other one see it.

use super::info::text;
use super::{API_VERSION, Answer, Ask, Fault, VERSION, prefs};
use crate::api::App;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// How many names of a folder are told.
const NAMES_MAX: usize = 10_000;

/// Answers a request.
pub async fn answer(name: &str, ask: &Ask) -> Result<Answer, Fault> {
    match name {
        "version" => Answer::text(VERSION),
        "webapiVersion" => Answer::text(API_VERSION),
        "buildInfo" => Answer::json(&json!({
            "qt": "", "libtorrent": concat!("swarm ", env!("CARGO_PKG_VERSION")), "boost": "", "openssl": "",
            "zlib": "", "bitness": usize::BITS, "platform": std::env::consts::OS,
        })),
        "preferences" => {
            let bans = ask.app.table.read().bans();
            let standing = ask.app.standing.borrow().clone();
            let app = &ask.app;
            let network = prefs::Network {
                facts: app.session.facts(),
                listening: &app.listening,
                serving: &app.serving,
            };
            Answer::json(&prefs::shown(&standing, &bans, &network))
        }
        "setPreferences" => set_preferences(ask).await,
        "defaultSavePath" => Answer::text(text(&ask.app.rules.borrow().dir)),
        // No cookie is sent to where metainfo files are fetched from.
        "cookies" => Answer::json(&[(); 0]),
        "networkInterfaceList" => Answer::json(&interfaces()),
        "networkInterfaceAddressList" => Answer::json(&addresses(ask.form.get("iface").unwrap_or_default())),
        "getDirectoryContent" => names(ask).await,
        // Clients of this API end the machine that way, too.
        "shutdown" => Err(Fault::conflict("this API does not end the daemon")),
        _ => Err(Fault::not_found()),
    }
}

async fn set_preferences(ask: &Ask) -> Result<Answer, Fault> {
    let given: Map<String, Value> = serde_json::from_str(ask.form.need("json")?)
        .map_err(|error| Fault::invalid(format!("json: {error}")))?;
    let standing = ask.app.standing.borrow().clone();
    let wanted = prefs::wanted(&given, &standing)?;
    if wanted.settings != Default::default() {
        ask.app.manager.set_settings(wanted.settings).await?;
    }
    if let Some(bans) = wanted.bans {
        let before = ask.app.table.read().bans();
        ask.app.manager.unban(before.difference(&bans).copied().collect()).await?;
        ask.app.manager.ban(bans.difference(&before).copied().collect()).await?;
    }
    Ok(Answer::Done)
}

fn interfaces() -> Vec<Value> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let names: BTreeSet<String> = all.into_iter().map(|one| one.name).collect();
    names.into_iter().map(|name| json!({"name": name, "value": name})).collect()
}

fn addresses(interface: &str) -> Vec<String> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let of = all.into_iter().filter(|one| interface.is_empty() || one.name == interface);
    of.map(|one| one.ip().to_string()).collect()
}

/// What is in a folder: one that may be used, or one on the way to it, of which only the way is told.
async fn names(ask: &Ask) -> Result<Answer, Fault> {
    let given = PathBuf::from(ask.form.need("dirPath")?);
    let is_plain = given.is_absolute() && !given.components().any(|part| part == Component::ParentDir);
    if !is_plain {
        return Err(Fault::invalid("dirPath: is no absolute path"));
    }
    let rules = ask.app.rules.borrow().clone();
    let steps: BTreeSet<String> = std::iter::once(&rules.dir)
        .chain(&rules.allow_dirs)
        .filter_map(|allowed| {
            allowed.strip_prefix(&given).ok()?.components().next().map(|part| given.join(part))
        })
        .map(|path| text(&path))
        .collect();
    if !steps.is_empty() {
        return Answer::json(&steps);
    }
    let folder = crate::adding::folder(given, rules).await.map_err(|_| Fault::not_found())?;
    let wants = ask.form.get("mode").unwrap_or("all").to_owned();
    let read = tokio::task::spawn_blocking(move || read(&folder, &wants)).await;
    match read {
        Ok(Ok(names)) => Answer::json(&names),
        _ => Err(Fault::not_found()),
    }
}

fn read(folder: &Path, wants: &str) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(NAMES_MAX) {
        let entry = entry?;
        let is_dir = entry.file_type()?.is_dir();
        if match wants {
            "dirs" => is_dir,
            "files" => !is_dir,
            _ => true,
        } {
            names.push(text(&entry.path()));
        }
    }
    names.sort();
    Ok(names)
}

/// What is free where torrents go, in bytes; 0 if that is not known.
pub async fn free_space(app: &App) -> u64 {
    let dir = app.rules.borrow().dir.clone();
    tokio::task::spawn_blocking(move || free(&dir)).await.unwrap_or(0)
}

#[cfg(unix)]
fn free(dir: &Path) -> u64 {
    // The folder itself is made later, perhaps.
    let stat = dir.ancestors().find_map(|dir| rustix::fs::statvfs(dir).ok());
    stat.map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free(_dir: &Path) -> u64 {
    0
}
