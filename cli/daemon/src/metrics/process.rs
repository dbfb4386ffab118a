//! What the system says of this process, under the names that all exporters use.

use prometheus_client::registry::Registry;

/// Registers what can be had; on systems other than Linux that is nothing.
pub(super) fn register(registry: &mut Registry) {
    #[cfg(target_os = "linux")]
    linux::register(registry);
    #[cfg(not(target_os = "linux"))]
    let _ = registry;
}

#[cfg(target_os = "linux")]
mod linux {
    use super::super::gauge;
    use prometheus_client::metrics::counter::ConstCounter;
    use prometheus_client::registry::{Registry, Unit};
    use rustix::process::{Resource, getrlimit};

    /// The unit of times in `/proc`, the same on every Linux that this runs on.
    const TICKS_PER_SECOND: f64 = 100.0;

    pub(super) fn register(registry: &mut Registry) {
        let read = |path| std::fs::read_to_string(path).ok();
        if let Some(ticks) = read("/proc/self/stat").and_then(|stat| cpu_ticks(&stat)) {
            registry.register_with_unit(
                "cpu",
                "Time of processors, for itself and for the system on its behalf",
                Unit::Seconds,
                ConstCounter::new(ticks as f64 / TICKS_PER_SECOND),
            );
        }
        if let Some(bytes) = read("/proc/self/status").and_then(|status| resident_bytes(&status)) {
            registry.register_with_unit(
                "resident_memory",
                "Memory that is resident",
                Unit::Bytes,
                gauge(bytes as i64),
            );
        }
        if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
            // But for the one that reads them.
            registry.register("open_fds", "Open file descriptors", gauge(fds.count() as i64 - 1));
        }
        if let Some(max) = getrlimit(Resource::Nofile).current {
            registry.register("max_fds", "How many file descriptors there may be", gauge(max as i64));
        }
    }

    /// Of `/proc/self/stat`.
    fn cpu_ticks(stat: &str) -> Option<u64> {
        // The name of the program stands in brackets, and may hold spaces and brackets too.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut times = rest.split_ascii_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
        times.next()?.checked_add(times.next()?)
    }

    /// Of `/proc/self/status`.
    fn resident_bytes(status: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_name_with_spaces_and_brackets_moves_no_field() {
            let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 0 0 20 0 5 0 99 1000000 250 184 1";
            assert_eq!(cpu_ticks(stat), Some(42));
            assert_eq!((cpu_ticks("7 (a) S 1"), cpu_ticks("")), (None, None));
        }

        #[test]
        fn memory_is_in_bytes() {
            let status = "Name:\tswarm\nVmHWM:\t   90 kB\nVmRSS:\t   40 kB\nRssAnon:\t 10 kB\n";
            assert_eq!(resident_bytes(status), Some(40 * 1024));
            assert_eq!(resident_bytes("VmRSS:\t x kB"), None);
        }
    }
}
