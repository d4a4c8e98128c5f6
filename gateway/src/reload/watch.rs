//! Whether files hold something else by now.
//!
//! It is what they hold that is compared: Kubernetes swaps a symbolic link on the way to them, and
//! neither their names nor, on each file system, their times and events say so.

use std::{fs, path::PathBuf, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio::{task, time};

/// What is written in place may be half written: it counts once it has stayed for this long.
const SETTLED: Duration = Duration::from_millis(500);
/// How often files are read that change while they are read.
const TURNS: u32 = 5;

/// Files as they were at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    files: Vec<PathBuf>,
    print: [u8; 32],
}

impl Seen {
    /// As they are now. It blocks.
    pub(crate) fn now(files: Vec<PathBuf>) -> Self {
        let print = print(&files);
        Self { files, print }
    }

    /// The same files as they are now.
    pub(crate) async fn again(&self) -> Self {
        Self { files: self.files.clone(), print: self.look().await }
    }

    /// Reads until nothing changes meanwhile, so that what is read is of one time. `read`: says
    /// which files it has read, too; `files` are those that are known before. It blocks.
    pub(super) fn steady<T>(
        mut files: Vec<PathBuf>,
        mut read: impl FnMut() -> (Vec<PathBuf>, T),
    ) -> (Self, T) {
        let mut turns = TURNS;
        loop {
            let before = Self::now(files);
            let (read_files, outcome) = read();
            let after = Self::now(read_files);
            turns -= 1;
            // Where they do not come to rest, they differ from what is given, and so are read again.
            if after == before || turns == 0 {
                return (before, outcome);
            }
            files = after.files;
        }
    }

    /// Waits until they hold something else, looking this often.
    pub(crate) async fn changed(&self, every: Duration) {
        loop {
            time::sleep(every).await;
            let mut last = self.look().await;
            while last != self.print {
                time::sleep(SETTLED).await;
                let print = self.look().await;
                if print == last {
                    return;
                }
                last = print;
            }
        }
    }

    async fn look(&self) -> [u8; 32] {
        let files = self.files.clone();
        // Else it was cancelled with the whole process.
        task::spawn_blocking(move || print(&files)).await.unwrap_or(self.print)
    }
}

fn print(files: &[PathBuf]) -> [u8; 32] {
    let mut all = Sha256::new();
    for file in files {
        match fs::read(file) {
            Ok(content) => all.update(Sha256::digest(content)),
            Err(error) => all.update(error.kind().to_string()),
        }
    }
    all.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use futures_util::FutureExt as _;

    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn what_files_hold_counts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        fs::write(&file, "1").unwrap();
        let seen = Seen::now(vec![file.clone(), directory.path().join("none")]);
        fs::write(&file, "1").unwrap();
        assert_eq!(seen.look().await, seen.print);
        fs::write(&file, "2").unwrap();
        assert_ne!(seen.look().await, seen.print);
        fs::remove_file(&file).unwrap();
        assert_ne!(seen.look().await, seen.print);
    }

    #[tokio::test]
    async fn what_changes_while_it_is_read_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["profile", "named"] {
            fs::write(at(name), "1").unwrap();
        }
        let mut times = 0;
        let mut read = || {
            times += 1;
            let profile = fs::read_to_string(at("profile")).unwrap();
            if times == 2 {
                fs::write(at("profile"), "2").unwrap();
            }
            (vec![at("profile"), at("named")], profile)
        };
        let (seen, profile) = Seen::steady(vec![at("profile")], &mut read);
        assert_eq!((&*profile, seen.files.len()), ("2", 2));
        assert_eq!(seen.again().await, seen);
        assert_eq!(times, 3, "once to know the files, once more, since one has changed");

        let mut number = 2;
        let (seen, ()) = Seen::steady(vec![at("profile")], || {
            number += 1;
            fs::write(at("profile"), number.to_string()).unwrap();
            (vec![at("profile")], ())
        });
        assert_ne!(seen.again().await, seen, "files that never rest are read again later");
    }

    /// As kubelet does: `a` is a link to `..data/a`, and `..data` one to a directory.
    #[tokio::test(start_paused = true)]
    async fn a_directory_that_is_swapped_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, text) in [("1", "old"), ("2", "new")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("a"), text).unwrap();
        }
        symlink("1", at("..data")).unwrap();
        symlink("..data/a", at("a")).unwrap();
        let seen = Seen::now(vec![at("a")]);
        assert!(time::timeout(3 * EVERY, seen.changed(EVERY)).await.is_err());
        symlink("2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        assert!(time::timeout(2 * EVERY, seen.changed(EVERY)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_written_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        fs::write(&file, "old").unwrap();
        let seen = Seen::now(vec![file.clone()]);
        let mut changed = Box::pin(seen.changed(EVERY));
        fs::write(&file, "ne").unwrap();
        assert!(time::timeout(EVERY + SETTLED / 2, &mut changed).await.is_err());
        fs::write(&file, "new").unwrap();
        assert!(time::timeout(SETTLED, &mut changed).await.is_err());
        assert!(changed.as_mut().now_or_never().is_none());
        assert!(time::timeout(2 * SETTLED, changed).await.is_ok());
    }
}
