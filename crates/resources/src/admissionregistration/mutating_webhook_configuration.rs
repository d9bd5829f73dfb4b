//! MutatingWebhookConfiguration: Services that may change a write before it is taken.

use api::admissionregistration::v1::MutatingWebhookConfiguration;

use super::webhook::{self, Webhook, default_webhook};
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = MutatingWebhookConfiguration;

    const NAMES: Names =
        Names::new("mutatingwebhookconfigurations", "mutatingwebhookconfiguration").categories(&["api-extensions"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "mutatingwebhookconfigurations" };
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<MutatingWebhookConfiguration>] = &[
        Column::name(),
        Column::new("Webhooks", "integer", |configuration: &MutatingWebhookConfiguration, _| {
            Value::from(configuration.webhooks.as_ref().map_or(0, Vec::len))
        })
        .describe("How many webhooks are asked."),
        Column::age(),
    ];

    fn default(configuration: &mut MutatingWebhookConfiguration) {
        for webhook in configuration.webhooks.iter_mut().flatten() {
            default_webhook!(&mut *webhook);
            webhook.reinvocation_policy.get_or_insert_with(|| "Never".to_owned());
        }
    }

    fn prepare_create(configuration: &mut MutatingWebhookConfiguration) {
        configuration.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut MutatingWebhookConfiguration, old: &MutatingWebhookConfiguration) {
        let changed = !checks::same(&new.webhooks, &old.webhooks);
        checks::count_generation(&mut new.metadata, &old.metadata, changed);
    }

    fn validate(configuration: &MutatingWebhookConfiguration) -> FieldErrors {
        webhook::validate(&webhooks(configuration))
    }

    fn validate_update(new: &MutatingWebhookConfiguration, old: &MutatingWebhookConfiguration) -> FieldErrors {
        webhook::validate_update(&webhooks(new), &webhooks(old))
    }
}

fn webhooks(configuration: &MutatingWebhookConfiguration) -> Vec<Webhook<'_>> {
    configuration.webhooks.iter().flatten().map(Webhook::from).collect()
}
