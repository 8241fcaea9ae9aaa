//! The admin socket: one JSON request per line, one JSON answer per line.
//!
//! ```text
//! → {"ask":"status"}
//! ← {"ok":{…}}
//! → {"ask":"gauc","top":10}
//! ← {"error":"…"}
//! ```

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::domain::Quarantine;

/// Longest path a Unix socket can have on Linux: `sun_path` holds 108 bytes, the last one a zero.
const PATH_BYTES_MAX: usize = 107;
/// The name a socket is bound under before it is moved into place; its length counts.
const FRESH_SUFFIX: &str = ".new";
/// Mode bits of a directory.
const EVERYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// Requests are a few words; anything longer is a mistake.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Far above a status with thousands of partitions; bounds what a wrong peer can make the client hold.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// 16: a few operators and a dashboard; more wait their turn.
const CONNECTIONS_MAX: usize = 16;
/// A connection that asks nothing for this long is closed, so that forgotten ones do not use up [`CONNECTIONS_MAX`].
const IDLE: Duration = Duration::from_secs(60);
/// Sending a request of a few words takes no longer unless the daemon is stuck.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// `snapshot now` commits and publishes before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What rocketctl may ask a running daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// One look.
    Status,
    /// Commit a checkpoint and publish it now.
    SnapshotNow,
    /// Drain, publishing nothing, go back to a kept checkpoint and go on from it.
    Rewind {
        /// Its number.
        checkpoint: u64,
        /// Ranges of event times, milliseconds, that are skipped from now on.
        #[serde(default)]
        quarantine: Quarantine,
    },
    /// Metrics and the users that weigh most.
    Gauc {
        /// How many users.
        top: usize,
    },
}

/// The daemon's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not.
    Error(String),
}

/// Answers requests; may block (it runs on a blocking thread).
pub type Handler = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// Why the socket could not be used.
#[derive(Debug, thiserror::Error)]
#[error("admin socket {path}: {why}")]
pub struct AdminError {
    /// The socket.
    pub path: String,
    /// Why, and the way out.
    pub why: String,
}

impl AdminError {
    fn new(path: &Path, why: impl Into<String>) -> Self {
        AdminError { path: path.display().to_string(), why: why.into() }
    }
}

/// Binds `path` (mode 0600, a stale socket replaced, a live one refused) and answers until `shutdown` resolves.
///
/// # Errors
/// [`AdminError`] if it cannot bind.
pub async fn serve(path: &Path, handler: Handler, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), AdminError> {
    let listener = bind(path)?;
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let permit = tokio::select! {
            () = &mut shutdown => break,
            permit = Arc::clone(&permits).acquire_owned() => permit,
        };
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let handler = Arc::clone(&handler);
                    connections.spawn(async move {
                        if let Err(e) = converse(stream, handler).await {
                            tracing::debug!("admin connection ended: {e}");
                        }
                        drop(permit);
                    });
                }
                Err(e) => {
                    tracing::warn!("admin socket: accepting a connection failed: {e}");
                    // Out of file descriptors, most likely: give others time to close theirs instead of spinning.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
        while connections.try_join_next().is_some() {}
    }
    if let Err(e) = std::fs::remove_file(path) {
        tracing::debug!("removing {}: {e}", path.display());
    }
    Ok(())
}

/// Binds beside `path` and moves the socket into place: it never exists there with wider permissions, and replaces a stale one at once.
fn bind(path: &Path) -> Result<UnixListener, AdminError> {
    let fresh = fresh_path(path);
    if fresh.as_os_str().as_bytes().len() > PATH_BYTES_MAX {
        let limit = PATH_BYTES_MAX - FRESH_SUFFIX.len();
        return Err(AdminError::new(path, format!("path is longer than the {limit} bytes a socket may have; set a shorter admin.socket")));
    }
    refuse_open_directory(path)?;
    refuse_if_taken(path)?;
    let failed =
        |doing: &str, e: std::io::Error| AdminError::new(path, format!("{doing}: {e}; check that the directory exists and is ours"));
    if fresh.symlink_metadata().is_ok() {
        std::fs::remove_file(&fresh).map_err(|e| failed("removing a leftover", e))?;
    }
    let listener = UnixListener::bind(&fresh).map_err(|e| failed("binding", e))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(|e| failed("setting mode 0600", e))?;
    std::fs::rename(&fresh, path).map_err(|e| failed("moving into place", e))?;
    Ok(listener)
}

fn fresh_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(FRESH_SUFFIX);
    PathBuf::from(name)
}

/// Where everybody may write, everybody could put a socket of his own in place of this one; in a sticky directory, like `/tmp`, they cannot.
fn refuse_open_directory(path: &Path) -> Result<(), AdminError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // One that is not there is found when binding.
    let Ok(metadata) = directory.metadata() else { return Ok(()) };
    let mode = metadata.permissions().mode();
    if mode & EVERYBODY_WRITES != 0 && mode & STICKY == 0 {
        let why =
            format!("everybody may write to {} and replace the socket; `chmod o-w` it, or set another admin.socket", directory.display());
        return Err(AdminError::new(path, why));
    }
    Ok(())
}

fn refuse_if_taken(path: &Path) -> Result<(), AdminError> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(AdminError::new(path, "there is a file that is no socket; move it away, or set another admin.socket"));
    }
    match BlockingStream::connect(path) {
        Ok(_) => Err(AdminError::new(path, "another daemon answers there; stop it, or set another admin.socket")),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(e) => Err(AdminError::new(path, format!("cannot tell whether the socket there is in use: {e}"))),
    }
}

/// Answers one connection's requests, one after the other, until it closes or falls idle.
async fn converse(stream: UnixStream, handler: Handler) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = tokio::io::BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(REQUEST_BYTES_MAX + 1);
        match tokio::time::timeout(IDLE, bounded.read_until(b'\n', &mut line)).await {
            Err(_) | Ok(Ok(0)) => return Ok(()),
            Ok(Err(e)) => return Err(e),
            Ok(Ok(_)) => {}
        }
        let too_long = line.len() as u64 > REQUEST_BYTES_MAX;
        let answer = if too_long {
            Answer::Error(format!("request is longer than {REQUEST_BYTES_MAX} bytes"))
        } else {
            match serde_json::from_slice(&line) {
                Ok(request) => {
                    let handler = Arc::clone(&handler);
                    let answered = tokio::task::spawn_blocking(move || handler(request)).await;
                    answered.unwrap_or_else(|_| Answer::Error("the daemon failed to answer; its log says why".to_owned()))
                }
                Err(e) => Answer::Error(format!("not a request: {e}; this daemon and rocketctl may be of different versions")),
            }
        };
        let mut text = serde_json::to_vec(&answer).map_err(std::io::Error::other)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
        if too_long {
            // The rest of the line would be read as further requests.
            return Ok(());
        }
    }
}

/// Asks the daemon behind `path`. Blocking.
///
/// # Errors
/// [`AdminError`]: nobody listens, or the answer is none.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, AdminError> {
    let mut stream = BlockingStream::connect(path).map_err(|e| {
        let way_out = match e.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                "no daemon runs there; start `rocketd run`, or check state.dir and admin.socket"
            }
            ErrorKind::PermissionDenied => "only the daemon's own user may talk to it; run as that user",
            ErrorKind::InvalidInput => "the path is longer than a socket may have; set a shorter admin.socket",
            _ => "check state.dir and admin.socket",
        };
        AdminError::new(path, format!("{e}: {way_out}"))
    })?;
    let failed = |doing: &str, e: std::io::Error| match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            AdminError::new(path, format!("{doing}: the daemon did not answer in time; see its log"))
        }
        _ => AdminError::new(path, format!("{doing}: {e}")),
    };
    stream.set_write_timeout(Some(SEND_TIMEOUT)).map_err(|e| failed("setting a timeout", e))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(|e| failed("setting a timeout", e))?;
    let mut text = serde_json::to_vec(request).map_err(|e| AdminError::new(path, format!("encoding the request: {e}")))?;
    text.push(b'\n');
    stream.write_all(&text).map_err(|e| failed("asking", e))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut line).map_err(|e| failed("waiting for the answer", e))?;
    if line.last() != Some(&b'\n') {
        return Err(AdminError::new(path, "the daemon closed the connection before its answer was complete; see its log"));
    }
    serde_json::from_slice(&line)
        .map_err(|e| AdminError::new(path, format!("the answer cannot be read ({e}); rocketctl and rocketd may be of different versions")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> Handler {
        Arc::new(|request| match request {
            Request::Gauc { top: 0 } => Answer::Error("none".to_owned()),
            Request::SnapshotNow => panic!("handler fails"),
            other => Answer::Ok(serde_json::to_value(other).expect("json")),
        })
    }

    async fn with_server(path: &Path, body: impl FnOnce(PathBuf) + Send + 'static) {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let own = path.to_owned();
        let server = tokio::spawn(async move {
            serve(&own, echo(), async {
                let _ = stopped.await;
            })
            .await
        });
        while BlockingStream::connect(path).is_err() {
            assert!(!server.is_finished(), "server ended early");
            tokio::task::yield_now().await;
        }
        let own = path.to_owned();
        tokio::task::spawn_blocking(move || body(own)).await.expect("body");
        stop.send(()).expect("server lives");
        server.await.expect("no panic").expect("no error");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn asks_and_answers_with_mode_0600() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("admin.sock");
        with_server(&path, |path| {
            let mode = std::fs::metadata(&path).expect("socket").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let answer = ask(&path, &Request::Gauc { top: 3 }).expect("answer");
            assert_eq!(answer, Answer::Ok(serde_json::json!({"ask": "gauc", "top": 3})));
            assert_eq!(ask(&path, &Request::Gauc { top: 0 }).expect("answer"), Answer::Error("none".to_owned()));
            assert!(matches!(ask(&path, &Request::SnapshotNow).expect("answer"), Answer::Error(why) if why.contains("failed")));
            assert!(matches!(ask(&path, &Request::Status).expect("still serving"), Answer::Ok(_)));
        })
        .await;
        assert!(!path.exists(), "the socket is removed at shutdown");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nonsense_and_overlong_lines_are_answered_with_errors() {
        let dir = tempfile::tempdir().expect("dir");
        with_server(&dir.path().join("s"), |path| {
            let say = |text: &[u8]| {
                let mut stream = BlockingStream::connect(&path).expect("connect");
                stream.write_all(text).expect("send");
                let mut line = String::new();
                BufReader::new(stream).read_line(&mut line).expect("answer");
                line
            };
            assert!(say(b"hello\n").contains("not a request"));
            assert!(say(b"{\"ask\":\"gauc\",\"top\":1,\"more\":1}\n").contains("not a request"));
            assert!(say(&vec![b'x'; usize::try_from(REQUEST_BYTES_MAX).expect("small") + 1]).contains("longer than"));
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_live_socket_is_refused_and_a_stale_one_replaced() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
        assert!(path.exists(), "a dropped listener leaves its file: stale");
        with_server(&path, |path| {
            let refused = bind(&path).expect_err("a live one").to_string();
            assert!(refused.contains("another daemon"), "{refused}");
        })
        .await;
    }

    #[tokio::test]
    async fn other_files_and_long_paths_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("file");
        std::fs::write(&file, "precious").expect("write");
        assert!(bind(&file).expect_err("a file").to_string().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
        let long = dir.path().join("x".repeat(PATH_BYTES_MAX));
        assert!(bind(&long).expect_err("too long").to_string().contains("shorter admin.socket"));
    }

    #[tokio::test]
    async fn a_directory_that_everybody_may_write_to_is_refused_unless_it_is_sticky() {
        let dir = tempfile::tempdir().expect("dir");
        let open = |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).expect("ours");
        open(0o777);
        let refused = bind(&dir.path().join("s")).expect_err("open to all").to_string();
        assert!(refused.contains("chmod o-w"), "{refused}");
        assert!(!dir.path().join("s").exists());
        open(0o1777);
        drop(bind(&dir.path().join("s")).expect("sticky"));
        open(0o700);
        drop(bind(&dir.path().join("s")).expect("ours alone"));
    }

    #[test]
    fn nobody_there_names_the_way_out() {
        let dir = tempfile::tempdir().expect("dir");
        let error = ask(&dir.path().join("none"), &Request::Status).expect_err("nobody").to_string();
        assert!(error.contains("start `rocketd run`"), "{error}");
    }
}
