//! A small S3 server in memory that does one thing wrong. It believes every signature.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not look at conditions.
    Overwrites,
    /// It refuses whatever has a condition.
    NotImplemented,
    /// It says once of each record of a commit log that somebody else is at it.
    Undecided,
    /// Of every third object that it creates it does not say so.
    LosesAnswers,
}

struct Server {
    fault: Fault,
    objects: BTreeMap<String, Vec<u8>>,
    /// What has been asked for once.
    asked: BTreeSet<String>,
    created: u32,
}

struct Request {
    method: String,
    path: String,
    query: String,
    is_conditional: bool,
    body: Vec<u8>,
}

/// Status and body; none for no answer at all.
type Answer = Option<(&'static str, Vec<u8>)>;

/// Serves until the process ends, and gives where: `http://host:port`.
pub(crate) fn serve(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it has one"));
    let (objects, asked) = Default::default();
    let server = Arc::new(Mutex::new(Server { fault, objects, asked, created: 0 }));
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            // A client that goes away in the middle is no failure.
            thread::spawn(move || drop(converse(&connection, &server)));
        }
    });
    endpoint
}

fn converse(connection: &TcpStream, server: &Mutex<Server>) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(connection), connection);
    while let Some(request) = read(&mut reader)? {
        let answer = server.lock().expect("no other has panicked").answer(request);
        let Some((status, body)) = answer else { return Ok(()) };
        let len = body.len();
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\nETag: \"1\"\r\n");
        head.push_str("Last-Modified: Sun, 29 Nov 2026 00:00:00 GMT\r\n\r\n");
        writer.write_all(&[head.as_bytes(), &body].concat())?;
    }
    Ok(())
}

/// The next request; none at the end of the connection.
fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (decode(path), decode(query));
    let (mut is_conditional, mut len) = (false, 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim_end().to_ascii_lowercase();
        match header.split_once(": ") {
            None => break,
            Some(("if-none-match", _)) => is_conditional = true,
            Some(("content-length", value)) => len = value.parse().unwrap_or(0),
            Some(_) => {}
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, query, is_conditional, body }))
}

/// What stands for itself after percent signs.
fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(2));
        decoded.push(u8::from_str_radix(digits, 16).unwrap_or(b'?').into());
        decoded.push_str(rest);
    }
    decoded
}

fn error(status: &'static str, code: &str) -> Answer {
    Some((status, format!("<Error><Code>{code}</Code></Error>").into_bytes()))
}

impl Server {
    fn answer(&mut self, request: Request) -> Answer {
        let Request { method, path, query, is_conditional, body } = request;
        match method.as_str() {
            "PUT" if is_conditional => self.create(path, body),
            "PUT" => {
                self.objects.insert(path, body);
                Some(("200 OK", Vec::new()))
            }
            "GET" if query.contains("list-type=2") => self.list(path.trim_end_matches('/'), &query),
            "GET" => match self.objects.get(&path) {
                Some(content) => Some(("200 OK", content.clone())),
                None => error("404 Not Found", "NoSuchKey"),
            },
            "DELETE" => {
                self.objects.remove(&path);
                Some(("204 No Content", Vec::new()))
            }
            _ => error("405 Method Not Allowed", "MethodNotAllowed"),
        }
    }

    fn create(&mut self, path: String, content: Vec<u8>) -> Answer {
        match self.fault {
            Fault::NotImplemented => return error("501 Not Implemented", "NotImplemented"),
            Fault::Undecided if path.contains("/log/") && self.asked.insert(path.clone()) => {
                return error("409 Conflict", "ConditionalRequestConflict");
            }
            Fault::Undecided | Fault::LosesAnswers if self.objects.contains_key(&path) => {
                return error("412 Precondition Failed", "PreconditionFailed");
            }
            Fault::Overwrites | Fault::Undecided | Fault::LosesAnswers => {}
        }
        self.objects.insert(path, content);
        self.created += 1;
        let is_lost = self.fault == Fault::LosesAnswers && self.created.is_multiple_of(3);
        (!is_lost).then(|| ("200 OK", Vec::new()))
    }

    fn list(&self, bucket: &str, query: &str) -> Answer {
        let prefix = query.split('&').find_map(|it| it.strip_prefix("prefix="));
        let prefix = prefix.unwrap_or_default();
        let mut text = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        for (path, content) in &self.objects {
            let key = path.strip_prefix(bucket).and_then(|it| it.strip_prefix('/'));
            let Some(key) = key.filter(|it| it.starts_with(prefix)) else { continue };
            let _ = write!(
                text,
                "<Contents><Key>{key}</Key><Size>{}</Size><ETag>\"1\"</ETag>\
                 <LastModified>2026-11-29T00:00:00.000Z</LastModified></Contents>",
                content.len()
            );
        }
        text.push_str("</ListBucketResult>");
        Some(("200 OK", text.into_bytes()))
    }
}
