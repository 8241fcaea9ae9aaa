//! HTTP/1 or HTTP/2 on a listener, with limits on what one client can hold: connections, headers, and time.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

/// Most header lines of a request: browsers and proxies send a few dozen.
const HEADER_LINES_MAX: usize = 100;
/// Connections above the limit that are told so at once; more are only closed.
const TURNED_AWAY_MAX: usize = 64;
/// How long such a client may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Calls at once on one connection of HTTP/2: a client that has more opens another.
const STREAMS_MAX: u32 = 256;
/// What it hears.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What a client may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once; further ones are answered 503 and closed.
    pub connections_max: usize,
    /// Bytes of a request's line and headers; above it the answer is 431.
    pub header_bytes_max: usize,
    /// How long they may take to come, idle time of a kept connection included; then it is closed.
    pub header_timeout: Duration,
    /// How long a client may read nothing of its answer; then the connection is closed.
    pub write_timeout: Duration,
}

/// A client's socket.
type Socket = TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>;
/// A connection that is served until it ends.
type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Serves `router` over HTTP/1 on `listener` until `shutdown` resolves; requests in flight are answered.
///
/// # Errors
/// None so far: what a client does ends its own connection, and failed accepts are tried again.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.header_bytes_max)
        .max_headers(HEADER_LINES_MAX);
    let open = |socket, graceful: &GracefulShutdown| -> Connection {
        Box::pin(graceful.watch(http.serve_connection(socket, TowerToHyperService::new(router.clone()))))
    };
    accept(listener, limits, None, FULL, shutdown, open).await
}

/// As [`serve`], over HTTP/2 without TLS. A client has `header_timeout` for its first words, and for its answer to each ping after that.
///
/// # Errors
/// As [`serve`].
pub async fn serve_http2(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(limits.header_timeout / 2)
        .keep_alive_timeout(limits.header_timeout / 2)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX);
    let open = |socket, graceful: &GracefulShutdown| -> Connection {
        Box::pin(graceful.watch(http.serve_connection(socket, TowerToHyperService::new(router.clone()))))
    };
    // Before its first words nothing pings it; after them it is heard of at every ping.
    accept(listener, limits, Some(limits.header_timeout), b"", shutdown, open).await
}

/// Accepts, and serves what `open` makes of each socket; above the limit a client hears `farewell`.
async fn accept(
    listener: TcpListener,
    limits: ConnectionLimits,
    read_timeout: Option<Duration>,
    farewell: &'static [u8],
    shutdown: impl Future<Output = ()> + Send,
    open: impl Fn(Socket, &GracefulShutdown) -> Connection + Send,
) -> std::io::Result<()> {
    let (places, farewells) = (Arc::new(Semaphore::new(limits.connections_max)), Arc::new(Semaphore::new(TURNED_AWAY_MAX)));
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                // Out of file descriptors, most likely: give others time to close theirs instead of spinning.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            if let Ok(place) = Arc::clone(&farewells).try_acquire_owned() {
                tokio::spawn(async move {
                    let _gone = tokio::time::timeout(FAREWELL, turn_away(stream, farewell)).await;
                    drop(place);
                });
            }
            continue;
        };
        // Answers are small and written whole: waiting for more only makes them late.
        let _closed = stream.set_nodelay(true);
        let mut bounded = TimeoutStream::new(stream);
        bounded.set_write_timeout(Some(limits.write_timeout));
        bounded.set_read_timeout(read_timeout);
        let connection = open(TokioIo::new(Box::pin(bounded)), &graceful);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP connection ended");
            }
            drop(place);
        });
    }
    graceful.shutdown().await;
    Ok(())
}

/// Says it, then reads on until the client has closed: a socket closed with unread bytes would take the answer back.
async fn turn_away(mut stream: TcpStream, farewell: &[u8]) -> std::io::Result<()> {
    stream.write_all(farewell).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    /// More than the kernel takes off a server's hands.
    const BIG: usize = 64 << 20;

    const WIDE: ConnectionLimits =
        ConnectionLimits { connections_max: 8, header_bytes_max: 8192, header_timeout: PATIENCE, write_timeout: PATIENCE };

    async fn start(limits: ConnectionLimits) -> SocketAddr {
        let router = Router::new().route("/", get(|| async { "hello" })).route("/big", get(|| async { vec![b'x'; BIG] }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(serve(listener, router, limits, std::future::pending()));
        address
    }

    async fn say(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(text.as_bytes()).await.expect("sends");
        stream
    }

    /// All that comes until the server closes.
    async fn hear(mut stream: TcpStream) -> String {
        let mut heard = Vec::new();
        let _reset = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("the server closes in time");
        String::from_utf8_lossy(&heard).into_owned()
    }

    async fn ask(address: SocketAddr) -> String {
        hear(say(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await).await
    }

    #[tokio::test]
    async fn a_header_above_the_limit_is_answered_431() {
        let address = start(WIDE).await;
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(10_000));
        assert!(hear(say(address, &long).await).await.starts_with("HTTP/1.1 431"));
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(HEADER_LINES_MAX));
        assert!(hear(say(address, &many).await).await.starts_with("HTTP/1.1 431"));
        assert!(ask(address).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_header_is_dropped() {
        let address = start(ConnectionLimits { header_timeout: Duration::from_millis(200), ..WIDE }).await;
        let slow = say(address, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
        let silent = TcpStream::connect(address).await.expect("connects");
        let idle = say(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(!hear(slow).await.contains("200"));
        assert_eq!(hear(silent).await, "");
        assert!(hear(idle).await.ends_with("hello"), "answered, kept, and closed when nothing more came");
    }

    #[tokio::test]
    async fn a_header_that_drips_is_dropped_all_the_same() {
        let address = start(ConnectionLimits { header_timeout: Duration::from_millis(300), ..WIDE }).await;
        let mut drip = say(address, "GET / HTTP/1.1\r\n").await;
        let dripping = async {
            // Until the server has had enough and the kernel says so.
            while drip.write_all(b"a: b\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, dripping).await.expect("dropped while it still sends");
    }

    #[tokio::test]
    async fn connections_above_the_limit_are_told_to_come_back() {
        let address = start(ConnectionLimits { connections_max: 1, ..WIDE }).await;
        let mut held = say(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut first = [0; 15];
        held.read_exact(&mut first).await.expect("the one place is taken");
        let full = ask(address).await;
        assert!(full.starts_with("HTTP/1.1 503") && full.contains("retry-after"), "{full}");
        drop(held);
        let again = async {
            while !ask(address).await.starts_with("HTTP/1.1 200") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.expect("its place is free again");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_its_answer_is_dropped() {
        let address = start(ConnectionLimits { connections_max: 1, write_timeout: Duration::from_millis(200), ..WIDE }).await;
        let _deaf = say(address, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let again = async {
            while !ask(address).await.starts_with("HTTP/1.1 200") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.expect("its place is free again");
    }
}
