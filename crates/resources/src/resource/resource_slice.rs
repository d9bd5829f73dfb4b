//! ResourceSlice: Devices that a driver offers, a part of a pool of them.

use std::collections::BTreeSet;

use api::resource::v1::{Device, DeviceAttribute, ResourceSlice, ResourceSliceSpec};

use super::device;
use crate::checks;
use crate::core::pod_template::scheduling;
use crate::prelude::*;

const DEVICES_MAX: usize = 128;
const PROPERTIES_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 64;
const WHERE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ResourceSlice;

    const NAMES: Names = Names::new("resourceslices", "resourceslice");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "resourceslices" };
    const SELECTABLE: &'static [Selectable<ResourceSlice>] = &[
        Selectable { path: "spec.nodeName", value: |slice| slice.spec.node_name.clone().unwrap_or_default() },
        Selectable { path: "spec.driver", value: |slice| slice.spec.driver.clone() },
    ];
    const COLUMNS: &'static [Column<ResourceSlice>] = &[
        Column::name(),
        Column::new("Node", "string", |slice: &ResourceSlice, _| {
            Value::from(slice.spec.node_name.as_deref().unwrap_or_default())
        })
        .describe("The node that has the devices."),
        Column::new("Driver", "string", |slice: &ResourceSlice, _| Value::from(slice.spec.driver.as_str()))
            .describe("The driver that offers them."),
        Column::new("Pool", "string", |slice: &ResourceSlice, _| Value::from(slice.spec.pool.name.as_str()))
            .describe("The pool they belong to."),
        Column::age(),
    ];

    fn prepare_create(slice: &mut ResourceSlice) {
        slice.metadata.generation = Some(1);
        let created = slice.metadata.creation_timestamp.clone();
        for taint in slice.spec.devices.iter_mut().flatten().flat_map(|device| device.taints.iter_mut().flatten()) {
            taint.time_added = taint.time_added.take().or_else(|| created.clone());
        }
    }

    fn prepare_update(new: &mut ResourceSlice, old: &ResourceSlice) {
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn validate(slice: &ResourceSlice) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &Path::new("spec"), &slice.spec, None);
        errors
    }

    fn validate_update(new: &ResourceSlice, old: &ResourceSlice) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &Path::new("spec"), &new.spec, Some(&old.spec));
        errors
    }
}

fn validate_spec(errors: &mut FieldErrors, path: &Path, spec: &ResourceSliceSpec, old: Option<&ResourceSliceSpec>) {
    device::driver(errors, &path.child("driver"), &spec.driver);
    let pool_path = path.child("pool");
    device::pool(errors, &pool_path.child("name"), &spec.pool.name);
    let count = spec.pool.resource_slice_count;
    if count <= 0 {
        errors.invalid(&pool_path.child("resourceSliceCount"), count, "must be greater than zero");
    }
    if spec.pool.generation < 0 {
        let why = "must be greater than or equal to zero";
        errors.invalid(&pool_path.child("generation"), spec.pool.generation, why);
    }
    if let Some(old) = old {
        checks::immutable(errors, &pool_path.child("name"), &spec.pool.name, &old.pool.name);
        checks::immutable(errors, &path.child("driver"), &spec.driver, &old.driver);
        checks::immutable(errors, &path.child("nodeName"), &spec.node_name, &old.node_name);
    }
    validate_where(errors, path, spec);
    let devices = spec.devices.as_deref().unwrap_or_default();
    let path = path.child("devices");
    for (index, device) in devices.iter().enumerate() {
        validate_device(errors, &path.index(index), device);
    }
    device::at_most(errors, &path, devices.len(), DEVICES_MAX);
    let mut seen = BTreeSet::new();
    for (index, device) in devices.iter().enumerate() {
        checks::unique(errors, &path.index(index).child("name"), &mut seen, &device.name);
    }
}

fn validate_where(errors: &mut FieldErrors, path: &Path, spec: &ResourceSliceSpec) {
    let node = spec.node_name.as_deref().filter(|node| !node.is_empty());
    if let Some(node) = node {
        checks::dns_subdomain(errors, &path.child("nodeName"), node);
    }
    if let Some(selector) = &spec.node_selector {
        let path = path.child("nodeSelector");
        scheduling::validate_node_selector(errors, &path, selector);
        if selector.node_selector_terms.len() != 1 {
            let shown = checks::shown(&selector.node_selector_terms);
            errors.invalid(&path.child("nodeSelectorTerms"), shown, "must have exactly one node selector term");
        }
    }
    let set: Vec<&str> = [
        ("`nodeName`", node.is_some()),
        ("`nodeSelector`", spec.node_selector.is_some()),
        ("`allNodes`", spec.all_nodes == Some(true)),
        ("`perDeviceNodeSelection`", spec.per_device_node_selection == Some(true)),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect();
    match set.len() {
        0 => errors.required(path, WHERE),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            errors.invalid(path, shown, format!("{WHERE}, but multiple fields are set"));
        }
    }
}

fn validate_device(errors: &mut FieldErrors, path: &Path, device: &Device) {
    checks::dns_label(errors, &path.child("name"), &device.name);
    let (mut attributes, mut capacities) = (0, 0);
    for (name, attribute) in device.attributes.iter().flatten() {
        let path = path.child("attributes").key(name);
        device::qualified(errors, &path, name);
        validate_attribute(errors, &path, attribute);
        attributes += 1;
    }
    for name in device.capacity.iter().flatten().map(|(name, _)| name) {
        device::qualified(errors, &path.child("capacity").key(name), name);
        capacities += 1;
    }
    if attributes + capacities > PROPERTIES_MAX {
        let why = format!("the total number of attributes and capacities must not exceed {PROPERTIES_MAX}");
        errors.invalid(path, attributes + capacities, why);
    }
    for (index, taint) in device.taints.iter().flatten().enumerate() {
        device::taint(errors, &path.child("taints").index(index), taint);
    }
}

fn validate_attribute(errors: &mut FieldErrors, path: &Path, attribute: &DeviceAttribute) {
    const ONE: &str = "exactly one value must be specified";
    for (name, value) in [("string", &attribute.string), ("version", &attribute.version)] {
        let Some(value) = value else { continue };
        if name == "version" && !is_version(value) {
            let why = "must be a string compatible with semver.org spec 2.0.0";
            errors.invalid(&path.child(name), value.as_str(), why);
        }
        if value.len() > VALUE_BYTES_MAX {
            errors.too_long(&path.child(name), VALUE_BYTES_MAX);
        }
    }
    let set = [
        attribute.bool.is_some(),
        attribute.int.is_some(),
        attribute.string.is_some(),
        attribute.version.is_some(),
        attribute.bools.is_some(),
        attribute.ints.is_some(),
        attribute.strings.is_some(),
        attribute.versions.is_some(),
    ];
    match set.iter().filter(|set| **set).count() {
        0 => errors.required(path, ONE),
        1 => {}
        _ => errors.invalid(path, checks::shown(attribute), ONE),
    }
}

/// `1.2.3-pre.1+build.2`.
fn is_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_are_semantic() {
        for good in ["1.2.3", "0.0.0-a.1+b.01", "1.0.0-alpha-1"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["1.2", "01.2.3", "1.2.3-01", "1.2.3+", "v1.2.3"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
