//! A client of REST, for the command line and for the other nodes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Code, HOP_HEADER, Problem};
use crate::security::tls::{self, TlsError};

/// Time until a connection has to be there.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Time until an answer has to be there, whole: longer than a node takes for any, savepoints and
/// transfers excepted.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// Time for a transfer: the largest binary over a slow line.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(3_600);
/// Bytes of an answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a cluster did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no cluster is reachable at {at}: {reason}")]
    Unreachable {
        /// Where.
        at: String,
        /// What was seen.
        reason: String,
    },
    /// It has answered why not.
    #[error("{0}")]
    Problem(Problem),
    /// Something else than a cluster has answered.
    #[error("{at} does not answer as a cluster does ({reason}): is it the REST address of a node?")]
    Protocol {
        /// Where.
        at: String,
        /// What was seen.
        reason: String,
    },
    /// What came cannot be kept.
    #[error("{0}")]
    Taken(String),
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
}

/// A token, which is never shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Connections that clients share.
#[derive(Clone, Debug)]
pub struct Http {
    inner: reqwest::Client,
    tls: bool,
}

impl Http {
    /// Over TLS if there are authorities to trust, else in the clear.
    ///
    /// # Errors
    /// If the authorities' certificates cannot be used.
    pub fn new(authority: Option<&Path>) -> Result<Self, TlsError> {
        let inner = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client(authority)?)
            .connect_timeout(CONNECT_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("gear-node/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("its settings are constants but for the authorities, which were read");
        Ok(Self { inner, tls: authority.is_some() })
    }

    /// A client of the node that serves REST at `HOST:PORT`, with a scheme in front or without.
    #[must_use]
    pub fn at(&self, at: &str, token: Option<Token>) -> Client {
        let scheme = if self.tls { "https" } else { "http" };
        let base = match at.split_once("://") {
            Some(_) => at.trim_end_matches('/').to_owned(),
            None => format!("{scheme}://{at}"),
        };
        let http = self.inner.clone();
        Client { http, at: at.into(), base, token, hops: false, within: None, key: None }
    }
}

/// Asks a node.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    at: String,
    base: String,
    token: Option<Token>,
    hops: bool,
    within: Option<Duration>,
    key: Option<String>,
}

impl Client {
    /// Says that it asks in somebody's place.
    #[must_use]
    pub fn hopping(self) -> Self {
        Self { hops: true, ..self }
    }

    /// Waits this long for an answer.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        Self { within: Some(time), ..self }
    }

    /// Names what is asked for: however often it is asked, it is done once.
    #[must_use]
    pub fn keyed(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Where it asks.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.at
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(Token(token)) = &self.token {
            request = request.bearer_auth(token);
        }
        if self.hops {
            request = request.header(HOP_HEADER, "1");
        }
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        request.timeout(self.within.unwrap_or(ANSWER_TIME_MAX))
    }

    /// Gets something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// Has something done.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// Replaces something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::PUT, path).json(body)).await
    }

    /// Removes something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::DELETE, path)).await
    }

    /// Whether something is there.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn has(&self, path: &str) -> Result<bool, ClientError> {
        let response = self.send(self.request(Method::HEAD, path)).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(self.refused(response).await),
        }
    }

    /// Sends a file; `sent` is told of all bytes as they are read.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send_file<T: DeserializeOwned>(
        &self,
        path: &str,
        file: &Path,
        mut sent: impl FnMut(u64) + Send + Sync + 'static,
    ) -> Result<T, ClientError> {
        let failed = |error| ClientError::File { path: file.into(), error };
        let opened = tokio::fs::File::open(file).await.map_err(failed)?;
        let length = opened.metadata().await.map_err(failed)?.len();
        let chunks = tokio_util::io::ReaderStream::with_capacity(opened, 256 * 1024);
        let chunks = chunks.inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                sent(chunk.len() as u64);
            }
        });
        let body = reqwest::Body::wrap_stream(chunks);
        let request = self.request(Method::PUT, path).timeout(TRANSFER_TIME_MAX);
        self.json(request.header(reqwest::header::CONTENT_LENGTH, length).body(body)).await
    }

    /// Gets bytes, and hands them over as they come; gives how many came.
    ///
    /// # Errors
    /// See [`ClientError`]; what `take` says is [`ClientError::Taken`].
    pub async fn receive(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), String> + Send,
    ) -> Result<u64, ClientError> {
        let request = self.request(Method::GET, path).timeout(TRANSFER_TIME_MAX);
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let mut chunks = response.bytes_stream();
        let mut count = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.unreachable(&error))?;
            take(&chunk).map_err(ClientError::Taken)?;
            count += chunk.len() as u64;
        }
        Ok(count)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let bytes = self.read(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.strange(error.to_string()))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    async fn read(&self, response: Response) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| self.unreachable(&error))?);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(self.strange("the answer does not end".into()));
            }
        }
        Ok(bytes)
    }

    async fn refused(&self, response: Response) -> ClientError {
        let status = response.status();
        let bytes = match self.read(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match serde_json::from_slice(&bytes) {
            Ok(problem) => ClientError::Problem(problem),
            Err(_) => self.strange(format!("status {status}")),
        }
    }

    fn strange(&self, reason: String) -> ClientError {
        ClientError::Protocol { at: self.at.clone(), reason }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        // The causes say what happened; the outermost only that something did.
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let reason = if error.is_timeout() {
            "it does not answer in time".to_owned()
        } else if error.is_builder() {
            format!("it is no address: {cause}")
        } else {
            cause.to_string()
        };
        ClientError::Unreachable { at: self.at.clone(), reason }
    }
}

/// The code of what a cluster refused; none if it was not the cluster that did.
#[must_use]
pub fn code(error: &ClientError) -> Option<Code> {
    match error {
        ClientError::Problem(problem) => Some(problem.code),
        _ => None,
    }
}
