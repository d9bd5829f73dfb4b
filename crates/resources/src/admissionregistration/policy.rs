//! What the two kinds of policies, and the two kinds of bindings, share.

use api::admissionregistration::v1::{ParamKind, ParamRef, Variable};
use api::field::{FieldErrors, Path};
use serde_json::Value;

use super::match_resources::FAILURE_POLICIES;
use crate::checks;

/// Words of the expression language that name nothing.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// `apps/v1/Deployment` of what a policy takes as its parameters.
pub fn param_kind_text(kind: Option<&ParamKind>) -> Value {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    Value::from(
        kind.map_or_else(|| "<unset>".to_owned(), |kind| format!("{}/{}", part(&kind.api_version), part(&kind.kind))),
    )
}

/// What a binding hands its policy as parameters.
pub fn param_ref_text(param: Option<&ParamRef>) -> Value {
    let Some(param) = param else { return Value::from("<unset>") };
    let name = param.name.clone().unwrap_or_default();
    Value::from(match param.namespace.as_deref() {
        None | Some("") => name,
        Some(namespace) => format!("{namespace}/{name}"),
    })
}

/// What becomes of a write if the policy itself fails; required.
pub fn validate_failure_policy(errors: &mut FieldErrors, path: &Path, policy: Option<&str>) {
    match policy {
        None => errors.required(path, ""),
        Some(policy) => checks::optional_one_of(errors, path, Some(policy), &FAILURE_POLICIES),
    }
}

/// The kind of a policy's parameters.
pub fn validate_param_kind(errors: &mut FieldErrors, path: &Path, kind: &ParamKind) {
    let version_path = path.child("apiVersion");
    let text = kind.api_version.as_deref().unwrap_or_default();
    let (group, version) = match text.split('/').collect::<Vec<_>>().as_slice() {
        [version] => ("", *version),
        [group, version] => (*group, *version),
        _ => {
            errors.invalid(&version_path, text, format!("unexpected GroupVersion string: {text}"));
            ("", "v1")
        }
    };
    if text.is_empty() {
        errors.required(&version_path, "");
    } else {
        let group_problems = api::name::dns1123_subdomain(group, false);
        if !group.is_empty() && !group_problems.is_empty() {
            errors.invalid(&version_path, group, group_problems.join(","));
        }
        let version_problems = api::name::dns1035_label(version, false);
        if version.is_empty() {
            errors.invalid(&version_path, text, "version must be specified");
        } else if !version_problems.is_empty() {
            errors.invalid(&version_path, version, version_problems.join(","));
        }
    }
    let name = kind.kind.as_deref().unwrap_or_default();
    let problems = api::name::dns1035_label(&name.to_lowercase(), false);
    if name.is_empty() {
        errors.required(&path.child("kind"), "");
    } else if !problems.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", problems.join(","));
        errors.invalid(&path.child("kind"), name, why);
    }
}

/// Which parameters a binding hands its policy.
pub fn validate_param_ref(errors: &mut FieldErrors, path: &Path, param: Option<&ParamRef>) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let Some(param) = param else { return };
    let name = param.name.as_deref().unwrap_or_default();
    if !name.is_empty() {
        checks::problems(errors, &path.child("name"), name, api::name::path_segment(name, false));
        if param.selector.is_some() {
            errors.forbidden(&path.child("name"), EXCLUSIVE);
        }
    }
    if let Some(selector) = &param.selector {
        checks::label_selector(errors, &path.child("selector"), Some(selector));
        if !name.is_empty() {
            errors.forbidden(&path.child("selector"), EXCLUSIVE);
        }
    }
    if name.is_empty() && param.selector.is_none() {
        errors.required(path, "one of name or selector must be specified");
    }
    let path = path.child("parameterNotFoundAction");
    match param.parameter_not_found_action.as_deref() {
        None | Some("") => errors.required(&path, ""),
        Some("Allow" | "Deny") => {}
        Some(other) => errors.not_supported(&path, other, &["Deny", "Allow"]),
    }
}

/// The policy of a binding.
pub fn validate_policy_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        checks::dns_subdomain(errors, path, name);
    }
}

/// The named expressions that others may use.
pub fn validate_variables(errors: &mut FieldErrors, path: &Path, variables: &[Variable]) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        let name = variable.name.as_str();
        if name.trim().is_empty() {
            errors.required(&path.child("name"), "name is not specified");
        } else if !is_identifier(name) {
            errors.invalid(&path.child("name"), name, "name is not a valid CEL identifier");
        }
        if variable.expression.trim().is_empty() {
            errors.required(&path.child("expression"), "expression is not specified");
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let letter = |first: char| first.is_ascii_alphabetic() || first == '_';
    name.starts_with(letter)
        && name.chars().all(|character| letter(character) || character.is_ascii_digit())
        && !RESERVED.contains(&name)
}
