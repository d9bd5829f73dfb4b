//! Where a Service is reached from here: one of its ready endpoints, so that no proxy need run on this machine.

use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use base::Random;

use crate::Lookup;

/// A host and a port to connect to.
pub type Address = (String, u16);

/// Picks an address of the service's port.
pub fn resolve(lookup: &Lookup, random: &Random, namespace: &str, name: &str, port: u16) -> Result<Address, String> {
    let service = lookup.get::<Service>(namespace, name).ok_or_else(|| format!("service {name:?} not found"))?;
    let spec = service.spec.as_ref();
    match spec.and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP") {
        "ExternalName" => {
            let host = spec.and_then(|spec| spec.external_name.clone()).unwrap_or_default();
            return Ok((host, port));
        }
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        other => return Err(format!("unsupported service type {other:?}")),
    }
    let mut ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    let wanted = ports.find(|own| own.port == i32::from(port));
    let wanted = wanted.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let wanted_name = wanted.name.as_deref().unwrap_or_default();
    let mut addresses: Vec<Address> = Vec::new();
    for slice in lookup.list::<EndpointSlice>(Some(namespace)) {
        if api::Object::label(&*slice, "kubernetes.io/service-name") != Some(name) {
            continue;
        }
        let port = slice.ports.iter().flatten().find(|own| own.name.as_deref().unwrap_or_default() == wanted_name);
        let Some(port) = port.and_then(|own| u16::try_from(own.port?).ok()) else { continue };
        let ready = slice.endpoints.iter().flatten();
        let ready = ready.filter(|one| one.conditions.as_ref().is_none_or(|is| is.ready != Some(false)));
        addresses.extend(ready.filter_map(|one| Some((one.addresses.first()?.clone(), port))));
    }
    if addresses.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    let at = (random.fraction() * addresses.len() as f64) as usize;
    Ok(addresses.swap_remove(at.min(addresses.len() - 1)))
}
