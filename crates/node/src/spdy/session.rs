//! The client's side of a session, as two halves that work on their own: what comes in is never held up by what goes
//! out.

use std::collections::BTreeMap;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::codec::FramedRead;

use super::Error;
use super::frame::{self, Decoder, Encoder, Frame};

/// Answers to pings and credits that wait for the writing half. When it is full, the runtime does not read; what
/// does not fit is dropped, for nobody waits for it.
const REPLIES_LEN_MAX: usize = 64;
/// Data received before it is credited.
const CREDIT_BYTES: u32 = 32 * 1024;

/// Something to be sent in answer to what was received.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// A ping goes back.
    Ping(u32),
    /// Data was taken.
    Credit { stream: u32, bytes: u32 },
}

/// What the runtime sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It took the stream.
    Accepted { stream: u32 },
    /// Data on a stream; `fin`: the last.
    Data { stream: u32, data: Bytes, fin: bool },
    /// It gave the stream up.
    Reset { stream: u32 },
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver<IO> {
    frames: FramedRead<ReadHalf<IO>, Decoder>,
    replies: mpsc::Sender<Reply>,
    /// By stream, once the peer has shown that it keeps windows. One that does not must not be told: it closes when
    /// the command has ended, and what it has not read by then makes its kernel drop what we have not read yet.
    uncredited: Option<BTreeMap<u32, u32>>,
}

/// The sending half. Streams are numbered 1, 3, 5, ... in the order in which they are opened.
#[derive(Debug)]
pub struct Sender<IO> {
    io: WriteHalf<IO>,
    encoder: Encoder,
    streams_len: u32,
    buffer: BytesMut,
}

/// A session over an upgraded connection. The replies are to be passed to [`Sender::reply`].
pub fn session<IO: AsyncRead + AsyncWrite>(io: IO) -> (Receiver<IO>, Sender<IO>, mpsc::Receiver<Reply>) {
    let (read, write) = tokio::io::split(io);
    let (replies, queue) = mpsc::channel(REPLIES_LEN_MAX);
    let frames = FramedRead::with_capacity(read, Decoder::default(), frame::DATA_BYTES_MAX);
    let receiver = Receiver { frames, replies, uncredited: None };
    let sender = Sender { io: write, encoder: Encoder::default(), streams_len: 0, buffer: BytesMut::new() };
    (receiver, sender, queue)
}

impl<IO: AsyncRead> Receiver<IO> {
    /// The next event; `None` when the runtime has closed the session. Cancel-safe.
    ///
    /// # Errors
    /// [`Error`]: the session is over.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        while let Some(frame) = self.frames.next().await {
            match frame? {
                Frame::SynReply { stream, .. } => return Ok(Some(Event::Accepted { stream })),
                Frame::Data { stream, fin, data } => {
                    self.credit(stream, data.len());
                    return Ok(Some(Event::Data { stream, data, fin }));
                }
                Frame::Headers { stream, fin: true, .. } => {
                    return Ok(Some(Event::Data { stream, data: Bytes::new(), fin: true }));
                }
                Frame::RstStream { stream, .. } => return Ok(Some(Event::Reset { stream })),
                Frame::Ping { id } if id % 2 == 0 => {
                    let _ = self.replies.try_send(Reply::Ping(id));
                }
                Frame::Settings | Frame::WindowUpdate { .. } => {
                    self.uncredited.get_or_insert_default();
                }
                // A runtime opens no streams; what it has opened still comes after a GOAWAY.
                _ => {}
            }
        }
        Ok(None)
    }

    fn credit(&mut self, stream: u32, len: usize) {
        let Some(uncredited) = &mut self.uncredited else { return };
        let uncredited = uncredited.entry(stream).or_default();
        *uncredited += u32::try_from(len).expect("pieces are small");
        if *uncredited >= CREDIT_BYTES {
            let bytes = std::mem::take(uncredited);
            let _ = self.replies.try_send(Reply::Credit { stream, bytes });
        }
    }
}

impl<IO: AsyncWrite> Sender<IO> {
    /// Opens a stream and returns its number.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> Result<u32, Error> {
        let stream = self.streams_len * 2 + 1;
        self.streams_len += 1;
        self.encoder.syn_stream(stream, headers, &mut self.buffer);
        self.flush().await?;
        Ok(stream)
    }

    /// Sends data on a stream; `fin` says that no more follows. Returns when the connection has taken all of it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn send(&mut self, stream: u32, mut data: Bytes, fin: bool) -> Result<(), Error> {
        loop {
            let piece = data.split_to(data.len().min(frame::DATA_BYTES_MAX));
            frame::put_data_head(stream, fin && data.is_empty(), piece.len(), &mut self.buffer);
            let mut both = Buf::chain(self.buffer.split(), piece);
            while both.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 2];
                let len = both.chunks_vectored(&mut slices);
                let written = self.io.write_vectored(&slices[..len]).await?;
                if written == 0 {
                    return Err(Error::Io(std::io::ErrorKind::WriteZero.into()));
                }
                both.advance(written);
            }
            if data.is_empty() {
                return Ok(self.io.flush().await?);
            }
        }
    }

    /// Sends what [`session`]'s queue yields.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn reply(&mut self, reply: Reply) -> Result<(), Error> {
        match reply {
            Reply::Ping(id) => frame::put_ping(id, &mut self.buffer),
            Reply::Credit { stream, bytes } => {
                frame::put_window_update(stream, bytes, &mut self.buffer);
                frame::put_window_update(0, bytes, &mut self.buffer);
            }
        }
        self.flush().await
    }

    /// Says goodbye and closes the sending direction.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn close(&mut self) -> Result<(), Error> {
        frame::put_go_away(0, &mut self.buffer);
        self.flush().await?;
        Ok(self.io.shutdown().await?)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.io.write_all_buf(&mut self.buffer).await?;
        Ok(self.io.flush().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_client_says() {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (mut receiver, mut sender, mut replies) = session(ours);
        let (read, mut write) = tokio::io::split(theirs);
        let mut frames = FramedRead::new(read, Decoder::default());

        assert_eq!(sender.open(&[("streamType", "error")]).await.unwrap(), 1);
        assert_eq!(sender.open(&[("streamType", "stdin")]).await.unwrap(), 3);
        sender.send(3, Bytes::from(vec![1; frame::DATA_BYTES_MAX + 5]), true).await.unwrap();
        let streams: Vec<Frame> = [frames.next().await, frames.next().await].map(|f| f.unwrap().unwrap()).into();
        assert!(matches!(&streams[1], Frame::SynStream { stream: 3, headers, .. }
            if headers[0] == ("streamtype".to_owned(), "stdin".to_owned())));
        let (mut len, mut ended) = (0, false);
        while !ended {
            let Frame::Data { stream: 3, data, fin } = frames.next().await.unwrap().unwrap() else { panic!() };
            len += data.len();
            ended = fin;
        }
        assert_eq!(len, frame::DATA_BYTES_MAX + 5);

        let mut wire = BytesMut::new();
        Encoder::default().syn_reply(1, &[], &mut wire);
        frame::put_ping(2, &mut wire);
        frame::put_ping(1, &mut wire); // an answer to a ping of ours, not a ping
        frame::put_data_head(1, false, 40_000, &mut wire);
        wire.extend_from_slice(&[9; 40_000]); // not credited: no window has been spoken of
        frame::put_window_update(1, 1, &mut wire);
        frame::put_data_head(1, true, 40_000, &mut wire);
        wire.extend_from_slice(&[9; 40_000]);
        write.write_all(&wire).await.unwrap();
        drop(write);
        assert_eq!(receiver.next().await.unwrap(), Some(Event::Accepted { stream: 1 }));
        let mut len = 0;
        loop {
            let Some(Event::Data { stream: 1, data, fin }) = receiver.next().await.unwrap() else { panic!() };
            len += data.len();
            if fin {
                break;
            }
        }
        assert_eq!(len, 80_000);
        while let Ok(reply) = replies.try_recv() {
            sender.reply(reply).await.unwrap();
        }
        assert_eq!(frames.next().await.unwrap().unwrap(), Frame::Ping { id: 2 });
        assert!(matches!(frames.next().await.unwrap().unwrap(), Frame::WindowUpdate { stream: 1, delta: 32_768.. }));
        assert!(matches!(frames.next().await.unwrap().unwrap(), Frame::WindowUpdate { stream: 0, .. }));
        sender.close().await.unwrap();
        assert!(matches!(frames.next().await.unwrap().unwrap(), Frame::GoAway { .. }), "credited once");
    }
}
