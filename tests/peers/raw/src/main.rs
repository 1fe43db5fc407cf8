//! What loopback TCP carries, plain or encrypted, of the records that engines are given: filled at
//! one end and looked at at the other, in two processes, and nothing else.
//!
//! `peer-raw tcp|tls` tries several sizes of a write and reports the windows of the best; `peer-raw
//! latency` sends records as soon as they are due. The process that is started sends, and starts
//! one that receives.

mod tls;

use std::error::Error;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::{env, io};

use peer_work::{Latency, Pace, RECORD_BYTES, Throughput, stamp};

/// The sizes of a write in KiB: which is best depends on the machine's caches.
const WRITE_KIB: [usize; 5] = [48, 64, 96, 128, 256];

/// What a socket is read into where single records are sent.
const READ_BYTES: usize = 64 << 10;

type Fallible<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Fallible {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["tcp"] => best("tcp"),
        ["tls"] => best("tls"),
        ["latency"] => {
            print!("{}", pair("latency", RECORD_BYTES)?);
            Ok(())
        }
        ["receive", what, bytes] => receive(what, bytes.parse()?),
        _ => Err("usage: peer-raw tcp|tls|latency".into()),
    }
}

/// Measures with every size of a write and reports the best.
fn best(what: &str) -> Fallible {
    let mut best = (0.0, String::new());
    for kib in WRITE_KIB {
        let text = pair(what, (kib << 10) / RECORD_BYTES * RECORD_BYTES)?;
        let values = text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok());
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = *values.get(values.len() / 2).ok_or("the receiver measured nothing")?;
        eprintln!("{what}: writes of {kib} KiB: {middle} M records/s");
        if middle > best.0 {
            best = (middle, text);
        }
    }
    print!("{}", best.1);
    Ok(())
}

/// Sends to a receiver of its own until that has measured enough; what it measured.
fn pair(what: &str, bytes: usize) -> Fallible<String> {
    let mut receiver = Command::new(env::current_exe()?)
        .args(["receive", what, &bytes.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(receiver.stdout.take().ok_or("its output is a pipe")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let (port, certificate) = line.trim_end().split_once(' ').ok_or("it says where it listens")?;
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse()?))?;
    socket.set_nodelay(true)?;
    let sent = match what {
        "tcp" => send(&mut socket, bytes),
        "tls" => send(&mut tls::connect(socket, certificate)?, bytes),
        _ => send_paced(&mut socket),
    };
    // The receiver leaves when it has measured enough.
    if let Err(error) = sent
        && !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
    {
        return Err(error.into());
    }
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    if !receiver.wait()?.success() {
        return Err("the receiver failed".into());
    }
    Ok(text)
}

fn send(to: &mut impl Write, bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0x5a; bytes];
    let filling = [0x5a; RECORD_BYTES];
    let mut number = 0;
    loop {
        for record in buffer.chunks_exact_mut(RECORD_BYTES) {
            record.copy_from_slice(&filling);
            stamp(record, number, 0);
            number += 1;
        }
        to.write_all(&buffer)?;
    }
}

/// Sends what is due in one call, so that a sender that was late catches up.
fn send_paced(to: &mut impl Write) -> io::Result<()> {
    let mut pace = Pace::default();
    let mut buffer = Vec::new();
    loop {
        let mut due = Some(pace.wait());
        while let Some((number, intended)) = due {
            let mut record = [0x5a; RECORD_BYTES];
            stamp(&mut record, number, intended);
            buffer.extend_from_slice(&record);
            due = pace.due();
        }
        to.write_all(&buffer)?;
        buffer.clear();
    }
}

fn receive(what: &str, bytes: usize) -> Fallible {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    if what == "tls" {
        let server = tls::Server::new()?;
        println!("{port} {}", server.certificate());
        count(&mut server.accept(listener.accept()?.0)?, bytes)?;
        return Ok(());
    }
    println!("{port} -");
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    if what == "latency" {
        time(&mut socket)?
    } else {
        count(&mut socket, bytes)?
    }
    Ok(())
}

/// Reads what is written at once as one piece, so that it is looked at while the cache has it.
fn count(from: &mut impl Read, bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; bytes];
    let mut throughput = Throughput::new("pair");
    loop {
        from.read_exact(&mut buffer)?;
        for record in buffer.chunks_exact(RECORD_BYTES) {
            throughput.take(record);
        }
    }
}

fn time(from: &mut impl Read) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    let mut latency = Latency::new();
    loop {
        let came = from.read(&mut buffer[filled..])?;
        if came == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        filled += came;
        let whole = filled / RECORD_BYTES * RECORD_BYTES;
        for record in buffer[..whole].chunks_exact(RECORD_BYTES) {
            latency.take(record);
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}
