//! A KMS v2 plugin: gRPC on a Unix socket, with a vault instead of a cloud. It speaks HTTP/2 and protobuf by its own
//! means, so that nothing is proved by the server's own library talking to itself.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptRequest {
    #[prost(bytes, tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptResponse {
    #[prost(bytes, tag = "1")]
    plaintext: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptRequest {
    #[prost(bytes, tag = "1")]
    plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptResponse {
    #[prost(bytes, tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    annotations: BTreeMap<String, Vec<u8>>,
}

/// How the plugin behaves, and what it keeps.
#[derive(Default)]
pub struct State {
    /// The key that seals.
    pub key_id: String,
    /// What `Encrypt` says its key was, if not that one.
    pub encrypts_with: Option<String>,
    /// Says that it is not well, so many times more.
    pub ill: usize,
    /// Answers nothing.
    pub hangs: bool,
    /// Refuses to decrypt, with code 14 (Unavailable).
    pub cannot_decrypt: bool,
    /// How long the ciphertexts are, if not short.
    pub ciphertext_len: usize,
    /// Keys that are gone: what was encrypted with them is not decrypted.
    pub gone: Vec<String>,
    /// By ciphertext: the key, and what was encrypted.
    vault: HashMap<Vec<u8>, (String, Vec<u8>)>,
}

impl State {
    /// What a call to `Encrypt` answers.
    pub fn wrap(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut ciphertext = format!("wrapped-{}-by-{}", self.vault.len(), self.key_id).into_bytes();
        ciphertext.resize(self.ciphertext_len.max(ciphertext.len()), b'.');
        self.vault.insert(ciphertext.clone(), (self.key_id.clone(), plaintext.to_vec()));
        ciphertext
    }

    fn answer(&mut self, method: &str, message: &[u8]) -> Result<Vec<u8>, (u32, String)> {
        match method {
            "Status" => {
                self.ill = self.ill.saturating_sub(1);
                let healthz = if self.ill > 0 { "still starting" } else { "ok" };
                let key_id = self.key_id.clone();
                Ok(StatusResponse { version: "v2".to_owned(), healthz: healthz.to_owned(), key_id }.encode_to_vec())
            }
            "Encrypt" => {
                let request = EncryptRequest::decode(message).unwrap();
                assert!(!request.uid.is_empty() && request.plaintext.len() == 32, "a seed, and whose call it is");
                let ciphertext = self.wrap(&request.plaintext);
                let key_id = self.encrypts_with.clone().unwrap_or_else(|| self.key_id.clone());
                let annotations = BTreeMap::from([("vault.example.com".to_owned(), b"shelf 1".to_vec())]);
                Ok(EncryptResponse { ciphertext, key_id, annotations }.encode_to_vec())
            }
            "Decrypt" => {
                let request = DecryptRequest::decode(message).unwrap();
                if self.cannot_decrypt {
                    return Err((14, "the vault is locked".to_owned()));
                }
                let Some((key_id, plaintext)) = self.vault.get(&request.ciphertext) else {
                    return Err((5, "nothing of that kind is in the vault".to_owned()));
                };
                if *key_id != request.key_id || self.gone.contains(key_id) {
                    return Err((5, format!("no key {}", request.key_id)));
                }
                Ok(DecryptResponse { plaintext: plaintext.clone() }.encode_to_vec())
            }
            _ => Err((12, format!("unknown method {method}"))),
        }
    }
}

type Calls = HashMap<String, usize>;

pub struct KmsPlugin {
    pub state: Arc<Mutex<State>>,
    pub socket: PathBuf,
    calls: watch::Sender<Calls>,
    /// Who listens and answers, while it runs.
    serving: Option<JoinSet<()>>,
}

impl KmsPlugin {
    /// Serves on a socket in that folder, with a key named `1`. To be called within a tokio runtime.
    pub fn start(folder: &Path) -> Self {
        let state = State { key_id: "1".to_owned(), ..State::default() };
        let mut plugin = Self {
            state: Arc::new(Mutex::new(state)),
            socket: folder.join("kms.sock"),
            calls: watch::Sender::default(),
            serving: None,
        };
        plugin.resume();
        plugin
    }

    /// A provider of an `EncryptionConfiguration`, named `vault`, whose calls may take that long.
    pub fn provider(&self, timeout: &str) -> String {
        let socket = self.socket.display();
        format!("{{kms: {{apiVersion: v2, name: vault, endpoint: 'unix://{socket}', timeout: {timeout}}}}}")
    }

    /// Ends, with every connection.
    pub async fn stop(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            serving.shutdown().await;
            std::fs::remove_file(&self.socket).unwrap();
        }
    }

    /// Serves again, with what it kept.
    pub fn resume(&mut self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let (state, calls) = (self.state.clone(), self.calls.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, calls) = (state.clone(), calls.clone());
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let (state, calls) = (state.clone(), calls.clone());
                        async move { Ok::<_, std::convert::Infallible>(serve(&state, &calls, request).await) }
                    });
                    let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // Who goes away goes away.
                    let _ = http2.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        self.serving = Some(serving);
    }

    /// How often a method was called.
    pub fn count(&self, method: &str) -> usize {
        self.calls.borrow().get(method).copied().unwrap_or_default()
    }

    /// Returns when a method was called more than `count` times.
    pub async fn called_more_than(&self, method: &str, count: usize) {
        let mut calls = self.calls.subscribe();
        calls.wait_for(|calls| calls.get(method).is_some_and(|now| *now > count)).await.unwrap();
    }
}

async fn serve(
    state: &Mutex<State>,
    calls: &watch::Sender<Calls>,
    request: Request<Incoming>,
) -> Response<BoxBody<Bytes, std::convert::Infallible>> {
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let path = request.uri().path().to_owned();
    let method = path.strip_prefix("/v2.KeyManagementService/").expect("a method of that service").to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    calls.send_modify(|calls| *calls.entry(method.clone()).or_default() += 1);
    if state.lock().hangs {
        std::future::pending::<()>().await;
    }
    // A byte that says whether it is compressed, and four of its length.
    assert_eq!((body[0], body.len() - 5), (0, u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize));
    let answer = state.lock().answer(&method, &body[5..]);
    let mut trailers = HeaderMap::new();
    let mut frames = Vec::new();
    match answer {
        Ok(message) => {
            let mut data = BytesMut::new();
            data.put_u8(0);
            data.put_u32(u32::try_from(message.len()).unwrap());
            data.put_slice(&message);
            frames.push(Ok(Frame::data(data.freeze())));
            trailers.insert("grpc-status", "0".parse().unwrap());
        }
        Err((code, why)) => {
            trailers.insert("grpc-status", code.to_string().parse().unwrap());
            trailers.insert("grpc-message", why.replace(' ', "%20").parse().unwrap());
        }
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let body = BodyExt::boxed(StreamBody::new(stream::iter(frames)));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}
