//! Frames on the wire (SPDY/3.1 draft, section 2.2).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Error;
use super::header::{Compressor, Decompressor, Headers};

const VERSION: u16 = 3;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
const HEADER_LEN: usize = 8;
/// The largest control frame taken.
const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// The largest piece of data handed on at once; larger frames come in pieces.
pub const DATA_BYTES_MAX: usize = 32 * 1024;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// A frame, or a piece of a data frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A new stream.
    SynStream { stream: u32, associated: u32, priority: u8, fin: bool, unidirectional: bool, headers: Headers },
    /// The stream is taken.
    SynReply { stream: u32, fin: bool, headers: Headers },
    /// The stream is over at once.
    RstStream { stream: u32, status: u32 },
    /// Parameters: of no meaning here.
    Settings,
    /// To be sent back when its id is the peer's.
    Ping { id: u32 },
    /// No new streams any more.
    GoAway { last_stream: u32, status: u32 },
    /// More headers.
    Headers { stream: u32, fin: bool, headers: Headers },
    /// More data may be sent; stream 0 is the session.
    WindowUpdate { stream: u32, delta: u32 },
    /// Data. `fin` with its last piece.
    Data { stream: u32, fin: bool, data: Bytes },
}

/// Writes frames.
#[derive(Debug, Default)]
pub struct Encoder(Compressor);

impl Encoder {
    /// A new stream that both sides may send on.
    pub fn syn_stream(&mut self, stream: u32, headers: &[(&str, &str)], out: &mut BytesMut) {
        let block = self.0.compress(headers);
        control(SYN_STREAM, 0, 10 + block.len(), out);
        out.put_u32(stream);
        out.put_u32(0);
        out.put_u16(0);
        out.put_slice(&block);
    }

    /// The answer to a new stream: what a server says.
    #[cfg(test)]
    pub fn syn_reply(&mut self, stream: u32, headers: &[(&str, &str)], out: &mut BytesMut) {
        let block = self.0.compress(headers);
        control(SYN_REPLY, 0, 4 + block.len(), out);
        out.put_u32(stream);
        out.put_slice(&block);
    }
}

/// An answer to a ping.
pub fn put_ping(id: u32, out: &mut BytesMut) {
    control(PING, 0, 4, out);
    out.put_u32(id);
}

/// The end of a stream that will not be used: what a server says.
#[cfg(test)]
pub fn put_rst_stream(stream: u32, status: u32, out: &mut BytesMut) {
    control(RST_STREAM, 0, 8, out);
    out.put_u32(stream);
    out.put_u32(status);
}

/// The end of the session.
pub fn put_go_away(last_stream: u32, out: &mut BytesMut) {
    control(GO_AWAY, 0, 8, out);
    out.put_u32(last_stream);
    out.put_u32(0);
}

/// Credit for data received.
pub fn put_window_update(stream: u32, delta: u32, out: &mut BytesMut) {
    control(WINDOW_UPDATE, 0, 8, out);
    out.put_u32(stream);
    out.put_u32(delta & 0x7fff_ffff);
}

/// A data frame's head; `len` bytes must follow.
///
/// # Panics
/// When `len` does not fit in 24 bits.
pub fn put_data_head(stream: u32, fin: bool, len: usize, out: &mut BytesMut) {
    out.put_u32(stream & 0x7fff_ffff);
    put_flags_and_len(if fin { FIN } else { 0 }, len, out);
}

fn control(kind: u16, flags: u8, len: usize, out: &mut BytesMut) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_flags_and_len(flags, len, out);
}

fn put_flags_and_len(flags: u8, len: usize, out: &mut BytesMut) {
    let len = u32::try_from(len).ok().filter(|len| *len < 1 << 24).expect("callers bound their frames");
    out.put_u32(u32::from(flags) << 24 | len);
}

/// Reads frames, as a codec.
#[derive(Debug, Default)]
pub struct Decoder {
    decompressor: Decompressor,
    /// The data frame that is being read: its stream, its flag, what is missing.
    data: Option<(u32, bool, usize)>,
}

impl tokio_util::codec::Decoder for Decoder {
    type Item = Frame;
    type Error = Error;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.data_piece(input) {
                return Ok(Some(frame));
            }
            if self.data.is_some() || input.len() < HEADER_LEN {
                return Ok(None);
            }
            let word = u32::from_be_bytes(input[..4].try_into().expect("four bytes"));
            let flags = input[4];
            let len = usize::from(input[5]) << 16 | usize::from(input[6]) << 8 | usize::from(input[7]);
            if word >> 31 == 0 {
                input.advance(HEADER_LEN);
                self.data = Some((word, flags & FIN != 0, len));
                continue;
            }
            if len > CONTROL_BYTES_MAX {
                return Err(Error::Protocol("too large a control frame"));
            }
            if input.len() < HEADER_LEN + len {
                input.reserve(HEADER_LEN + len - input.len());
                return Ok(None);
            }
            input.advance(HEADER_LEN);
            let body = input.split_to(len).freeze();
            if (word >> 16 & 0x7fff) as u16 != VERSION {
                return Err(Error::Protocol("another version of the protocol"));
            }
            if let Some(frame) = self.control(word as u16, flags, body)? {
                return Ok(Some(frame));
            }
        }
    }

    /// A connection may end anywhere: what ends with it is told by the streams that did not end.
    fn decode_eof(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Error> {
        let frame = self.decode(input)?;
        if frame.is_none() {
            input.clear();
        }
        Ok(frame)
    }
}

impl Decoder {
    /// What has come of the current data frame.
    fn data_piece(&mut self, input: &mut BytesMut) -> Option<Frame> {
        let (stream, fin, missing) = self.data?;
        let len = missing.min(input.len()).min(DATA_BYTES_MAX);
        if len == 0 && missing > 0 {
            return None;
        }
        let last = len == missing;
        self.data = if last { None } else { Some((stream, fin, missing - len)) };
        Some(Frame::Data { stream, fin: fin && last, data: input.split_to(len).freeze() })
    }

    /// `None`: a kind of frame that means nothing to us.
    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Option<Frame>, Error> {
        let fin = flags & FIN != 0;
        let mut word = || match body.try_get_u32() {
            Ok(word) => Ok(word & 0x7fff_ffff),
            Err(_) => Err(Error::Protocol("a control frame cut short")),
        };
        Ok(Some(match kind {
            SYN_STREAM => {
                let (stream, associated) = (word()?, word()?);
                let slot = body.try_get_u16().map_err(|_| Error::Protocol("a control frame cut short"))?;
                let headers = self.decompressor.decompress(&body)?;
                let unidirectional = flags & UNIDIRECTIONAL != 0;
                Frame::SynStream { stream, associated, priority: (slot >> 13) as u8, fin, unidirectional, headers }
            }
            SYN_REPLY => Frame::SynReply { stream: word()?, fin, headers: self.decompressor.decompress(&body)? },
            HEADERS => Frame::Headers { stream: word()?, fin, headers: self.decompressor.decompress(&body)? },
            RST_STREAM => Frame::RstStream { stream: word()?, status: word()? },
            SETTINGS => Frame::Settings,
            PING => Frame::Ping { id: word()? },
            GO_AWAY => Frame::GoAway { last_stream: word()?, status: word()? },
            WINDOW_UPDATE => Frame::WindowUpdate { stream: word()?, delta: word()? },
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::codec::Decoder as _;

    fn decode_all(decoder: &mut Decoder, mut input: BytesMut) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.decode(&mut input).unwrap()).collect()
    }

    #[test]
    fn a_stream_opened_by_another_implementation() {
        // SYN_STREAM 3, priority 2, FIN, `streamtype: stdin` with zlib's own compression.
        let wire = "80030001010000290000000300000000400078f9e3c6a7c202a62346703a2b294a4dcc851625acc525c03c01000000ffff";
        let frames = decode_all(&mut Decoder::default(), BytesMut::from(&*hex::decode(wire).unwrap()));
        let headers = vec![("streamtype".to_owned(), "stdin".to_owned())];
        let expected =
            Frame::SynStream { stream: 3, associated: 0, priority: 2, fin: true, unidirectional: false, headers };
        assert_eq!(frames, [expected]);
    }

    #[test]
    fn frames_in_the_bytes_of_the_draft() {
        let mut out = BytesMut::new();
        put_ping(7, &mut out);
        put_window_update(5, 0x1000, &mut out);
        put_rst_stream(1, 5, &mut out);
        put_go_away(9, &mut out);
        put_data_head(3, true, 2, &mut out);
        out.put_slice(b"hi");
        let wire = "800300060000000400000007\
                    80030009000000080000000500001000\
                    80030003000000080000000100000005\
                    80030007000000080000000900000000\
                    00000003010000026869";
        assert_eq!(hex::encode(&out), wire);
        let frames = decode_all(&mut Decoder::default(), out);
        assert_eq!(
            frames,
            [
                Frame::Ping { id: 7 },
                Frame::WindowUpdate { stream: 5, delta: 0x1000 },
                Frame::RstStream { stream: 1, status: 5 },
                Frame::GoAway { last_stream: 9, status: 0 },
                Frame::Data { stream: 3, fin: true, data: Bytes::from_static(b"hi") },
            ]
        );
    }

    #[test]
    fn a_byte_at_a_time() {
        let mut out = BytesMut::new();
        let mut encoder = Encoder::default();
        encoder.syn_stream(1, &[("streamType", "error")], &mut out);
        encoder.syn_reply(1, &[], &mut out);
        put_data_head(1, false, 0, &mut out);
        put_data_head(1, true, 3, &mut out);
        out.put_slice(b"end");
        let (mut decoder, mut input, mut data, mut frames) =
            (Decoder::default(), BytesMut::new(), Vec::new(), Vec::new());
        for byte in out {
            input.put_u8(byte);
            while let Some(frame) = decoder.decode(&mut input).unwrap() {
                match frame {
                    Frame::Data { fin, data: piece, .. } => data.push((piece, fin)),
                    frame => frames.push(frame),
                }
            }
        }
        assert!(matches!(&frames[..], [Frame::SynStream { stream: 1, .. }, Frame::SynReply { stream: 1, .. }]));
        let pieces: Vec<(&[u8], bool)> = data.iter().map(|(piece, fin)| (&**piece, *fin)).collect();
        assert_eq!(pieces, [(&b""[..], false), (b"e", false), (b"n", false), (b"d", true)]);
    }

    #[test]
    fn large_data_comes_in_pieces_and_large_control_frames_never() {
        let mut wire = BytesMut::new();
        put_data_head(1, true, DATA_BYTES_MAX * 2 + 1, &mut wire);
        wire.extend_from_slice(&vec![7; DATA_BYTES_MAX * 2 + 1]);
        let pieces: Vec<(usize, bool)> = decode_all(&mut Decoder::default(), wire)
            .into_iter()
            .map(|frame| match frame {
                Frame::Data { data, fin, .. } => (data.len(), fin),
                frame => panic!("{frame:?}"),
            })
            .collect();
        assert_eq!(pieces, [(DATA_BYTES_MAX, false), (DATA_BYTES_MAX, false), (1, true)]);
        let mut wire = BytesMut::from(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff][..]);
        assert!(Decoder::default().decode(&mut wire).is_err());
    }
}
