//! The real `rocketd` as a child process, asked over its admin socket.

use std::path::PathBuf;
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
        Self::start_with(config, &[])
    }

    /// Likewise, with more in its environment.
    pub fn start_with(config: &Config, environment: &[(&str, &str)]) -> Self {
        let mut daemon = Self::spawn_with(config, environment);
        let started = Instant::now();
        while daemon.status().is_none() {
            if let Some(status) = daemon.ended() {
                panic!("rocketd ended early with {status}; its log:\n{}", log_of(config));
            }
            assert!(started.elapsed() < PATIENCE, "rocketd does not answer; its log:\n{}", log_of(config));
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

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be asked")
    }

    /// Waits for its end, which it comes to by itself.
    pub fn wait(mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
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

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What of it is in memory, KB; `None` once it is gone.
    pub fn memory_kb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        status.lines().find(|line| line.starts_with("VmRSS"))?.split_whitespace().nth(1)?.parse().ok()
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
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
    std::fs::read_to_string(config.state.dir.with_extension("log")).unwrap_or_default()
}
