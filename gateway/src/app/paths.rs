//! Where clients connect. No path has two meanings, but for one: where Socket.IO and the native
//! protocol meet, Socket.IO's clients are known by their parameters.

use std::{collections::BTreeSet, iter};

use crate::{connection::Mounts, profile::is_own_path, rest::Taken, socketio::Bundle};

/// Leaves to Socket.IO, which serves both, what it shares with the native protocol. `socketio`:
/// paths without a slash at their end, since it is served with one too, and with scripts for pages
/// below. Gives all paths where clients connect, or find those scripts.
///
/// # Errors
/// The first path with two meanings.
pub(super) fn settle<'a>(
    mounts: &mut Mounts,
    socketio: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<String>, Taken> {
    let mut taken = BTreeSet::new();
    for path in socketio {
        mounts.remove_native(path);
        mounts.remove_native(&format!("{path}/"));
        for path in iter::once(path.to_owned()).chain(Bundle::paths(path)) {
            if is_own_path(&path) || !taken.insert(path.clone()) {
                return Err(Taken(path));
            }
        }
    }
    let meets = |path: &str| is_own_path(path) || taken.contains(path.trim_end_matches('/'));
    if let Some(path) = mounts.paths().find(|path| meets(path)) {
        return Err(Taken(path.clone()));
    }
    taken.extend(mounts.paths().cloned());
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths that are left to the native protocol.
    fn settled(native: &[&str], socketio: &[&str]) -> Result<Vec<String>, Taken> {
        let mut mounts = Mounts::default();
        native.iter().for_each(|path| mounts.add_native(path));
        settle(&mut mounts, socketio.iter().copied())?;
        Ok(mounts.paths().cloned().collect())
    }

    #[test]
    fn only_native_and_socketio_share_a_path() {
        let alone = Ok(vec!["/".to_owned(), "/ws".to_owned()]);
        assert_eq!(settled(&["/", "/ws", "/io", "/io/"], &["/io"]), alone);
        assert_eq!(settled(&[], &["/io", "/io"]), Err(Taken("/io".to_owned())));
        assert_eq!(settled(&["/v1/sse"], &[]), Err(Taken("/v1/sse".to_owned())));
        assert_eq!(settled(&["/v1x"], &["/docs"]), Err(Taken("/docs".to_owned())));
    }

    #[test]
    fn scripts_for_pages_have_their_paths_for_themselves() {
        let script = "/io/socket.io.js";
        assert_eq!(settled(&[script], &["/io"]), Err(Taken(script.to_owned())));
        for both in [["/io", script], [script, "/io"]] {
            assert_eq!(settled(&[], &both), Err(Taken(script.to_owned())));
        }
        assert_eq!(settled(&["/io/other.js"], &["/io"]), Ok(vec!["/io/other.js".to_owned()]));
    }
}
