//! A torrent's trackers and web seeds: those of its metainfo, and what users made of them.

use super::Refusal;
use super::edit::{ADDRESSES_MAX, Edit};
use super::record::Options;
use swarm_engine::{Magnet, Metainfo};

/// What is changed of a torrent's trackers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerEdit {
    /// One more.
    Add {
        /// Its URL. One that is there already goes to the tier.
        url: String,
        /// Its tier, counted from 0; one of its own, after all others, if there is no such tier.
        tier: usize,
    },
    /// One less. It must be there.
    Remove {
        /// Its URL.
        url: String,
    },
    /// Another in its place. It must be there.
    Replace {
        /// Its URL.
        url: String,
        /// The other's.
        with: String,
    },
}

/// All trackers of a torrent in tiers, the first tier first.
pub fn tiers(options: &Options, metainfo: Option<&Metainfo>, link: Option<&str>) -> Vec<Vec<String>> {
    if let Some(tiers) = &options.tiers {
        return tiers.clone();
    }
    let mut tiers = metainfo.map_or_else(
        || magnet(link).map_or_else(Vec::new, |magnet| each_alone(&magnet.trackers)),
        |metainfo| metainfo.trackers.clone(),
    );
    for url in &options.trackers {
        if !tiers.iter().flatten().any(|known| known == url) {
            tiers.push(vec![url.clone()]);
        }
    }
    tiers
}

/// All web seeds of a torrent.
pub fn web_seeds(options: &Options, metainfo: Option<&Metainfo>, link: Option<&str>) -> Vec<String> {
    if let Some(all) = &options.all_web_seeds {
        return all.clone();
    }
    let mut all = metainfo.map_or_else(
        || magnet(link).map_or_else(Vec::new, |magnet| magnet.web_seeds),
        |metainfo| metainfo.web_seeds.clone(),
    );
    for url in &options.web_seeds {
        if !all.contains(url) {
            all.push(url.clone());
        }
    }
    all
}

fn magnet(link: Option<&str>) -> Option<Magnet> {
    link?.parse().ok()
}

fn each_alone(urls: &[String]) -> Vec<Vec<String>> {
    urls.iter().map(|url| vec![url.clone()]).collect()
}

/// Carries out what an edit says of trackers and web seeds beyond adding some.
///
/// # Errors
/// If something is to go that is not there, or there were too many.
pub fn edit(
    options: &mut Options,
    edit: &Edit,
    metainfo: Option<&Metainfo>,
    link: Option<&str>,
) -> Result<(), Refusal> {
    if edit.tiers.is_some() || !edit.tracker_edits.is_empty() {
        let mut all = edit.tiers.clone().unwrap_or_else(|| tiers(options, metainfo, link));
        edit.tracker_edits.iter().try_for_each(|one| change(&mut all, one))?;
        tidy(&mut all);
        if all.iter().map(Vec::len).sum::<usize>() > ADDRESSES_MAX {
            return Err(Refusal::Invalid(format!("trackers: at most {ADDRESSES_MAX}")));
        }
        options.trackers.clear();
        options.tiers = Some(all);
    }
    if !edit.web_seeds_removed.is_empty() {
        let mut all = web_seeds(options, metainfo, link);
        for url in &edit.web_seeds_removed {
            let at = all.iter().position(|known| known == url).ok_or_else(|| unknown("web seed", url))?;
            all.remove(at);
        }
        options.web_seeds.clear();
        options.all_web_seeds = Some(all);
    }
    Ok(())
}

fn unknown(what: &str, url: &str) -> Refusal {
    Refusal::Invalid(format!("{url}: the torrent has no such {what}"))
}

fn change(tiers: &mut Vec<Vec<String>>, edit: &TrackerEdit) -> Result<(), Refusal> {
    let find = |tiers: &mut [Vec<String>], url: &String| {
        let at = tiers.iter().enumerate().find_map(|(tier, urls)| {
            urls.iter().position(|known| known == url).map(|position| (tier, position))
        });
        at.ok_or_else(|| unknown("tracker", url))
    };
    match edit {
        TrackerEdit::Add { url, tier } => {
            for urls in tiers.iter_mut() {
                urls.retain(|known| known != url);
            }
            match tiers.get_mut(*tier) {
                Some(urls) => urls.push(url.clone()),
                None => tiers.push(vec![url.clone()]),
            }
        }
        TrackerEdit::Remove { url } => {
            let (tier, position) = find(tiers, url)?;
            tiers[tier].remove(position);
        }
        TrackerEdit::Replace { url, with } => {
            let (tier, position) = find(tiers, url)?;
            tiers[tier][position].clone_from(with);
        }
    }
    Ok(())
}

/// Each tracker once, in its first tier, and no tier without any.
fn tidy(tiers: &mut Vec<Vec<String>>) {
    let mut known = std::collections::BTreeSet::new();
    for urls in tiers.iter_mut() {
        urls.retain(|url| known.insert(url.clone()));
    }
    tiers.retain(|urls| !urls.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(added: &[&str]) -> Options {
        Options { trackers: added.iter().map(|url| (*url).to_owned()).collect(), ..Options::default() }
    }

    fn metainfo() -> Metainfo {
        let plain = b"d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let mut metainfo = Metainfo::parse(plain).unwrap();
        metainfo.trackers = vec![vec!["a".into(), "b".into()], vec!["c".into()]];
        metainfo.web_seeds = vec!["w".into(), "x".into()];
        metainfo
    }

    #[test]
    fn trackers_are_added_to_tiers_removed_and_replaced() {
        let metainfo = metainfo();
        let mut options = options(&["d"]);
        let mut apply = |edits: &[TrackerEdit]| {
            let edit = Edit { tracker_edits: edits.to_vec(), ..Edit::default() };
            super::edit(&mut options, &edit, Some(&metainfo), None)?;
            Ok::<_, Refusal>(tiers(&options, Some(&metainfo), None))
        };
        let add = |url: &str, tier| TrackerEdit::Add { url: url.into(), tier };
        let remove = |url: &str| TrackerEdit::Remove { url: url.into() };
        assert_eq!(
            apply(&[add("e", 1), add("f", 9), remove("a")]).unwrap(),
            [vec!["b"], vec!["c", "e"], vec!["d"], vec!["f"]]
        );
        assert!(apply(&[remove("a")]).is_err(), "it is gone");
        assert!(apply(&[remove("b"), remove("a")]).is_err());
        let replace = TrackerEdit::Replace { url: "b".into(), with: "f".into() };
        assert_eq!(apply(&[replace]).unwrap(), [vec!["f"], vec!["c", "e"], vec!["d"]]);
        assert_eq!(apply(&[remove("f")]).unwrap(), [vec!["c", "e"], vec!["d"]]);
    }

    #[test]
    fn web_seeds_of_the_metainfo_can_go() {
        let metainfo = metainfo();
        let mut options = Options { web_seeds: vec!["y".into()], ..Options::default() };
        let edit = Edit { web_seeds_removed: vec!["w".into()], ..Edit::default() };
        super::edit(&mut options, &edit, Some(&metainfo), None).unwrap();
        assert_eq!(web_seeds(&options, Some(&metainfo), None), ["x", "y"]);
        assert!(super::edit(&mut options, &edit, Some(&metainfo), None).is_err());
    }
}
