//! ServiceCIDR: Ranges that services get their addresses from.

use api::networking::v1::{ServiceCIDR, ServiceCIDRStatus};

use crate::prelude::*;
use crate::{checks, metadata};

const RANGES_MAX: usize = 2;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ServiceCIDR;

    const NAMES: Names = Names::new("servicecidrs", "servicecidr");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "servicecidrs" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<ServiceCIDR>] = &[
        Column::name(),
        Column::new("CIDRs", "string", |range: &ServiceCIDR, _| Value::from(cidrs(range).join(",")))
            .describe("The ranges, at most one of each family."),
        Column::age(),
    ];

    fn prepare_create(range: &mut ServiceCIDR) {
        range.status = Some(ServiceCIDRStatus::default());
    }

    fn prepare_update(new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.spec.clone_from(&old.spec);
        metadata::keep_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate(range: &ServiceCIDR) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("cidrs");
        let cidrs = cidrs(range);
        match cidrs.len() {
            0 => errors.required(&path, "at least one CIDR required"),
            count if count > RANGES_MAX => {
                errors.invalid(&path, checks::shown(&range.spec), "may only hold up to 2 values");
            }
            _ => validate_cidrs(&mut errors, &path, cidrs),
        }
        errors
    }

    /// A second family may join the first; nothing else changes.
    fn validate_update(new: &ServiceCIDR, old: &ServiceCIDR) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec").child("cidrs");
        let (now, before) = (cidrs(new), cidrs(old));
        let joins = before.len() == 1 && now.len() == 2;
        if now.len() != before.len() && !joins {
            errors.invalid(&path, checks::shown(&now), checks::IMMUTABLE);
            return errors;
        }
        for (index, (now, _)) in now.iter().zip(before).enumerate().filter(|(_, (now, before))| now != before) {
            errors.invalid(&path.index(index), now.as_str(), checks::IMMUTABLE);
        }
        if joins {
            errors.extend(Self::validate(new));
        }
        errors
    }
}

fn cidrs(range: &ServiceCIDR) -> &[String] {
    range.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default()
}

fn validate_cidrs(errors: &mut FieldErrors, path: &Path, cidrs: &[String]) {
    for (index, cidr) in cidrs.iter().enumerate() {
        checks::canonical_cidr(errors, &path.index(index), cidr);
    }
    let families: Vec<bool> =
        cidrs.iter().filter_map(|cidr| checks::parse_cidr(cidr)).map(|(ip, _)| ip.is_ipv4()).collect();
    if let [first, second] = families.as_slice()
        && first == second
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(path, checks::shown(&cidrs), why);
    }
}
