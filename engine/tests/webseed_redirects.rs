//! Web seeds that lead elsewhere: where to is kept for each file, for as long as it serves.

mod common;

use common::origin::{Answer, Asked, Origin};
use common::web::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use swarm_engine::{Event, WebSeedFault, WebSeedPenalty};

#[tokio::test]
async fn a_redirect_is_kept_for_its_file() {
    let web = Web::of(&[("a.bin", 3_000_000), ("b.bin", 3_000_000)], PIECE);
    let mirror = Origin::of(web.files.clone()).await;
    let to = mirror.url("");
    let origin = Origin::with(web.files.clone(), move |asked, _| {
        Answer::new(302, "").header("location", format!("{to}{}", asked.path))
    })
    .await;
    web.whole_from(&origin).await;
    // Some requests are sent to each file before its first redirect is known.
    let (redirected, served) = (origin.asked().len(), mirror.asked().len());
    assert!(redirected < served && redirected <= 18, "{redirected} redirects for {served} requests");
}

/// A server that leads to a mirror until that has failed, and then to another one: its faults. If there are several files, another web seed
/// has all but the first, and soon nothing to do.
async fn led_elsewhere_after(
    files: &[(&str, usize)],
    bad: impl Fn(&Asked, &[u8]) -> Answer + Send + Sync + 'static,
) -> Vec<WebSeedFault> {
    let web = Web::of(files, PIECE);
    let mut others = web.files.clone();
    others.remove("/data/a.bin");
    let others = Origin::of(others).await;
    let has_failed = Arc::new(AtomicBool::new(false));
    let (fails, good) = (Arc::clone(&has_failed), Origin::of(web.files.clone()).await);
    let first = AtomicBool::new(true);
    let mirror = Origin::with(web.files.clone(), move |asked, files| {
        let file = &files[&asked.path];
        // So its place is kept.
        if first.swap(false, Ordering::SeqCst) {
            return Answer::part(asked, file);
        }
        fails.store(true, Ordering::SeqCst);
        bad(asked, file)
    })
    .await;
    let mirrors = [mirror.url(""), good.url("")];
    let origin = Origin::with(web.files.clone(), move |asked, _| {
        let to = &mirrors[usize::from(has_failed.load(Ordering::SeqCst))];
        Answer::new(302, "").header("location", format!("{to}{}", asked.path))
    })
    .await;
    let urls = [origin.url("/"), others.url("/")];
    let torrent = web.start(&urls[..files.len().min(2)]).await;
    let (mut events, mut told) = (torrent.events(), Vec::new());
    loop {
        match events.next().await.expect("the torrent goes on") {
            Event::WebSeedFault { url, fault, .. } if url == origin.url("/") => told.push(fault),
            Event::Completed => break,
            _ => {}
        }
    }
    web.check();
    told
}

#[tokio::test]
async fn a_mirror_that_answers_5xx_is_left_at_once_if_the_server_leads_elsewhere() {
    let told = led_elsewhere_after(ONE, |_, _| Answer::new(503, "")).await;
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test]
async fn a_mirror_that_breaks_off_is_left_after_the_pause_if_the_server_leads_elsewhere() {
    let cut = |asked: &Asked, file: &[u8]| {
        let answer = Answer::part(asked, file);
        let half = answer.body.len() / 2;
        answer.cut_to(half)
    };
    let told = led_elsewhere_after(ONE, cut).await;
    assert!(!told.is_empty() && told.len() <= 4, "{told:?}");
    assert!(told.iter().all(|fault| *fault == WebSeedFault::TooLittle), "{told:?}");
}

/// What says nothing is given up sooner while another web seed has nothing to do.
#[tokio::test]
async fn a_mirror_that_hangs_is_left_after_the_pause_if_the_server_leads_elsewhere() {
    let two = [("a.bin", 100 * PIECE as usize), ("b.bin", 50 * PIECE as usize)];
    let told = led_elsewhere_after(&two, |_, _| Answer { silent: true, ..Answer::new(200, "") }).await;
    assert!(!told.is_empty() && told.len() <= 4, "{told:?}");
    assert!(told.iter().all(|fault| matches!(fault, WebSeedFault::Silent { .. })), "{told:?}");
}

#[tokio::test]
async fn redirects_without_end_cost_the_file() {
    let around = |asked: &Asked, _: &[u8]| Some(Answer::new(302, "").header("location", &asked.path));
    let (file, fault, penalty) = first_fault(ONE, around).await;
    assert!(file.is_some() && matches!(fault, WebSeedFault::Redirect(_)), "{fault}");
    assert!(matches!(penalty, WebSeedPenalty::FilePaused(_)));
}

#[tokio::test]
async fn a_redirect_to_a_url_that_is_too_long_costs_the_file() {
    let long = |asked: &Asked, _: &[u8]| {
        Some(Answer::new(302, "").header("location", format!("{}?{}", asked.path, "x".repeat(4_096))))
    };
    let (file, fault, penalty) = first_fault(ONE, long).await;
    assert!(file.is_some() && fault.to_string().contains("4096"), "{fault}");
    assert!(matches!(penalty, WebSeedPenalty::FilePaused(_)));
}
