//! A proxy in front of a broker, that loses single requests or answers, and with them the connection.
//!
//! It knows of Kafka's protocol how messages are framed, what kind a request is of, and which answer belongs to it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Context as _;

/// Kafka's number for the request that ends a transaction.
pub const END_TXN: i16 = 26;

/// What is lost, before the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The request: the broker never sees it.
    Request,
    /// The answer: the broker has done what it was asked for.
    Answer,
}

/// A proxy. Its connections end when either side does.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    broker: String,
    /// What becomes of the next requests of a kind: the kind, what is lost, and how often.
    loss: Option<(i16, Lost, u32)>,
    /// How many requests or answers were lost so far.
    lost: u32,
}

impl Proxy {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When the system has none.
    pub fn new() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for a proxy")?;
        let proxy = Self { address: listener.local_addr()?, state: Arc::default() };
        let serving = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if let Err(error) = client.and_then(|client| serving.connect(client)) {
                    eprintln!("proxy: {error}");
                }
            }
        });
        Ok(proxy)
    }

    /// `host:port`, for brokers to advertise.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Passes connections on to the broker at this address.
    pub fn lead_to(&self, broker: &str) {
        self.state().broker = broker.to_owned();
    }

    /// From now on, loses something of the next `times` requests of this kind.
    pub fn lose(&self, kind: i16, lost: Lost, times: u32) {
        self.state().loss = Some((kind, lost, times));
    }

    /// Loses nothing any more; the answer is how much was lost in all.
    pub fn lose_nothing(&self) -> u32 {
        let mut state = self.state();
        state.loss = None;
        state.lost
    }

    /// What is lost of a request.
    fn loss(&self, request: &[u8]) -> Option<Lost> {
        let mut state = self.state();
        let (kind, lost, times) = state.loss.as_mut()?;
        if *times == 0 || number::<2>(request).map(i16::from_be_bytes) != Some(*kind) {
            return None;
        }
        *times -= 1;
        let lost = *lost;
        state.lost += 1;
        Some(lost)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, client: TcpStream) -> io::Result<()> {
        let broker = self.state().broker.clone();
        // Where nobody listens, the client sees its own connection end.
        let Ok(broker) = TcpStream::connect(broker) else { return Ok(()) };
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        // The answer to this request is lost.
        let doomed = Arc::new(Mutex::new(None));
        let requests = (client.try_clone()?, broker.try_clone()?, self.clone(), Arc::clone(&doomed));
        thread::spawn(move || {
            let (client, broker, proxy, doomed) = requests;
            end(
                &client,
                &broker,
                pass(&client, &broker, |request| match proxy.loss(request) {
                    None => true,
                    Some(Lost::Request) => false,
                    Some(Lost::Answer) => {
                        *doomed.lock().unwrap_or_else(PoisonError::into_inner) = request.get(4..).and_then(number::<4>);
                        true
                    }
                }),
            );
        });
        thread::spawn(move || {
            let doomed = || *doomed.lock().unwrap_or_else(PoisonError::into_inner);
            end(
                &client,
                &broker,
                pass(&broker, &client, |answer| number::<4>(answer).is_none_or(|id| Some(id) != doomed())),
            );
        });
        Ok(())
    }
}

/// The first bytes of a message.
fn number<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

/// Passes messages on, until one is not to be passed or a side ends.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut passes: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        from.read_exact(&mut message)?;
        if !passes(&message) {
            return Ok(());
        }
        to.write_all(&length)?;
        to.write_all(&message)?;
    }
}

fn end(client: &TcpStream, broker: &TcpStream, ended: io::Result<()>) {
    let expected =
        [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::NotConnected];
    if let Err(error) = ended
        && !expected.contains(&error.kind())
    {
        eprintln!("proxy: {error}");
    }
    for side in [client, broker] {
        // It may have ended already.
        drop(side.shutdown(Shutdown::Both));
    }
}
