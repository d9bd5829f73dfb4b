//! Stubs of the few services of containerd's own API that are used beside CRI.

/// `containerd.services.events.v1`.
#[allow(clippy::all)]
pub mod events {
    include!("generated/containerd_events.rs");
}

/// `containerd.events`: what an event carries.
#[allow(clippy::all)]
pub mod event_types {
    include!("generated/containerd_event_types.rs");
}

/// `containerd.services.content.v1`.
#[allow(clippy::all)]
pub mod content {
    include!("generated/containerd_content.rs");
}

/// `containerd.services.images.v1`.
#[allow(clippy::all)]
pub mod images {
    include!("generated/containerd_images.rs");
}

/// `containerd.services.leases.v1`.
#[allow(clippy::all)]
pub mod leases {
    include!("generated/containerd_leases.rs");
}

/// The containerd namespace in which its CRI plugin keeps everything.
pub const NAMESPACE: &str = "k8s.io";

/// A request in the CRI plugin's namespace.
pub fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("containerd-namespace", tonic::metadata::MetadataValue::from_static(NAMESPACE));
    request
}
