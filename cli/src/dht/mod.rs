//! `swarm dht`: a node of the DHT by itself, for others to join by, and queries to the DHT.

mod query;
mod search;

use self::query::Query;
use self::search::{Record, Search};
use crate::context::Context;
use crate::events::About;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::network::{parse_address, parse_bootstrap};
use crate::proxy::ProxyArgs;
use anyhow::{Context as _, Result};
use clap::{Args, ValueHint};
use std::future::{Future as _, pending, poll_fn};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;
use swarm_engine::LISTEN_PORT_FIRST;
use swarm_engine::dht::{Dht, PUBLIC_NODES, Saved};

/// How often `--save` writes, while the node runs.
const SAVE_INTERVAL: Duration = Duration::from_secs(300);

#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct DhtArgs {
    #[command(subcommand)]
    query: Option<Query>,

    /// Listen on this address and port; repeatable. Default: all interfaces, port 6881
    ///
    /// Several addresses of one family are a node each (BEP 45); the first sends the queries.
    #[arg(long, global = true, value_name = "ADDR:PORT", value_parser = parse_address)]
    listen: Vec<SocketAddr>,

    /// Bootstrap from this node; repeatable. Default: public nodes, unless --listen is loopback only
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = parse_bootstrap)]
    bootstrap: Vec<String>,

    /// Save the node's IDs and the addresses of known nodes in this file, and load them from it
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    save: Option<PathBuf>,

    #[command(flatten)]
    proxy: ProxyArgs,

    /// Print events as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  swarm dht --listen 0.0.0.0:6881 --save nodes.txt
  swarm seed release.meta . --dht-bootstrap dht.example:6881
  swarm dht get-peers HASH --bootstrap dht.example:6881

Without a command it runs as a bootstrap node until it is interrupted.";

/// Runs the node until it is interrupted, or has found what it was asked for.
pub async fn run(args: DhtArgs, cx: &mut Context) -> Result<Exit> {
    let result = serve(args, cx).await;
    cx.end(&About::default(), result)
}

async fn serve(args: DhtArgs, cx: &mut Context) -> Result<Exit> {
    let mut interrupt = Interrupt::install()?;
    let query = args.query.map(Query::request).transpose()?;
    let everywhere = [
        (Ipv4Addr::UNSPECIFIED, LISTEN_PORT_FIRST).into(),
        (Ipv6Addr::UNSPECIFIED, LISTEN_PORT_FIRST).into(),
    ];
    let listen = if args.listen.is_empty() { &everywhere[..] } else { &args.listen };
    let proxy = args.proxy.proxy()?;
    if proxy.is_some() && query.is_none() {
        let why =
            "a node for others is not reached through a proxy; ask it something, or give `--proxy none`";
        return Err(Failure::new(Exit::Usage, why).into());
    }
    let opened = match proxy {
        Some(proxy) => Dht::open_through(proxy).map(|dht| vec![dht]),
        None => Dht::open_all(listen, None, query.is_some()),
    };
    let dhts = opened.with_context(|| {
        let option = if args.listen.is_empty() { "" } else { "--listen: " };
        format!("{option}cannot open a socket for the DHT")
    })?;
    let [dht, others @ ..] = &dhts[..] else { unreachable!("there is at least one address") };
    let mut hosts = args.bootstrap.clone();
    if let Some(file) = &args.save {
        let saved = Saved::read(file).with_context(|| format!("--save: {}: cannot read", file.display()))?;
        dhts.iter().for_each(|dht| dht.resume(&saved));
        hosts.extend(saved.hosts());
    }
    let (addresses, ids): (Vec<SocketAddr>, _) =
        dhts.iter().flat_map(|dht| dht.saved().ids).map(|(addr, id)| (addr, id.to_string())).unzip();
    cx.record(&Record::Listening { addresses: &addresses, ids });
    addresses.iter().for_each(|addr| cx.console.note(&format!("listening on {addr}")));
    if hosts.is_empty() && !dht.is_local() {
        hosts.extend(PUBLIC_NODES.map(str::to_owned));
    }
    let is_service = query.is_none();
    let search = Search::new(query, cx);
    let result = tokio::select! {
        () = dht.run(|event| search.on_event(event)) => Ok(Exit::Done),
        result = search.ask(dht, &hosts) => result,
        () = run_all(others, &hosts) => Ok(Exit::Done),
        result = save_now_and_then(&dhts, args.save.as_deref()) => result,
        signal = interrupt.wait() => Ok(if is_service { signal.exit_of_service() } else { signal.exit() }),
    };
    if let Some(file) = &args.save {
        save(&dhts, file)?;
    }
    result
}

/// Runs nodes that nobody asks anything, for as long as it is polled.
async fn run_all(dhts: &[Dht], hosts: &[String]) {
    let mut running = Vec::new();
    for dht in dhts {
        running.push(Box::pin(async move { tokio::join!(dht.join(hosts), dht.run(|_| ())) }));
    }
    poll_fn(|cx| {
        for node in &mut running {
            let _ = node.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

async fn save_now_and_then(dhts: &[Dht], file: Option<&Path>) -> Result<Exit> {
    let Some(file) = file else { return pending().await };
    loop {
        tokio::time::sleep(SAVE_INTERVAL).await;
        save(dhts, file)?;
    }
}

fn save(dhts: &[Dht], file: &Path) -> Result<()> {
    Saved::of(dhts).write(file).map_err(|error| {
        let exit = Exit::of_write(&error);
        anyhow::Error::new(error)
            .context(Failure::new(exit, format!("--save: {}: cannot write", file.display())))
    })
}
