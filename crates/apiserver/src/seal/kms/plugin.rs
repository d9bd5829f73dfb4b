//! The plugin, over gRPC on a Unix socket. Dialled on first use and again after it broke; every call has an end.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::v2::key_management_service_client::KeyManagementServiceClient;
use super::v2::{DecryptRequest, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse};
use super::{Settings, Surroundings};

/// The largest answer that is taken; what is too long by upstream's rules is told apart after that.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A call that failed, as upstream's gRPC library writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {} desc = {message}", code_word(*code))]
pub struct Error {
    pub code: Code,
    message: String,
}

fn code_word(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}

impl Error {
    /// A call that took too long.
    pub fn deadline() -> Self {
        Self { code: Code::DeadlineExceeded, message: "context deadline exceeded".to_owned() }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // Which code a timeout gets depends on which side noticed it first.
        if matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded) {
            return Self::deadline();
        }
        let mut message = status.message().to_owned();
        let mut source = std::error::Error::source(&status);
        // A connection that breaks has no code of its own, but a cause.
        let code = if source.is_some() { Code::Unavailable } else { status.code() };
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Self { code, message }
    }
}

/// The socket's place for the gRPC library. `unix:///@name` is a name without a file: Linux' own, which a NUL begins.
fn place(socket: &str) -> String {
    match socket.strip_prefix("/@") {
        Some(name) => format!("unix://\0{name}"),
        None => format!("unix://{socket}"),
    }
}

/// A connection to a plugin.
pub struct Plugin {
    name: String,
    timeout: Duration,
    client: KeyManagementServiceClient<Channel>,
    around: Surroundings,
}

impl Plugin {
    /// Within a tokio runtime. Nothing is dialled yet.
    pub fn new(settings: &Settings, around: Surroundings) -> Self {
        let endpoint = Endpoint::from_shared(place(&settings.socket)).expect("it names a Unix socket, in UTF-8");
        let channel = endpoint.connect_lazy();
        let client = KeyManagementServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self { name: settings.name.clone(), timeout: settings.timeout, client, around }
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// # Errors
    /// When the call fails, or takes too long.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        let mut client = self.client.clone();
        let call = |request| async move { client.status(request).await };
        self.within("Status", StatusRequest {}, call).await
    }

    /// # Errors
    /// As [`Plugin::status`].
    pub async fn encrypt(&self, request: EncryptRequest) -> Result<EncryptResponse, Error> {
        let mut client = self.client.clone();
        self.within("Encrypt", request, |request| async move { client.encrypt(request).await }).await
    }

    /// # Errors
    /// As [`Plugin::status`].
    pub async fn decrypt(&self, request: DecryptRequest) -> Result<bytes::Bytes, Error> {
        let mut client = self.client.clone();
        let call = |request| async move { client.decrypt(request).await };
        Ok(self.within("Decrypt", request, call).await?.plaintext)
    }

    async fn within<Q, A, F>(
        &self,
        method: &'static str,
        message: Q,
        call: impl FnOnce(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        let began = self.around.clock.monotonic();
        let outcome = match tokio::time::timeout(self.timeout, call(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Error::from(status)),
            Err(_) => Err(Error::deadline()),
        };
        let code = code_word(outcome.as_ref().err().map_or(Code::Ok, |error| error.code));
        let took = self.around.clock.monotonic() - began;
        self.around.figures.called(&self.name, method, code, took);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstreams() {
        let text = |code, message: &str| Error::from(Status::new(code, message)).to_string();
        assert_eq!(text(Code::NotFound, "no key 7"), "rpc error: code = NotFound desc = no key 7");
        let late = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
        assert_eq!(
            (text(Code::Cancelled, "Timeout expired"), text(Code::DeadlineExceeded, "")),
            (late.into(), late.into())
        );
    }

    #[test]
    fn names_without_a_file_begin_with_a_nul() {
        assert_eq!(place("/@kms"), "unix://\0kms");
        assert_eq!(place("/run/@kms"), "unix:///run/@kms");
    }
}
