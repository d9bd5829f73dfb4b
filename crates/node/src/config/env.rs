//! A container's environment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Object;
use api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret};

use super::ConfigError;
use super::expand::expand;
use super::field::{self, Known};
use crate::pod;

/// Objects a pod refers to, by name; those that do not exist are absent.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub secrets: BTreeMap<String, Arc<Secret>>,
}

/// The ConfigMaps and Secrets that the environment of a pod's containers comes from.
pub fn references(p: &Pod) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    let ephemeral: Vec<Container> = pod::ephemeral_containers(p).iter().map(pod::as_container).collect();
    for container in pod::containers(p).iter().chain(pod::init_containers(p)).chain(&ephemeral) {
        for from in container.env_from.iter().flatten() {
            config_maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
            secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            config_maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
            secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
        }
    }
    (config_maps, secrets)
}

/// What an environment is made from.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    pub objects: &'a Objects,
    pub services: &'a BTreeMap<String, String>,
    pub known: Known<'a>,
}

/// The environment of one container: services first, then `envFrom`, then `env`, each overriding what came before.
pub fn compile(p: &Pod, container: &Container, sources: &Sources<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut result = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.objects.config_maps.get(&reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        result.insert(format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(ConfigError::new(format!("configmap {:?} not found", reference.name))),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match sources.objects.secrets.get(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        result.insert(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(ConfigError::new(format!("secret {:?} not found", reference.name))),
            }
        }
    }
    // References see services and all that was set before, `env` in its order.
    let mut scope = sources.services.clone();
    for variable in container.env.iter().flatten() {
        let value = match &variable.value {
            Some(text) if !text.is_empty() => {
                let mut seen = scope.clone();
                seen.extend(result.iter().map(|(k, v)| (k.clone(), v.clone())));
                Some(expand(text, &seen))
            }
            _ if variable.value_from.is_some() => from_source(p, container, variable, sources)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            scope.insert(variable.name.clone(), value.clone());
            result.insert(variable.name.clone(), value);
        }
    }
    for (name, value) in sources.services {
        result.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(result)
}

/// `None`: optional and not there.
fn from_source(
    p: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &Sources<'_>,
) -> Result<Option<String>, ConfigError> {
    let Some(source) = &variable.value_from else { return Ok(None) };
    if let Some(reference) = &source.field_ref {
        return field::value(p, &reference.field_path, &sources.known).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return field::resource(p, Some(container), reference, &sources.known).map(Some);
    }
    if let Some(r) = &source.config_map_key_ref {
        let optional = r.optional == Some(true);
        let Some(map) = sources.objects.config_maps.get(&r.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(ConfigError::new(format!("configmap {:?} not found", r.name)))
            };
        };
        return match map.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => {
                Err(ConfigError::new(format!("couldn't find key {} in ConfigMap {}/{}", r.key, p.namespace(), r.name)))
            }
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let optional = r.optional == Some(true);
        let Some(secret) = sources.objects.secrets.get(&r.name) else {
            return if optional { Ok(None) } else { Err(ConfigError::new(format!("secret {:?} not found", r.name))) };
        };
        return match secret.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => {
                Err(ConfigError::new(format!("couldn't find key {} in Secret {}/{}", r.key, p.namespace(), r.name)))
            }
        };
    }
    Err(ConfigError::new(format!("the source of the environment variable {} is not supported", variable.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Typed;

    #[test]
    fn order_and_references() {
        let p = Pod::decode(
            br#"{"metadata":{"name":"p","namespace":"n"},"spec":{"containers":[{"name":"c",
                "envFrom":[{"configMapRef":{"name":"m"},"prefix":"M_"}],
                "env":[{"name":"A","value":"1"},{"name":"B","value":"$(A)-$(M_X)-$(SVC_SERVICE_HOST)-$(LATER)"},
                {"name":"LATER","value":"z"},{"name":"M_Y","value":"own"},
                {"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},
                {"name":"O","valueFrom":{"secretKeyRef":{"name":"s","key":"k","optional":true}}}]}]}}"#,
        )
        .unwrap();
        let map = ConfigMap::decode(br#"{"metadata":{"name":"m"},"data":{"X":"x","Y":"y"}}"#).unwrap();
        let mut objects = Objects::default();
        objects.config_maps.insert("m".into(), Arc::new(map));
        let services = BTreeMap::from([("SVC_SERVICE_HOST".to_owned(), "10.1".to_owned())]);
        let compile = |objects: &Objects| {
            super::compile(
                &p,
                &pod::containers(&p)[0],
                &Sources { objects, services: &services, known: Known::default() },
            )
        };
        let env = compile(&objects).unwrap();
        assert_eq!(env["B"], "1-x-10.1-$(LATER)");
        assert_eq!((env["M_Y"].as_str(), env["N"].as_str()), ("own", "p"));
        assert!(!env.contains_key("O"));
        let error = compile(&Objects::default()).unwrap_err();
        assert_eq!(error.to_string(), "configmap \"m\" not found");
    }
}
