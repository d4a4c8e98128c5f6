//! Runs the program and reads what it measured.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_loadtest");

/// `loadtest floor` on a free port, killed when dropped.
pub(crate) struct Floor {
    child: Child,
    pub(crate) url: String,
}

impl Floor {
    pub(crate) fn start(group: u32) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["floor", "--group", &group.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the floor starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("the floor says where it listens");
        let address = line.trim().strip_prefix("listening on ").expect("its address");
        Self { url: format!("ws://{address}"), child }
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a run left behind.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) json: Value,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn number(&self, field: &str) -> f64 {
        self.json[field].as_f64().unwrap_or_else(|| panic!("{field} of {}", self.json))
    }

    pub(crate) fn count(&self, field: &str) -> u64 {
        self.json[field].as_u64().unwrap_or_else(|| panic!("{field} of {}", self.json))
    }
}

/// Twenty subscribers and no warm-up; options given come later and win.
pub(crate) fn loadtest(workload: &str, url: &str, options: &[&str]) -> Run {
    let json = file("result.json");
    let output = command(workload, url, options).arg("--json").arg(&json).output();
    let output = output.expect("loadtest runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let json = serde_json::from_str(&text).expect("the result is JSON");
    Run { code: output.status.code().unwrap_or(-1), json, stderr }
}

/// The exit status of a run that measures nothing.
pub(crate) fn status(workload: &str, url: &str, options: &[&str]) -> i32 {
    let output = command(workload, url, options).output().expect("loadtest runs");
    output.status.code().unwrap_or(-1)
}

fn command(workload: &str, url: &str, options: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args([workload, "--url", url, "--warmup", "0", "--quiet"]);
    for (option, value) in [("--target", "floor"), ("--connections", "20")] {
        if !options.contains(&option) {
            command.args([option, value]);
        }
    }
    command.args(options);
    command
}

/// A file of this test alone.
pub(crate) fn file(name: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{}-{number}-{name}", std::process::id()))
}
