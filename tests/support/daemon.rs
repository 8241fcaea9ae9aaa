//! The real `rocketd` as a child process, asked over its admin socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rocket_launching::config::Config;
use rocket_launching::pipeline::Status;
use rocket_launching::telemetry::admin::{Answer, Request, ask};

/// How long anything may take on a busy machine before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
}

/// Writes `config` as a file beside its state directory.
pub fn write_config(config: &Config) -> PathBuf {
    let path = config.state.dir.with_extension("toml");
    std::fs::write(&path, toml::to_string(config).expect("a configuration is TOML")).expect("writing the configuration");
    path
}

impl Daemon {
    /// Starts it and waits until it answers.
    pub fn start(config: &Config) -> Self {
        let file = write_config(config);
        let log = std::fs::File::options().create(true).append(true).open(file.with_extension("log")).expect("log file");
        let child = Command::new(env!("CARGO_BIN_EXE_rocketd"))
            .args(["run", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("rocketd starts");
        let mut daemon = Daemon { child, socket: config.admin_socket() };
        let started = Instant::now();
        while ask(&daemon.socket, &Request::Status).is_err() {
            if let Some(status) = daemon.child.try_wait().expect("the child can be asked") {
                panic!("rocketd ended early with {status}; its log:\n{}", read_log(&file));
            }
            assert!(started.elapsed() < PATIENCE, "rocketd does not answer; its log:\n{}", read_log(&file));
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    /// One look; `None` once it no longer answers.
    pub fn status(&self) -> Option<Status> {
        match ask(&self.socket, &Request::Status) {
            Ok(Answer::Ok(value)) => Some(serde_json::from_value(value).expect("a status")),
            _ => None,
        }
    }

    /// Waits until `done` says so.
    pub fn wait_until(&self, what: &str, done: impl Fn(&Status) -> bool) -> Status {
        let started = Instant::now();
        loop {
            let status = self.status();
            if let Some(status) = &status
                && done(status)
            {
                return status.clone();
            }
            assert!(started.elapsed() < PATIENCE, "{what} did not happen; last status: {status:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// kill -9.
    pub fn kill_9(mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child ends");
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "rocketd does not leave");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone after `kill_9` and `terminate`.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn read_log(config: &Path) -> String {
    std::fs::read_to_string(config.with_extension("log")).unwrap_or_default()
}
