//! Promise: only the daemon's own user can talk to it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_launching::pipeline::Status;
use rocket_launching::telemetry::admin::{self, Answer, Handler, Request, ask};

/// `nobody`, on any Linux.
const NOBODY: u32 = 65_534;

fn serve(socket: &Path) -> tokio::runtime::Runtime {
    let handler: Handler = Arc::new(|_| Answer::Ok(serde_json::to_value(Status::default()).expect("JSON")));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let path = socket.to_owned();
    runtime.spawn(async move { admin::serve(&path, handler, std::future::pending()).await });
    let deadline = Instant::now() + Duration::from_secs(60);
    while ask(socket, &Request::Status).is_err() {
        assert!(Instant::now() < deadline, "nobody answers at {}", socket.display());
        std::thread::sleep(Duration::from_millis(10));
    }
    runtime
}

#[test]
fn the_socket_is_its_owners_alone_and_a_second_user_cannot_connect() {
    let dir = tempfile::tempdir().expect("tempdir");
    // Anybody may come in and look: only the socket's own mode keeps them out.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let socket = dir.path().join("admin.sock");
    let _daemon = serve(&socket);
    assert_eq!(std::fs::metadata(&socket).expect("bound").permissions().mode() & 0o7777, 0o600);

    let config = dir.path().join("rocket.toml");
    let schema = "[schema]\ntime = \"t\"\nuser = \"u\"\nitem = \"i\"\nfeatures = [{ name = \"i\", kind = \"categorical\" }]\n";
    std::fs::write(&config, format!("name = \"a\"\nstate.dir = {:?}\n{schema}", dir.path())).expect("written");
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644)).expect("ours");
    // A copy that others may run, wherever the build lies.
    let rocketctl = dir.path().join("rocketctl");
    std::fs::copy(env!("CARGO_BIN_EXE_rocketctl"), &rocketctl).expect("copied");
    std::fs::set_permissions(&rocketctl, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let status = || {
        let mut command = Command::new(&rocketctl);
        command.args(["status", "--config"]).arg(&config).stdin(Stdio::null()).current_dir(dir.path());
        command
    };
    assert!(status().output().expect("it runs").status.success(), "the owner may ask");

    if std::fs::metadata("/proc/self").expect("Linux").uid() != 0 {
        eprintln!("only root can try as a second user; the mode is checked above");
        return;
    }
    let refused = status().uid(NOBODY).gid(NOBODY).output().expect("it runs");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("only the daemon's own user may talk to it"), "{text}");
}
