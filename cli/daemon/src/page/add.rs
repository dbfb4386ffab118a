//! Adding: links, info-hashes, addresses and files, in one form.

use super::{Ctx, Fault, Frame, PageResult, format, html};
use crate::adding::{self, AddOptions};
use crate::torrents::New;
use askama::Template;
use axum::extract::RawQuery;
use axum::extract::multipart::{Field, Multipart, MultipartRejection};
use axum::response::Response;
use std::path::PathBuf;
use swarm_engine::METAINFO_LEN_MAX;
use url::form_urlencoded;

/// How long a form may be, in bytes: as long as a metainfo file, and what is around it.
pub const BODY_LEN_MAX: usize = METAINFO_LEN_MAX + 1024 * 1024;
/// How long it may take to come.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// How many torrents a form may add.
const SOURCES_MAX: usize = 200;
/// How long a field that is no file may be, in bytes.
const FIELD_LEN_MAX: usize = 256 * 1024;

#[derive(Template)]
#[template(path = "add.html")]
struct AddPage {
    frame: Frame,
    dir: String,
    /// Links to begin with.
    links: String,
    categories: Vec<String>,
}

/// The form; `link` in the query begins with one.
pub async fn form(ctx: Ctx, RawQuery(query): RawQuery) -> PageResult<Response> {
    let query = query.unwrap_or_default();
    let links = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "link");
    let links =
        links.map(|(_, link)| link.chars().take(FIELD_LEN_MAX).collect::<String>()).collect::<Vec<_>>();
    html(&AddPage {
        frame: ctx.frame("add", ""),
        dir: ctx.app.rules.borrow().dir.display().to_string(),
        links: links.join("\n"),
        categories: super::options::categories(&ctx),
    })
}

/// What a form says.
#[derive(Debug, Default)]
struct Form {
    links: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
    options: AddOptions,
}

impl Form {
    async fn read(mut multipart: Multipart) -> PageResult<Form> {
        let mut form = Form::default();
        while let Some(field) = multipart.next_field().await.map_err(broken)? {
            form.take(field).await?;
            if form.links.len() + form.files.len() > SOURCES_MAX {
                return Err(Fault::invalid(format!("at most {SOURCES_MAX} torrents are added at a time")));
            }
        }
        Ok(form)
    }

    async fn take(&mut self, mut field: Field<'_>) -> PageResult<()> {
        let name = field.name().unwrap_or_default().to_owned();
        let file = field.file_name().map(format::name);
        let len_max = if name == "file" { METAINFO_LEN_MAX } else { FIELD_LEN_MAX };
        let mut bytes = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(broken)? {
            if bytes.len() + chunk.len() > len_max {
                return Err(Fault::invalid(format!("{name}: has more than {len_max} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        if name == "file" {
            // A form whose file was not chosen sends an empty one.
            if !bytes.is_empty() {
                self.files.push((file.unwrap_or_default(), bytes));
            }
            return Ok(());
        }
        let text = String::from_utf8(bytes).map_err(|_| Fault::invalid(format!("{name}: is no text")))?;
        let text = text.trim();
        let options = &mut self.options;
        match &*name {
            "links" => {
                self.links.extend(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned))
            }
            "dir" if !text.is_empty() => options.dir = Some(PathBuf::from(text)),
            "category" if !text.is_empty() => options.category = Some(text.to_owned()),
            "tags" => options.tags = super::options::tags(text),
            "paused" => options.paused = true,
            "seed" => options.seed = true,
            "sequential" => options.sequential = true,
            _ => {}
        }
        Ok(())
    }
}

fn broken(error: axum::extract::multipart::MultipartError) -> Fault {
    Fault { status: error.status(), message: format!("the form does not come whole: {}", error.body_text()) }
}

/// Adds what the form names: each by itself. What cannot be added is named.
pub async fn add(ctx: Ctx, multipart: Result<Multipart, MultipartRejection>) -> PageResult<Response> {
    let multipart = multipart.map_err(|rejection| Fault::invalid(rejection.body_text()))?;
    let read = tokio::time::timeout(BODY_TIMEOUT, Form::read(multipart)).await;
    let Form { links, files, options } =
        read.map_err(|_| Fault::invalid("the form does not come in time"))??;
    if links.is_empty() && files.is_empty() {
        return Err(Fault::invalid("name a link, an info-hash or an address, or choose a file"));
    }
    let (mut added, mut failed) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let new = adding::of_bytes(bytes, options.clone(), ctx.app.terms()).await;
        take(&ctx, &name, new, &mut added, &mut failed).await;
    }
    for link in links {
        let new = adding::of_source(&link, options.clone(), ctx.app.terms(), &ctx.app.session).await;
        take(&ctx, &link, new, &mut added, &mut failed).await;
    }
    if let Some(first) = failed.first() {
        let more = if failed.len() > 1 { format!(" (and {} more)", failed.len() - 1) } else { String::new() };
        let so_far = if added.is_empty() { String::new() } else { format!("; {} added", added.len()) };
        return Err(Fault::invalid(format!("{first}{more}{so_far}")));
    }
    let said = match added.len() {
        1 => "Added".to_owned(),
        count => format!("Added {count} torrents"),
    };
    let to_list = (!ctx.is_htmx).then_some("/");
    Ok(ctx.done_at(&said, to_list))
}

async fn take(
    ctx: &Ctx,
    name: &str,
    new: Result<New, crate::torrents::Refusal>,
    added: &mut Vec<crate::torrents::Id>,
    failed: &mut Vec<String>,
) {
    let result = match new {
        Ok(new) => ctx.app.manager.add(new).await,
        Err(refusal) => Err(refusal),
    };
    match result {
        Ok(id) => added.push(id),
        Err(refusal) => {
            let short: String = name.chars().take(80).collect();
            failed.push(format!("{short}: {refusal}"));
        }
    }
}
