//! A child process that listens on a port of its own.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::eventually;

/// How long a server may take to answer after its start.
const START: Duration = Duration::from_secs(10);

/// How to start a server, and how to see that it answers.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) binary: PathBuf,
    /// Arguments, given the port and the data directory.
    pub(super) arguments: fn(u16, &Path) -> Vec<String>,
    /// What to send to a fresh connection, and how the answer starts.
    pub(super) hello: (&'static [u8], &'static [u8]),
}

#[derive(Debug)]
pub(super) struct ServerProcess {
    recipe: Recipe,
    port: u16,
    directory: PathBuf,
    child: Option<Child>,
    extra: Vec<String>,
}

impl ServerProcess {
    pub(super) async fn start(recipe: Recipe, extra: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("fanfare-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for the server's data");
        let extra = extra.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = Self { recipe, port: free_port(), directory, child: None, extra };
        server.start_again().await;
        server
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server, on the same port with the same data, and waits until it answers.
    pub(super) async fn start_again(&mut self) {
        self.kill();
        let log = std::fs::File::create(self.directory.join("log")).expect("a log file");
        let child = Command::new(&self.recipe.binary)
            .args((self.recipe.arguments)(self.port, &self.directory))
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log file"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.binary()));
        self.child = Some(child);
        let what = format!("{} answers on port {}", self.binary(), self.port);
        let (port, hello) = (self.port, self.recipe.hello);
        eventually(&what, START, async || answers(port, hello).await.then_some(())).await;
    }

    /// Ends the server without warning (SIGKILL).
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of this process can be killed");
            child.wait().expect("a killed child ends");
        }
    }

    /// Asks the server to end (SIGTERM), and waits until it has.
    pub(super) fn stop(&mut self) {
        self.signal("-TERM");
        if let Some(mut child) = self.child.take() {
            child.wait().expect("the server ends on SIGTERM");
        }
    }

    /// Replaces one directory of the server's data by a copy of another one.
    pub(super) fn copy(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|name| self.directory.join(name));
        if to.exists() {
            std::fs::remove_dir_all(&to).expect("the old copy can be removed");
        }
        let status = Command::new("cp").arg("-a").args([&from, &to]).status();
        assert!(status.is_ok_and(|status| status.success()), "{} cannot be copied", from.display());
    }

    /// Freezes the server; returns when none of its threads runs any more.
    pub(super) fn pause(&self) {
        self.signal("-STOP");
        let Some(child) = &self.child else { return };
        let tasks = PathBuf::from(format!("/proc/{}/task", child.id()));
        for _ in 0..1000 {
            if !any_runs(&tasks) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{} does not stop on SIGSTOP", self.binary());
    }

    /// Ends [`ServerProcess::pause`].
    pub(super) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Sends a signal such as `-STOP`.
    fn signal(&self, signal: &str) {
        let Some(child) = &self.child else { return };
        let status = Command::new("kill").arg(signal).arg(child.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal} failed");
    }

    fn binary(&self) -> String {
        self.recipe.binary.display().to_string()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
        // Leftovers in the temporary directory harm nobody.
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// The first of these files that exists, else a panic that says what was looked for.
pub(super) fn find_binary(names: &[&str], variable: Option<&str>) -> PathBuf {
    if let Some(path) = variable.and_then(std::env::var_os) {
        return path.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin");
    let mut directories = vec![workspace];
    directories.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    directories.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join("go/bin")));
    names
        .iter()
        .flat_map(|name| directories.iter().map(move |directory| directory.join(name)))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("this test needs one of {names:?}: none is in .tools/bin, PATH or ~/go/bin; run `make tools`")
        })
}

/// Whether a thread is in another state than stopped; without `/proc`, none is known to be.
fn any_runs(tasks: &Path) -> bool {
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let mut states =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    states.any(|status| !status.contains("\nState:\tT"))
}

async fn answers(port: u16, (question, answer): (&[u8], &[u8])) -> bool {
    let attempt = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(question).await?;
        let mut bytes = vec![0; answer.len()];
        stream.read_exact(&mut bytes).await?;
        std::io::Result::Ok(bytes == answer)
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), attempt).await, Ok(Ok(true)))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
