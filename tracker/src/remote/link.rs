//! The connection to the store: a single one, on which announces go in batches, and several batches at a
//! time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError};
use swarm_core::tracker::ScrapeStats;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::State;
use super::commands::{Announce, Answers, Refused, Scrape, Told};

/// How long the store may take for a batch, and for a connection.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// Pauses between attempts to connect, which double.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often we look how the store is when nothing else goes there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const BATCH_MAX: usize = 256;
const BATCHES_MAX: usize = 2;
/// After these a connection is no longer of use: another one may lead to a store that takes announces.
const LOST: [&str; 4] = ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH"];

/// Adds commands, told the store's time in seconds.
type MakeCommands = Box<dyn FnOnce(u64, &mut Pipeline) + Send>;

/// What is asked of the store. Who asks is told by its absence that there is no answer.
pub(super) enum Job {
    Announce(Box<Announce>, oneshot::Sender<Result<Told, Refused>>),
    Scrape(Vec<Scrape>, oneshot::Sender<Result<Vec<ScrapeStats>, Refused>>),
    /// Makes commands that need the store's clock.
    Commands(MakeCommands, oneshot::Sender<Result<(), Refused>>),
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub reason: String,
    /// It is there and does not let us in: waiting does not help.
    pub refused: bool,
}

/// An open connection, and when the store's clock said what.
pub(super) struct Link {
    connection: MultiplexedConnection,
    clock: StoreClock,
}

/// The store's clock, as of a moment on ours.
#[derive(Clone, Copy)]
struct StoreClock {
    at: Instant,
    unix_s: u64,
}

impl StoreClock {
    fn now_s(self) -> u64 {
        self.unix_s + self.at.elapsed().as_secs()
    }
}

impl Link {
    /// Connects, and tries whether we may do what we have to.
    pub async fn open(client: &Client, state: &State) -> Result<Link, Failed> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIME_LIMIT))
            .set_response_timeout(Some(TIME_LIMIT))
            .set_pipeline_buffer_size(2 * BATCHES_MAX);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let connection = match timeout(2 * TIME_LIMIT, connecting).await {
            Ok(connected) => connected.map_err(|error| failed(&error))?,
            Err(_) => return Err(Failed { reason: "it does not answer".into(), refused: false }),
        };
        let clock = look(connection.clone(), state).await?;
        let mut commands = Pipeline::new();
        let (announces, scrape) = super::trial();
        announces.iter().for_each(|announce| announce.ask(clock.now_s(), &mut commands));
        scrape.ask(clock.now_s(), &mut commands);
        super::commands::try_to_set(&mut commands);
        match send(connection.clone(), commands).await?.all_well() {
            // It is full or cannot write for now, which is told as soon as somebody announces.
            Err(refused) if refused.code != "OOM" && refused.code != "MISCONF" => Err(turned_away(&refused)),
            _ => Ok(Link { connection, clock }),
        }
    }

    /// Takes jobs until the connection is lost; why it was.
    pub async fn serve(mut self, jobs: &mut mpsc::Receiver<Job>, state: &Arc<State>) -> Failed {
        let mut waiting = Vec::new();
        let mut batches = FuturesUnordered::new();
        let mut looks = FuturesUnordered::new();
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                count = jobs.recv_many(&mut waiting, BATCH_MAX), if batches.len() < BATCHES_MAX => {
                    if count == 0 {
                        return Failed { reason: "the tracker ends".into(), refused: false };
                    }
                    let batch = std::mem::replace(&mut waiting, Vec::with_capacity(BATCH_MAX));
                    batches.push(serve_batch(self.connection.clone(), batch, self.clock.now_s(), state));
                }
                Some(served) = batches.next() => {
                    if let Err(failed) = served {
                        return failed;
                    }
                }
                _ = every.tick(), if looks.is_empty() => looks.push(look(self.connection.clone(), state)),
                Some(looked) = looks.next() => match looked {
                    Ok(clock) => self.clock = clock,
                    Err(failed) => return failed,
                },
            }
        }
    }
}

/// What the store's clock says; takes note of how many keys it has.
async fn look(connection: MultiplexedConnection, state: &State) -> Result<StoreClock, Failed> {
    let mut commands = Pipeline::new();
    commands.cmd("TIME").cmd("DBSIZE");
    let mut answers = send(connection, commands).await?;
    let read = |answers: &mut Answers| Ok((answers.time()?, answers.number()?));
    let (unix_s, keys) = read(&mut answers).map_err(|refused: Refused| turned_away(&refused))?;
    state.note_keys(keys);
    Ok(StoreClock { at: Instant::now(), unix_s })
}

async fn send(mut connection: MultiplexedConnection, commands: Pipeline) -> Result<Answers, Failed> {
    match timeout(TIME_LIMIT, connection.send_packed_commands(&commands, 0, commands.len())).await {
        Ok(Ok(answers)) => Ok(Answers::new(answers)),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(Failed { reason: "it does not answer".into(), refused: false }),
    }
}

async fn serve_batch(
    connection: MultiplexedConnection,
    jobs: Vec<Job>,
    now_s: u64,
    state: &State,
) -> Result<(), Failed> {
    let mut commands = Pipeline::with_capacity(10 * jobs.len());
    let mut asked = Vec::with_capacity(jobs.len());
    for job in jobs {
        let before = commands.len();
        let wait = match job {
            Job::Announce(announce, reply) => {
                announce.ask(now_s, &mut commands);
                Wait::Announce(announce, reply)
            }
            Job::Scrape(scrapes, reply) => {
                scrapes.iter().for_each(|scrape| scrape.ask(now_s, &mut commands));
                Wait::Scrape(scrapes, reply)
            }
            Job::Commands(make, reply) => {
                make(now_s, &mut commands);
                Wait::Commands(reply)
            }
        };
        asked.push((wait, commands.len() - before));
    }
    let mut answers =
        if commands.is_empty() { Answers::new(Vec::new()) } else { send(connection, commands).await? };
    let mut lost = None;
    for (wait, count) in asked {
        if let Err(refused) = wait.answer(now_s, answers.take(count)) {
            state.note_refused(&with_mend(&refused));
            if is_lost(&refused) {
                lost = Some(Failed { reason: refused.message, refused: false });
            }
        } else {
            state.note_taken();
        }
    }
    lost.map_or(Ok(()), Err)
}

/// Who waits for answers.
enum Wait {
    Announce(Box<Announce>, oneshot::Sender<Result<Told, Refused>>),
    Scrape(Vec<Scrape>, oneshot::Sender<Result<Vec<ScrapeStats>, Refused>>),
    Commands(oneshot::Sender<Result<(), Refused>>),
}

impl Wait {
    /// Passes the answers on to who may have given up waiting.
    fn answer(self, now_s: u64, mut answers: Answers) -> Result<(), Refused> {
        fn pass<T>(
            reply: oneshot::Sender<Result<T, Refused>>,
            answer: Result<T, Refused>,
        ) -> Result<(), Refused> {
            let refused = answer.as_ref().err().cloned();
            let _ = reply.send(answer);
            refused.map_or(Ok(()), Err)
        }
        match self {
            Wait::Announce(announce, reply) => pass(reply, announce.answer(now_s, &mut answers)),
            Wait::Scrape(scrapes, reply) => {
                pass(reply, scrapes.iter().map(|scrape| scrape.answer(&mut answers)).collect())
            }
            Wait::Commands(reply) => pass(reply, answers.all_well()),
        }
    }
}

/// Keeps a connection open for as long as somebody may ask, and says when it is lost and back.
pub(super) async fn keep(
    client: Client,
    mut link: Option<Link>,
    mut jobs: mpsc::Receiver<Job>,
    state: Arc<State>,
) {
    loop {
        if let Some(open) = link.take() {
            state.note_up();
            let failed = open.serve(&mut jobs, &state).await;
            if jobs.is_closed() {
                return;
            }
            state.note_down(&failed.reason);
        }
        let mut pause = PAUSE;
        while link.is_none() {
            let wait = pause;
            pause = (2 * pause).min(PAUSE_MAX);
            let attempt = async {
                tokio::time::sleep(wait).await;
                Link::open(&client, &state).await
            };
            tokio::pin!(attempt);
            let opened = loop {
                tokio::select! {
                    opened = &mut attempt => break opened,
                    // Who asks meanwhile is told at once that there is no answer.
                    job = jobs.recv() => if job.is_none() { return },
                }
            };
            match opened {
                Ok(open) => link = Some(open),
                Err(failed) => state.note_still_down(&failed),
            }
        }
    }
}

fn is_lost(refused: &Refused) -> bool {
    LOST.contains(&refused.code.as_str())
}

/// It does not let us do what we have to, or is not ready yet.
fn turned_away(refused: &Refused) -> Failed {
    Failed { reason: with_mend(refused), refused: !is_lost(refused) || refused.code == "NOAUTH" }
}

fn failed(error: &RedisError) -> Failed {
    if error.kind() == redis::ErrorKind::AuthenticationFailed || error.code() == Some("WRONGPASS") {
        return Failed { reason: "wrong user or password".into(), refused: true };
    }
    // Of an untrusted certificate no more than the text is left.
    let is_untrusted = error.is_io_error() && error.to_string().contains("certificate");
    let refused =
        is_untrusted || !error.is_io_error() && !error.code().is_some_and(|code| LOST.contains(&code));
    let reason =
        if error.is_timeout() { "it does not answer".into() } else { error.to_string().replace('\n', " ") };
    Failed { reason, refused }
}

/// What the store says, and what helps.
fn with_mend(refused: &Refused) -> String {
    let mend = match refused.code.as_str() {
        "OOM" => "it is full; give it more memory (maxmemory) or lower --max-swarms and --max-peers",
        "NOPERM" => "its ACL has to let us use its keys and commands; docs/tracker.md has the line",
        "NOAUTH" => "put a user and a password into the URL",
        "MISCONF" => "it cannot write to its disk",
        "MOVED" | "CROSSSLOT" => "a node of a cluster cannot be used",
        _ => return refused.message.clone(),
    };
    format!("{}; {mend}", refused.message.trim_end_matches('.'))
}
