use super::*;
use crate::console::tests::Shared;
use swarm_core::torrent::Totals;
use swarm_engine::State;
use tokio::time::sleep;

/// Columns of the line beside which a bar stands, the bar at its shortest.
fn line(parts: &[String], columns: usize) -> usize {
    BAR_COLUMNS_MIN + PERCENT_COLUMNS + fit(parts, beside(columns)).chars().count()
}

/// Figures as long as they get.
fn stats(is_complete: bool) -> TorrentStats {
    let total = (1_000 << 30) - 1;
    let mut stats = TorrentStats::default();
    stats.state = State::Downloading;
    stats.bytes_total = total;
    stats.bytes_verified = if is_complete { total } else { (1_000 << 20) - 1 };
    stats.bytes_unverified = 1_001 << 10;
    stats.pieces = 1_000;
    stats.pieces_have = 1_000;
    stats.rate_down = (1_000 << 20) - 1;
    stats.rate_up = (1_000 << 20) - 1;
    stats.peers = 200;
    stats.seeds = 100;
    stats.totals = Totals { bytes_up: total / 2, bytes_down: total + 1, ..Totals::default() };
    stats
}

#[test]
fn what_stands_beside_a_bar_fits_80_columns_and_degrades_below() {
    let parts = amount(&stats(false));
    assert_eq!(fit(&parts, beside(80)), "1000.0 MiB of 1000.0 GiB  1000.0 MiB/s  17m02s left");
    assert_eq!(fit(&parts, beside(60)), "1000.0 MiB of 1000.0 GiB  1000.0 MiB/s");
    assert_eq!(fit(&parts, beside(50)), "1000.0 MiB of 1000.0 GiB");
    assert_eq!(fit(&parts, beside(20)), "");
    for columns in 18..200 {
        assert!(line(&parts, columns) <= columns);
    }
}

#[test]
fn a_seed_shows_what_it_has_sent_and_received() {
    let parts = situation(&stats(true));
    let all = "200 peers (100 seeds)  up 1000.0 MiB/s  sent 500.0 GiB  ratio 0.50  received 1000 GiB";
    assert_eq!(parts.join("  "), all);
    assert_eq!(fit(&parts, 80), all.strip_suffix("  received 1000 GiB").unwrap());
    assert!(!situation(&stats(false)).join(" ").contains("ratio"));
    assert!(summary(&stats(true)).ends_with(all));
    assert_eq!(shared(0, 0, 0), ["sent 0 B", "received 0 B"]);
}

#[tokio::test(start_paused = true)]
async fn work_without_a_bar_tells_a_line_now_and_then() {
    let (out, err) = (Shared::default(), Shared::default());
    let mut console = Console::new(Box::new(out.clone()), Box::new(err.clone()));
    let bar = WorkBar::new(&console, "hashing", 100 << 20);
    let work = async {
        for done in 1..=25 {
            sleep(Duration::from_secs(1)).await;
            bar.set(done << 20);
        }
        sleep(Duration::from_millis(1)).await;
        "done"
    };
    assert_eq!(bar.tell_until(work, &mut console).await, "done");
    let lines =
        "hashing 10 MiB of 100 MiB  1 MiB/s  1m30s left\nhashing 20 MiB of 100 MiB  1 MiB/s  1m20s left\n";
    assert_eq!((out.text(), err.text()), (String::new(), lines.to_owned()));
}
