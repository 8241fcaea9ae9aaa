use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::StreamError;

/// The cluster's only broker.
const BROKERS: i32 = 1;
/// The broker id that means all.
const ALL: i32 = -1;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Job = Box<dyn FnOnce(&Cluster) + Send>;

/// A request that the embedded broker can be told to answer with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerRequest {
    /// For records.
    Fetch,
    /// To take records.
    Produce,
    /// For topics and leaders.
    Metadata,
    /// For the first and the last offset.
    ListOffsets,
}

impl BrokerRequest {
    fn key_and_error(self) -> (RDKafkaApiKey, RDKafkaRespErr) {
        match self {
            BrokerRequest::Fetch => (RDKafkaApiKey::Fetch, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
            BrokerRequest::Produce => (RDKafkaApiKey::Produce, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
            BrokerRequest::Metadata => (RDKafkaApiKey::Metadata, RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT),
            BrokerRequest::ListOffsets => (RDKafkaApiKey::ListOffsets, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        }
    }
}

/// librdkafka's in-process cluster: a broker for the demo and for tests, reached through the real client.
///
/// It keeps 5 MiB or 100,000 record batches per partition and then evicts silently: whoever sends must not run further ahead of the
/// reader. It has no admin requests ([`EmbeddedBroker::create_topic`] instead), no compaction and no persistence. It stops when dropped.
pub struct EmbeddedBroker {
    bootstrap: String,
    /// The cluster's handle may not leave its thread; work is brought to it. One at a time: the caller waits for each.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts one broker on a free port of the loopback interface.
    ///
    /// # Errors
    /// [`StreamError::Client`].
    pub fn start() -> Result<Self, StreamError> {
        let (jobs, inbox) = sync_channel::<Job>(1);
        let (ready, started) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || match Cluster::new(BROKERS) {
                Ok(cluster) => {
                    if ready.send(Ok(cluster.bootstrap_servers())).is_ok() {
                        serve(&cluster, &inbox);
                    }
                }
                Err(error) => drop(ready.send(Err(error))),
            })
            .map_err(|error| StreamError::Client { doing: "starting the embedded broker", why: error.to_string() })?;
        let bootstrap = started.recv().map_err(|_| ended())?.map_err(|error| failed("starting the embedded broker", &error))?;
        Ok(EmbeddedBroker { bootstrap, jobs: Some(jobs), thread: Some(thread) })
    }

    /// `host:port` for `kafka.brokers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`StreamError::Client`].
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), StreamError> {
        let topic = topic.to_owned();
        self.run("creating a topic on the embedded broker", move |cluster| cluster.create_topic(&topic, partitions, BROKERS))
    }

    /// Cuts every connection and accepts no new one, until [`EmbeddedBroker::broker_up`].
    ///
    /// # Errors
    /// [`StreamError::Client`].
    pub fn broker_down(&self) -> Result<(), StreamError> {
        self.run("taking the embedded broker down", |cluster| cluster.broker_down(ALL))
    }

    /// Accepts connections again.
    ///
    /// # Errors
    /// [`StreamError::Client`].
    pub fn broker_up(&self) -> Result<(), StreamError> {
        self.run("taking the embedded broker up", |cluster| cluster.broker_up(ALL))
    }

    /// Answers the next `times` requests of this kind with an error that clients are to get over.
    ///
    /// # Errors
    /// [`StreamError::Client`].
    pub fn fail(&self, request: BrokerRequest, times: usize) -> Result<(), StreamError> {
        self.run("making the embedded broker err", move |cluster| {
            let (key, error) = request.key_and_error();
            cluster.request_errors(key, &vec![error; times]);
            Ok(())
        })
    }

    /// Answers requests of this kind rightly again.
    ///
    /// # Errors
    /// [`StreamError::Client`].
    pub fn mend(&self, request: BrokerRequest) -> Result<(), StreamError> {
        self.run("mending the embedded broker", move |cluster| {
            cluster.clear_request_errors(request.key_and_error().0);
            Ok(())
        })
    }

    /// Makes every answer this late.
    ///
    /// # Errors
    /// [`StreamError::Client`].
    pub fn round_trip(&self, delay: Duration) -> Result<(), StreamError> {
        self.run("slowing the embedded broker", move |cluster| cluster.broker_round_trip_time(ALL, delay))
    }

    fn run(&self, doing: &'static str, act: impl FnOnce(&Cluster) -> KafkaResult<()> + Send + 'static) -> Result<(), StreamError> {
        let (answer, answered) = sync_channel(1);
        let job: Job = Box::new(move |cluster| drop(answer.send(act(cluster))));
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(ended)?;
        answered.recv().map_err(|_| ended())?.map_err(|error| failed(doing, &error))
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the embedded broker's thread panicked");
        }
    }
}

fn serve(cluster: &Cluster, inbox: &Receiver<Job>) {
    while let Ok(job) = inbox.recv() {
        job(cluster);
    }
}

fn ended() -> StreamError {
    StreamError::Client { doing: "reaching the embedded broker", why: "its thread has ended".to_owned() }
}

fn failed(doing: &'static str, error: &KafkaError) -> StreamError {
    StreamError::Client { doing, why: error.to_string() }
}
