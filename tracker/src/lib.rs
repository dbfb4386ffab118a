//! A BitTorrent tracker: introduces the peers of a swarm to each other over HTTP (BEP 3, 7, 23, 24, 48)
//! and UDP (BEP 15, 41).
//!
//! [`store::Store`] is who is in which swarm, without sockets or a clock. [`Server`] puts it on the network,
//! and shares the swarms with other trackers in a [`SharedStore`]. The binary `swarm-tracker` is a thin shell
//! around both; other programs embed a server:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), swarm_tracker::BindError> {
//! use swarm_tracker::{Config, Server};
//!
//! let server = Server::bind(Config::default(), &["127.0.0.1:0".parse().unwrap()])?;
//! let tracker = server.spawn();
//! println!("http://{}/announce", tracker.local_addrs()[0]);
//! tracker.stop().await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod allow;
mod clock;
mod config;
#[doc(hidden)]
pub mod process;
mod rate_limit;
mod remote;
mod server;
mod state;
pub mod store;
mod tls;

pub use allow::{AllowList, AllowListError};
pub use clock::{Clock, SystemClock};
pub use config::{Config, Limits, Source};
pub use remote::{SharedStore, SharedStoreError, SharedStoreStats};
pub use server::{BindError, Handle, Server, Stats};
pub use state::StateError;
pub use tls::{Tls, TlsError};
