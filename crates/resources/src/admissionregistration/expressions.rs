//! The expressions of policies and webhooks, compiled against what they may name.

use api::admissionregistration::v1::Variable;
use api::field::{FieldErrors, Path};
use cel::{Environment, ObjectType, Opaque, Type};

/// What the expressions of one policy may name.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// Whether there are parameters.
    pub params: bool,
    /// The variables declared so far.
    pub variables: Vec<(String, Type)>,
}

/// What one expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Says yes or no, and may ask the authorizer.
    Condition,
    /// A message: no authorizer.
    Message,
    /// A value of any type.
    Variable,
    /// Text or nothing, for the audit log.
    Annotation,
    /// A list of changes.
    JsonPatch,
    /// A part of an object.
    ApplyConfiguration,
}

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    Type::object(ObjectType::new(name, fields.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone()))))
}

/// `request`, as it is known to every expression.
pub fn request_type() -> Type {
    let names = |name: &str, fields: [&str; 3]| object(name, &fields.map(|field| (field, Type::STRING)));
    let kind = names("kubernetes.GroupVersionKind", ["group", "version", "kind"]);
    let resource = names("kubernetes.GroupVersionResource", ["group", "version", "resource"]);
    let texts = Type::list(Type::STRING);
    let user = object(
        "kubernetes.UserInfo",
        &[
            ("username", Type::STRING),
            ("uid", Type::STRING),
            ("groups", texts.clone()),
            ("extra", Type::map(Type::STRING, texts)),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", Type::STRING),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", Type::STRING),
            ("name", Type::STRING),
            ("namespace", Type::STRING),
            ("operation", Type::STRING),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::DYN),
        ],
    )
}

/// `namespaceObject`, as it is known to every expression.
pub fn namespace_type() -> Type {
    let texts = Type::map(Type::STRING, Type::STRING);
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", Type::STRING),
            ("generateName", Type::STRING),
            ("namespace", Type::STRING),
            ("labels", texts.clone()),
            ("annotations", texts),
            ("UID", Type::STRING),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", Type::STRING),
            ("finalizers", Type::list(Type::STRING)),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", &[("finalizers", Type::list(Type::STRING))]);
    let status = object("kubernetes.NamespaceStatus", &[("phase", Type::STRING)]);
    object("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
}

impl Naming {
    /// What an expression of that use may name.
    pub fn environment(&self, use_: Use) -> Environment {
        let mut environment = Environment::new()
            .variable("object", Type::DYN)
            .variable("oldObject", Type::DYN)
            .variable("request", request_type())
            .variable("namespaceObject", namespace_type());
        if self.params {
            environment = environment.variable("params", Type::DYN);
        }
        if use_ != Use::Message {
            environment = environment
                .variable("authorizer", Type::Opaque(Opaque::Authorizer))
                .variable("authorizer.requestResource", Type::Opaque(Opaque::ResourceCheck));
        }
        if matches!(use_, Use::JsonPatch | Use::ApplyConfiguration) {
            environment = environment.mutation();
        }
        let all = ObjectType::new("kubernetes.variables", self.variables.iter().cloned());
        environment = environment.variable("variables", Type::object(all));
        for (name, ty) in &self.variables {
            environment = environment.variable(format!("variables.{name}"), ty.clone());
        }
        environment
    }

    /// The type of an expression of that use.
    ///
    /// # Errors
    /// Why it does not compile, or is of no type that such an expression may be of.
    pub fn compile(&self, use_: Use, text: &str) -> Result<Type, String> {
        let program = self.environment(use_).compile(text).map_err(|why| format!("compilation failed: {why}"))?;
        let ty = program.result_type();
        let name = ty.to_string();
        let wanted = match use_ {
            Use::Variable => return Ok(ty.clone()),
            Use::Condition => "must evaluate to bool",
            Use::Message => "must evaluate to string",
            Use::Annotation => "must evaluate to one of [string null_type]",
            Use::JsonPatch => "must evaluate to list(JSONPatch)",
            Use::ApplyConfiguration => "must evaluate to Object",
        };
        let good = match use_ {
            Use::Condition => *ty == Type::Bool,
            Use::Message => matches!(ty, Type::String(_)),
            Use::Annotation => matches!(ty, Type::String(_) | Type::Null),
            Use::JsonPatch => name == "list(JSONPatch)",
            Use::ApplyConfiguration => name == "Object",
            Use::Variable => true,
        };
        if good { Ok(ty.clone()) } else { Err(wanted.to_owned()) }
    }

    /// Checks one expression.
    pub fn check(&self, errors: &mut FieldErrors, path: &Path, use_: Use, text: &str) {
        if let Err(why) = self.compile(use_, text) {
            errors.invalid(path, text, why);
        }
    }

    /// Checks variables in their order; each may name those before it.
    pub fn declare(&mut self, errors: &mut FieldErrors, path: &Path, variables: &[Variable]) {
        for (index, variable) in variables.iter().enumerate() {
            if variable.expression.trim().is_empty() {
                continue;
            }
            let ty = self.compile(Use::Variable, &variable.expression).unwrap_or_else(|why| {
                let path = path.index(index).child("expression");
                errors.invalid(&path, variable.expression.as_str(), why);
                Type::DYN
            });
            self.variables.push((variable.name.clone(), ty));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_name_what_there_is() {
        let mut naming = Naming::default();
        naming.variables.push(("limit".to_owned(), Type::Int));
        let good = [
            (Use::Condition, "object.spec.replicas <= variables.limit"),
            (
                Use::Condition,
                "request.userInfo.username == 'a' && authorizer.group('').resource('pods').check('get').allowed()",
            ),
            (Use::Condition, "authorizer.requestResource.check('get').allowed()"),
            (Use::Message, "'replicas: ' + string(variables.limit)"),
            (Use::Annotation, "null"),
            (Use::JsonPatch, "[JSONPatch{op: 'add', path: '/a', value: 'b'}]"),
            (Use::ApplyConfiguration, "Object{spec: Object.spec{replicas: 1}}"),
            (Use::Condition, "namespaceObject.metadata.labels['a'] == 'b'"),
        ];
        for (use_, text) in good {
            assert!(naming.compile(use_, text).is_ok(), "{text}: {:?}", naming.compile(use_, text));
        }
        assert_eq!(naming.compile(Use::Condition, "1").unwrap_err(), "must evaluate to bool");
        assert_eq!(naming.compile(Use::Message, "1").unwrap_err(), "must evaluate to string");
        let failed = naming.compile(Use::Condition, "params.x == 1").unwrap_err();
        assert!(
            failed.starts_with("compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'"),
            "{failed}"
        );
        naming.params = true;
        assert!(naming.compile(Use::Condition, "params.x == 1").is_ok());
        assert!(naming.compile(Use::Message, "authorizer.path('/').check('get').reason()").is_err());
    }
}
