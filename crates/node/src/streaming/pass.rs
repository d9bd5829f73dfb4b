//! Passes bytes both ways between two connections until one of them ends.

use std::time::Duration;

use base::Clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::idle::Idle;

const BUFFER_BYTES: usize = 32 * 1024;
/// How long a client may take to close its side after the runtime has closed. What it still sends is read and
/// forgotten: closing on unread data would make the kernel drop what the client has not read yet.
pub const LINGER: Duration = Duration::from_secs(5);

/// Passes bytes until either side closes or breaks, or nothing moves for too long.
pub async fn both_ways<C, R>(client: C, runtime: R, clock: Clock)
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut runtime_read, mut runtime_write) = tokio::io::split(runtime);
    let idle = Idle::new(clock);
    let runtime_ended = tokio::select! {
        outcome = one_way(&mut runtime_read, &mut client_write, &idle) => outcome.is_ok(),
        _ = one_way(&mut client_read, &mut runtime_write, &idle) => false,
        () = idle.expired() => false,
    };
    let _ = runtime_write.shutdown().await;
    let _ = client_write.shutdown().await;
    if runtime_ended {
        let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut client_read, &mut tokio::io::sink())).await;
    }
}

async fn one_way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    idle: &Idle,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..len]).await?;
        to.flush().await?;
        idle.touch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_when_either_side_ends_and_loses_nothing() {
        for runtime_first in [true, false] {
            let (client, mut client_end) = tokio::io::duplex(64);
            let (runtime, mut runtime_end) = tokio::io::duplex(64);
            let pass = both_ways(client, runtime, Clock::system());
            let talk = async {
                client_end.write_all(b"request").await.unwrap();
                let mut request = [0; 7];
                runtime_end.read_exact(&mut request).await.unwrap();
                assert_eq!(&request, b"request");
                let (mut ends, mut waits) =
                    if runtime_first { (runtime_end, client_end) } else { (client_end, runtime_end) };
                let large = vec![7; 100_000];
                let (_, got) = tokio::join!(
                    async {
                        ends.write_all(&large).await.unwrap();
                        drop(ends);
                    },
                    async {
                        let mut got = Vec::new();
                        waits.read_to_end(&mut got).await.unwrap();
                        got
                    }
                );
                assert!(got == large, "{} bytes", got.len());
            };
            tokio::join!(pass, talk);
        }
    }
}
