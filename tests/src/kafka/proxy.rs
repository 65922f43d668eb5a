//! Proxies in front of brokers, that lose single requests or answers, with their connections or in silence, and make answers wait;
//! or hold back a request that ends a transaction, until the same writer is in the middle of the next; or make a member of a group
//! believe that it still is one.
//!
//! It knows of Kafka's protocol how messages are framed, what kind a request is of, which answer belongs to it, and whose
//! transaction a request is about.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::wait;

/// Kafka's number for the request that writes records.
pub const PRODUCE: i16 = 0;
/// For the one that says how far a group has come.
pub const OFFSET_COMMIT: i16 = 8;
/// For the one by which a member of a group says that it is alive.
const HEARTBEAT: i16 = 12;
/// For the one that opens a writer of transactions, and ends what another has left.
pub const INIT_PRODUCER_ID: i16 = 22;
/// For the one that begins a transaction, by what it is going to write to.
pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
/// For the one that says whose offsets belong to a transaction.
pub const ADD_OFFSETS_TO_TXN: i16 = 25;
/// For the one that ends a transaction.
pub const END_TXN: i16 = 26;
/// For the one that adds offsets to a transaction.
pub const TXN_OFFSET_COMMIT: i16 = 28;

/// What is lost. The connection is cut then, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The request: the broker never sees it.
    Request,
    /// The answer: the broker has done what it was asked for.
    Answer,
    /// The request, while the connection stays: nobody is told.
    RequestInSilence,
    /// The answer, likewise.
    AnswerInSilence,
}

/// A proxy. Its connections end when either side does.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    broker: Arc<Mutex<String>>,
    /// Of all that are [beside](Proxy::beside) each other.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// How long each answer waits.
    delay: Duration,
    /// What becomes of the next requests of a kind: the kind, what is lost, and how often.
    loss: Option<(i16, Lost, u32)>,
    /// How many requests or answers were lost so far.
    lost: u32,
    /// How many of the next requests that end transactions are held back.
    to_hold: u32,
    /// Those that are, by the writer.
    held: Vec<(Vec<u8>, Sender<()>)>,
    /// The error codes that they were answered with.
    late: Vec<i16>,
    /// Which member is to believe that it still is one.
    deceived: Deceived,
}

/// Whose heartbeats do not come to the broker, and are answered as if they did.
#[derive(Debug, Default)]
enum Deceived {
    #[default]
    Nobody,
    /// The member that the next one is of.
    Next,
    Member(Vec<u8>),
}

/// What is watched for in the answers of one connection.
#[derive(Debug, Default)]
struct Watched {
    /// The answer to this request is lost.
    doomed: Option<([u8; 4], Lost)>,
    /// The answer to this request says that a transaction has begun: of this writer.
    begun: Option<([u8; 4], Vec<u8>)>,
    /// This one was late.
    late: Option<[u8; 4]>,
    /// The answer to this one is to say that all is well.
    forged: Option<[u8; 4]>,
}

/// What becomes of a request.
enum Way {
    On,
    /// It is lost, and the connection ends.
    Lost,
    /// It is lost.
    Nowhere,
    /// It goes on when this comes; to the client the connection ends.
    Later(Receiver<()>),
}

impl Proxy {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When the system has none.
    pub fn new() -> anyhow::Result<Self> {
        Self::with(Arc::default())
    }

    /// Another one, for another broker: what is to be lost of either's requests is lost once.
    ///
    /// # Errors
    /// When the system has no port.
    pub fn beside(&self) -> anyhow::Result<Self> {
        Self::with(Arc::clone(&self.state))
    }

    fn with(state: Arc<Mutex<State>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for a proxy")?;
        let proxy = Self { address: listener.local_addr()?, broker: Arc::default(), state };
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
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = broker.to_owned();
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

    /// From now on, each answer waits so long before it is passed on.
    pub fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// From now on, holds back the next `times` requests that end transactions, each until a next transaction of its writer has
    /// begun: the client sees its connection end, and knows nothing of the end.
    pub fn hold_ends(&self, times: u32) {
        self.state().to_hold = times;
    }

    /// Holds nothing back any more; the answer is with which error codes the requests were answered that were held back.
    pub fn hold_nothing(&self) -> Vec<i16> {
        let mut state = self.state();
        state.to_hold = 0;
        state.held.clear();
        state.late.clone()
    }

    /// From now on, the member of a group whose heartbeat is the next believes that it still is one, while the broker hears nothing of
    /// it: as if the answers had been on their way for as long.
    pub fn deceive_one(&self) {
        self.state().deceived = Deceived::Next;
    }

    /// Deceives nobody any more.
    pub fn deceive_nobody(&self) {
        self.state().deceived = Deceived::Nobody;
    }

    /// What is to be done with a request.
    fn way(&self, request: &mut [u8], watched: &Mutex<Watched>) -> Way {
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        let id = request.get(4..).and_then(number::<4>);
        if self.deceives(request) {
            watched.forged = id;
        }
        match self.loss(request) {
            None => {}
            Some(Lost::Request) => return Way::Lost,
            Some(Lost::RequestInSilence) => return Way::Nowhere,
            Some(lost @ (Lost::Answer | Lost::AnswerInSilence)) => watched.doomed = id.map(|id| (id, lost)),
        }
        let kind = number::<2>(request).map(i16::from_be_bytes);
        let (Some(ADD_PARTITIONS_TO_TXN | END_TXN), Some(id), Some(writer)) = (kind, id, writer(request)) else {
            return Way::On;
        };
        let mut state = self.state();
        if kind == Some(ADD_PARTITIONS_TO_TXN) {
            watched.begun = Some((id, writer.to_vec()));
        } else if state.to_hold > 0 && !state.held.iter().any(|(other, _)| other == writer) {
            state.to_hold -= 1;
            let (begun, later) = mpsc::channel();
            state.held.push((writer.to_vec(), begun));
            watched.late = Some(id);
            return Way::Later(later);
        }
        Way::On
    }

    /// Whether a request is a heartbeat of the member that is deceived. It then is about a member that nobody knows: the broker refuses it,
    /// and so answers in its turn.
    fn deceives(&self, request: &mut [u8]) -> bool {
        let mut state = self.state();
        if matches!(state.deceived, Deceived::Nobody) || number::<2>(request).map(i16::from_be_bytes) != Some(HEARTBEAT)
        {
            return false;
        }
        let Some(member) = member(request) else { return false };
        let named = &mut request[member];
        if matches!(state.deceived, Deceived::Next) {
            state.deceived = Deceived::Member(named.to_vec());
        }
        let is_deceived = matches!(&state.deceived, Deceived::Member(member) if member == named);
        if is_deceived {
            named.fill(b'-');
        }
        is_deceived
    }

    /// What becomes of an answer.
    fn passes(&self, answer: &mut [u8], watched: &Mutex<Watched>) -> Passes {
        let delay = self.state().delay;
        if !delay.is_zero() {
            wait::pass(delay);
        }
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        let id = number::<4>(answer);
        if let Some((_, writer)) = watched.begun.take_if(|(begun, _)| Some(*begun) == id) {
            let mut state = self.state();
            // Whoever waits for it hears of it when its sender is dropped, too; then it is not sent.
            for (_, begun) in state.held.extract_if(.., |(held, _)| *held == writer) {
                _ = begun.send(());
            }
        }
        if watched.late.is_some() && watched.late == id {
            // The time that the client is to wait, and the code.
            self.state().late.extend(answer.get(8..).and_then(number::<2>).map(i16::from_be_bytes));
        }
        if watched.forged.take_if(|forged| Some(*forged) == id).is_some() {
            answer[4..].fill(0);
        }
        match watched.doomed.take_if(|(doomed, _)| Some(*doomed) == id) {
            None => Passes::On,
            Some((_, Lost::AnswerInSilence)) => Passes::Nowhere,
            Some(_) => Passes::Ends,
        }
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
        let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Where nobody listens, the client sees its own connection end.
        let Ok(broker) = TcpStream::connect(broker) else { return Ok(()) };
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let watched = Arc::new(Mutex::new(Watched::default()));
        let requests = (client.try_clone()?, broker.try_clone()?, self.clone(), Arc::clone(&watched));
        thread::spawn(move || {
            let (client, broker, proxy, watched) = requests;
            let mut is_late = false;
            let ended = pass(&client, &broker, |request| match proxy.way(request, &watched) {
                Way::On => Passes::On,
                Way::Lost => Passes::Ends,
                Way::Nowhere => Passes::Nowhere,
                Way::Later(begun) => {
                    drop(client.shutdown(Shutdown::Both));
                    let goes_on = begun.recv().is_ok();
                    is_late = goes_on;
                    if goes_on { Passes::On } else { Passes::Ends }
                }
            });
            // What is late is the last, and the answer to it ends the connection.
            if !is_late {
                end(&client, &broker, ended);
            }
        });
        let proxy = self.clone();
        thread::spawn(move || {
            end(&client, &broker, pass(&broker, &client, |answer| proxy.passes(answer, &watched)));
        });
        Ok(())
    }
}

/// Whose transaction a request is about, of those that name the writer first: all but the newest versions, which begin in
/// another way.
fn writer(request: &[u8]) -> Option<&[u8]> {
    request.get(text(request, body(request)?)?)
}

/// Where a heartbeat says whose it is: behind the group and its generation.
fn member(heartbeat: &[u8]) -> Option<Range<usize>> {
    text(heartbeat, text(heartbeat, body(heartbeat)?)?.end + 4)
}

/// Where a request begins, behind its kind, version and number, and the name of the client.
fn body(request: &[u8]) -> Option<usize> {
    Some(text(request, 8)?.end)
}

/// Where the text is that is at this place, behind its length; one that is null is empty.
fn text(request: &[u8], at: usize) -> Option<Range<usize>> {
    let length = i16::from_be_bytes(number::<2>(request.get(at..)?)?);
    let range = at + 2..at + 2 + usize::try_from(length).unwrap_or(0);
    (range.end <= request.len()).then_some(range)
}

/// The first bytes of a message.
fn number<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

/// What becomes of a message.
enum Passes {
    On,
    Nowhere,
    /// Nowhere, and no other after it.
    Ends,
}

/// Passes messages on, until one ends it or a side does.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut passes: impl FnMut(&mut [u8]) -> Passes) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        from.read_exact(&mut message)?;
        match passes(&mut message) {
            Passes::On => {}
            Passes::Nowhere => continue,
            Passes::Ends => return Ok(()),
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
