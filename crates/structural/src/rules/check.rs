//! What is wrong with the rules of a definition: what does not compile, costs too much, or asks for an old value that
//! nobody can find.

use api::FieldErrors;
use api::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule};
use api::field::Path;
use cel::{Program, Type};
use serde_json::{Value, json};

use super::{Compiled, REASONS, field_path, types};
use crate::node::Node;

/// What one rule may cost in the worst case, and all rules of a schema.
const RULE_COST_MAX: u64 = 10_000_000;
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// So many of the dearest are named.
const NAMED_MAX: usize = 4;

/// What the rules of a schema cost together.
#[derive(Default)]
pub(crate) struct Costs {
    total: u64,
    dearest: Vec<(u64, Path)>,
}

fn over_budget(what: &str, cost: u64, max: u64) -> String {
    let factor = cost as f64 / max as f64;
    let shown = if factor > 100.0 { "more than 100x".to_owned() } else { format!("{factor:.1}x") };
    format!(
        "{what} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

impl Costs {
    fn observe(&mut self, cost: u64, path: Path) {
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_COST_MAX / 100 {
            self.dearest.push((cost, path));
            self.dearest.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.dearest.truncate(NAMED_MAX);
        }
    }

    /// Complains of the sum.
    pub(crate) fn check(self, path: &Path, errors: &mut FieldErrors) {
        if self.total <= SCHEMA_COST_MAX {
            return;
        }
        for (_, dear) in &self.dearest {
            errors.forbidden(
                dear,
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
            );
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(path, over_budget(what, self.total, SCHEMA_COST_MAX));
    }
}

/// Where a schema stands.
#[derive(Clone)]
struct Place {
    path: Path,
    is_root: bool,
    /// How many values of it an object has at most; `None`: nobody says.
    cardinality: Option<u64>,
    /// The list or map within which no old value is found.
    uncorrelatable: Option<Path>,
}

/// Checks the rules of a schema and of all below it.
pub(crate) fn check(node: &Node, props: &JSONSchemaProps, path: &Path, costs: &mut Costs, errors: &mut FieldErrors) {
    let place = Place { path: path.clone(), is_root: true, cardinality: Some(1), uncorrelatable: None };
    walk(node, props, &place, costs, errors);
}

fn bounded(own: Option<u64>, max: Option<i64>) -> Option<u64> {
    Some(own?.saturating_mul(u64::try_from(max?).unwrap_or(0)))
}

fn walk(node: &Node, props: &JSONSchemaProps, place: &Place, costs: &mut Costs, errors: &mut FieldErrors) {
    let all = props.x_kubernetes_validations.as_deref().unwrap_or_default();
    let rules_path = place.path.child("x-kubernetes-validations");
    match types::of(node, "selfType", place.is_root || node.embedded) {
        Some(ty) => {
            for (index, rule) in all.iter().enumerate() {
                one(rule, &ty, node, place, &rules_path.index(index), costs, errors);
            }
        }
        None if !all.is_empty() => {
            let why = "rules are not allowed on a schema that has no type";
            errors.forbidden(&rules_path, why);
        }
        None => {}
    }
    let inside = |path: Path, cardinality: Option<u64>, lost: bool| {
        let uncorrelatable = place.uncorrelatable.clone().or_else(|| lost.then(|| place.path.clone()));
        Place { path, is_root: false, cardinality, uncorrelatable }
    };
    for (name, props) in props.properties.iter().flatten() {
        let Some(node_below) = node.property(name) else { continue };
        let path = place.path.child("properties").key(name);
        walk(node_below, props, &inside(path, place.cardinality, node.map_atomic), costs, errors);
    }
    if let (Some(values), Some(JSONSchemaPropsOrBool::Schema(below))) = (node.values(), &props.additional_properties) {
        let cardinality = bounded(place.cardinality, props.max_properties);
        let path = place.path.child("additionalProperties");
        walk(values, below, &inside(path, cardinality, node.map_atomic), costs, errors);
    }
    if let (Some(items), Some(JSONSchemaPropsOrArray::Schema(below))) = (node.items.as_deref(), &props.items) {
        let cardinality = bounded(place.cardinality, props.max_items);
        let lost = props.x_kubernetes_list_type.as_deref() != Some("map");
        walk(items, below, &inside(place.path.child("items"), cardinality, lost), costs, errors);
    }
}

/// The rule as errors show it.
fn shown(rule: &ValidationRule) -> Value {
    json!({
        "Rule": rule.rule, "Message": rule.message.as_deref().unwrap_or_default(),
        "MessageExpression": rule.message_expression.as_deref().unwrap_or_default(), "Reason": rule.reason,
        "FieldPath": rule.field_path.as_deref().unwrap_or_default(), "OptionalOldSelf": rule.optional_old_self,
    })
}

fn is_blank(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.is_empty() && text.trim().is_empty())
}

fn words(rule: &ValidationRule, node: &Node, path: &Path, errors: &mut FieldErrors) {
    let message = rule.message.as_deref().unwrap_or_default();
    if is_blank(rule.message.as_deref()) {
        errors.invalid(&path.child("message"), message, "message must be non-empty if specified");
    } else if message.trim().contains('\n') {
        errors.invalid(&path.child("message"), message, "message must not contain line breaks");
    } else if rule.rule.trim().contains('\n') && message.is_empty() {
        errors.required(&path.child("message"), "message must be specified if rule contains line breaks");
    }
    if is_blank(rule.message_expression.as_deref()) {
        errors.required(&path.child("messageExpression"), "messageExpression must be non-empty if specified");
    }
    if let Some(reason) = rule.reason.as_deref()
        && !REASONS.iter().any(|(name, _)| *name == reason)
    {
        let mut names = REASONS.map(|(name, _)| name);
        names.sort_unstable();
        errors.not_supported(&path.child("reason"), reason, &names);
    }
    if let Some(text) = rule.field_path.as_deref().filter(|text| !text.is_empty()) {
        let path = path.child("fieldPath");
        if text.trim().is_empty() {
            errors.invalid(&path, text, "fieldPath must be non-empty if specified");
        } else if text.contains('\n') {
            errors.invalid(&path, text, "fieldPath must not contain line breaks");
        } else if let Err(why) = field_path::normalized(text, node) {
            errors.invalid(&path, text, format!("fieldPath must be a valid path: {why}"));
        }
    }
}

fn one(
    rule: &ValidationRule,
    ty: &Type,
    node: &Node,
    place: &Place,
    path: &Path,
    costs: &mut Costs,
    errors: &mut FieldErrors,
) {
    let rule_path = path.child("rule");
    if rule.rule.trim().is_empty() {
        errors.required(&rule_path, "rule is not specified");
        return;
    }
    words(rule, node, path, errors);
    let compiled = Compiled::new(rule, ty);
    let times = place.cardinality.unwrap_or_else(|| types::cardinality_max(types::bytes_min(node)));
    let mut price = |program: &Program, what: &str, path: &Path, errors: &mut FieldErrors| {
        let cost = program.estimated_cost().max.saturating_mul(times);
        if cost > RULE_COST_MAX {
            errors.forbidden(path, over_budget(what, cost, RULE_COST_MAX));
        }
        costs.observe(cost, path.clone());
    };
    match &compiled.program {
        Ok(program) => price(program, "estimated rule cost", &rule_path, errors),
        Err(why) => errors.invalid(&rule_path, shown(rule), why.as_str()),
    }
    let message_path = path.child("messageExpression");
    match &compiled.message {
        Some(Ok(program)) => price(program, "estimated messageExpression cost", &message_path, errors),
        Some(Err(why)) => errors.invalid(&message_path, shown(rule), why.as_str()),
        None => {}
    }
    let Ok(program) = &compiled.program else { return };
    if program.uses("oldSelf") {
        if let Some(lost) = &place.uncorrelatable {
            let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}");
            errors.invalid(&rule_path, rule.rule.as_str(), why);
        }
    } else if let Some(optional) = rule.optional_old_self {
        let why = "may not be set if oldSelf is not used in rule";
        errors.invalid(&path.child("optionalOldSelf"), optional, why);
    }
}
