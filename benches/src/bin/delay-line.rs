//! A wire that takes its time, for systems without netem: `delay-line MS NAMESPACE:DEVICE NAMESPACE:DEVICE`.
//!
//! It makes a TAP device in each of two network namespaces; what goes into one comes out of the other so many milliseconds later, both
//! ways. The devices are Ethernet's: they have queues (`tbf`), take part in bridges, and vanish with this process. It needs root. Once
//! they are there it says `ready`. What waits longer than it should for want of processor time leaves late, but is not lost.

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> anyhow::Result<()> {
    anyhow::bail!("only Linux has network namespaces")
}

#[cfg(target_os = "linux")]
mod linux {
    use anyhow::{Context, bail};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::collections::VecDeque;
    use std::fs::{File, OpenOptions};
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::fs::OpenOptionsExt;
    use std::time::{Duration, Instant};

    /// The longest frame: as long as what `ip link set mtu` allows.
    const FRAME_LEN_MAX: usize = 1 << 16;
    /// More frames than these on the wire are lost.
    const FRAMES_MAX: usize = 100_000;
    /// Of one device, so many frames are taken before the other has its turn.
    const FRAMES_IN_A_ROW: usize = 64;

    pub(super) fn main() -> anyhow::Result<()> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let [delay, one, other] = args.as_slice() else {
            bail!("usage: delay-line MS NAMESPACE:DEVICE NAMESPACE:DEVICE");
        };
        let delay =
            Duration::try_from_secs_f64(delay.parse::<f64>().context("MS")? / 1000.0).context("MS")?;
        let devices = [open(one)?, open(other)?];
        println!("ready");
        carry(&devices, delay)
    }

    /// Makes a TAP device in a network namespace.
    fn open(place: &str) -> anyhow::Result<File> {
        let (namespace, device) = place.split_once(':').context("a device is NAMESPACE:DEVICE")?;
        let handle = File::open(format!("/run/netns/{namespace}")).context(namespace.to_owned())?;
        move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
            .context(namespace.to_owned())?;
        let mut options = OpenOptions::new();
        let tap = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        // SAFETY: `ifreq` is plain data, for which zeros are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if device.len() >= request.ifr_name.len() {
            bail!("{device}: a device's name has at most {} bytes", request.ifr_name.len() - 1);
        }
        for (to, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
            *to = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes an `ifreq`, which this is, and the descriptor is open.
        let done = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
        if done != 0 {
            return Err(std::io::Error::last_os_error()).context(place.to_owned());
        }
        Ok(tap)
    }

    /// What is on its way in one direction, and when it arrives.
    #[derive(Default)]
    struct Way {
        frames: VecDeque<(Instant, Vec<u8>)>,
        /// Memory of frames that have arrived.
        spare: Vec<Vec<u8>>,
    }

    impl Way {
        /// Takes what the device has sent.
        fn take(&mut self, from: &File, delay: Duration, buffer: &mut [u8]) -> anyhow::Result<()> {
            for _ in 0..FRAMES_IN_A_ROW {
                let len = match rustix::io::read(from, &mut *buffer) {
                    Ok(len) => len,
                    Err(Errno::AGAIN | Errno::INTR) => break,
                    Err(error) => return Err(error).context("reading from a device"),
                };
                if self.frames.len() < FRAMES_MAX {
                    let mut frame = self.spare.pop().unwrap_or_default();
                    frame.clear();
                    frame.extend_from_slice(&buffer[..len]);
                    self.frames.push_back((Instant::now() + delay, frame));
                }
            }
            Ok(())
        }

        /// Hands on what has arrived.
        fn hand_on(&mut self, to: &File) {
            let now = Instant::now();
            while self.frames.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, frame)) = self.frames.pop_front() else { return };
                // A device that is down takes nothing.
                let _ = rustix::io::write(to, &frame);
                self.spare.push(frame);
            }
        }
    }

    fn carry(devices: &[File; 2], delay: Duration) -> anyhow::Result<()> {
        let mut ways = [Way::default(), Way::default()];
        let mut buffer = vec![0; FRAME_LEN_MAX];
        loop {
            let next = ways.iter().filter_map(|way| way.frames.front()).map(|(at, _)| *at).min();
            let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = timeout
                .map(|wait| Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos() as _ });
            let mut ready = devices.each_ref().map(|device| PollFd::new(device, PollFlags::IN));
            match poll(&mut ready, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for the devices"),
            }
            for (from, way) in ways.iter_mut().enumerate() {
                way.take(&devices[from], delay, &mut buffer)?;
                way.hand_on(&devices[1 - from]);
            }
        }
    }
}
