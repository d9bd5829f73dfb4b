//! Questions and answers as bytes: what is read from a datagram, and what fits into one. Pure.
//!
//! RFC 1035 (messages), RFC 6891 (EDNS), RFC 2181 section 9 (truncation).

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};

/// The largest answer in a datagram that we send even if the client would take more: it fits every path unfragmented.
pub const PAYLOAD_BYTES_MAX: u16 = 1232;
/// What a client without EDNS takes.
const PLAIN_BYTES: u16 = 512;

/// The shortest record there is: a pointer to its name, type, class, life time, length, and an IPv4 address.
const RECORD_BYTES_MIN: usize = 16;

/// What a datagram or a stream brought.
#[derive(Debug)]
pub enum Request {
    /// A question to answer.
    Question(Message),
    /// Something to refuse: the finished reply.
    Reply(Vec<u8>),
    /// Nothing to answer: garbage, or somebody's answer.
    Ignore,
}

/// Reads a request.
pub fn read(bytes: &[u8]) -> Request {
    let Ok(message) = Message::from_vec(bytes) else {
        // Enough of a header to say that the rest makes no sense, unless it is an answer.
        return match bytes {
            [id_high, id_low, flags, ..] if bytes.len() >= 12 && flags & 0x80 == 0 => {
                let id = u16::from_be_bytes([*id_high, *id_low]);
                encode_or_ignore(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
            }
            _ => Request::Ignore,
        };
    };
    if message.metadata.message_type != MessageType::Query {
        return Request::Ignore;
    }
    let code = if message.metadata.op_code != OpCode::Query {
        ResponseCode::NotImp
    } else if message.queries.len() != 1 {
        ResponseCode::FormErr
    } else if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        ResponseCode::BADVERS
    } else if message.queries[0].query_class() != DNSClass::IN {
        ResponseCode::Refused
    } else {
        return Request::Question(message);
    };
    encode_or_ignore(&refusal(&message, code))
}

fn encode_or_ignore(reply: &Message) -> Request {
    encode(reply, u16::MAX).map_or(Request::Ignore, Request::Reply)
}

/// A reply with a code and no records.
pub fn refusal(question: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&question.metadata);
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.queries.clone_from(&question.queries);
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD_BYTES_MAX);
        reply.edns = Some(edns);
    }
    reply
}

/// An authoritative reply with these sections.
pub fn reply(
    question: &Message,
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
) -> Message {
    let mut reply = refusal(question, code);
    reply.metadata.authoritative = true;
    reply.answers = answers;
    reply.authorities = authorities;
    reply.additionals = additionals;
    reply
}

/// How many bytes the asking client takes in a datagram.
pub fn payload_bytes(question: &Message) -> u16 {
    question.edns.as_ref().map_or(PLAIN_BYTES, |edns| edns.max_payload().clamp(PLAIN_BYTES, PAYLOAD_BYTES_MAX))
}

/// The bytes of `reply`, at most `bytes_max`: what may be left out is left out first, and when answers have to go the
/// reply says that it is truncated, so that the client asks again over TCP. `None` if it cannot be written at all.
pub fn encode(reply: &Message, bytes_max: u16) -> Option<Vec<u8>> {
    let max = usize::from(bytes_max);
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= max {
        return Some(bytes);
    }
    let mut shorter = reply.clone();
    shorter.additionals.clear();
    if shorter.answers.len() > max / RECORD_BYTES_MIN {
        shorter.answers.truncate(max / RECORD_BYTES_MIN);
        shorter.metadata.truncation = true;
    }
    let mut bytes = shorter.to_vec().ok()?;
    while bytes.len() > max {
        shorter.metadata.truncation = true;
        if shorter.answers.is_empty() && shorter.authorities.is_empty() {
            return None;
        }
        shorter.authorities.clear();
        let fitting = shorter.answers.len() * max / bytes.len();
        shorter.answers.truncate(fitting.min(shorter.answers.len().saturating_sub(1)));
        bytes = shorter.to_vec().ok()?;
    }
    Some(bytes)
}
