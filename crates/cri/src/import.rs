//! Puts image archives into containerd through its own API: CRI has no call for it, and so no registry is needed.

use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use futures_util::stream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::archive::{Archive, Blob, Descriptor};
use crate::containerd::content::content_client::ContentClient;
use crate::containerd::images::images_client::ImagesClient;
use crate::containerd::leases::leases_client::LeasesClient;
use crate::containerd::{content, images, leases, request};
use crate::{Client, Error, Result, v1};

/// How much of a blob goes into one message; containerd takes up to 16 MiB.
const CHUNK_BYTES: usize = 1024 * 1024;

/// How long containerd keeps what an import wrote that broke off half way.
const LEASE: Duration = Duration::from_secs(3600);

/// Tells the CRI plugin that an image is its own to show.
const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");

/// See [`crate::Runtime::import_image`].
pub async fn import(client: &Client, archive: Bytes, base_name: &str) -> Result<Vec<String>> {
    let archive = Archive::read(archive, base_name)?;
    let lease = Lease::create(client.channel()).await?;
    let stored = store(client.channel(), &lease, &archive).await;
    lease.delete().await;
    stored?;
    for (name, _) in &archive.images {
        wait_until_shown(client, name).await?;
    }
    Ok(archive.names())
}

/// Keeps the collector away from blobs that no image names yet.
struct Lease {
    service: LeasesClient<Channel>,
    id: MetadataValue<Ascii>,
}

impl Lease {
    async fn create(channel: Channel) -> Result<Self> {
        let mut service = LeasesClient::new(channel);
        let expire = Clock::system().now() + LEASE;
        let labels = [("containerd.io/gc.expire".to_owned(), expire.to_string())].into();
        let id = format!("pintle-import-{}", base::Random::system().suffix(16));
        service.create(request(leases::CreateRequest { id: id.clone(), labels })).await?;
        Ok(Self { service, id: id.try_into().map_err(Error::failed)? })
    }

    /// A request that works under the lease.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = request(message);
        request.metadata_mut().insert("containerd-lease", self.id.clone());
        request
    }

    /// Its end; should it not be reached, the lease ends by itself.
    async fn delete(mut self) {
        let id = self.id.to_str().unwrap_or_default().to_owned();
        if let Err(status) = self.service.delete(request(leases::DeleteRequest { id, sync: false })).await {
            tracing::debug!(error = status.message(), "a lease on imported content could not be given back");
        }
    }
}

async fn store(channel: Channel, lease: &Lease, archive: &Archive) -> Result<()> {
    for blob in &archive.blobs {
        write(ContentClient::new(channel.clone()), lease, blob).await?;
    }
    for (name, target) in &archive.images {
        name_image(ImagesClient::new(channel.clone()), lease, name, target).await?;
    }
    Ok(())
}

/// Writes a blob; one that is there already is left as it is.
async fn write(mut service: ContentClient<Channel>, lease: &Lease, blob: &Blob) -> Result<()> {
    let info = content::InfoRequest { digest: blob.digest.clone() };
    match service.info(lease.request(info)).await {
        Ok(_) => return Ok(()),
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(status.into()),
    }
    let message = {
        let reference = format!("{}-{}", lease.id.to_str().unwrap_or_default(), blob.digest);
        let (expected, labels) = (blob.digest.clone(), blob.labels.clone());
        let total = length(blob.data.len());
        move |action: content::WriteAction, offset: usize, data: Bytes| content::WriteContentRequest {
            action: action.into(),
            r#ref: reference.clone(),
            total,
            expected: expected.clone(),
            offset: length(offset),
            data,
            labels: if action == content::WriteAction::Commit { labels.clone() } else { Default::default() },
        }
    };
    let data = blob.data.clone();
    let chunks = (0..data.len()).step_by(CHUNK_BYTES).map(move |start| (start, (start + CHUNK_BYTES).min(data.len())));
    let data = blob.data.clone();
    let commit = message(content::WriteAction::Commit, data.len(), Bytes::new());
    let messages = chunks.map(move |(start, end)| message(content::WriteAction::Write, start, data.slice(start..end)));
    let outcome = async {
        let mut answers = service.write(lease.request(stream::iter(messages.chain([commit])))).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    };
    match outcome.await {
        Err(status) if tonic::Status::code(&status) != Code::AlreadyExists => Err(status.into()),
        _ => Ok(()),
    }
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Gives `target` a name; a name that meant something else means this from now on.
async fn name_image(mut service: ImagesClient<Channel>, lease: &Lease, name: &str, target: &Descriptor) -> Result<()> {
    let image = images::Image {
        name: name.to_owned(),
        labels: [(MANAGED.0.to_owned(), MANAGED.1.to_owned())].into(),
        target: Some(images::Descriptor {
            media_type: target.media_type.clone(),
            digest: target.digest.clone(),
            size: target.size,
            annotations: Default::default(),
        }),
    };
    match service.create(lease.request(images::CreateImageRequest { image: Some(image.clone()) })).await {
        Err(status) if status.code() == Code::AlreadyExists => {
            service.update(lease.request(images::UpdateImageRequest { image: Some(image) })).await?;
        }
        outcome => {
            outcome?;
        }
    }
    Ok(())
}

/// Waits until CRI shows the image: its plugin learns of new names from containerd's events and tells nobody when it
/// has taken one in.
async fn wait_until_shown(client: &Client, name: &str) -> Result<()> {
    let mut pause = Duration::from_millis(2);
    while client.image_status(v1::ImageSpec::named(name)).await?.is_none() {
        if pause > Duration::from_secs(4) {
            return Err(Error::failed(format!("the runtime took {name} but does not show it")));
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}
