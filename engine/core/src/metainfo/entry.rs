//! What is read alike in both versions: names, and what is said of a file.

use super::path::PathRules;
use super::warnings::Warnings;
use super::{FileAttr, PATH_DEPTH_MAX};
use crate::bencode::{List, Value};
use encoding_rs::Encoding;
use std::borrow::Cow;

/// How a torrent's names are read.
#[derive(Clone, Copy)]
pub(super) struct Spelling {
    pub(super) rules: PathRules,
    /// Of names that are not UTF-8, as files from before that was the rule say.
    encoding: Option<&'static Encoding>,
}

impl Spelling {
    /// Names in UTF-8 that suit these rules.
    pub(super) fn of(rules: PathRules) -> Spelling {
        Spelling { rules, encoding: None }
    }

    /// Names in the encoding that a metainfo file's `encoding` says, if it is one.
    pub(super) fn with_encoding(self, label: Option<&[u8]>) -> Spelling {
        // "CP936" and its like are no labels of the standard that browsers follow.
        let of_page = |number: &[u8]| match number {
            b"932" => Some(encoding_rs::SHIFT_JIS),
            b"936" => Some(encoding_rs::GBK),
            b"949" => Some(encoding_rs::EUC_KR),
            b"950" => Some(encoding_rs::BIG5),
            number => Encoding::for_label(&[b"windows-", number].concat()),
        };
        let encoding = label.and_then(|label| {
            let upper = label.to_ascii_uppercase();
            let page = upper.strip_prefix(b"CP").or_else(|| upper.strip_prefix(b"MS"));
            Encoding::for_label(label).or_else(|| of_page(page?))
        });
        Spelling { encoding: encoding.filter(|&encoding| encoding != encoding_rs::UTF_8), ..self }
    }

    /// A name in UTF-8, made safe.
    pub(super) fn sanitise(self, raw: &[u8]) -> String {
        self.rules.sanitise(raw)
    }

    /// A name as it is meant; bytes that the encoding does not have are left as they are.
    pub(super) fn decode(self, raw: &[u8]) -> Cow<'_, [u8]> {
        let decoded = self
            .encoding
            .filter(|_| !raw.is_ascii())
            .and_then(|encoding| encoding.decode_without_bom_handling_and_without_replacement(raw));
        decoded.map_or(Cow::Borrowed(raw), |text| Cow::Owned(text.into_owned().into_bytes()))
    }
}

pub(super) const UNSIGNED: &str = "an integer from zero up";

pub(super) fn unsigned(value: Value<'_>) -> Option<u64> {
    value.as_int().and_then(|int| u64::try_from(int).ok())
}

pub(super) fn read_attr(value: Option<Value<'_>>) -> FileAttr {
    FileAttr::from_letters(value.and_then(Value::as_bytes).unwrap_or_default())
}

/// The length of a file. A link takes no part of the torrent's bytes, whatever its length says (BEP 47).
pub(super) fn read_length(attr: FileAttr, length: Option<Value<'_>>) -> Option<u64> {
    if attr.symlink { Some(0) } else { length.and_then(unsigned) }
}

/// Where a file leads, if it is a link.
pub(super) fn read_link(
    attr: FileAttr,
    symlink_path: Option<List<'_>>,
    path: &[String],
    spelling: Spelling,
    warnings: &mut Warnings,
) -> Option<Vec<String>> {
    let target = symlink_path.filter(|_| attr.symlink).and_then(raw_path);
    let target = target.and_then(|raw| read_target(raw, spelling));
    if attr.symlink && target.is_none() {
        warnings.add(|| {
            let link = path[1..].join("/");
            format!("the link {link:?} leads nowhere in the torrent's folder: left out")
        });
    }
    target
}

/// The components of a path as they are, if it has any and all of them are byte strings.
pub(super) fn raw_path<'a>(list: List<'a>) -> Option<impl Iterator<Item = &'a [u8]> + Clone> {
    let is_path = list.iter().next().is_some() && list.iter().all(|name| name.as_bytes().is_some());
    is_path.then(|| list.iter().filter_map(Value::as_bytes))
}

/// A link's target below the torrent's folder; `None` for one that leads out of it, or that cannot be named.
fn read_target<'a>(raw: impl Iterator<Item = &'a [u8]>, spelling: Spelling) -> Option<Vec<String>> {
    let rules = spelling.rules;
    let is_plain = |name: &[u8]| {
        let is_split = rules == PathRules::WINDOWS && name.contains(&b'\\');
        !is_split && PathRules::UNIX.sanitise(name).as_bytes() == name
    };
    let raw: Vec<Cow<'_, [u8]>> = raw.map(|name| spelling.decode(name)).collect();
    let all_plain = raw.len() < PATH_DEPTH_MAX && raw.iter().all(|name| is_plain(name));
    all_plain.then(|| raw.iter().map(|name| rules.sanitise(name)).collect())
}
