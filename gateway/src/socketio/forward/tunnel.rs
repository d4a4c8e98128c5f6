//! A WebSocket whose session is at another gateway: bytes go both ways, as they are.

use std::{future::poll_fn, pin::pin, time::Duration};

use bytes::Bytes;
use tokio::time;

use crate::{
    connection::read_some,
    socket::{Socket, write_all},
};

/// How long the other direction may take to end after one has.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// One end of a tunnel: a socket, and what was read from it already.
pub(super) type End = (Box<dyn Socket>, Bytes);

/// Carries bytes until one side ends, or is silent for `silence`: heartbeats let neither be.
pub(super) async fn run((client, from_client): End, (owner, from_owner): End, silence: Duration) {
    let mut up = pin!(carry(&*client, &*owner, &from_client, silence));
    let mut down = pin!(carry(&*owner, &*client, &from_owner, silence));
    let ended = tokio::select! {
        () = up.as_mut() => time::timeout(LAST_BYTES, down).await,
        () = down.as_mut() => time::timeout(LAST_BYTES, up).await,
    };
    if ended.is_err() {
        tracing::debug!("one side of a tunnel did not end with the other");
    }
}

async fn carry(from: &dyn Socket, to: &dyn Socket, first: &[u8], silence: Duration) {
    if let Err(error) = try_carry(from, to, first, silence).await {
        tracing::trace!(%error, "one direction of a tunnel has ended");
    }
    to.finish();
}

/// Holds no buffer while there is nothing to carry.
async fn try_carry(
    from: &dyn Socket,
    to: &dyn Socket,
    first: &[u8],
    silence: Duration,
) -> std::io::Result<()> {
    time::timeout(silence, write_all(to, first)).await??;
    loop {
        time::timeout(silence, poll_fn(|cx| from.poll_read_ready(cx))).await??;
        let mut bytes = Vec::new();
        read_some(from, |some| bytes.extend_from_slice(some))?;
        time::timeout(silence, write_all(to, &bytes)).await??;
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    fn end(stream: TcpStream, read: &'static [u8]) -> End {
        (Box::new(stream), Bytes::from_static(read))
    }

    #[tokio::test]
    async fn bytes_go_both_ways_until_one_side_ends() {
        let ((mut client, left), (right, mut owner)) = (pair().await, pair().await);
        let silence = Duration::from_secs(10);
        let carried = tokio::spawn(run(end(left, b"early "), end(right, b""), silence));
        client.write_all(b"ping").await.unwrap();
        let mut got = [0; 10];
        owner.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"early ping");
        let large = vec![7; 1 << 20];
        let written = large.clone();
        let writing = tokio::spawn(async move {
            owner.write_all(&written).await.unwrap();
            owner
        });
        let mut got = vec![0; large.len()];
        client.read_exact(&mut got).await.unwrap();
        assert!(got == large);
        drop(writing.await.unwrap());
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        drop(client);
        carried.await.unwrap();
    }

    #[tokio::test]
    async fn silence_ends_a_tunnel() {
        let ((mut client, left), (right, mut owner)) = (pair().await, pair().await);
        run(end(left, b""), end(right, b""), Duration::from_millis(50)).await;
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(owner.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
