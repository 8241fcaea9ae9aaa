//! Promise: no secret of the configuration, of its environment, or of a key file stands in anything that is printed: not in checks, logs at
//! their most talkative, or errors.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rocket_launching::keys::{Role, Signer};

const SECRETS: [&str; 4] = ["hunter2-in-the-file", "hunter2-in-the-environment", "hunter2-on-the-line", "hunter2-in-properties"];

fn config(dir: &Path, more: &str) -> String {
    let path = dir.join("rocket.toml");
    let text = format!(
        r#"
name = "secret"
state.dir = "{}"
admin.http = ""
kafka.brokers = "127.0.0.1:1"
kafka.timeout = "1s"
{more}

[schema]
time = "ts"
user = "u"
item = "i"
features = [{{ name = "i", kind = "categorical" }}]
"#,
        dir.join("state").display()
    );
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// Everything a program says with all logs on.
fn says(binary: &str, arguments: &[&str]) -> String {
    says_with(&[], binary, arguments)
}

fn says_with(environment: &[(&str, &str)], binary: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(binary);
    command.args(arguments).env("RUST_LOG", "trace").envs(environment.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("it runs");
    without_secrets(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// Everything that the daemon says until it waits for its broker, and when it is asked to leave.
fn daemon_says(environment: &[(&str, &str)], config: &str) -> String {
    let mut command = Command::new(ROCKETD);
    command.args(["run", "--config", config]).env("RUST_LOG", "trace").envs(environment.iter().copied());
    let mut daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut said = String::new();
    for line in BufReader::new(daemon.stderr.take().expect("piped")).lines() {
        said += &(line.expect("text") + "\n");
        if said.lines().last().is_some_and(|line| line.contains("waiting for the broker")) {
            let pid = daemon.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        }
    }
    daemon.wait().expect("it ends");
    without_secrets(said)
}

fn without_secrets(said: String) -> String {
    for secret in SECRETS {
        assert!(!said.contains(secret), "{secret} is in:\n{said}");
    }
    assert!(!said.is_empty());
    said
}

const ROCKETD: &str = env!("CARGO_BIN_EXE_rocketd");
const ROCKETCTL: &str = env!("CARGO_BIN_EXE_rocketctl");
const SCORER: &str = env!("CARGO_BIN_EXE_rocket-scorer");

#[test]
fn passwords_of_the_broker_are_said_nowhere() {
    let dir = tempfile::tempdir().expect("tempdir");
    let sasl = format!(
        "kafka.properties = {{ \"security.protocol\" = \"sasl_plaintext\", \"sasl.mechanism\" = \"PLAIN\", \"sasl.username\" = \"u\", \
         \"sasl.password\" = \"{}\", \"debug\" = \"all\" }}",
        SECRETS[0]
    );
    let file = config(dir.path(), &sasl);
    for environment in [&[][..], &[("ROCKET__KAFKA__PROPERTIES__SASL_PASSWORD", SECRETS[1])]] {
        assert!(says_with(environment, ROCKETD, &["check", "--config", &file]).contains("config    ok"));
        for said in [says_with(environment, ROCKETD, &["check", "--online", "--config", &file]), daemon_says(environment, &file)] {
            assert!(said.contains("no broker answers at 127.0.0.1:1"), "it got as far as the broker");
        }
        says_with(environment, ROCKETCTL, &["history", "--config", &file]);
    }
}

#[test]
fn a_secret_that_cannot_be_is_refused_without_being_said() {
    let dir = tempfile::tempdir().expect("tempdir");
    for properties in [
        format!("kafka.properties = {{ \"no.such.password\" = \"{}\" }}", SECRETS[0]),
        format!("kafka.properties = {{ \"ssl.key.pem\" = \"{}\" }}", SECRETS[0]),
        format!("kafka.properties = {{ \"sasl.password\" = {} }}", SECRETS[0]),
    ] {
        let file = config(dir.path(), &properties);
        assert!(says(ROCKETD, &["run", "--config", &file]).contains("rocketd: "));
        says(ROCKETCTL, &["history", "--config", &file]);
    }
}

#[test]
fn the_scorer_reads_secrets_from_a_file_and_says_none() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (file, cache) = (dir.path().join("client.properties"), dir.path().join("cache"));
    let (file, cache) = (file.to_str().expect("text"), cache.to_str().expect("text"));
    let run = |more: &[&str]| {
        let always = ["--model", "m", "--listen", "127.0.0.1:0", "--brokers", "127.0.0.1:1", "--cache", cache];
        says(SCORER, &[&always, more].concat())
    };
    std::fs::write(file, format!("# ours\nno.such.password={}\n", SECRETS[3])).expect("written");
    assert!(run(&["--properties", file]).contains("no.such.password"), "it was read");
    std::fs::write(file, format!("\n{}\n", SECRETS[3])).expect("written");
    assert!(run(&["--properties", file]).contains("line 2 is no setting"));
    assert!(run(&["-X", &format!("no.such.password={}", SECRETS[2])]).contains("no.such.password"));
}

#[test]
fn a_private_key_is_in_its_file_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let private = dir.path().join("trainer.pem");
    let signer = Signer::generate().expect("random bytes");
    signer.save(&private).expect("written");
    let pem = std::fs::read_to_string(&private).expect("read");
    let body = pem.lines().nth(1).expect("the key's line").to_owned();
    let path = private.display().to_string();

    let trusted = dir.path().join("trusted.toml");
    std::fs::write(&trusted, signer.public().trusted_as(Role::Trainer)).expect("written");
    let keys = format!("keys = {{ trusted = \"{}\", trainer = \"{path}\" }}", trusted.display());
    let file = config(dir.path(), &keys);
    let mut said = says(ROCKETD, &["check", "--config", &file]);
    said += &daemon_says(&[], &file);
    said += &says(ROCKETCTL, &["keys", "show", &path, "--config", &file]);
    // Where the public key belongs, and cut short where it belongs itself.
    std::fs::write(&trusted, &pem).expect("written");
    said += &says(ROCKETD, &["run", "--config", &file]);
    std::fs::write(&private, pem.replace("-----END", "----END")).expect("written");
    said += &says(ROCKETD, &["run", "--config", &file]);
    said += &says(ROCKETCTL, &["keys", "show", &path]);
    assert!(said.contains(signer.id()) && !said.contains(&body), "{said}");
}
