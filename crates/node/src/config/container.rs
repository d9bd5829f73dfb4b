//! A container's configuration, put together from its parts (upstream `kuberuntime_container.go`).

use std::collections::BTreeMap;

use api::core::v1::{Container, Pod, VolumeMount};
use cri::v1;

use super::expand::{expand, expand_noting};
use super::security::{Host, ImageUser};
use super::{ConfigError, linux, security};
use crate::labels;

/// What a container's configuration needs beside its spec.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    pub node_name: &'a str,
    /// The image's id in the runtime.
    pub image_id: &'a str,
    pub image_user: &'a ImageUser,
    pub environment: &'a BTreeMap<String, String>,
    pub mounts: Vec<v1::Mount>,
    pub devices: Vec<v1::Device>,
    pub restart_count: u32,
    /// The container whose processes an ephemeral container sees.
    pub target_id: Option<&'a str>,
    pub node_memory_bytes: i64,
    pub host: &'a Host,
}

/// The path of a container's log relative to the pod's log directory.
pub fn log_path(container: &str, restart_count: u32) -> String {
    format!("{container}/{restart_count}.log")
}

/// The configuration of one container.
pub fn compile(p: &Pod, container: &Container, context: Context<'_>) -> Result<v1::ContainerConfig, ConfigError> {
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|word| expand(word, context.environment)).collect()
    };
    let user_image = container.image.clone().unwrap_or_default();
    let envs = context.environment.iter().map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone() });
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: context.restart_count }),
        image: Some(v1::ImageSpec {
            image: context.image_id.to_owned(),
            user_specified_image: user_image,
            ..Default::default()
        }),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: envs.collect(),
        mounts: context.mounts,
        devices: context.devices,
        labels: labels::container_labels(p, container, context.node_name),
        annotations: labels::container_annotations(p, container, context.restart_count),
        log_path: log_path(&container.name, context.restart_count),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(linux::resources(p, container, context.node_memory_bytes)),
            security_context: Some(security::of_container(
                p,
                container,
                context.image_user,
                context.target_id,
                context.host,
            )?),
        }),
        cdi_devices: Vec::new(),
        stop_signal: 0,
    })
}

/// The path within the volume that a mount shows; `""` is all of it.
pub fn sub_path(mount: &VolumeMount, environment: &BTreeMap<String, String>) -> Result<String, ConfigError> {
    let path = match (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref()) {
        (_, Some(text)) if !text.is_empty() => {
            let mut unknown = Vec::new();
            let path = expand_noting(text, environment, &mut unknown);
            if !unknown.is_empty() {
                return Err(ConfigError::new(format!("missing value for {:?}", unknown[0])));
            }
            path
        }
        (Some(path), _) => path.to_owned(),
        _ => String::new(),
    };
    if path.starts_with('/') {
        return Err(ConfigError::new(format!("error SubPath `{path}` must not be an absolute path")));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(ConfigError::new(format!("unable to provision SubPath `{path}`: must not contain '..'")));
    }
    Ok(path)
}

/// CRI's word for how mounts made on one side show on the other.
pub fn propagation(mount: &VolumeMount) -> v1::MountPropagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod;
    use api::Typed;

    #[test]
    fn commands_see_the_environment() {
        let p = Pod::decode(
            br#"{"metadata":{"name":"p","namespace":"n","uid":"u"},"spec":{"containers":[{"name":"a","image":"i",
                "command":["sh","-c"],"args":["echo $(X) $$(X)"]}]}}"#,
        )
        .unwrap();
        let environment = BTreeMap::from([("X".to_owned(), "1".to_owned())]);
        let context = Context {
            node_name: "node",
            image_id: "sha256:1",
            image_user: &ImageUser::default(),
            environment: &environment,
            mounts: Vec::new(),
            devices: Vec::new(),
            restart_count: 3,
            target_id: None,
            node_memory_bytes: 1 << 30,
            host: &Host::default(),
        };
        let config = compile(&p, &pod::containers(&p)[0], context).unwrap();
        assert_eq!(config.args, ["echo 1 $(X)"]);
        assert_eq!(config.log_path, "a/3.log");
        assert_eq!(config.annotations[labels::RESTART_COUNT], "3");
    }

    #[test]
    fn sub_paths_stay_inside() {
        let mount = |expr: &str| VolumeMount { sub_path_expr: Some(expr.into()), ..VolumeMount::default() };
        let environment = BTreeMap::from([("X".to_owned(), "d".to_owned()), ("UP".to_owned(), "..".to_owned())]);
        assert_eq!(sub_path(&mount("a/$(X)"), &environment).unwrap(), "a/d");
        assert!(sub_path(&mount("$(UP)/x"), &environment).is_err());
        assert!(sub_path(&mount("$(NONE)"), &environment).is_err());
    }
}
