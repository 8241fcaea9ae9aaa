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
        Self::spawn(config).answering(config)
    }

    fn answering(self, config: &Config) -> Self {
        let mut daemon = self;
        let file = config.state.dir.with_extension("toml");
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

    /// Starts it; it may not answer for long.
    pub fn spawn(config: &Config) -> Self {
        Self::spawn_with(config, &[])
    }

    /// Starts it with more in its environment.
    pub fn spawn_with(config: &Config, environment: &[(&str, &str)]) -> Self {
        let file = write_config(config);
        let log = std::fs::File::options().create(true).append(true).open(file.with_extension("log")).expect("log file");
        let child = Command::new(env!("CARGO_BIN_EXE_rocketd"))
            .args(["run", "--config"])
            .arg(&file)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("rocketd starts");
        Daemon { child, socket: config.admin_socket() }
    }

    /// Waits for its end, which it comes to by itself.
    pub fn wait(mut self) -> ExitStatus {
        self.ended()
    }

    fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "rocketd does not leave");
            std::thread::sleep(Duration::from_millis(5));
        }
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

    /// kill -9.
    pub fn kill_9(mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child ends");
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs").success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone after `kill_9` and `terminate`.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// What the daemons of this configuration have said.
pub fn log_of(config: &Config) -> String {
    read_log(&config.state.dir.with_extension("toml"))
}

fn read_log(config: &Path) -> String {
    std::fs::read_to_string(config.with_extension("log")).unwrap_or_default()
}
