//! ServiceAccount: An identity for pods.

use api::core::v1::{ObjectReference, ServiceAccount};

use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ServiceAccount;

    const NAMES: Names = Names::new("serviceaccounts", "serviceaccount").short(&["sa"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "serviceaccounts" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Token];
    const COLUMNS: &'static [Column<ServiceAccount>] = &[
        Column::name(),
        Column::new("Secrets", "string", |account: &ServiceAccount, _| {
            Value::from(account.secrets.as_ref().map_or(0, Vec::len))
        })
        .describe("Number of secrets that pods of the account may use."),
        Column::age(),
    ];

    fn prepare_create(account: &mut ServiceAccount) {
        keep_names(account);
    }

    fn prepare_update(new: &mut ServiceAccount, _old: &ServiceAccount) {
        keep_names(new);
    }
}

/// Of a reference to a secret only the name counts.
fn keep_names(account: &mut ServiceAccount) {
    for secret in account.secrets.iter_mut().flatten() {
        *secret = ObjectReference { name: secret.name.take(), ..Default::default() };
    }
}
