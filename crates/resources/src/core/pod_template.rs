//! The pod spec and pod template, shared by Pod, Deployment, ReplicaSet and every other kind that makes pods: defaults,
//! validation and warnings.

pub mod containers;
pub mod defaults;
pub mod env;
pub mod probes;
pub mod resources;
pub mod scheduling;
pub mod security;
pub mod spec;
pub mod volumes;
pub mod warnings;

use api::core::v1::{Container, EphemeralContainer, PodSpec};
use api::field::Path;

pub use spec::{Context, validate_spec, validate_template};

/// Every container of a spec with its path: init containers, containers, then ephemeral ones.
pub(crate) fn each_container<'a>(spec: &'a PodSpec, path: &Path) -> Vec<(Path, std::borrow::Cow<'a, Container>)> {
    use std::borrow::Cow::{Borrowed, Owned};
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(index, container)| (path.child("initContainers").index(index), Borrowed(container)));
    let normal = spec.containers.iter().enumerate();
    let normal = normal.map(|(index, container)| (path.child("containers").index(index), Borrowed(container)));
    let ephemeral = spec.ephemeral_containers.iter().flatten().enumerate();
    let ephemeral = ephemeral
        .map(|(index, container)| (path.child("ephemeralContainers").index(index), Owned(as_container(container))));
    init.chain(normal).chain(ephemeral).collect()
}

/// An ephemeral container as a container, which has every field but `targetContainerName`.
pub(crate) fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        target_container_name: _,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = ephemeral.clone();
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    }
}
