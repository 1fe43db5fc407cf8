//! A few lines of HTTP, for what the tests ask of nodes without a library in between.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a node answers: the status and the body.
///
/// # Errors
/// If it does not answer.
pub fn ask(at: SocketAddr, method: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nhost: {at}\r\ncontent-type: application/json\r\n\
         content-length: 2\r\n\r\n{{}}"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let wrong = || Error::new(ErrorKind::InvalidData, "this is no HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or_else(wrong)?;
    Ok((status, body.to_owned()))
}

/// What a node shows at a path; none if it does not.
#[must_use]
pub fn get(at: SocketAddr, path: &str) -> Option<Value> {
    let (status, body) = ask(at, "GET", path).ok()?;
    (status == 200).then(|| serde_json::from_str(&body).ok()).flatten()
}

/// The sum of a metric of a node over all its labels; 0 if it has none.
///
/// # Panics
/// If the node does not answer.
#[must_use]
pub fn metric(at: SocketAddr, name: &str) -> f64 {
    let (status, text) = ask(at, "GET", "/metrics").expect("the node answers");
    assert_eq!(status, 200, "{text}");
    let value = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let is_it = series.split('{').next() == Some(name);
        is_it.then(|| value.parse::<f64>().ok()).flatten()
    };
    text.lines().filter_map(value).sum()
}
