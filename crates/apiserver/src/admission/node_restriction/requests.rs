//! What a node asks for in its own name and in that of its pods: certificates, and the devices it offers.
//!
//! Upstream: plugin/pkg/admission/noderestriction (`admitCSR`, `admitPodCertificateRequest`, `admitResourceSlice`).

use api::certificates::v1::{CertificateSigningRequest, PodCertificateRequest, PodCertificateRequestSpec};
use api::core::v1::{Node, Pod, ServiceAccount};
use api::resource::v1::ResourceSlice;
use api::{Object, Status, Typed};

use super::{MIRROR, Refused, Request, node_of};
use crate::admission::Operation;
use crate::registry::read_request;

const NODE_SIGNERS: &[&str] = &["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

/// A certificate for a node is for the node that asks.
pub(super) fn signing(node: &str, request: &mut Request<'_>) -> Result<(), Refused> {
    if request.operation != Operation::Create || !request.subresource.is_empty() {
        return Ok(());
    }
    let Some(wish) = request.object::<CertificateSigningRequest>() else { return Ok(()) };
    if !NODE_SIGNERS.contains(&wish.spec.signer_name.as_str()) {
        return Ok(());
    }
    match read_request(&wish.spec.request.0) {
        Err(why) => Err(format!("unable to parse csr: {why}").into()),
        Ok(read) if read.common_name != format!("system:node:{node}") => {
            Err(format!("can only create a node CSR with CN=system:node:{node}").into())
        }
        Ok(_) => Ok(()),
    }
}

/// Devices are offered, and taken back, by the node they are on.
pub(super) fn slice(node: &str, request: &mut Request<'_>) -> Result<(), Refused> {
    let own = |slice: Option<&str>| slice == Some(node);
    match request.operation {
        Operation::Create => match request.stored_object::<ResourceSlice>() {
            Some(slice) if !own(slice.spec.node_name.as_deref()) => {
                Err("can only create ResourceSlice with the same NodeName as the requesting node".into())
            }
            _ => Ok(()),
        },
        Operation::Delete => match request.stored_old_object::<ResourceSlice>() {
            Some(slice) if !own(slice.spec.node_name.as_deref()) => {
                Err("can only delete ResourceSlice with the same NodeName as the requesting node".into())
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A pod's certificate is asked for by the node it runs on, and names things as they are.
pub(super) fn pod_certificate(node: &str, request: &mut Request<'_>) -> Result<(), Refused> {
    if request.operation != Operation::Create {
        return Err(format!("unexpected operation {}", request.operation.as_str()).into());
    }
    if !request.subresource.is_empty() {
        return Err(format!("unexpected subresource {}", request.subresource).into());
    }
    let Some(wish) = request.object::<PodCertificateRequest>() else { return Ok(()) };
    let spec = wish.spec.clone();
    if spec.node_name != node {
        let named = &spec.node_name;
        let why = format!("PodCertificateRequest.Spec.NodeName={named:?}, which is not the requesting node {node:?}");
        return Err(why.into());
    }
    on_this_node(&spec, request)
}

fn on_this_node(spec: &PodCertificateRequestSpec, request: &Request<'_>) -> Result<(), Refused> {
    let pod_name = format!("{}/{}", request.namespace, spec.pod_name);
    let own = find::<Node>(request, "", &spec.node_name, "node", &spec.node_name)?;
    if own.uid() != spec.node_uid {
        return Err(late(format!(
            "PodCertificateRequest for pod {pod_name:?} names node UID {:?}, inconsistent with the running node ({:?})",
            spec.node_uid,
            own.uid()
        )));
    }
    let pod = find::<Pod>(request, request.namespace, &spec.pod_name, "pod", &pod_name)?;
    if pod.uid() != spec.pod_uid {
        return Err(late(format!(
            "PodCertificateRequest for pod {pod_name:?} contains pod UID ({:?}) which differs from running pod {:?}",
            spec.pod_uid,
            pod.uid()
        )));
    }
    if node_of(&pod) != spec.node_name {
        let why =
            format!("pod {pod_name:?} is not running on node {:?} named in the PodCertificateRequest", spec.node_name);
        return Err(why.into());
    }
    if pod.annotation(MIRROR).is_some() {
        return Err(format!("pod {pod_name:?} is a mirror pod").into());
    }
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
    if account != spec.service_account_name {
        return Err(format!(
            "PodCertificateRequest for pod {pod_name:?} contains serviceAccountName ({:?}) that differs from running \
             pod ({account:?})",
            spec.service_account_name
        )
        .into());
    }
    let account_name = format!("{}/{account}", request.namespace);
    let account = find::<ServiceAccount>(request, request.namespace, account, "service account", &account_name)?;
    if account.uid() != spec.service_account_uid {
        return Err(late(format!(
            "PodCertificateRequest for pod {pod_name:?} names service account UID {:?}, which differs from the running \
             service account ({:?})",
            spec.service_account_uid,
            account.uid()
        )));
    }
    Ok(())
}

fn find<T: Typed>(
    request: &Request<'_>,
    namespace: &str,
    name: &str,
    what: &str,
    shown: &str,
) -> Result<std::sync::Arc<T>, Refused> {
    let found = request.lookup().get::<T>(namespace, name);
    found.ok_or_else(|| {
        let missing = format!("{} {name:?} not found", T::KIND.kind.to_ascii_lowercase());
        late(format!("while retrieving {what} {shown:?} named in the PodCertificateRequest: {missing}"))
    })
}

/// What may be well a moment later: the node is told to come again, not that it may not.
fn late(why: String) -> Refused {
    Refused::With(Status::internal(&why))
}
