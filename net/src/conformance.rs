//! What every transport has to do, as cases with two sides: one listens, one dials. They run over
//! the operating system's sockets and over simulated ones.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use gear_core::control::Address;
use gear_core::wire::frame::Framed;
use tokio::time::{sleep, timeout};

use crate::driver::{Connection, Listener, ReadHalf, Transport, WriteHalf};
use crate::halves::{self, FRAMES_MAX};

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// What is sent comes back.
    Echo,
    /// Many small pieces come whole and in order, wherever they are cut.
    Pieces,
    /// Both sides write at once, more than any buffer holds.
    BothWays,
    /// What was written before an end arrives, and then the end.
    Close,
    /// A side that goes without reading what came ends the connection for the other.
    Reset,
    /// Nobody listens: the dial is refused, and not only given up.
    Refused,
    /// One large write arrives whole.
    Large,
    /// So do frames that are written from where they are.
    Frames,
    /// A reader that takes its time gets everything.
    SlowReader,
    /// A writer that takes its time is waited for.
    SlowWriter,
    /// A side that has said that it writes no more still reads.
    HalfClosed,
    /// A writer that waits for a reader hears that the reader is gone.
    StuckWriter,
    /// Several connections to one listener do not mix, and one that says nothing holds none up.
    Several,
}

/// Every case.
pub const CASES: [Case; 13] = [
    Case::Echo,
    Case::Pieces,
    Case::BothWays,
    Case::Close,
    Case::Reset,
    Case::Refused,
    Case::Large,
    Case::Frames,
    Case::SlowReader,
    Case::SlowWriter,
    Case::HalfClosed,
    Case::StuckWriter,
    Case::Several,
];

/// Bytes of a large write: more than the buffers of a socket.
const LARGE: usize = 8 * 1_024 * 1_024;
/// Bytes that each side writes at once.
const BOTH: usize = 2 * 1_024 * 1_024;
/// Bytes of a writer that takes its time.
const TRICKLE: usize = 100;
/// Connections of [`Case::Several`].
const SEVERAL: u8 = 5;
/// Far more than any case takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The listening side of a case. For [`Case::Refused`] there is none.
///
/// # Errors
/// What was not as it has to be.
pub async fn listen<T: Transport>(case: Case, listener: &mut T::Listener) -> Result<(), String> {
    within(case, "the listening side", async {
        let mut connections = Vec::new();
        let count = if case == Case::Several { 1 + SEVERAL } else { 1 };
        for _ in 0..count {
            connections.push(listener.accept().await.map_err(|error| said("accept", &error))?);
        }
        match case {
            Case::Several => {
                let (mut silent, _write) = connections.remove(0);
                // The last first: none may depend on another.
                for (mut read, mut write) in connections.into_iter().rev() {
                    let name = get(&mut read, 1).await?;
                    put(&mut write, &[name[0]; 100]).await?;
                    ended(&mut read).await?;
                }
                ended(&mut silent).await
            }
            _ => listen_one::<T>(case, connections.remove(0)).await,
        }
    })
    .await
}

async fn listen_one<T: Transport>(
    case: Case,
    (mut read, mut write): Connection<T>,
) -> Result<(), String> {
    match case {
        Case::Echo | Case::Pieces => {
            let mut buffer = Vec::with_capacity(1_000);
            while some(&mut read, &mut buffer).await? > 0 {
                put(&mut write, &buffer).await?;
                buffer.clear();
            }
            end(&mut write).await
        }
        Case::BothWays => both(&mut read, &mut write, 1).await,
        Case::Close => {
            put(&mut write, b"the last words").await?;
            end(&mut write).await?;
            ended(&mut read).await
        }
        Case::Reset => {
            // A part is read, so that the rest has come too or is about to.
            get(&mut read, 10).await?;
            sleep(Duration::from_millis(200)).await;
            Ok(())
        }
        Case::Large | Case::Frames => {
            expect(&get(&mut read, LARGE).await?, &pattern(LARGE, 0))?;
            ended(&mut read).await
        }
        Case::SlowReader => {
            let expected = pattern(BOTH, 0);
            for part in expected.chunks(100_000) {
                sleep(Duration::from_millis(5)).await;
                expect(&get(&mut read, part.len()).await?, part)?;
            }
            ended(&mut read).await
        }
        Case::SlowWriter => {
            expect(&get(&mut read, TRICKLE).await?, &pattern(TRICKLE, 0))?;
            ended(&mut read).await
        }
        Case::HalfClosed => {
            ended(&mut read).await?;
            put(&mut write, &pattern(BOTH, 0)).await?;
            end(&mut write).await
        }
        Case::StuckWriter => {
            get(&mut read, 10).await?;
            sleep(Duration::from_millis(300)).await;
            Ok(())
        }
        Case::Refused | Case::Several => Err(format!("{case:?} has no such side")),
    }
}

/// The dialling side of a case. For [`Case::Refused`] the address is one where nobody listens, of
/// a machine that is there.
///
/// # Errors
/// What was not as it has to be.
pub async fn dial<T: Transport>(case: Case, transport: &T, to: &Address) -> Result<(), String> {
    within(case, "the dialling side", async {
        match case {
            Case::Refused => match transport.dial(to).await {
                Ok(_) => Err("somebody listens".into()),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
                Err(error) => Err(said("dial", &error)),
            },
            Case::Several => {
                let silent = connect(transport, to).await?;
                let mut connections = Vec::new();
                for _ in 0..SEVERAL {
                    connections.push(connect(transport, to).await?);
                }
                for (name, (_, write)) in (0..).zip(&mut connections) {
                    put(write, &[name]).await?;
                }
                for (name, (mut read, write)) in (0..SEVERAL).zip(connections).rev() {
                    expect(&get(&mut read, 100).await?, &[name; 100])?;
                    drop((read, write));
                }
                drop(silent);
                Ok(())
            }
            _ => dial_one::<T>(case, connect(transport, to).await?).await,
        }
    })
    .await
}

async fn connect<T: Transport>(transport: &T, to: &Address) -> Result<Connection<T>, String> {
    transport.dial(to).await.map_err(|error| said("dial", &error))
}

async fn dial_one<T: Transport>(
    case: Case,
    (mut read, mut write): Connection<T>,
) -> Result<(), String> {
    match case {
        Case::Echo => {
            for round in 0..20_u8 {
                let text = pattern(usize::from(round) * 50 + 1, round);
                put(&mut write, &text).await?;
                expect(&get(&mut read, text.len()).await?, &text)?;
            }
            end(&mut write).await?;
            ended(&mut read).await
        }
        Case::Pieces => {
            let text = pattern(50_000, 7);
            let mut rest = text.as_slice();
            let mut len = 1;
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(len.min(rest.len()));
                put(&mut write, piece).await?;
                rest = behind;
                len = len % 1_000 + 37;
            }
            end(&mut write).await?;
            expect(&get(&mut read, text.len()).await?, &text)?;
            ended(&mut read).await
        }
        Case::BothWays => both(&mut read, &mut write, 2).await,
        Case::Close => {
            expect(&get(&mut read, 14).await?, b"the last words")?;
            ended(&mut read).await
        }
        Case::Reset => {
            put(&mut write, &pattern(100_000, 0)).await?;
            // However the end is told: it has to be told.
            match halves::read(&mut read, &mut Vec::with_capacity(16)).await {
                Ok(0) | Err(_) => {}
                Ok(_) => return Err("something came from who sends nothing".into()),
            }
            for _ in 0..100 {
                if put(&mut write, &[0; 100]).await.is_err() {
                    return Ok(());
                }
                sleep(Duration::from_millis(20)).await;
            }
            Err("writes to who is gone go on and on".into())
        }
        Case::Large => {
            put(&mut write, &pattern(LARGE, 0)).await?;
            end(&mut write).await?;
            ended(&mut read).await
        }
        Case::Frames => {
            let mut spare = Vec::new();
            for frames in frames(&pattern(LARGE, 0)).chunks(FRAMES_MAX) {
                halves::write_frames(&mut write, frames, &mut spare)
                    .await
                    .map_err(|error| said("write", &error))?;
            }
            end(&mut write).await?;
            ended(&mut read).await
        }
        Case::SlowReader => {
            put(&mut write, &pattern(BOTH, 0)).await?;
            end(&mut write).await?;
            ended(&mut read).await
        }
        Case::SlowWriter => {
            for byte in pattern(TRICKLE, 0) {
                put(&mut write, &[byte]).await?;
                sleep(Duration::from_millis(1)).await;
            }
            end(&mut write).await?;
            ended(&mut read).await
        }
        Case::HalfClosed => {
            end(&mut write).await?;
            expect(&get(&mut read, BOTH).await?, &pattern(BOTH, 0))?;
            ended(&mut read).await
        }
        Case::StuckWriter => {
            for _ in 0..500 {
                if put(&mut write, &[0; 100_000]).await.is_err() {
                    return Ok(());
                }
                sleep(Duration::from_millis(2)).await;
            }
            Err("writes to who is gone go on and on".into())
        }
        Case::Refused | Case::Several => Err(format!("{case:?} has no such side")),
    }
}

/// Writes while it reads as much.
async fn both<R, W>(read: &mut R, write: &mut W, salt: u8) -> Result<(), String>
where
    R: ReadHalf,
    W: WriteHalf,
{
    let ours = pattern(BOTH, salt);
    let writing = async {
        put(write, &ours).await?;
        end(write).await
    };
    let reading = async {
        expect(&get(read, BOTH).await?, &pattern(BOTH, 3 - salt))?;
        ended(read).await
    };
    let (mut written, mut read) = (None, None);
    tokio::pin!(writing, reading);
    while written.is_none() || read.is_none() {
        tokio::select! {
            biased;
            result = &mut writing, if written.is_none() => written = Some(result),
            result = &mut reading, if read.is_none() => read = Some(result),
        }
    }
    written.into_iter().chain(read).collect()
}

async fn put<W: WriteHalf>(write: &mut W, bytes: &[u8]) -> Result<(), String> {
    let mut buffer = bytes.to_vec();
    halves::write_all(write, &mut buffer).await.map_err(|error| said("write", &error))?;
    if buffer == bytes { Ok(()) } else { Err("a write does not give the buffer back".into()) }
}

/// These bytes as if they were frames of several lengths, one without a payload among them.
fn frames(mut bytes: &[u8]) -> Vec<Framed> {
    let mut frames = Vec::new();
    for payload in [50_000, 0, 1, 200_000].into_iter().cycle() {
        let Some((head, rest)) = bytes.split_first_chunk() else { break };
        let (payload, rest) = rest.split_at(rest.len().min(payload));
        frames.push(Framed { head: *head, payload: Arc::new(payload.to_vec()) });
        bytes = rest;
    }
    // What is left is too short for a header.
    let last = frames.last_mut().map(|frame| Arc::make_mut(&mut frame.payload));
    last.into_iter().for_each(|payload| payload.extend_from_slice(bytes));
    frames
}

async fn end<W: WriteHalf>(write: &mut W) -> Result<(), String> {
    halves::shutdown(write).await.map_err(|error| said("shutdown", &error))
}

async fn some<R: ReadHalf>(read: &mut R, buffer: &mut Vec<u8>) -> Result<usize, String> {
    let (before, room) = (buffer.len(), buffer.capacity());
    let count = halves::read(read, buffer).await.map_err(|error| said("read", &error))?;
    match before + count == buffer.len() && buffer.capacity() == room {
        true => Ok(count),
        false => Err(format!("{count} bytes came, and the buffer has {}", buffer.len())),
    }
}

async fn get<R: ReadHalf>(read: &mut R, len: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        if some(read, &mut bytes).await? == 0 {
            return Err(format!("the end came after {} of {len} bytes", bytes.len()));
        }
    }
    Ok(bytes)
}

async fn ended<R: ReadHalf>(read: &mut R) -> Result<(), String> {
    match halves::read(read, &mut Vec::with_capacity(16)).await {
        Ok(0) => Ok(()),
        Ok(_) => Err("more came than was sent".into()),
        Err(error) => Err(said("read of the end", &error)),
    }
}

fn expect(found: &[u8], expected: &[u8]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let place = found.iter().zip(expected).position(|(one, other)| one != other);
    Err(format!("{} bytes came, and byte {place:?} is another", found.len()))
}

/// Bytes that show where a piece is lost, doubled or misplaced.
fn pattern(len: usize, salt: u8) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(31) >> 3) as u8 ^ at as u8 ^ salt;
    (0..len).map(byte).collect()
}

fn said(what: &str, error: &std::io::Error) -> String {
    format!("{what}: {error}")
}

async fn within(
    case: Case,
    side: &str,
    doing: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let result = timeout(PATIENCE, doing).await;
    let result = result.unwrap_or_else(|_| Err("it does not come to an end".into()));
    result.map_err(|error| format!("{case:?}, {side}: {error}"))
}
