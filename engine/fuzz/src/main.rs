//! A target under libFuzzer: the one that `SWARM_FUZZ` names. Its seeds are written to the folder that comes first.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;
use swarm_fuzz::{TARGETS, Target, target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("SWARM_FUZZ").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("SWARM_FUZZ is to be one of: {}", names.join(" "));
        std::process::exit(2);
    })
});

libfuzzer_sys::fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
        let corpus = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
        if let Some(corpus) = corpus.filter(|corpus| corpus.is_dir()) {
            for (seed, n) in (TARGET.seeds)().iter().zip(0..) {
                std::fs::write(corpus.join(format!("seed-{n}")), seed).expect("the corpus can be written to");
            }
        }
    },
    |input: &[u8]| (TARGET.run)(input)
);
