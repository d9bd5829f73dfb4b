//! FlowSchema: Which requests belong to which priority level.

use std::collections::BTreeSet;

use api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, FlowSchemaStatus, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule,
    Subject,
};

use super::mandatory;
use crate::checks;
use crate::prelude::*;

const PRECEDENCE: i32 = 1000;
const PRECEDENCE_MAX: i32 = 10_000;
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = FlowSchema;

    const NAMES: Names = Names::new("flowschemas", "flowschema");
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: Storage = Storage::Stored { segment: "flowschemas" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<FlowSchema>] = &[
        Column::name(),
        Column::new("PriorityLevel", "string", |schema: &FlowSchema, _| {
            Value::from(schema.spec.priority_level_configuration.name.as_str())
        })
        .describe("The priority level of its requests."),
        Column::new("MatchingPrecedence", "string", |schema: &FlowSchema, _| {
            Value::from(schema.spec.matching_precedence.unwrap_or_default())
        })
        .describe("The schema with the lowest that matches a request takes it."),
        Column::new("DistinguisherMethod", "string", |schema: &FlowSchema, _| {
            Value::from(schema.spec.distinguisher_method.as_ref().map_or("<none>", |method| method.type_.as_str()))
        })
        .describe("What tells its flows apart."),
        Column::age(),
        Column::new("MissingPL", "string", |schema: &FlowSchema, _| Value::from(missing_level(schema)))
            .describe("Whether its priority level does not exist."),
    ];

    fn default(schema: &mut FlowSchema) {
        let precedence = &mut schema.spec.matching_precedence;
        *precedence = precedence.filter(|precedence| *precedence != 0).or(Some(PRECEDENCE));
    }

    fn prepare_create(schema: &mut FlowSchema) {
        schema.status = Some(FlowSchemaStatus::default());
        schema.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut FlowSchema, old: &FlowSchema) {
        new.status.clone_from(&old.status);
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn prepare_status_update(new: &mut FlowSchema, old: &FlowSchema) {
        new.spec.clone_from(&old.spec);
        new.metadata.clone_from(&old.metadata);
    }

    fn validate(schema: &FlowSchema) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        validate_spec(&mut errors, &path, schema.name(), &schema.spec);
        let fixed = mandatory::flow_schemas().into_iter().find(|fixed| fixed.name() == schema.name());
        if fixed.is_some_and(|fixed| !checks::same(&fixed.spec, &schema.spec)) {
            let why = format!("spec of '{}' must equal the fixed value", schema.name());
            errors.invalid(&path, checks::shown(&schema.spec), why);
        }
        validate_status(&mut errors, schema);
        errors
    }

    fn validate_status_update(new: &FlowSchema, _old: &FlowSchema) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_status(&mut errors, new);
        errors
    }
}

fn missing_level(schema: &FlowSchema) -> String {
    let mut conditions = schema.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let dangling = conditions.find(|condition| condition.type_ == "Dangling");
    dangling.map_or_else(|| "?".to_owned(), |condition| condition.status.clone().unwrap_or_default())
}

fn validate_status(errors: &mut FieldErrors, schema: &FlowSchema) {
    let types = schema.status.iter().flat_map(|status| status.conditions.iter().flatten());
    validate_condition_types(errors, types.map(|condition| condition.type_.as_str()));
}

/// Conditions have types, no two the same.
pub fn validate_condition_types<'a>(errors: &mut FieldErrors, types: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for (index, type_) in types.enumerate() {
        let path = Path::new("status").child("conditions").index(index).child("type");
        checks::unique(errors, &path, &mut seen, type_);
        if type_.is_empty() {
            errors.required(&path, "must not be empty");
        }
    }
}

fn validate_spec(errors: &mut FieldErrors, path: &Path, name: &str, spec: &FlowSchemaSpec) {
    let precedence = spec.matching_precedence.unwrap_or_default();
    let precedence_path = path.child("matchingPrecedence");
    if precedence <= 0 {
        errors.invalid(&precedence_path, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        errors.invalid(&precedence_path, precedence, format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence == 1 && name != mandatory::EXEMPT {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(&precedence_path, precedence, why);
    }
    if let Some(method) = &spec.distinguisher_method
        && !["ByNamespace", "ByUser"].contains(&method.type_.as_str())
    {
        let path = path.child("distinguisherMethod").child("type");
        errors.not_supported(&path, checks::shown(method), &["ByNamespace", "ByUser"]);
    }
    let level_path = path.child("priorityLevelConfiguration").child("name");
    match spec.priority_level_configuration.name.as_str() {
        "" => errors.required(&level_path, "must reference a priority level"),
        level => checks::dns_subdomain(errors, &level_path, level),
    }
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        validate_rules(errors, &path.child("rules").index(index), rule);
    }
}

fn validate_rules(errors: &mut FieldErrors, path: &Path, rules: &PolicyRulesWithSubjects) {
    if rules.subjects.is_empty() {
        errors.required(&path.child("subjects"), "subjects must contain at least one value");
    }
    for (index, subject) in rules.subjects.iter().enumerate() {
        validate_subject(errors, &path.child("subjects").index(index), subject);
    }
    let resource_rules = rules.resource_rules.as_deref().unwrap_or_default();
    let url_rules = rules.non_resource_rules.as_deref().unwrap_or_default();
    if resource_rules.is_empty() && url_rules.is_empty() {
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (index, rule) in resource_rules.iter().enumerate() {
        validate_resource_rule(errors, &path.child("resourceRules").index(index), rule);
    }
    for (index, rule) in url_rules.iter().enumerate() {
        validate_url_rule(errors, &path.child("nonResourceRules").index(index), rule);
    }
}

fn validate_subject(errors: &mut FieldErrors, path: &Path, subject: &Subject) {
    let kind = subject.kind.as_str();
    let named = |errors: &mut FieldErrors, path: &Path, name: Option<&String>, field: &str| match name {
        None => errors.required(path, format!("{field} is required when subject kind is '{kind}'")),
        Some(name) if name.is_empty() => errors.required(&path.child("name"), ""),
        Some(_) => {}
    };
    match kind {
        "ServiceAccount" => validate_account(errors, &path.child("serviceAccount"), subject),
        "User" => named(errors, &path.child("user"), subject.user.as_ref().map(|user| &user.name), "user"),
        "Group" => named(errors, &path.child("group"), subject.group.as_ref().map(|group| &group.name), "group"),
        other => {
            let kinds = ["Group", "ServiceAccount", "User"];
            return errors.not_supported(&path.child("kind"), other, &kinds);
        }
    }
    for (field, own, set) in [
        ("serviceAccount", "ServiceAccount", subject.service_account.is_some()),
        ("user", "User", subject.user.is_some()),
        ("group", "Group", subject.group.is_some()),
    ] {
        if set && own != kind {
            errors.forbidden(&path.child(field), format!("{field} is forbidden when subject kind is not '{own}'"));
        }
    }
}

fn validate_account(errors: &mut FieldErrors, path: &Path, subject: &Subject) {
    let Some(account) = &subject.service_account else {
        return errors.required(path, "serviceAccount is required when subject kind is 'ServiceAccount'");
    };
    match account.name.as_str() {
        "" => errors.required(&path.child("name"), ""),
        "*" => {}
        name => checks::dns_subdomain(errors, &path.child("name"), name),
    }
    match account.namespace.as_str() {
        "" => errors.required(&path.child("namespace"), "must specify namespace for service account"),
        namespace => checks::dns_label(errors, &path.child("namespace"), namespace),
    }
}

fn is_all(values: &[String]) -> bool {
    values.iter().any(|value| value == "*")
}

/// Nothing stands beside `*`.
fn all_alone(errors: &mut FieldErrors, path: &Path, values: &[String], what: &str) {
    if values.len() > 1 && is_all(values) {
        errors.invalid(path, checks::shown(&values), format!("if '*' is present, must not specify other {what}"));
    }
}

fn validate_verbs(errors: &mut FieldErrors, path: &Path, verbs: &[String]) {
    if verbs.is_empty() {
        errors.required(path, "verbs must contain at least one value");
    } else if is_all(verbs) {
        all_alone(errors, path, verbs, "verbs");
    } else if verbs.iter().any(|verb| !VERBS.contains(&verb.as_str())) {
        errors.not_supported(path, checks::shown(&verbs), &VERBS);
    }
}

fn validate_resource_rule(errors: &mut FieldErrors, path: &Path, rule: &ResourcePolicyRule) {
    validate_verbs(errors, &path.child("verbs"), &rule.verbs);
    if rule.api_groups.is_empty() {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    all_alone(errors, &path.child("apiGroups"), &rule.api_groups, "api groups");
    if rule.resources.is_empty() {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
    all_alone(errors, &path.child("resources"), &rule.resources, "resources");
    let path = path.child("namespaces");
    let namespaces = rule.namespaces.as_deref().unwrap_or_default();
    if namespaces.is_empty() && rule.cluster_scope != Some(true) {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&path, why);
    } else if is_all(namespaces) {
        all_alone(errors, &path, namespaces, "namespaces");
    } else {
        for (index, namespace) in namespaces.iter().enumerate() {
            for problem in api::name::dns1123_label(namespace, false) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {problem}");
                errors.invalid(&path.index(index), namespace.as_str(), why);
            }
        }
    }
}

fn validate_url_rule(errors: &mut FieldErrors, path: &Path, rule: &NonResourcePolicyRule) {
    validate_verbs(errors, &path.child("verbs"), &rule.verbs);
    let (urls, path) = (&rule.non_resource_urls, path.child("nonResourceURLs"));
    if urls.is_empty() {
        errors.required(&path, "nonResourceURLs must contain at least one value");
    } else if is_all(urls) {
        all_alone(errors, &path, urls, "non-resource URLs");
    } else {
        for (index, url) in urls.iter().enumerate() {
            if let Some(problem) = url_problem(url) {
                errors.invalid(&path.index(index), url.as_str(), problem);
            }
        }
    }
}

fn url_problem(url: &str) -> Option<&'static str> {
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ => match url.matches('*').count() {
            0 => None,
            1 if url.ends_with("/*") => None,
            _ => Some("wildcard can only do suffix matching"),
        },
    }
}
