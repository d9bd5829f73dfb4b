//! The sockets: UDP and TCP on every address of cluster DNS. Answers from memory are given in the receiving task;
//! what has to be asked elsewhere goes on in tasks of its own, a bounded number of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use base::TaskGroup;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::answer::{Answer, answer};
use super::forward::{Forwarder, Transport};
use super::state::State;
use super::wire::{self, Request};

/// How many TCP clients are served at a time; more wait in the kernel's queue.
const TCP_CONNECTIONS_MAX: usize = 256;
/// How long a TCP client may say nothing.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// How many names an alias may lead through.
const ALIASES_MAX: usize = 8;

/// What the server has done so far, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions received.
    pub questions: AtomicU64,
    /// Questions handed on to the host's resolvers.
    pub forwarded: AtomicU64,
    /// Answers that said SERVFAIL.
    pub failures: AtomicU64,
    /// Questions refused because too many were being asked elsewhere.
    pub overloads: AtomicU64,
}

/// What the sockets share.
pub struct Server {
    pub(super) state: ArcSwap<State>,
    pub(super) forwarder: Forwarder,
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
    pub(super) tasks: TaskGroup,
}

impl Server {
    /// Answers datagrams until the socket fails.
    pub async fn serve_udp(self: Arc<Self>, socket: UdpSocket) -> io::Error {
        let socket = Arc::new(socket);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (len, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An earlier answer found nobody: not this socket's fault.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return error,
            };
            let question = match wire::read(&buffer[..len]) {
                Request::Question(question) => question,
                Request::Reply(reply) => {
                    send(&socket, &reply, client).await;
                    continue;
                }
                Request::Ignore => continue,
            };
            self.counters.questions.fetch_add(1, Ordering::Relaxed);
            let bytes_max = wire::payload_bytes(&question);
            let found = match self.reply_from_memory(&question) {
                Ok(reply) => {
                    if let Some(bytes) = wire::encode(&reply, bytes_max) {
                        send(&socket, &bytes, client).await;
                    }
                    continue;
                }
                Err(elsewhere) => elsewhere,
            };
            let Ok(permit) = self.in_flight.clone().try_acquire_owned() else {
                self.counters.overloads.fetch_add(1, Ordering::Relaxed);
                if let Some(bytes) = wire::encode(&self.failure(&question), bytes_max) {
                    send(&socket, &bytes, client).await;
                }
                continue;
            };
            let (server, socket, raw) = (self.clone(), socket.clone(), buffer[..len].to_vec());
            self.tasks.spawn("dns forward", async move {
                if let Some(bytes) =
                    server.reply_from_elsewhere(&question, &raw, found, Transport::Udp, bytes_max).await
                {
                    send(&socket, &bytes, client).await;
                }
                drop(permit);
            });
        }
    }

    /// Serves TCP clients until the socket fails.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) -> io::Error {
        let connections = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
        loop {
            let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return error,
            };
            let server = self.clone();
            self.tasks.spawn("dns tcp client", async move {
                // A client that goes away, or says nothing, is the end of its connection and nothing else.
                let _ = server.serve_stream(stream).await;
                drop(permit);
            });
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let len = tokio::time::timeout(TCP_IDLE, stream.read_u16()).await??;
            let mut raw = vec![0; usize::from(len)];
            tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut raw)).await??;
            let bytes = match wire::read(&raw) {
                Request::Reply(reply) => Some(reply),
                Request::Ignore => return Ok(()),
                Request::Question(question) => {
                    self.counters.questions.fetch_add(1, Ordering::Relaxed);
                    match self.reply_from_memory(&question) {
                        Ok(reply) => wire::encode(&reply, u16::MAX),
                        Err(found) => self.reply_from_elsewhere(&question, &raw, found, Transport::Tcp, u16::MAX).await,
                    }
                }
            };
            let Some(bytes) = bytes else { return Ok(()) };
            let mut framed = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            tokio::time::timeout(TCP_IDLE, stream.write_all(&framed)).await??;
        }
    }

    /// The reply, or what has to be asked elsewhere.
    fn reply_from_memory(&self, question: &Message) -> Result<Message, Answer> {
        let query = &question.queries[0];
        match answer(&self.state.load(), query.name(), query.query_type(), question.metadata.id) {
            Answer::Records { code, answers, authorities, additionals } => {
                Ok(wire::reply(question, code, answers, authorities, additionals))
            }
            Answer::NotReady => Ok(self.failure(question)),
            elsewhere => Err(elsewhere),
        }
    }

    async fn reply_from_elsewhere(
        &self,
        question: &Message,
        raw: &[u8],
        found: Answer,
        transport: Transport,
        bytes_max: u16,
    ) -> Option<Vec<u8>> {
        self.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        if let Answer::Alias { record, target } = found {
            let reply = self.follow(question, *record, target, transport).await;
            return wire::encode(&reply.unwrap_or_else(|| self.failure(question)), bytes_max);
        }
        match self.forwarder.ask(raw, transport).await {
            Some(answer) => Some(answer),
            None => wire::encode(&self.failure(question), bytes_max),
        }
    }

    /// Collects what an alias leads to, in the cluster or elsewhere. `None` if a resolver was needed and none answered.
    async fn follow(&self, question: &Message, alias: Record, target: Name, transport: Transport) -> Option<Message> {
        let kind = question.queries[0].query_type();
        let mut reply = wire::refusal(question, ResponseCode::NoError);
        reply.metadata.authoritative = true;
        reply.answers.push(alias);
        let mut target = target;
        for _ in 0..ALIASES_MAX {
            let found = answer(&self.state.load(), &target, kind, question.metadata.id);
            match found {
                Answer::Records { code, answers, authorities, additionals } => {
                    reply.metadata.response_code = code;
                    reply.answers.extend(answers);
                    reply.authorities = authorities;
                    reply.additionals = additionals;
                    return Some(reply);
                }
                Answer::Alias { record, target: next } => {
                    reply.answers.push(*record);
                    target = next;
                }
                Answer::Forward => return self.follow_outside(question, reply, target, kind, transport).await,
                Answer::NotReady => return None,
            }
        }
        // Names that lead in a circle.
        None
    }

    async fn follow_outside(
        &self,
        question: &Message,
        mut reply: Message,
        target: Name,
        kind: RecordType,
        transport: Transport,
    ) -> Option<Message> {
        let mut asked = question.clone();
        asked.queries[0].set_name(target).set_query_type(kind);
        asked.metadata.recursion_desired = true;
        let answer = self.forwarder.ask(&asked.to_vec().ok()?, transport).await?;
        let answer = Message::from_vec(&answer).ok()?;
        reply.metadata.response_code = answer.metadata.response_code;
        reply.metadata.truncation = answer.metadata.truncation;
        reply.answers.extend(answer.answers);
        reply.authorities = answer.authorities;
        Some(reply)
    }

    fn failure(&self, question: &Message) -> Message {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        wire::refusal(question, ResponseCode::ServFail)
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%client, %error, "an answer could not be sent");
    }
}
