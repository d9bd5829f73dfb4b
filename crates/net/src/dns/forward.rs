//! Asks the host's own resolvers what is not a name of the cluster. Messages are handed on as they are, under a new id.
//!
//! Nothing is cached here: the answers' own life times are for the clients to keep.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use base::Random;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// As many resolvers as the C library takes from resolv.conf.
const UPSTREAMS_MAX: usize = 3;
/// How many of them are tried for one question.
const TRIES_MAX: usize = 2;

/// Where to ask.
#[derive(Debug, Clone)]
pub enum Upstreams {
    /// The name servers of a resolv.conf, read again when the file changes.
    File(PathBuf),
    /// These.
    Fixed(Vec<SocketAddr>),
}

/// How a question came, and so how it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A stream.
    Tcp,
}

/// Asks upstream resolvers. Cheap to share.
pub struct Forwarder {
    upstreams: Upstreams,
    /// Our own addresses: a resolver that is ourselves would be asked for ever.
    own: Vec<SocketAddr>,
    timeout: Duration,
    random: Random,
    /// The one that answered last.
    preferred: AtomicUsize,
    cached: Mutex<Option<(SystemTime, Arc<[SocketAddr]>)>>,
}

impl Forwarder {
    /// A forwarder that waits `timeout` for each resolver.
    pub fn new(upstreams: Upstreams, own: Vec<SocketAddr>, timeout: Duration, random: Random) -> Self {
        Self { upstreams, own, timeout, random, preferred: AtomicUsize::new(0), cached: Mutex::new(None) }
    }

    /// The answer to `question` with the question's id; `None` if no resolver answered in time, or there is none.
    pub async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let upstreams = self.upstreams();
        let first = self.preferred.load(Ordering::Relaxed);
        for n in 0..upstreams.len().min(TRIES_MAX) {
            let choice = (first + n) % upstreams.len();
            let exchange = self.exchange(question, upstreams[choice], transport);
            match tokio::time::timeout(self.timeout, exchange).await {
                Ok(Ok(answer)) => {
                    self.preferred.store(choice, Ordering::Relaxed);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(upstream = %upstreams[choice], %error, "a resolver was not reached"),
                Err(_) => tracing::debug!(upstream = %upstreams[choice], "a resolver did not answer in time"),
            }
        }
        None
    }

    async fn exchange(&self, question: &[u8], upstream: SocketAddr, transport: Transport) -> std::io::Result<Vec<u8>> {
        let mut id = [0; 2];
        self.random.fill(&mut id);
        let mut sent = question.to_vec();
        sent[..2].copy_from_slice(&id);
        let mut answer = match transport {
            Transport::Udp => over_udp(&sent, upstream).await?,
            Transport::Tcp => over_tcp(&sent, upstream).await?,
        };
        answer[..2].copy_from_slice(&question[..2]);
        Ok(answer)
    }

    fn upstreams(&self) -> Arc<[SocketAddr]> {
        let path = match &self.upstreams {
            Upstreams::Fixed(all) => return self.usable(all.clone()),
            Upstreams::File(path) => path,
        };
        let changed = std::fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut cached = self.cached.lock();
        match &*cached {
            Some((known, upstreams)) if *known == changed => upstreams.clone(),
            _ => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                let upstreams = self.usable(parse_resolv_conf(&text));
                *cached = Some((changed, upstreams.clone()));
                upstreams
            }
        }
    }

    fn usable(&self, all: Vec<SocketAddr>) -> Arc<[SocketAddr]> {
        all.into_iter().filter(|upstream| !self.own.contains(upstream)).take(UPSTREAMS_MAX).collect()
    }
}

async fn over_udp(question: &[u8], upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    // A socket of its own, and with it a random port: an answer is hard to forge and cannot be another question's.
    let any: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if is_answer(question, &buffer[..len]) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(question: &[u8], upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let mut framed = u16::try_from(question.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    if is_answer(question, &answer) { Ok(answer) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// The same id, the answer bit, and the same question but for upper and lower case.
fn is_answer(question: &[u8], answer: &[u8]) -> bool {
    let same_head = answer.len() >= 12 && answer[..2] == question[..2] && answer[2] & 0x80 != 0;
    let end = question_end(question);
    // A resolver that could not read the question may leave it out.
    let bare = answer.len() >= 12 && answer[4..6] == [0, 0];
    same_head && (bare || answer.get(12..end).is_some_and(|echo| echo.eq_ignore_ascii_case(&question[12..end])))
}

/// Where the question section ends; requests with more than one question do not come this far.
fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while let Some(&len) = message.get(at).filter(|len| **len != 0) {
        at += usize::from(len) + 1;
    }
    (at + 5).min(message.len())
}

/// The name servers of a resolv.conf.
fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_and_ourselves_left_out() {
        let text = "# x\nsearch a b\nnameserver 192.0.2.1\nnameserver 10.43.0.10\nnameserver ::1\nnameserver bad\noptions ndots:5";
        let all = parse_resolv_conf(text);
        assert_eq!(all.len(), 3);
        let own = vec!["10.43.0.10:53".parse().unwrap()];
        let forwarder = Forwarder::new(Upstreams::Fixed(all), own, Duration::from_secs(1), Random::seeded(1));
        let usable: Vec<String> = forwarder.upstreams().iter().map(ToString::to_string).collect();
        assert_eq!(usable, ["192.0.2.1:53", "[::1]:53"]);
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let question = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x01\0\x01";
        let mut answer = question.to_vec();
        answer[2] = 0x81;
        assert!(is_answer(question, &answer));
        answer[13] = b'A';
        assert!(is_answer(question, &answer));
        answer[13] = b'x';
        assert!(!is_answer(question, &answer));
        assert!(!is_answer(question, question));
        assert!(!is_answer(question, &answer[..11]));
    }
}
