//! One connection's task: it waits for whatever comes first, and lets the torrent read and write.

use super::reader::Reader;
use super::transport::Stream;
use crate::clock::Clock;
use std::rc::Rc;
use swarm_core::time::Time;
use tokio::io::Interest;
use tokio::sync::Notify;

/// The torrent that a connection belongs to.
pub(crate) trait Owner {
    fn clock(&self) -> Clock;

    /// Reads as long as it is this connection's turn. The error says why the connection ends.
    fn read(&mut self, reader: &mut Reader, stream: &mut Stream) -> Result<ReadWait, String>;

    /// Writes as long as it is this connection's turn. The error says why the connection ends.
    fn write(&mut self, stream: &mut Stream) -> Result<WriteWait, String>;

    /// Waits until there may be memory for blocks.
    async fn memory_freed(&self);
}

/// What reading must wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadWait {
    /// Nothing: there may be more. It is somebody else's turn.
    Nothing,
    /// The socket.
    Socket,
    /// Memory for blocks.
    Memory,
    /// The rate limit, until then or until the task is woken.
    Until(Time),
    /// The peer must read first. The task is woken when it has.
    Peer,
}

/// What writing must wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteWait {
    /// Nothing: there is more. It is somebody else's turn.
    Nothing,
    /// Something to write. The task is woken when there is.
    Idle,
    /// The socket. If it still takes nothing at this time, the connection ends.
    Socket(Time),
    /// The rate limit lets the next block pass then.
    Until(Time),
}

/// Serves a connection until it ends; says why it did. `wake` makes it look again.
pub(crate) async fn run(mut owner: impl Owner, mut stream: Stream, wake: Rc<Notify>) -> String {
    let clock = owner.clock();
    let mut reader = Reader::default();
    let mut reading = ReadWait::Socket;
    loop {
        let writing = match owner.write(&mut stream) {
            Ok(writing) => writing,
            Err(why) => return why,
        };
        let interest = match (reading, writing) {
            (ReadWait::Socket, WriteWait::Socket(_)) => Some(Interest::READABLE | Interest::WRITABLE),
            (ReadWait::Socket, _) => Some(Interest::READABLE),
            (_, WriteWait::Socket(_)) => Some(Interest::WRITABLE),
            _ => None,
        };
        let write_at = match writing {
            WriteWait::Until(time) | WriteWait::Socket(time) => Some(clock.instant(time)),
            WriteWait::Nothing | WriteWait::Idle => None,
        };
        let read_at = match reading {
            ReadWait::Until(time) => Some(clock.instant(time)),
            _ => None,
        };
        let more = reading == ReadWait::Nothing || writing == WriteWait::Nothing;
        tokio::select! {
            () = wake.notified() => {
                if matches!(reading, ReadWait::Until(_) | ReadWait::Peer) {
                    reading = ReadWait::Nothing;
                }
            }
            ready = stream.ready(interest) => match ready {
                Ok(ready) if ready.is_readable() => reading = ReadWait::Nothing,
                Ok(_) => {}
                Err(error) => return error.to_string(),
            },
            () = owner.memory_freed(), if reading == ReadWait::Memory => {}
            () = sleep_until(read_at), if read_at.is_some() => reading = ReadWait::Nothing,
            () = sleep_until(write_at), if write_at.is_some() => {}
            () = tokio::task::yield_now(), if more => {}
        }
        // Whatever woke this task, memory may have come free at the same time, which wakes it only once.
        if matches!(reading, ReadWait::Nothing | ReadWait::Memory) {
            reading = match owner.read(&mut reader, &mut stream) {
                Ok(reading) => reading,
                Err(why) => return why,
            };
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    /// Reads once, then not before the peer has read, which it does at once.
    struct Backed {
        reads: u32,
        wake: Rc<Notify>,
    }

    impl Owner for Backed {
        fn clock(&self) -> Clock {
            Clock::start()
        }

        fn read(&mut self, _: &mut Reader, _: &mut Stream) -> Result<ReadWait, String> {
            self.reads += 1;
            if self.reads == 1 { Ok(ReadWait::Peer) } else { Err("read again".to_owned()) }
        }

        fn write(&mut self, _: &mut Stream) -> Result<WriteWait, String> {
            if self.reads == 1 {
                self.wake.notify_one();
            }
            Ok(WriteWait::Idle)
        }

        async fn memory_freed(&self) {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_backed_up_peer_is_read_from_again_when_the_task_is_woken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, addr) = listener.accept().await.unwrap();
        far.write_all(b"x").await.unwrap();
        let wake = Rc::new(Notify::new());
        let owner = Backed { reads: 0, wake: Rc::clone(&wake) };
        assert_eq!(run(owner, Stream::accepted_tcp(near, addr).unwrap(), wake).await, "read again");
    }
}
