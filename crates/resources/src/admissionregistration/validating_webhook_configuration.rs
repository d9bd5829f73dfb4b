//! ValidatingWebhookConfiguration: Services that may refuse a write before it is taken.

use api::admissionregistration::v1::ValidatingWebhookConfiguration;

use super::webhook::{self, Webhook, default_webhook};
use crate::checks;
use crate::prelude::*;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = ValidatingWebhookConfiguration;

    const NAMES: Names =
        Names::new("validatingwebhookconfigurations", "validatingwebhookconfiguration").categories(&["api-extensions"]);
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "validatingwebhookconfigurations" };
    const UNCONDITIONAL_UPDATE: bool = false;
    const COLUMNS: &'static [Column<ValidatingWebhookConfiguration>] = &[
        Column::name(),
        Column::new("Webhooks", "integer", |configuration: &ValidatingWebhookConfiguration, _| {
            Value::from(configuration.webhooks.as_ref().map_or(0, Vec::len))
        })
        .describe("How many webhooks are asked."),
        Column::age(),
    ];

    fn default(configuration: &mut ValidatingWebhookConfiguration) {
        for webhook in configuration.webhooks.iter_mut().flatten() {
            default_webhook!(&mut *webhook);
        }
    }

    fn prepare_create(configuration: &mut ValidatingWebhookConfiguration) {
        configuration.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut ValidatingWebhookConfiguration, old: &ValidatingWebhookConfiguration) {
        let changed = !checks::same(&new.webhooks, &old.webhooks);
        checks::count_generation(&mut new.metadata, &old.metadata, changed);
    }

    fn validate(configuration: &ValidatingWebhookConfiguration) -> FieldErrors {
        webhook::validate(&webhooks(configuration))
    }

    fn validate_update(new: &ValidatingWebhookConfiguration, old: &ValidatingWebhookConfiguration) -> FieldErrors {
        webhook::validate_update(&webhooks(new), &webhooks(old))
    }
}

fn webhooks(configuration: &ValidatingWebhookConfiguration) -> Vec<Webhook<'_>> {
    configuration.webhooks.iter().flatten().map(Webhook::from).collect()
}
