//! IPAddress: An address of the service range that is taken, and by whom. Its name is the address.

use api::networking::v1::IPAddress;

use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = IPAddress;

    const NAMES: Names = Names::new("ipaddresses", "ipaddress").short(&["ip"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "ipaddresses" };
    const COLUMNS: &'static [Column<IPAddress>] = &[
        Column::name(),
        Column::new("ParentRef", "string", |address: &IPAddress, _| Value::from(parent(address)))
            .describe("Who has the address."),
        Column::age(),
    ];

    fn validate(address: &IPAddress) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("parentRef");
        let parent = &address.spec.parent_ref;
        if let Some(group) = parent.group.as_deref().filter(|group| !group.is_empty()) {
            checks::dns_subdomain(&mut errors, &path.child("group"), group);
        }
        for (field, value) in [("resource", &parent.resource), ("name", &parent.name)] {
            checks::required_segment(&mut errors, &path.child(field), value);
        }
        if let Some(namespace) = parent.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
            let problems = api::name::path_segment(namespace, false);
            checks::problems(&mut errors, &path.child("namespace"), namespace, problems);
        }
        errors
    }

    fn validate_update(new: &IPAddress, old: &IPAddress) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("parentRef");
        checks::immutable(&mut errors, &path, &new.spec.parent_ref, &old.spec.parent_ref);
        errors
    }

    fn validate_name(name: &str, _prefix: bool) -> Vec<String> {
        checks::canonical_ip(name)
    }
}

fn parent(address: &IPAddress) -> String {
    let parent = &address.spec.parent_ref;
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let group = set(&parent.group).map_or_else(String::new, |group| format!(".{group}"));
    let namespace = set(&parent.namespace).map_or_else(String::new, |namespace| format!("/{namespace}"));
    format!("{}{namespace}/{}", format!("{}{group}", parent.resource).to_lowercase(), parent.name)
}
