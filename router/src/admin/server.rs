//! The door itself: its listener, its thread, and its bounds.
//!
//! It has a thread and a runtime of its own, and gives orders to workers without waiting for them there: whatever is done to it,
//! neither lanes nor signals wait.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time;

/// What clients may take of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at a time; others wait until one of them ends. Each has one request at a time.
    pub(super) connections: usize,
    /// From the start of a connection, or the end of an answer, to the end of the next request's headers.
    pub(super) headers_within: Duration,
    /// Bytes of a request's headers.
    pub(super) header_bytes: usize,
    /// How long a connection may be used: no new request is taken on it then.
    pub(super) lifetime: Duration,
    /// How long what is under way then may take to end, reading its answer included.
    pub(super) ends_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 128,
            headers_within: Duration::from_secs(5),
            header_bytes: 16 << 10,
            lifetime: Duration::from_mins(10),
            ends_within: Duration::from_mins(6),
        }
    }
}

/// The system has no more connections to give: it is asked again a little later.
const OUT_OF_CONNECTIONS: Duration = Duration::from_millis(200);

/// Threads for what blocks: more than are used at a time, which [`Hands`](super::work::Hands) bounds.
const BLOCKING_THREADS: usize = 16;

/// The door can't be opened.
#[derive(Debug, Error)]
#[error("can't open the admin door at {address}: {error}; {}", remedy(.error))]
pub struct DoorError {
    /// Where.
    pub address: SocketAddr,
    /// What the system says.
    pub error: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there, or another router: stop it, or choose another port in `[admin] listen`"
        }
        _ => "choose another address or port in `[admin] listen`, or go without the door",
    }
}

/// A door that listens, and does not answer yet.
pub struct Door {
    listener: StdListener,
    address: SocketAddr,
}

impl Door {
    /// Listens at an address.
    ///
    /// # Errors
    /// [`DoorError`].
    pub fn open(address: SocketAddr) -> Result<Self, DoorError> {
        let opened = StdListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = opened.map_err(|error| DoorError { address, error })?;
        Ok(Self { listener, address })
    }

    /// Where it listens: with the port that the system chose, where it was to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers, on a thread of its own, until the answer to this is dropped.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn serve(self, router: Router, bounds: Bounds) -> io::Result<Serving> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("admin-work")
            .build()?;
        let (shut, told) = oneshot::channel::<()>();
        let answer = move || {
            runtime.block_on(async {
                tokio::select! {
                    ended = accept(self.listener, router, bounds) => {
                        if let Err(error) = ended {
                            tracing::error!(address = %self.address, %error, "the admin door has shut");
                        }
                    }
                    // To be dropped is to be told, too.
                    _ = told => {}
                }
            });
            // What blocks is not waited for.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("admin".to_owned()).spawn(answer)?;
        Ok(Serving { _shut: shut })
    }
}

/// A door that answers, until this is dropped.
pub struct Serving {
    _shut: oneshot::Sender<()>,
}

async fn accept(listener: StdListener, router: Router, bounds: Bounds) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let connections = Arc::new(Semaphore::new(bounds.connections));
    loop {
        // Those that come meanwhile wait in the system's queue, whose length is bounded.
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else {
            time::sleep(OUT_OF_CONNECTIONS).await;
            continue;
        };
        let router = router.clone();
        tokio::spawn(async move {
            talk(stream, router, bounds).await;
            drop(permit);
        });
    }
}

/// One connection, to its end. What goes wrong on it is its client's affair.
async fn talk(stream: TcpStream, router: Router, bounds: Bounds) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.headers_within)
        .max_buf_size(bounds.header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if time::timeout(bounds.lifetime, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = time::timeout(bounds.ends_within, connection).await;
    }
}
