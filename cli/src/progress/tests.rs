use super::*;
use crate::console::tests::Shared;
use tokio::time::sleep;

/// Columns of the line beside which a bar stands, the bar at its shortest.
fn line(parts: &[String], columns: usize) -> usize {
    BAR_COLUMNS_MIN + PERCENT_COLUMNS + fit(parts, beside(columns)).chars().count()
}

/// Figures as long as they get.
fn figures(is_complete: bool) -> Progress {
    let total = (1_000 << 30) - 1;
    Progress {
        bytes_total: total,
        bytes_verified: if is_complete { total } else { (1_000 << 20) - 1 },
        bytes_unverified: 1_001 << 10,
        rate_down: (1_000 << 20) - 1,
        rate_up: (1_000 << 20) - 1,
        bytes_down: total + 1,
        bytes_up: total / 2,
        peers: 200,
        seeds: 100,
        ..Progress::default()
    }
}

#[test]
fn what_stands_beside_a_bar_fits_80_columns_and_degrades_below() {
    let parts = amount(&figures(false));
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
    let parts = situation(&figures(true));
    let all = "200 peers (100 seeds)  up 1000.0 MiB/s  sent 500.0 GiB  ratio 0.50  received 1000 GiB";
    assert_eq!(parts.join("  "), all);
    assert_eq!(fit(&parts, 80), all.strip_suffix("  received 1000 GiB").unwrap());
    assert!(!situation(&figures(false)).join(" ").contains("ratio"));
    assert!(summary(&figures(true)).ends_with(all));
    assert_eq!(shared(0, 0, 0), ["sent 0 B", "received 0 B"]);
}

#[test]
fn a_full_disk_at_the_start_is_not_all_of_the_download() {
    let console = Console::new(Box::new(Shared::default()), Box::new(Shared::default()));
    let bar = TransferBar::new(&console);
    let share = || (bar.0.position(), bar.0.length());
    assert_eq!(share(), (0, Some(1)), "before anything is known");
    bar.checking("", 100, 100);
    bar.explain("", &Progress { bytes_total: 1_000, bytes_verified: 10, ..Progress::default() }, "disk full");
    assert_eq!(share(), (10, Some(1_000)));
    bar.explain("", &Progress::default(), "disk full");
    assert_eq!(share(), (0, Some(1)), "while the size is not known");
    assert_eq!(bar.0.message(), "disk full");
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
    assert_eq!(bar.show_until(work, &mut console).await, "done");
    let lines =
        "hashing 10 MiB of 100 MiB  1 MiB/s  1m30s left\nhashing 20 MiB of 100 MiB  1 MiB/s  1m20s left\n";
    assert_eq!((out.text(), err.text()), (String::new(), lines.to_owned()));
}
