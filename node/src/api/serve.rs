//! The sockets under REST.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::middleware::map_response;
use axum::response::Response;
use axum_server::Handle;
use axum_server::accept::{Accept, DefaultAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Api, routes};
use crate::security::tls::{self, TlsError};

/// Connections at once; who comes then waits until one ends.
const CONNECTIONS_MAX: usize = 1_024;
/// Time for the head of a request, and between two of one connection: who says nothing has no
/// claim to a connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);
/// Time for a handshake of TLS.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Time that requests have to end when the node ends.
const LAST_REQUESTS_TIME: Duration = Duration::from_secs(2);

/// Why REST is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken, or the address is another machine's.
    #[error("REST cannot be served at {at}: {error}; give another address with --http")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// REST that is being served; it ends when this is dropped.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    certificate: Option<RustlsConfig>,
}

impl Served {
    /// Where it is served.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is shown to whoever connects: replaced there, the next one sees it. None without TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<RustlsConfig> {
        self.certificate.clone()
    }

    /// Takes no new connections, and lets requests end.
    pub fn end(&self) {
        self.handle.graceful_shutdown(Some(LAST_REQUESTS_TIME));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// A socket for REST, before there is anything to serve: who asks waits.
///
/// # Errors
/// If it cannot be had.
pub fn listen(at: SocketAddr) -> Result<TcpListener, ServeError> {
    let error = |error| ServeError::Listen { at, error };
    let listener = TcpListener::bind(at).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    Ok(listener)
}

/// Serves REST on the runtime that this is called from; over TLS if there are files for it.
///
/// # Errors
/// If the socket or the certificate cannot be used.
pub fn serve(
    api: Api,
    listener: TcpListener,
    tls: Option<&tls::Files>,
) -> Result<Served, ServeError> {
    let address = listener.local_addr().map_err(|error| {
        let at = SocketAddr::from(([0, 0, 0, 0], 0));
        ServeError::Listen { at, error }
    })?;
    let failed = |error| ServeError::Listen { at: address, error };
    let warning = api.backend().here().warning.is_some();
    let router = with_warning(routes::router(api), warning);
    let handle = Handle::new();
    let bounded = Bounded::new(DefaultAcceptor::new());
    let certificate = match tls {
        None => {
            let mut server = axum_server::from_tcp(listener).map_err(failed)?.acceptor(bounded);
            bound_heads(server.http_builder());
            let served = server.handle(handle.clone()).serve(router.into_make_service());
            tokio::spawn(said(served));
            None
        }
        Some(files) => {
            let config = RustlsConfig::from_config(Arc::new(tls::server(files)?));
            let acceptor = RustlsAcceptor::new(config.clone())
                .handshake_timeout(HANDSHAKE_TIME_MAX)
                .acceptor(bounded);
            let mut server = axum_server::from_tcp(listener).map_err(failed)?.acceptor(acceptor);
            bound_heads(server.http_builder());
            let served = server.handle(handle.clone()).serve(router.into_make_service());
            tokio::spawn(said(served));
            Some(config)
        }
    };
    Ok(Served { address, handle, certificate })
}

async fn said(served: impl Future<Output = io::Result<()>>) {
    if let Err(error) = served.await {
        tracing::error!(target: "gear::api", "REST is not served any more: {error}");
    }
}

fn bound_heads(
    builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>,
) {
    let timer = hyper_util::rt::TokioTimer::new();
    builder.http1().timer(timer).header_read_timeout(HEAD_TIME_MAX);
}

/// Shows in every answer that the node takes everybody's word.
fn with_warning(router: Router, warning: bool) -> Router {
    if !warning {
        return router;
    }
    router.layer(map_response(|mut response: Response| async {
        let insecure = HeaderValue::from_static("insecure");
        response.headers_mut().insert("x-gear-warning", insecure);
        response
    }))
}

/// Lets in as many connections as there is room for.
#[derive(Clone, Debug)]
struct Bounded<A> {
    inner: A,
    room: Arc<Semaphore>,
}

impl<A> Bounded<A> {
    fn new(inner: A) -> Self {
        Self { inner, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl<I, S, A> Accept<I, S> for Bounded<A>
where
    A: Accept<I, S> + Clone + Send + 'static,
    A::Future: Send,
    A::Stream: Send,
    A::Service: Send,
    I: Send + 'static,
    S: Send + 'static,
{
    type Stream = Placed<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let (inner, room) = (self.inner.clone(), self.room.clone());
        Box::pin(async move {
            let place = room.acquire_owned().await.map_err(io::Error::other)?;
            let (inner, service) = inner.accept(stream, service).await?;
            Ok((Placed { inner, _place: place }, service))
        })
    }
}

/// A connection with its place, which is free when it ends.
#[derive(Debug)]
struct Placed<S> {
    inner: S,
    _place: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin> AsyncRead for Placed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Placed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
