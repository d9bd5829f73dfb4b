//! A SPDY session between a client and the runtime whose client's side lies in a WebSocket.

use base::Clock;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::idle::Idle;
use super::pass::LINGER;
use crate::websocket::{self, tunnel};

/// Passes bytes until either side closes or breaks, or nothing moves for too long.
pub async fn run<C, R>(client: C, runtime: R, clock: Clock)
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = websocket::serve(client).await.split();
    let (mut runtime_read, mut runtime_write) = tokio::io::split(runtime);
    let idle = Idle::new(clock);
    let runtime_ended = tokio::select! {
        outcome = tunnel::outward(&mut runtime_read, &mut sink, || idle.touch()) => outcome.is_ok(),
        outcome = tunnel::inward(&mut source, &mut runtime_write, || idle.touch()) => {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a tunnel broke");
            }
            false
        }
        () = idle.expired() => false,
    };
    let _ = runtime_write.shutdown().await;
    if runtime_ended {
        let rest = async { while let Some(Ok(_)) = source.next().await {} };
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
}
