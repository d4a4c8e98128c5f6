//! What processes cost, as the kernel counts it.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    process,
};

/// Processes whose costs are added up.
#[derive(Debug)]
pub(crate) struct Processes {
    pids: Vec<u32>,
    /// The last that was seen of each thread, in nanoseconds: one that has ended still counts.
    threads: HashMap<(u32, u32), u64>,
}

impl Processes {
    pub(crate) fn new(pids: Vec<u32>) -> Self {
        Self { pids, threads: HashMap::new() }
    }

    /// This program.
    pub(crate) fn own() -> Self {
        Self::new(vec![process::id()])
    }

    /// Those that listen on one of the ports of this machine, as far as we may know.
    pub(crate) fn listening(ports: &[u16]) -> Self {
        let sockets: BTreeSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .flat_map(|table| inodes(table, ports))
            .collect();
        let holds = |pid: &u32| {
            fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| {
                fds.flatten()
                    .filter_map(|fd| fs::read_link(fd.path()).ok())
                    .any(|link| link.to_str().is_some_and(|name| sockets.contains(name)))
            })
        };
        Self::new(numbered(Path::new("/proc")).into_iter().filter(holds).collect())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.pids.is_empty()
    }

    /// CPU time so far in nanoseconds, user and system; `None` if no process is known.
    pub(crate) fn cpu(&mut self) -> Option<u64> {
        for pid in &self.pids {
            for thread in numbered(&Path::new("/proc").join(pid.to_string()).join("task")) {
                if let Some(spent) = thread_cpu(*pid, thread) {
                    self.threads.insert((*pid, thread), spent);
                }
            }
        }
        (!self.pids.is_empty()).then(|| self.threads.values().sum())
    }

    /// Resident memory in bytes, as the kernel keeps count of it: cheap, and a little behind.
    pub(crate) fn resident_roughly(&self) -> Option<u64> {
        let sizes = self.pids.iter().filter_map(|pid| {
            kilobytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
        });
        (!self.pids.is_empty()).then(|| sizes.sum())
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Option<u64> {
        let sizes = self.pids.iter().filter_map(|pid| resident(*pid));
        (!self.pids.is_empty()).then(|| sizes.sum())
    }
}

/// The scheduler's own count, in nanoseconds, or else clock ticks, of which Linux shows 100 a second.
fn thread_cpu(pid: u32, thread: u32) -> Option<u64> {
    let directory = format!("/proc/{pid}/task/{thread}");
    let exact = fs::read_to_string(format!("{directory}/schedstat")).ok();
    let exact = exact.and_then(|text| text.split(' ').next()?.parse().ok());
    exact.or_else(|| {
        let stat = fs::read_to_string(format!("{directory}/stat")).ok()?;
        // The name, in brackets, may hold spaces.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        Some((ticks()? + ticks()?) * 10_000_000)
    })
}

fn resident(pid: u32) -> Option<u64> {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    exact
        .ok()
        .and_then(|text| kilobytes(&text, "Rss:"))
        .or_else(|| kilobytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:"))
}

/// The value of a line, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|it| it * 1024)
}

fn numbered(directory: &Path) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The sockets that listen on these ports, as `/proc/PID/fd` names them.
fn inodes(table: &str, ports: &[u16]) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).unwrap_or_default();
    let listening = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        (ports.contains(&port) && fields.get(3) == Some(&LISTEN))
            .then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
    };
    text.lines().skip(1).filter_map(listening).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn this_process_has_costs() {
        let mut own = Processes::own();
        let before = own.cpu().unwrap();
        let mut sum = 0_u64;
        while own.cpu().unwrap() < before + 5_000_000 {
            sum = (0..100_000_u64).fold(sum, |sum, it| sum ^ std::hint::black_box(it));
        }
        assert!(own.resident().unwrap() > 100_000);
    }

    #[test]
    fn it_is_found_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = Processes::listening(&[listener.local_addr().unwrap().port()]);
        assert_eq!(found.pids, [process::id()]);
        assert!(Processes::listening(&[]).is_empty());
        assert_eq!(Processes::listening(&[]).cpu(), None);
    }
}
