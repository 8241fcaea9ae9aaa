use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request as HttpRequest, StatusCode, header};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::TIME;
use super::requests::objects;
use crate::bench::BenchError;
use crate::serving::Subscriber;

/// How long before a request is due its thread stops sleeping: timers are that late.
const AWAKE: Duration = Duration::from_micros(200);
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Requests that are sent when they are due, whether or not those before them have been answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) rate_per_s: u32,
    /// How many; until it is stopped where that is not said.
    pub(super) requests: Option<usize>,
}

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// From when each was due to its answer.
    pub(super) latencies: Vec<Duration>,
    pub(super) failed: usize,
}

impl Load {
    /// Through the library, one after the other on this thread.
    pub(super) fn through_library(self, subscriber: &Subscriber, bodies: &[Bytes], stop: &AtomicBool) -> Result<Answers, BenchError> {
        let mut answers = Answers::default();
        for (due, body) in self.dues(stop).zip(bodies.iter().cycle()) {
            wait_until(due);
            let (context, candidates) = objects(body);
            let scores = subscriber.model().map(|model| model.score_objects(TIME, context, &candidates));
            answers.latencies.push(due.elapsed());
            answers.failed += usize::from(!matches!(scores, Some(Ok(scores)) if scores.len() == candidates.len()));
        }
        Ok(answers)
    }

    /// Over HTTP; each request takes a connection that is idle, or opens one.
    pub(super) fn over_http(self, address: SocketAddr, bodies: &[Bytes], stop: &AtomicBool) -> Result<Answers, BenchError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let idle: Idle = Arc::default();
        let sent: Vec<_> = self
            .dues(stop)
            .zip(bodies.iter().cycle())
            .map(|(due, body)| {
                wait_until(due);
                let (idle, body) = (Arc::clone(&idle), body.clone());
                runtime.spawn(async move { post(address, &idle, body).await.map(|()| due.elapsed()) })
            })
            .collect();
        let mut answers = Answers::default();
        for sent in sent {
            match runtime.block_on(sent) {
                Ok(Ok(latency)) => answers.latencies.push(latency),
                Ok(Err(error)) => {
                    tracing::warn!("a request failed: {error}");
                    answers.failed += 1;
                }
                Err(_) => answers.failed += 1,
            }
        }
        Ok(answers)
    }

    fn dues(self, stop: &AtomicBool) -> impl Iterator<Item = Instant> {
        let (start, gap) = (Instant::now(), Duration::from_secs(1) / self.rate_per_s);
        let numbers = 0..self.requests.unwrap_or(usize::MAX);
        numbers.take_while(|_| !stop.load(Ordering::Relaxed)).map(move |number| start + gap * number as u32)
    }
}

type Idle = Arc<Mutex<Vec<SendRequest<Body>>>>;

#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error(transparent)]
    Connect(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Body(#[from] axum::Error),
    #[error("answered {0}")]
    Status(StatusCode),
}

async fn post(address: SocketAddr, idle: &Idle, body: Bytes) -> Result<(), PostError> {
    let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    let held = lock().pop();
    let mut connection = match held {
        Some(connection) => connection,
        None => connect(address).await?,
    };
    connection.ready().await?;
    let mut request = HttpRequest::post("/v1/score").body(Body::from(body)).expect("a good request");
    request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("bench"));
    let response = connection.send_request(request).await?;
    let status = response.status();
    to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await?;
    lock().push(connection);
    if status == StatusCode::OK { Ok(()) } else { Err(PostError::Status(status)) }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Body>, PostError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}

fn wait_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now() + AWAKE));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}
