//! A broker in a process of its own, as in production: it can be killed and come back with its data.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// nisshi on a free port of 127.0.0.1, with its data in a temporary directory. Killed when dropped.
pub struct RealBroker {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl RealBroker {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let mut broker = RealBroker { dir: tempfile::tempdir().expect("a temporary directory"), port, child: None };
        broker.restart();
        broker
    }

    /// `host:port` for `kafka.brokers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut would: no handler runs, nothing is flushed.
    pub fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the broker is ours to kill");
            child.wait().expect("the broker is our child");
        }
    }

    /// Starts it (again) on the same port and data, and waits until it answers.
    pub fn restart(&mut self) {
        self.kill_9();
        let url = format!("tcp://{}", self.bootstrap());
        let log = |name: &str| File::options().append(true).create(true).open(self.dir.path().join(name)).expect("a log file");
        let child = Command::new(binary())
            .args(["broker", "--listener-url", &url, "--advertised-listener-url", &url])
            // Relative to the working directory: absolute paths are refused.
            .args(["--storage-engine", "sqlite://broker.db?maintenance_interval=5s", "--group-initial-rebalance-delay", "0s"])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log("stdout.log"))
            .stderr(log("stderr.log"))
            .spawn()
            .expect("the broker's binary runs");
        self.child = Some(child);
        super::wait_for("the broker's first answer", || {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                panic!("the broker ended with {status}: {}", self.words());
            }
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    fn words(&self) -> String {
        let read = |name| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        read("stdout.log") + &read("stderr.log")
    }
}

impl Drop for RealBroker {
    fn drop(&mut self) {
        self.kill_9();
    }
}

/// `ROCKET_BROKER`, or where `ops/broker` puts it.
fn binary() -> PathBuf {
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let path = env("ROCKET_BROKER").unwrap_or_else(|| {
        let cache = env("ROCKET_CACHE")
            .or_else(|| env("XDG_CACHE_HOME").map(|cache| cache.join("rocket-launching")))
            .or_else(|| env("HOME").map(|home| home.join(".cache/rocket-launching")))
            .expect("HOME is set");
        cache.join("nisshi-0.8.1/bin/nisshi")
    });
    assert!(path.is_file(), "no broker at {}: run `ops/broker` once, or set ROCKET_BROKER", path.display());
    path
}
