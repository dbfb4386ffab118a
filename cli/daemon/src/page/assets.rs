//! The style, the scripts and the icon of the page, in the program itself. Their names hold a mark of their contents, so browsers keep
//! them for good.

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::LazyLock;

/// How many digits of its hash a name has.
const MARK_LEN: usize = 12;

/// A file that browsers keep.
struct Asset {
    /// Its name without the mark.
    stem: &'static str,
    extension: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

static ASSETS: [Asset; 4] = [
    Asset {
        stem: "page",
        extension: "css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../../page/assets/page.css"),
    },
    Asset {
        stem: "page",
        extension: "js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../page/assets/page.js"),
    },
    Asset {
        stem: "htmx",
        extension: "js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../page/assets/htmx.min.js"),
    },
    Asset {
        stem: "icon",
        extension: "svg",
        content_type: "image/svg+xml",
        bytes: include_bytes!("../../page/assets/icon.svg"),
    },
];

/// What templates name the files by.
#[derive(Debug)]
pub struct Names {
    /// The style.
    pub css: String,
    /// The page's script.
    pub js: String,
    /// HTMX.
    pub htmx: String,
    /// The icon.
    pub icon: String,
}

/// The names of the files.
pub static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let [css, js, htmx, icon] = ASSETS.each_ref().map(Asset::name);
    Names { css, js, htmx, icon }
});

impl Asset {
    fn mark(&self) -> String {
        // Only to tell versions apart.
        let hash = self.bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")[..MARK_LEN].to_owned()
    }

    fn name(&self) -> String {
        format!("{}-{}.{}", self.stem, self.mark(), self.extension)
    }
}

/// Whether a path is that of such a file. They hold no secrets, and the form to sign in needs them.
pub fn is_one(path: &str) -> bool {
    path.starts_with("/assets/")
}

/// Serves one.
pub async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) =
        ASSETS.iter().zip(all_names()).find(|(_, known)| **known == name).map(|(asset, _)| asset)
    else {
        return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
    };
    let tag = format!("\"{}\"", asset.mark());
    let about = [
        (header::CONTENT_TYPE, asset.content_type.to_owned()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
        (header::ETAG, tag.clone()),
    ];
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    match is_known {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => (about, asset.bytes).into_response(),
    }
}

fn all_names() -> [&'static String; 4] {
    [&NAMES.css, &NAMES.js, &NAMES.htmx, &NAMES.icon]
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(name: &str, known: Option<&str>) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(known) = known {
            headers.insert(header::IF_NONE_MATCH, known.parse().unwrap());
        }
        serve(Path(name.to_owned()), headers).await
    }

    #[tokio::test]
    async fn files_are_kept_for_good_and_only_by_their_whole_names() {
        let first = get(&NAMES.css, None).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert!(first.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let tag = first.headers()[header::ETAG].to_str().unwrap();
        assert_eq!(get(&NAMES.css, Some(tag)).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get(&NAMES.css, Some("\"other\"")).await.status(), StatusCode::OK);
        for name in ["page.css", "../Cargo.toml", "", "page-000000000000.css"] {
            assert_eq!(get(name, None).await.status(), StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for asset in &ASSETS {
            let text = String::from_utf8_lossy(asset.bytes);
            for (at, _) in text.match_indices("://") {
                let around: String = text[at.saturating_sub(8)..].chars().take(40).collect();
                assert!(around.contains("www.w3.org"), "{}: {around}", asset.stem);
            }
        }
    }
}
